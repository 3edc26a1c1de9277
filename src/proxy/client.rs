//! Who a request came from, and over what.

use std::net::SocketAddr;
use std::sync::Arc;

use super::wire::Wire;
use crate::config::TrustClientHeaders;

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
}

impl Client {
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
