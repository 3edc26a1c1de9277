//! Readiness by token: the process is ready once every part that took a token has given it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
