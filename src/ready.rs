//! Readiness by token: the process is ready once every part that took a token has given it back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What still has to be done before the process is ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// A part that is not done yet. Dropping the token says that it is.
#[must_use = "the process is ready once this is dropped"]
#[derive(Debug)]
pub struct Pending {
    readiness: Readiness,
    part: &'static str,
}

impl Readiness {
    /// Registers a part that has to be done.
    pub fn awaits(&self, part: &'static str) -> Pending {
        *self.parts().entry(part).or_default() += 1;
        Pending { readiness: self.clone(), part }
    }

    /// The parts that are not done yet; none: ready.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.parts().keys().copied().collect()
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut parts = self.readiness.parts();
        if let Some(count) = parts.get_mut(self.part) {
            *count -= 1;
            if *count == 0 {
                parts.remove(self.part);
            }
        }
    }
}

/// How a worker shows that it is alive: it beats once a second, and one that has not for ten is stuck.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Seconds since the process began, plus one; 0 = not begun.
    beat: AtomicU64,
    tasks: AtomicUsize,
}

const STUCK_AFTER: Duration = Duration::from_secs(10);

impl Pulse {
    /// Alive, `since_start` after the process began, with so many tasks.
    pub fn beat(&self, since_start: Duration, tasks: usize) {
        self.tasks.store(tasks, Ordering::Relaxed);
        self.beat.store(since_start.as_secs() + 1, Ordering::Relaxed);
    }

    /// How many tasks it had when it beat last.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Whether the worker has begun and has not beaten for ten seconds.
    #[must_use]
    pub fn stuck(&self, since_start: Duration) -> bool {
        let beat = self.beat.load(Ordering::Relaxed);
        beat > 0 && since_start.as_secs() + 1 > beat + STUCK_AFTER.as_secs()
    }
}
