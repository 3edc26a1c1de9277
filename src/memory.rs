//! One bound over all that is retained in memory (`server.buffer_memory`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The account: how much is retained, and how much may be.
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    used: AtomicU64,
}

impl Memory {
    /// An account of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// The bound.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes retained now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A lease of nothing yet.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { memory: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: u64) -> bool {
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.limit)
        });
        grown.is_ok()
    }
}

/// A share of the account; given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Lease {
    /// Takes `bytes` more; false, and nothing taken, if the account would be overdrawn.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.memory.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Lease {
    /// Takes more or gives back, so that it holds `bytes`; false, and nothing taken, if the account would be overdrawn.
    #[must_use]
    pub fn resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.memory.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }

    /// What it holds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
