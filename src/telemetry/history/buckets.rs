//! The long past, in buckets of three widths: fine for the last day, coarser for what lies further back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::figures::Figures;

/// The shortest and the longest span that is told.
pub const SHORTEST: Duration = Duration::from_secs(5 * 60);
pub const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// How wide a bucket is, in seconds, and how many there are at most: one more than its span has, since the first is seldom
/// whole. An upstream that is always busy takes 589 entries of 72 bytes, 41 KiB.
const TIERS: [(u64, usize); 3] = [(300, 289), (3600, 170), (6 * 3600, 130)];

/// The figures of all upstreams, by time.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) tiers: [Tier; 3],
    /// When the first of all that was counted began, in seconds since 1970.
    pub(super) since: Option<u64>,
}

/// The buckets of one width.
#[derive(Debug, Clone)]
pub(super) struct Tier {
    /// In seconds.
    pub(super) width: u64,
    max: usize,
    /// By their beginnings, in seconds since 1970.
    pub(super) buckets: BTreeMap<u64, Bucket>,
}

/// What happened in one span.
#[derive(Debug, Clone, Default)]
pub(super) struct Bucket {
    /// For so much of it somebody has counted.
    pub(super) covered_ms: u32,
    /// By name: those of which there is something to tell.
    pub(super) upstreams: Vec<(Arc<str>, Figures)>,
}

/// Buckets one after the other that are not known, or not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// In seconds since 1970.
    pub from: u64,
    pub to: u64,
    /// So much of it nobody has counted.
    pub lacking: Duration,
}

/// What is known of a window.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The window, widened to whole buckets: in seconds since 1970.
    pub from: u64,
    pub to: u64,
    /// How wide a bucket is.
    pub bucket: Duration,
    /// For so much of it somebody has counted.
    pub covered: Duration,
    /// Where nobody has, or not all the time, as far as buckets tell.
    pub gaps: Vec<Gap>,
    /// When the oldest figures of all begin; `None`: there are none yet.
    pub since: Option<u64>,
    pub upstreams: BTreeMap<Arc<str>, Figures>,
}

impl Default for Buckets {
    fn default() -> Self {
        let tiers = TIERS.map(|(width, max)| Tier { width, max, buckets: BTreeMap::new() });
        Self { tiers, since: None }
    }
}

impl Buckets {
    /// Counts what happened in the time that has just passed. `true`: one of the finest buckets has ended since the last time.
    pub(super) fn add<'a>(
        &mut self,
        unix_ms: u64,
        passed: Duration,
        upstreams: impl Iterator<Item = (&'a str, Figures)>,
    ) -> bool {
        let begun_ms = unix_ms.saturating_sub(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let begun = begun_ms / 1000;
        self.since = Some(self.since.map_or(begun, |since| since.min(begun)));
        let news: Vec<(Arc<str>, Figures)> = upstreams
            .filter(|(_, figures)| !figures.is_empty())
            .map(|(name, figures)| (self.name(name), figures))
            .collect();
        let mut ended = false;
        for (at, tier) in self.tiers.iter_mut().enumerate() {
            let fresh = tier.add(begun_ms..unix_ms, &news);
            ended |= at == 0 && fresh && tier.buckets.len() > 1;
        }
        ended
    }

    /// A name that is there already is not made again.
    fn name(&self, name: &str) -> Arc<str> {
        let newest = self.tiers.iter().filter_map(|tier| tier.buckets.values().next_back());
        let known = newest.flat_map(|bucket| &bucket.upstreams).find(|(known, _)| **known == *name);
        known.map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
    }

    /// What an earlier process has kept is added to what is there.
    pub(super) fn merge(&mut self, kept: Self) {
        self.since = self.since.into_iter().chain(kept.since).min();
        for (own, kept) in self.tiers.iter_mut().zip(kept.tiers) {
            for (start, bucket) in kept.buckets {
                let into = own.buckets.entry(start).or_default();
                into.covered_ms = into.covered_ms.saturating_add(bucket.covered_ms);
                bucket.upstreams.iter().for_each(|(name, figures)| into.count(name, figures));
            }
        }
    }

    /// What is known of the last `window`: by the finest buckets that reach so far back.
    pub(super) fn known(&self, window: Duration, unix_ms: u64) -> Known {
        let now = unix_ms / 1000;
        // What lies further back than all buckets is forgotten.
        let oldest = self.tiers.iter().filter_map(|tier| tier.buckets.keys().next()).min();
        let since = self.since.map(|since| since.max(oldest.copied().unwrap_or(since)));
        let reaches = |tier: &&Tier| tier.span() >= window.as_secs();
        let tier = self.tiers.iter().find(reaches).or(self.tiers.last());
        tier.map_or_else(Known::default, |tier| Known { since, ..tier.known(window.as_secs(), now) })
    }
}

impl Tier {
    /// The longest window for which there is room.
    fn span(&self) -> u64 {
        self.width * (self.max as u64 - 1)
    }

    /// What happened belongs to the bucket in which it was seen, the time that passed to those in which it did. `true`: a bucket has
    /// begun.
    fn add(&mut self, passed: Range<u64>, upstreams: &[(Arc<str>, Figures)]) -> bool {
        // The end is not within.
        let last = passed.end.saturating_sub(u64::from(!passed.is_empty())) / 1000;
        let start = last - last % self.width;
        let fresh = self.make(start, last);
        if let Some(bucket) = self.buckets.get_mut(&start) {
            for (name, figures) in upstreams {
                bucket.count(name, figures);
            }
        }
        let mut at = start;
        for _ in 0..self.max {
            let of_it = at * 1000..(at + self.width) * 1000;
            let covered = passed.end.min(of_it.end).saturating_sub(passed.start.max(of_it.start));
            if covered == 0 && at != start {
                break;
            }
            self.make(at, last);
            if let Some(bucket) = self.buckets.get_mut(&at) {
                bucket.covered_ms =
                    bucket.covered_ms.saturating_add(u32::try_from(covered).unwrap_or(u32::MAX));
            }
            let Some(before) = at.checked_sub(self.width) else { break };
            at = before;
        }
        fresh
    }

    /// `true`: there was none.
    fn make(&mut self, start: u64, now: u64) -> bool {
        let fresh = !self.buckets.contains_key(&start);
        if fresh {
            self.make_room(now);
            if let Some(mut last) = self.buckets.last_entry() {
                last.get_mut().upstreams.shrink_to_fit();
            }
            self.buckets.insert(start, Bucket::default());
        }
        fresh
    }

    /// A clock that was ahead and has been put right leaves buckets in the future: they go first, then the oldest.
    fn make_room(&mut self, now: u64) {
        while self.buckets.len() >= self.max {
            let future = self.buckets.last_key_value().is_some_and(|(start, _)| *start > now);
            if future {
                self.buckets.pop_last()
            } else {
                self.buckets.pop_first()
            };
        }
    }

    /// The wall's clock and the one that counts run apart a little: a bucket that lacks no more than this is whole.
    fn noise(&self) -> Duration {
        Duration::from_secs(1) + Duration::from_millis(self.width)
    }

    fn known(&self, window: u64, now: u64) -> Known {
        let first = now.saturating_sub(window);
        let from = first - first % self.width;
        let mut known = Known { from, to: now, bucket: Duration::from_secs(self.width), ..Known::default() };
        let mut start = from;
        while start <= now {
            let end = (start + self.width).min(now);
            let bucket = self.buckets.get(&start);
            // A clock that was put back counts a span twice: nothing is known for longer than it lasted.
            let covered = bucket.map_or(0, |bucket| u64::from(bucket.covered_ms)).min((end - start) * 1000);
            known.covered += Duration::from_millis(covered);
            let lacking = Duration::from_millis((end - start) * 1000 - covered);
            if lacking > self.noise() {
                match known.gaps.last_mut() {
                    Some(last) if last.to == start => (last.to, last.lacking) = (end, last.lacking + lacking),
                    _ => known.gaps.push(Gap { from: start, to: end, lacking }),
                }
            }
            for (name, figures) in bucket.into_iter().flat_map(|bucket| &bucket.upstreams) {
                known.upstreams.entry(Arc::clone(name)).or_default().add(figures);
            }
            start += self.width;
        }
        known
    }
}

impl Bucket {
    pub(super) fn count(&mut self, name: &Arc<str>, figures: &Figures) {
        match self.upstreams.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(at) => {
                if let Some((_, sum)) = self.upstreams.get_mut(at) {
                    sum.add(figures);
                }
            }
            Err(at) => self.upstreams.insert(at, (Arc::clone(name), *figures)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn five(failed: u32) -> Figures {
        Figures { answered: [5, 0, 0, 0], failed, ..Figures::default() }
    }

    /// Five requests each minute from `from` to `to`, in seconds.
    fn busy(buckets: &mut Buckets, from: u64, to: u64) {
        for at in (from..to).step_by(60) {
            buckets.add((at + 60) * 1000, Duration::from_secs(60), [("api", five(1))].into_iter());
        }
    }

    fn requests(known: &Known) -> u64 {
        known.upstreams.values().map(Figures::requests).sum()
    }

    #[test]
    fn a_month_is_kept_and_no_more() {
        let mut buckets = Buckets::default();
        let end = 40 * DAY;
        busy(&mut buckets, 0, end);
        for tier in &buckets.tiers {
            assert_eq!(tier.buckets.len(), tier.max, "{}", tier.width);
        }
        for (window, minutes) in
            [(300, 5), (3600, 60), (DAY, 1440), (7 * DAY, 7 * 1440), (31 * DAY, 31 * 1440)]
        {
            let known = buckets.known(Duration::from_secs(window), (end - 1) * 1000);
            let told = requests(&known) / 5;
            // Widened to whole buckets at its beginning.
            assert!((minutes..=minutes + known.bucket.as_secs() / 60).contains(&told), "{window}: {told}");
            assert!(known.gaps.is_empty(), "{window}: {:?}", known.gaps);
            assert_eq!(known.covered.as_secs(), known.to - known.from, "{window}");
        }
    }

    #[test]
    fn what_nobody_counted_is_a_gap() {
        let mut buckets = Buckets::default();
        busy(&mut buckets, 10 * DAY, 10 * DAY + 3600);
        busy(&mut buckets, 10 * DAY + 3 * 3600, 10 * DAY + 4 * 3600);
        let now = (10 * DAY + 4 * 3600 - 1) * 1000;
        let known = buckets.known(Duration::from_secs(4 * 3600 - 1), now);
        let lacking = Duration::from_secs(2 * 3600);
        assert_eq!(known.gaps, [Gap { from: 10 * DAY + 3600, to: 10 * DAY + 3 * 3600, lacking }]);
        assert_eq!(known.covered.as_secs().div_ceil(60), 120);
        assert_eq!(known.since, Some(10 * DAY));
        let known = buckets.known(Duration::from_secs(DAY), now);
        assert_eq!(known.gaps.len(), 2, "before it began, and between: {:?}", known.gaps);
    }

    #[test]
    fn a_bucket_that_is_known_in_part_is_a_gap_of_that_part() {
        let mut buckets = Buckets::default();
        let end = 10 * DAY + 3600;
        // It does not run from 7 minutes on until 16, and for half a minute at 31.
        busy(&mut buckets, 10 * DAY, 10 * DAY + 7 * 60);
        busy(&mut buckets, 10 * DAY + 16 * 60, 10 * DAY + 31 * 60);
        busy(&mut buckets, 10 * DAY + 31 * 60 + 30, end - 30);
        let known = buckets.known(Duration::from_secs(3600 - 1), (end - 1) * 1000);
        let gap = |from: u64, to: u64, lacking| Gap {
            from: 10 * DAY + from * 60,
            to: 10 * DAY + to * 60,
            lacking: Duration::from_secs(lacking),
        };
        assert_eq!(known.gaps.first(), Some(&gap(5, 20, 9 * 60)), "one, with the parts at its edges");
        assert_eq!(known.gaps.get(1), Some(&gap(30, 35, 30)));
        let lacking: Duration = known.gaps.iter().map(|gap| gap.lacking).sum();
        assert_eq!(lacking + known.covered, Duration::from_secs(known.to - known.from));
    }

    /// Looks come every few seconds, not at the ends of buckets: no bucket lacks what was counted in the next one.
    #[test]
    fn time_belongs_to_the_bucket_in_which_it_passed() {
        let mut buckets = Buckets::default();
        let mut at = 10 * DAY * 1000;
        for number in 0..5000_u64 {
            let passed = 4000 + number % 7 * 500;
            at += passed;
            buckets.add(at, Duration::from_millis(passed), std::iter::empty());
        }
        let known = buckets.known(Duration::from_secs(5 * 3600), at);
        assert!(known.gaps.is_empty(), "{:?}", known.gaps);
    }

    #[test]
    fn a_clock_that_runs_ahead_costs_nothing_that_was_before() {
        let mut buckets = Buckets::default();
        busy(&mut buckets, 10 * DAY, 11 * DAY);
        busy(&mut buckets, 400 * DAY, 400 * DAY + 3600);
        busy(&mut buckets, 11 * DAY, 11 * DAY + 3600);
        let known = buckets.known(Duration::from_secs(3 * 3600), (11 * DAY + 3600 - 1) * 1000);
        assert!(known.gaps.is_empty(), "{:?}", known.gaps);
        assert_eq!(known.since.map(|since| since / DAY), Some(10));
        for tier in &buckets.tiers {
            assert!(tier.buckets.len() <= tier.max);
        }
    }

    #[test]
    fn a_clock_that_is_put_back_is_told_for_no_longer_than_it_lasted() {
        let mut buckets = Buckets::default();
        busy(&mut buckets, 10 * DAY, 10 * DAY + 3600);
        busy(&mut buckets, 10 * DAY, 10 * DAY + 3600);
        let known = buckets.known(Duration::from_secs(1800), (10 * DAY + 3600 - 1) * 1000);
        assert_eq!(known.covered.as_secs(), known.to - known.from);
    }

    #[test]
    fn two_lives_are_one_past() {
        let (mut first, mut second) = (Buckets::default(), Buckets::default());
        busy(&mut first, 10 * DAY, 10 * DAY + 600);
        busy(&mut second, 10 * DAY + 600, 10 * DAY + 1200);
        second.add((10 * DAY + 1200) * 1000, Duration::ZERO, [("other", five(0))].into_iter());
        second.merge(first);
        let known = second.known(Duration::from_secs(1200), (10 * DAY + 1200) * 1000);
        assert_eq!(known.upstreams.get("api").map(Figures::requests), Some(100));
        assert_eq!(known.upstreams.get("other").map(Figures::requests), Some(5));
    }

    #[test]
    fn one_end_of_a_bucket_is_told_once() {
        let mut buckets = Buckets::default();
        let mut add = |at: u64| buckets.add(at * 1000, Duration::from_secs(5), std::iter::empty());
        assert!(!add(10 * DAY + 5), "the first has no other before it");
        assert!(!add(10 * DAY + 10));
        assert!(!add(10 * DAY + 300));
        assert!(add(10 * DAY + 305));
        assert!(!add(10 * DAY + 310));
    }
}
