//! How many retries the traffic pays for.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;

use super::ring::Ring;
use crate::units::{PositiveOrZero, ShareOrZero, Time};

/// What the config says: in any window, retries <= ratio * requests + min_per_second * window.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RetryBudget")]
pub struct Settings {
    /// Retries allowed for each request.
    #[serde(with = "ShareOrZero")]
    pub ratio: f64,
    /// Retries a second that are allowed whatever the traffic.
    #[serde(with = "PositiveOrZero")]
    pub min_per_second: f64,
    /// How far back requests and retries are counted.
    #[serde(with = "Time")]
    pub window: Duration,
}

impl Settings {
    /// What so many requests pay for, in billionths of a retry. In whole numbers a ratio of 0.29 pays for exactly 29
    /// retries in 100 requests; in floating point it would be one less, and 0.3 might be rounded to a third.
    fn allowed(&self, requests: u64) -> u128 {
        let floor = billionths(self.min_per_second).saturating_mul(self.window.as_nanos()) / RETRY;
        billionths(self.ratio).saturating_mul(u128::from(requests)).saturating_add(floor)
    }
}

/// The retries that the traffic pays for.
///
/// Whenever a retry is granted: retries of the trailing window <= ratio * requests of the trailing window +
/// `min_per_second` * window. Both are counted in slices of a 64th of the window, in doubt against the retry: retries at
/// least `window` back, requests at most. The shape is that of Finagle's `RetryBudget`: a share of requests over a time
/// and a floor, rather than a share of what is in flight, which a long backoff distorts.
#[derive(Clone, Debug)]
pub struct Budget {
    settings: Settings,
    requests: Count,
    retries: Count,
}

/// What a retry found in the budget: the window's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// What is left, in retries: less than one where it was refused.
    pub available: f64,
    /// What the window's traffic pays for, in retries.
    pub allowed: f64,
    /// Requests in the window.
    pub requests: u64,
    /// Retries in the window.
    pub retries: u64,
    /// How long that is.
    pub window: Duration,
}

impl Budget {
    /// A budget that has seen nothing: its floor, `min_per_second` * window, may be spent at once.
    #[must_use]
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let width = settings.window / SLICES_U32;
        let no_less =
            if width * SLICES_U32 < settings.window { width + Duration::from_nanos(1) } else { width };
        Self {
            settings: settings.clone(),
            requests: Count::new(SLICES, width, now),
            retries: Count::new(SLICES + 1, no_less, now),
        }
    }

    /// A client's request came in: it pays for `ratio` of a retry, for one window.
    pub fn paid(&mut self, now: Instant) {
        self.requests.add(now, 1);
    }

    /// Takes one retry, at the moment when it is decided: one that waits in backoff is taken already.
    ///
    /// # Errors
    /// There is none left.
    pub fn take(&mut self, now: Instant) -> Result<Left, Left> {
        let granted = self.left(now) >= RETRY;
        if granted {
            self.retries.add(now, 1);
        }
        let left = Left {
            available: self.available(now),
            allowed: self.settings.allowed(self.requests.total) as f64 / RETRY as f64,
            requests: self.requests.total,
            retries: self.retries.total,
            window: self.settings.window,
        };
        if granted { Ok(left) } else { Err(left) }
    }

    /// Gives back a retry that was taken within the last window and never sent. The oldest one that is counted goes,
    /// so that those that were sent stay counted for as long as they must. Where the moment of the taking is known,
    /// [`Budget::give_back_taken`] is exact.
    pub fn give_back(&mut self, now: Instant) {
        self.retries.advance(now);
        let oldest = self.retries.ring.oldest_first().find(|slice| **slice > 0);
        if let Some(slice) = oldest {
            *slice -= 1;
            self.retries.total = self.retries.total.saturating_sub(1);
        }
    }

    /// Gives back a retry that was taken at `taken` and never sent; nothing, if the window has passed over it.
    pub fn give_back_taken(&mut self, taken: Instant, now: Instant) {
        self.retries.advance(now);
        if let Some(slice) = self.retries.ring.holding(taken, now).filter(|slice| **slice > 0) {
            *slice -= 1;
            self.retries.total = self.retries.total.saturating_sub(1);
        }
    }

    /// How many retries could be taken now; a fraction is the part of the next one that is paid.
    pub fn available(&mut self, now: Instant) -> f64 {
        self.left(now) as f64 / RETRY as f64
    }

    /// Takes over new settings. With another window the retries of the old one count as made now, and its requests
    /// as come in now, no more of them than the new window is of the old one.
    pub fn retune(&mut self, settings: &Settings, now: Instant) {
        if settings.window != self.settings.window {
            let mut new = Self::new(settings, now);
            self.left(now);
            let share =
                settings.window.as_secs_f64() / self.settings.window.as_secs_f64().max(f64::MIN_POSITIVE);
            new.retries.add(now, self.retries.total);
            new.requests.add(now, scaled(self.requests.total, share));
            *self = new;
        }
        self.settings = settings.clone();
    }

    /// What is left at `now`, in billionths of a retry.
    fn left(&mut self, now: Instant) -> u128 {
        self.requests.advance(now);
        self.retries.advance(now);
        let spent = u128::from(self.retries.total).saturating_mul(RETRY);
        self.settings.allowed(self.requests.total).saturating_sub(spent)
    }
}

/// A ring of counts and their sum.
#[derive(Clone, Debug)]
struct Count {
    ring: Ring<u64>,
    total: u64,
}

impl Count {
    fn new(slices: usize, width: Duration, now: Instant) -> Self {
        let mut ring = Ring::new(slices, width);
        ring.advance(now, |_| {});
        Self { ring, total: 0 }
    }

    fn add(&mut self, now: Instant, more: u64) {
        let total = &mut self.total;
        if let Some(slice) = self.ring.at(now, |gone| *total = total.saturating_sub(gone)) {
            *slice = slice.saturating_add(more);
            *total = total.saturating_add(more);
        }
    }

    fn advance(&mut self, now: Instant) {
        let total = &mut self.total;
        self.ring.advance(now, |gone| *total = total.saturating_sub(gone));
    }
}

/// A number of at least zero, in billionths, rounded to the nearest; a duration in seconds is the same arithmetic.
fn billionths(number: f64) -> u128 {
    Duration::try_from_secs_f64(number).map_or(u128::MAX, |seconds| seconds.as_nanos())
}

/// A count times a share, where the share is below one.
fn scaled(count: u64, share: f64) -> u64 {
    let part = billionths(share.min(1.0)).saturating_mul(u128::from(count)) / RETRY;
    u64::try_from(part).unwrap_or(count)
}

/// One retry, in billionths.
const RETRY: u128 = 1_000_000_000;

/// The window slides in steps of a 64th.
const SLICES: usize = 64;
const SLICES_U32: u32 = 64;
