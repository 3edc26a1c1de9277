//! The pauses of all scopes of an upstream.

use std::time::{Duration, Instant};

use super::pause::{Gate, Pause, ProbeEnd, ProbePermit};
use crate::policy::keyed::Keyed;

/// The pauses of an upstream's scopes: the [`SCOPES`] in latest use. A scope is a hash that the caller made.
#[derive(Debug)]
pub struct Pauses {
    scopes: Keyed<Pause>,
    made: u64,
    total: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { scopes: Keyed::new(SCOPES), made: 0, total: Duration::ZERO }
    }
}

impl Pauses {
    /// [`Pause::told`] of one scope.
    pub fn told(
        &mut self,
        scope: u64,
        wait: Duration,
        max_pause: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let grown = self.made(scope).told(wait, max_pause, now);
        self.sum(grown)
    }

    /// [`Pause::spent`] of one scope.
    pub fn spent(&mut self, scope: u64, max_pause: Duration, now: Instant) -> Option<Duration> {
        let grown = self.made(scope).spent(max_pause, now);
        self.sum(grown)
    }

    /// [`Pause::ask`] of one scope; one that was never paused is free, and is not kept.
    pub fn ask(&mut self, scope: u64, now: Instant) -> Gate {
        if self.scopes.is_empty() {
            return Gate::Free;
        }
        self.scopes.used(scope).map_or(Gate::Free, |pause| pause.ask(now))
    }

    /// [`Pause::ended`] of one scope.
    pub fn ended(
        &mut self,
        scope: u64,
        permit: ProbePermit,
        how: ProbeEnd,
        now: Instant,
    ) -> Option<Duration> {
        let grown = self.scopes.get(scope).and_then(|pause| pause.ended(permit, how, now));
        self.sum(grown)
    }

    /// [`Pause::resume`] of one scope.
    pub fn resume(&mut self, scope: u64) {
        if let Some(pause) = self.scopes.get(scope) {
            pause.resume();
        }
    }

    /// [`Pause::resume`] of every scope.
    pub fn resume_all(&mut self) {
        self.scopes.iter_mut().for_each(|(_, pause)| pause.resume());
    }

    /// [`Pause::paused_for`] of one scope.
    #[must_use]
    pub fn paused_for(&self, scope: u64, now: Instant) -> Duration {
        self.scopes.peek(scope).map_or(Duration::ZERO, |pause| pause.paused_for(now))
    }

    /// How many scopes are paused, and for how long the longest of them still is.
    #[must_use]
    pub fn longest(&self, now: Instant) -> (usize, Duration) {
        let waits = self.scopes.iter().map(|(_, pause)| pause.paused_for(now)).filter(|wait| !wait.is_zero());
        waits.fold((0, Duration::ZERO), |(count, longest), wait| (count + 1, longest.max(wait)))
    }

    /// All the time that scopes were told to pause; a pause that is told twice counts once.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    fn made(&mut self, scope: u64) -> &mut Pause {
        let made = &mut self.made;
        self.scopes.entry(scope, || {
            *made = made.wrapping_add(1 << 32);
            Pause::starting_at(*made)
        })
    }

    fn sum(&mut self, grown: Option<Duration>) -> Option<Duration> {
        self.total = self.total.saturating_add(grown.unwrap_or_default());
        grown
    }
}

/// So many scopes are told apart; beyond it the least recently used one is forgotten.
pub const SCOPES: usize = 1_000;
