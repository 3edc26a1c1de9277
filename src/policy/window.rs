//! What happened lately: calls, failures and slow calls within a time, or among the last so many.

use std::collections::VecDeque;
use std::time::Instant;

use super::breaker;
use super::ring::Ring;

/// What a window holds; each is at most `u32::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that ended. One still in flight and one that was refused are not among them.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow, failed or not.
    pub slow: u32,
}

impl Tally {
    /// The share of failures, 0 to 1; 0 without a call.
    #[must_use]
    pub fn failure_rate(self) -> f64 {
        share(self.failures, self.calls)
    }

    /// The share of slow calls, 0 to 1; 0 without a call.
    #[must_use]
    pub fn slow_rate(self) -> f64 {
        share(self.slow, self.calls)
    }

    /// One more call.
    #[must_use]
    pub fn and(self, failed: bool, slow: bool) -> Self {
        Self {
            calls: self.calls.saturating_add(1),
            failures: self.failures.saturating_add(u32::from(failed)),
            slow: self.slow.saturating_add(u32::from(slow)),
        }
    }

    fn without(self, gone: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(gone.calls),
            failures: self.failures.saturating_sub(gone.failures),
            slow: self.slow.saturating_sub(gone.slow),
        }
    }
}

/// A sliding window of ended calls.
#[derive(Clone, Debug)]
pub struct Window {
    held: Held,
    total: Tally,
}

#[derive(Clone, Debug)]
enum Held {
    /// Slices of a time. The newest one is still filling, so what is told covers the window less at most one slice.
    Time(Ring<Tally>),
    /// The last `size` calls, the oldest first.
    Count { calls: VecDeque<Call>, size: usize },
}

#[derive(Clone, Copy, Debug)]
struct Call {
    failed: bool,
    slow: bool,
}

impl Window {
    /// A window over `window_requests` calls (at most [`LARGEST_COUNT`]), or else over the time `window`.
    #[must_use]
    pub fn new(settings: &breaker::Settings) -> Self {
        let held = match settings.window_requests {
            Some(size) => {
                let size = usize::try_from(size.get().min(LARGEST_COUNT)).unwrap_or(1);
                Held::Count { calls: VecDeque::new(), size }
            }
            None => Held::Time(Ring::new(SLICES, settings.window / SLICES_U32)),
        };
        Self { held, total: Tally::default() }
    }

    /// Counts a call that ended at `now`.
    pub fn record(&mut self, now: Instant, failed: bool, slow: bool) {
        let total = &mut self.total;
        match &mut self.held {
            Held::Time(ring) => {
                if let Some(slice) = ring.at(now, |gone| *total = total.without(gone)) {
                    *slice = slice.and(failed, slow);
                }
            }
            Held::Count { calls, size } => {
                while calls.len() >= *size {
                    let Some(gone) = calls.pop_front() else { break };
                    *total = total.without(Tally::default().and(gone.failed, gone.slow));
                }
                calls.push_back(Call { failed, slow });
            }
        }
        self.total = self.total.and(failed, slow);
    }

    /// What the window holds at `now`.
    #[must_use]
    pub fn tally(&self, now: Instant) -> Tally {
        match &self.held {
            Held::Time(ring) => ring.falling(now).fold(self.total, |total, gone| total.without(*gone)),
            Held::Count { .. } => self.total,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.total = Tally::default();
        match &mut self.held {
            Held::Time(ring) => ring.clear(),
            Held::Count { calls, .. } => calls.clear(),
        }
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}

/// The largest window that counts calls: at a byte or two a call it bounds what a breaker may hold.
pub const LARGEST_COUNT: u32 = 1_000_000;

/// A time window slides in steps of a twentieth.
const SLICES: usize = 20;
const SLICES_U32: u32 = 20;
