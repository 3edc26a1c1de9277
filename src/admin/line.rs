//! One connection to the admin side, as its calls see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Who is at the other end, and whether an answer is under way that has no end.
#[derive(Debug, Clone)]
pub struct Line {
    peer: IpAddr,
    endless: Arc<AtomicBool>,
    /// Calls that are under way, their answers included.
    calls: Arc<AtomicUsize>,
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    /// A connection from there.
    #[must_use]
    pub fn new(peer: IpAddr) -> Self {
        Self { peer, endless: Arc::default(), calls: Arc::default() }
    }

    /// Whether a call is under way on it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    /// A call begins; it ends with what this gives.
    pub(super) fn call(&self) -> Busy {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.calls))
    }

    /// Where it comes from.
    pub(super) const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Its answer goes on until its reader leaves.
    pub fn has_no_end(&self) {
        self.endless.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(super) fn is_endless(&self) -> bool {
        self.endless.load(Ordering::Relaxed)
    }
}
