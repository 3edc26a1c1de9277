//! What the pipeline tells the HTTP/1.1 connection that a request came on, beside its response.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;

use crate::policy::blame::ClientFault;

/// What the guard and the service of one connection tell each other.
#[derive(Debug, Default)]
pub struct Wire {
    state: Mutex<Shared>,
    /// Milliseconds for which the client may take no byte of a response; 0 = no bound.
    stall_ms: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Number (from 1) of the request that stands in for a refused one, and why.
    pub(crate) refused: Option<(u64, ClientFault)>,
    pub(crate) next_protocol: NextProtocol,
    pub(crate) interim: BytesMut,
    pub(crate) waker: Option<Waker>,
    pub(crate) reset_at_end: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextProtocol {
    #[default]
    Undecided,
    Http,
    Tunnel,
}

impl Wire {
    pub(crate) fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the `number`th request of the connection (from 1) is refused, if it is.
    #[must_use]
    pub fn refused(&self, number: u64) -> Option<ClientFault> {
        self.shared().refused.filter(|(at, _)| *at == number).map(|(_, why)| why)
    }

    /// The connection leaves HTTP: bytes are passed as they come.
    pub fn becomes_tunnel(&self) {
        self.decide(NextProtocol::Tunnel);
    }

    /// An asked-for upgrade did not happen: what follows is the next request.
    pub fn stays_http(&self) {
        self.decide(NextProtocol::Http);
    }

    /// For how long the client may take no byte of what is being sent to it.
    pub fn limit_stall(&self, longest: Duration) {
        self.stall_ms.store(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn stall_limit(&self) -> Option<Duration> {
        let limit = self.stall_ms.load(Ordering::Relaxed);
        (limit > 0).then(|| Duration::from_millis(limit))
    }

    /// Sends an interim response (1xx) ahead of the final one, if the connection is at a place where one may stand.
    pub fn send_interim(&self, response: &[u8]) {
        let mut shared = self.shared();
        shared.interim.extend_from_slice(response);
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
    }

    /// Whether the connection, if it ends now, is to end with a reset: where the framing (HTTP/1.0) cannot show a cut.
    pub fn reset_at_end(&self, reset: bool) {
        self.shared().reset_at_end = reset;
    }

    fn decide(&self, next: NextProtocol) {
        let mut shared = self.shared();
        shared.next_protocol = next;
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
    }
}
