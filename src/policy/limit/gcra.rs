//! How much a second: our own rate limits.

use std::time::{Duration, Instant};

use super::RateLimit;
use crate::policy::keyed::Keyed;

/// All rate limits of an upstream: a request needs a slot of each.
///
/// Each is the generic cell rate algorithm (ITU-T I.371, as a virtual schedule): a bucket is one number, the time at which
/// the next request would be due if all came evenly. It is kept in `1 / requests` of a nanosecond, in which both the time that
/// passes and the distance of two requests are whole numbers: the rate is exact for 7 in 3 s as for a million in 1 s.
#[derive(Debug, Default)]
pub struct Limits {
    limits: Vec<Limit>,
    /// The zero of time, from the first question on.
    origin: Option<Instant>,
}

/// A place in the traffic.
#[must_use = "a slot that is not used is given back"]
#[derive(Debug)]
pub struct Slot {
    /// Go after this; zero: at once.
    pub wait: Duration,
    /// When it was granted, in nanoseconds from the origin.
    at: u128,
}

impl Slot {
    /// The end of it: a slot is given back once.
    const fn spend(self) -> u128 {
        self.at
    }
}

/// A limit is used up, and its `max_wait` would not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When there will be a slot; at least a millisecond.
    pub retry_after: Duration,
    /// Which of the limits: the one with the longest wait of those that refuse.
    pub limit: usize,
}

#[derive(Debug)]
struct Limit {
    settings: RateLimit,
    buckets: Keyed<Bucket>,
}

/// Both times are in `1 / requests` of a nanosecond from the origin.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When the next request would be due if all came evenly.
    due: u128,
    /// When the last slot was granted.
    last: u128,
}

impl Limits {
    /// Limits that have seen nothing.
    #[must_use]
    pub fn new(settings: &[RateLimit]) -> Self {
        Self { limits: settings.iter().map(Limit::new).collect(), origin: None }
    }

    /// Takes a slot of each limit, or of none. `keys` holds one key for each limit, in their order; a missing one is 0.
    pub fn ask(&mut self, keys: &[u64], now: Instant) -> Result<Slot, Refused> {
        let at = now.saturating_duration_since(*self.origin.get_or_insert(now)).as_nanos();
        let mut wait = Duration::ZERO;
        let mut refused: Option<Refused> = None;
        for (index, (limit, key)) in pairs(&mut self.limits, keys).enumerate() {
            let needed = limit.wait(key, at);
            wait = wait.max(needed);
            if needed > limit.settings.max_wait && refused.is_none_or(|other| needed > other.retry_after) {
                refused = Some(Refused { retry_after: needed.max(LEAST_WAIT), limit: index });
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        pairs(&mut self.limits, keys).for_each(|(limit, key)| limit.grant(key, at));
        Ok(Slot { wait, at })
    }

    /// Gives back a slot whose request was never sent. The newest slot of a bucket goes back in full; of an older one no
    /// more than keeps the slots after it as they are, so that a pause in which the slot was lost is not made up for.
    pub fn give_back(&mut self, slot: Slot, keys: &[u64]) {
        let at = slot.spend();
        pairs(&mut self.limits, keys).for_each(|(limit, key)| limit.give_back(key, at));
    }

    /// Takes over new settings. A limit that keeps its place and its key keeps its buckets, in the new rate's measure.
    pub fn retune(&mut self, settings: &[RateLimit]) {
        let mut old = std::mem::take(&mut self.limits).into_iter();
        let next = |new: &RateLimit| match old.next() {
            Some(old) if old.settings.key == new.key => old.retuned(new),
            _ => Limit::new(new),
        };
        self.limits = settings.iter().map(next).collect();
    }
}

impl Limit {
    fn new(settings: &RateLimit) -> Self {
        Self { settings: settings.clone(), buckets: Keyed::new(BUCKETS) }
    }

    /// How long a request that comes at `at` nanoseconds would have to wait.
    fn wait(&mut self, key: u64, at: u128) -> Duration {
        let due = self.buckets.used(key).map_or(0, |bucket| bucket.due);
        let burst = if self.settings.burst == 0 { self.settings.requests } else { self.settings.burst };
        let ahead = self.distance().saturating_mul(u128::from(burst.saturating_sub(1)));
        let early = due.saturating_sub(ahead).saturating_sub(self.units(at));
        if early == 0 {
            return Duration::ZERO; // Most of the time, and without a division.
        }
        nanoseconds(early.div_ceil(self.requests()))
    }

    fn grant(&mut self, key: u64, at: u128) {
        let (now, distance) = (self.units(at), self.distance());
        let bucket = self.buckets.entry(key, Bucket::default);
        bucket.due = bucket.due.max(now).saturating_add(distance);
        bucket.last = bucket.last.max(now);
    }

    fn give_back(&mut self, key: u64, at: u128) {
        let (then, distance) = (self.units(at), self.distance());
        let Some(bucket) = self.buckets.get(key) else { return };
        let earlier = bucket.due.saturating_sub(distance);
        let least = if then >= bucket.last { 0 } else { bucket.last.saturating_add(distance) };
        bucket.due = bucket.due.min(earlier.max(least));
    }

    fn retuned(mut self, new: &RateLimit) -> Self {
        let (was, is) = (self.requests(), u128::from(new.requests.max(1)));
        if was != is {
            for (_, bucket) in self.buckets.iter_mut() {
                bucket.due = (bucket.due / was).saturating_mul(is);
                bucket.last = (bucket.last / was).saturating_mul(is);
            }
        }
        self.settings = new.clone();
        self
    }

    /// Two requests that come evenly are so far apart.
    fn distance(&self) -> u128 {
        self.settings.per.as_nanos()
    }

    fn requests(&self) -> u128 {
        u128::from(self.settings.requests.max(1))
    }

    fn units(&self, nanoseconds: u128) -> u128 {
        nanoseconds.saturating_mul(self.requests())
    }
}

fn pairs<'a>(limits: &'a mut [Limit], keys: &'a [u64]) -> impl Iterator<Item = (&'a mut Limit, u64)> {
    limits.iter_mut().zip(keys.iter().copied().chain(std::iter::repeat(0)))
}

fn nanoseconds(count: u128) -> Duration {
    u64::try_from(count).map_or(Duration::MAX, Duration::from_nanos)
}

/// So many keys have a bucket of their own in each limit; beyond it the least recently used one is forgotten.
pub const BUCKETS: usize = 10_000;

const LEAST_WAIT: Duration = Duration::from_millis(1);
