//! What the pipeline tells the HTTP/1.1 connection that a request came on, beside its response.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};

use crate::policy::blame::ClientFault;
use crate::upstream::Interims;

/// Interim responses of one request that are passed on; of more the client is not told.
const INTERIMS_MAX: u32 = 32;

/// What the guard and the service of one connection tell each other.
#[derive(Debug, Default)]
pub struct Wire {
    state: Mutex<Shared>,
    /// Milliseconds for which the client may take no byte of a response; 0 = no bound.
    stall_ms: AtomicU64,
    any_refused: AtomicBool,
    /// There is no interim response to write, and who writes one wakes the guard: it need not look. The guard and the
    /// service run on one thread, so that this needs no ordering.
    pub(crate) quiet: AtomicBool,
    /// Interim responses of the request that runs.
    interims: AtomicU32,
    /// A request is being answered.
    busy: AtomicBool,
    /// Nothing of its answer has been written, and its client knows interim responses.
    unanswered: AtomicBool,
    /// The client sends no more: the guard waits for the end of the answer.
    hung_up: AtomicBool,
    /// Heads that have passed to the library, and requests that it has made of them.
    heads: AtomicU64,
    requests: AtomicU64,
    /// Nothing of a further request has come.
    awaits: AtomicBool,
    flushed: AtomicBool,
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
        if !self.any_refused.load(Ordering::Relaxed) {
            return None;
        }
        self.shared().refused.filter(|(at, _)| *at == number).map(|(_, why)| why)
    }

    /// The `number`th request of the connection (from 1) stands in for a refused one.
    pub(crate) fn refuse(&self, number: u64, why: ClientFault) {
        self.shared().refused = Some((number, why));
        self.any_refused.store(true, Ordering::Relaxed);
    }

    /// The connection leaves HTTP: bytes are passed as they come.
    pub fn becomes_tunnel(&self) {
        self.decide(NextProtocol::Tunnel);
    }

    /// An asked-for upgrade did not happen: what follows is the next request.
    pub fn stays_http(&self) {
        self.decide(NextProtocol::Http);
    }

    /// Whether nothing is under way: the library has been given whole requests alone, has handed all of them over, and their
    /// answers are written.
    #[must_use]
    pub fn rests(&self) -> bool {
        let [awaits, flushed, busy] =
            [&self.awaits, &self.flushed, &self.busy].map(|flag| flag.load(Ordering::Relaxed));
        awaits
            && flushed
            && !busy
            && self.heads.load(Ordering::Relaxed) == self.requests.load(Ordering::Relaxed)
    }

    /// Nothing more has come from the client. `between`: and nothing of a request that is not whole.
    pub(crate) fn awaits(&self, between: bool) {
        self.awaits.store(between, Ordering::Relaxed);
    }

    /// Something has passed to the library; so many heads by now.
    pub(crate) fn passed(&self, heads: u64) {
        self.awaits.store(false, Ordering::Relaxed);
        self.heads.store(heads, Ordering::Relaxed);
    }

    /// Whether all that the library wrote has left it.
    pub(crate) fn set_flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Relaxed);
    }

    /// The library has handed the `number`th request over. `interim`: its client knows interim responses.
    pub fn request_came(&self, number: u64, interim: bool) {
        self.busy.store(true, Ordering::Relaxed);
        self.requests.store(number, Ordering::Relaxed);
        self.unanswered.store(interim, Ordering::Relaxed);
    }

    /// Its answer has been handed to the library, to the last byte.
    pub fn request_done(&self) {
        self.busy.store(false, Ordering::Relaxed);
        if self.hung_up.load(Ordering::Relaxed) {
            self.wake(&mut self.shared());
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Something of an answer is written.
    pub(crate) fn answers(&self) {
        self.unanswered.store(false, Ordering::Relaxed);
    }

    /// The client sends no more. Whether it listens on shows when something is sent to it: before an answer "100 Continue" may
    /// stand, which every client passes over.
    pub(crate) fn hung_up(&self) {
        self.hung_up.store(true, Ordering::Relaxed);
        if self.unanswered.load(Ordering::Relaxed) {
            self.quiet.store(false, Ordering::Relaxed);
            self.shared().interim.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// A request begins. `longest`: for how long its client may take no byte of what is being sent to it.
    pub fn begins(&self, longest: Duration) {
        self.interims.store(0, Ordering::Relaxed);
        self.stall_ms.store(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn stall_limit(&self) -> Option<Duration> {
        let limit = self.stall_ms.load(Ordering::Relaxed);
        (limit > 0).then(|| Duration::from_millis(limit))
    }

    /// Whether the connection, if it ends now, is to end with a reset: where the framing (HTTP/1.0) cannot show a cut.
    pub fn reset_at_end(&self, reset: bool) {
        self.shared().reset_at_end = reset;
    }

    fn wake(&self, shared: &mut Shared) {
        self.quiet.store(false, Ordering::Relaxed);
        if let Some(waker) = shared.waker.take() {
            waker.wake();
        }
    }

    fn decide(&self, next: NextProtocol) {
        let mut shared = self.shared();
        shared.next_protocol = next;
        self.wake(&mut shared);
    }
}

/// An interim response goes ahead of the final one, if the connection is at a place where one may stand.
impl Interims for Wire {
    fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        if self.interims.fetch_add(1, Ordering::Relaxed) >= INTERIMS_MAX {
            return;
        }
        let mut shared = self.shared();
        write_head(&mut shared.interim, status, headers);
        self.wake(&mut shared);
    }
}

fn write_head(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    let line = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""));
    out.extend_from_slice(line.as_bytes());
    for (name, value) in headers {
        let name = name.as_str();
        if !matches!(name, "connection" | "transfer-encoding" | "content-length" | "keep-alive" | "upgrade") {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}
