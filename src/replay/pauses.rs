//! Scopes whose credential did not work: their letters wait, those of others do not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Scopes that are remembered at most; beyond it those whose pause ends first are forgotten.
const SCOPES_MAX: usize = 1000;

/// The pauses of all upstreams' letters.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    until: HashMap<(String, u64), Instant>,
}

impl Pauses {
    /// How long the letters of this scope have to wait yet; `None`: not at all.
    pub(super) fn wait(&self, upstream: &str, scope: u64, now: Instant) -> Option<Duration> {
        let until = self.until.get(&(upstream.to_owned(), scope))?;
        Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// They wait for so long.
    pub(super) fn pause(&mut self, upstream: &str, scope: u64, wait: Duration, now: Instant) {
        if self.until.len() >= SCOPES_MAX {
            self.until.retain(|_, until| *until > now);
            let first = self.until.iter().min_by_key(|(_, until)| **until).map(|(scope, _)| scope.clone());
            if let Some(first) = first.filter(|_| self.until.len() >= SCOPES_MAX) {
                self.until.remove(&first);
            }
        }
        if let Some(until) = now.checked_add(wait) {
            self.until.insert((upstream.to_owned(), scope), until);
        }
    }

    /// An operator wants them tried.
    pub(super) fn forget(&mut self) {
        self.until.clear();
    }
}
