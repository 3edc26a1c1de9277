//! The degradation level in force: one number that every request may read.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::cell::Upstream;
use crate::policy::degradation::{self, Held, Level};
use crate::telemetry::events::{DegradationChanged, emit};

/// How sick the whole is, computed from the upstreams' breakers and checks.
#[derive(Debug)]
pub struct Degradation {
    level: AtomicU8,
    held: Mutex<Held>,
    /// Told when a breaker or a check turns.
    pub changed: Arc<Notify>,
}

impl Default for Degradation {
    fn default() -> Self {
        Self {
            level: AtomicU8::new(Level::Normal.number()),
            held: Mutex::new(Held::new()),
            changed: Arc::default(),
        }
    }
}

impl Degradation {
    /// The level in force.
    #[must_use]
    pub fn level(&self) -> Level {
        let number = self.level.load(Ordering::Relaxed);
        Level::ALL.into_iter().find(|level| level.number() == number).unwrap_or(Level::Normal)
    }

    /// Looks at all upstreams, and at whether the store takes letters: worse at once, better after a while of health.
    pub fn review(&self, upstreams: &[Arc<Upstream>], store_unhealthy: bool, now: Instant) {
        let members: Vec<_> = upstreams
            .iter()
            .map(|upstream| (upstream.settings().criticality, upstream.policies().sick()))
            .collect();
        let computed = degradation::level(&members, store_unhealthy);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = held.see(computed, now) {
            self.level.store(held.level().number(), Ordering::Relaxed);
            emit(&DegradationChanged { from: changed.from.as_str(), to: changed.to.as_str() });
        }
    }
}
