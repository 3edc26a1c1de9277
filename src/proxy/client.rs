//! Who a request came from, and over what.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use super::wire::Wire;
use crate::config::TrustClientHeaders;
use crate::upstream::pause::Spare;

/// One client connection.
#[derive(Debug, Clone)]
pub struct Client {
    pub peer: SocketAddr,
    /// Over TLS.
    pub secure: bool,
    /// The worker that serves it.
    pub worker: usize,
    /// The HTTP/1.1 connection; `None` under HTTP/2.
    pub wire: Option<Arc<Wire>>,
    /// The peer's address as `x-forwarded-for` names it: written once for all requests of the connection.
    pub address: HeaderValue,
    /// Timers that the connection's last request and last response have left: bodies' pauses are bounded with them.
    pub upload_timer: Spare,
    pub download_timer: Spare,
}

impl Client {
    /// A client whose HTTP version is not known yet.
    #[must_use]
    pub fn new(peer: SocketAddr, secure: bool, worker: usize) -> Self {
        let address = HeaderValue::try_from(peer.ip().to_canonical().to_string());
        let address = address.unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            peer,
            secure,
            worker,
            wire: None,
            address,
            upload_timer: Spare::default(),
            download_timer: Spare::default(),
        }
    }

    /// Whether what the client says of the request's past and of its own patience is believed.
    #[must_use]
    pub const fn trusted(&self, trust: TrustClientHeaders) -> bool {
        match trust {
            TrustClientHeaders::Always => true,
            TrustClientHeaders::Never => false,
            TrustClientHeaders::Loopback => self.peer.ip().to_canonical().is_loopback(),
        }
    }
}
