//! One connection to the admin side, as its calls see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who is at the other end, and whether an answer is under way that has no end.
#[derive(Debug, Clone)]
pub struct Line {
    peer: IpAddr,
    endless: Arc<AtomicBool>,
}

impl Line {
    /// A connection from there.
    pub(super) fn new(peer: IpAddr) -> Self {
        Self { peer, endless: Arc::default() }
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
