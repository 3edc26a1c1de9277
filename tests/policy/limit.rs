//! Rate limits against a naive model, and the adaptive limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fender::policy::key::Key;
use fender::policy::limit::{Aimd, BUCKETS, Limits, RateLimit, RateLimitWord};
use proptest::prelude::*;

use super::{millis, secs};

fn of(requests: u32, per: Duration, burst: u32, max_wait: Duration) -> RateLimit {
    RateLimit { requests, per, burst, key: Key::Word(RateLimitWord::Upstream), max_wait }
}

const AT_ONCE: Duration = Duration::ZERO;

fn granted(limits: &mut Limits, key: u64, now: Instant) -> usize {
    let mut count = 0;
    while limits.ask(&[key], now).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn a_burst_at_once_and_then_the_rate() {
    let now = Instant::now();
    let mut limits = Limits::new(&[of(10, secs(1), 3, AT_ONCE)]);
    assert_eq!(granted(&mut limits, 0, now), 3);
    assert_eq!(granted(&mut limits, 0, now + millis(99)), 0);
    assert_eq!(granted(&mut limits, 0, now + millis(100)), 1);
    assert_eq!(granted(&mut limits, 0, now + millis(350)), 2);
    assert_eq!(granted(&mut limits, 0, now + millis(400)), 1);
    assert_eq!(granted(&mut limits, 0, now + secs(60)), 3);
    let mut limits = Limits::new(&[of(10, secs(1), 0, AT_ONCE)]);
    assert_eq!(granted(&mut limits, 0, now), 10, "a burst of 0 is `requests`");
}

#[test]
fn a_refusal_says_when_and_which() {
    let now = Instant::now();
    let mut limits =
        Limits::new(&[of(10, secs(1), 1, AT_ONCE), of(1, secs(60), 1, AT_ONCE), of(2, secs(1), 1, AT_ONCE)]);
    assert!(limits.ask(&[0, 0, 0], now).is_ok());
    let refused = limits.ask(&[0, 0, 0], now + secs(1)).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (1, secs(59)));
    let refused = limits.ask(&[0, 1, 0], now).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (2, millis(500)));
    let refused = limits.ask(&[0, 1, 1], now + Duration::from_nanos(99_999_999)).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (0, millis(1)));
}

#[test]
fn all_grant_or_none_is_touched() {
    let now = Instant::now();
    let mut limits = Limits::new(&[of(5, secs(1), 5, AT_ONCE), of(2, secs(1), 2, AT_ONCE)]);
    assert!(limits.ask(&[0, 0], now).is_ok() && limits.ask(&[0, 0], now).is_ok());
    (0..100).for_each(|_| assert!(limits.ask(&[0, 0], now).is_err()));
    // The second limit's other key has room: of the first, three are left.
    assert!(limits.ask(&[0, 1], now).is_ok() && limits.ask(&[0, 1], now).is_ok());
    assert!(limits.ask(&[0, 2], now).is_ok());
    assert_eq!(limits.ask(&[0, 2], now).unwrap_err().limit, 0);
}

#[test]
fn one_waits_for_a_slot_within_its_patience() {
    let now = Instant::now();
    let mut limits = Limits::new(&[of(10, secs(1), 1, millis(250))]);
    let waits: Vec<_> = (0..3).map(|_| limits.ask(&[0], now).unwrap().wait).collect();
    assert_eq!(waits, [AT_ONCE, millis(100), millis(200)]);
    assert_eq!(limits.ask(&[0], now).unwrap_err().retry_after, millis(300));
    assert_eq!(limits.ask(&[0], now + millis(50)).unwrap().wait, millis(250));
}

#[test]
fn each_key_has_its_own_bucket_and_the_least_used_is_forgotten() {
    let now = Instant::now();
    let mut limits = Limits::new(&[of(1, secs(3600), 1, AT_ONCE)]);
    for key in 0..u64::try_from(BUCKETS).unwrap() {
        assert!(limits.ask(&[key], now).is_ok());
    }
    assert!(limits.ask(&[0], now).is_err(), "and to ask is to use");
    assert!(limits.ask(&[1_000_000], now).is_ok());
    assert!(limits.ask(&[0], now).is_err());
    assert!(limits.ask(&[1], now).is_ok());
}

#[test]
fn no_limit_and_missing_keys_are_no_trouble() {
    let now = Instant::now();
    assert_eq!(Limits::new(&[]).ask(&[], now).unwrap().wait, AT_ONCE);
    let mut limits = Limits::new(&[of(1, secs(1), 1, AT_ONCE)]);
    assert!(limits.ask(&[], now).is_ok() && limits.ask(&[0, 1, 2], now).is_err());
    assert!(limits.ask(&[], now - secs(10)).is_err(), "time steps back");
}

#[test]
fn what_was_never_sent_is_given_back() {
    let now = Instant::now();
    let mut limits = Limits::new(&[of(10, secs(1), 3, AT_ONCE)]);
    let slots: Vec<_> = (0..3).map(|_| limits.ask(&[0], now).unwrap()).collect();
    slots.into_iter().for_each(|slot| limits.give_back(slot, &[0]));
    assert_eq!(granted(&mut limits, 0, now), 3);
    // A slot that a pause has made up for long since is worth nothing.
    let mut limits = Limits::new(&[of(10, secs(1), 1, AT_ONCE)]);
    let old = limits.ask(&[0], now).unwrap();
    assert!(limits.ask(&[0], now + secs(9)).is_ok());
    limits.give_back(old, &[0]);
    assert_eq!(granted(&mut limits, 0, now + secs(9)), 0);
    let unknown = limits.ask(&[1], now + secs(9)).unwrap();
    limits.give_back(unknown, &[2]);
}

#[test]
fn a_reload_keeps_the_buckets_of_a_limit_that_stays() {
    let now = Instant::now();
    let mut limits = Limits::new(&[of(10, secs(1), 10, AT_ONCE)]);
    assert_eq!(granted(&mut limits, 0, now), 10);
    limits.retune(&[of(7, secs(1), 7, AT_ONCE)]);
    assert!(limits.ask(&[0], now).is_err());
    assert!(limits.ask(&[0], now + millis(600)).is_ok());
    let by_path = RateLimit { key: Key::Word(RateLimitWord::Path), ..of(7, secs(1), 7, AT_ONCE) };
    limits.retune(&[by_path.clone(), by_path]);
    assert!(limits.ask(&[0, 0], now).is_ok());
    limits.retune(&[]);
    assert!(limits.ask(&[], now).is_ok());
}

#[test]
fn awkward_rates_are_granted_within_a_hundredth() {
    for (requests, per, burst, step, run) in [
        (7, secs(3), 2, millis(10), secs(3000)),
        (1_000_000, secs(1), 2, Duration::from_nanos(300), millis(20)),
        (1, secs(3600), 2, secs(7), secs(3600 * 500)),
        (333, secs(1), 2, Duration::from_micros(701), secs(20)),
        (u32::MAX, secs(1), 10, Duration::from_nanos(1), Duration::from_micros(20)),
        (1, millis(1), 2, Duration::from_micros(37), secs(2)),
    ] {
        let start = Instant::now();
        let mut limits = Limits::new(&[of(requests, per, burst, AT_ONCE)]);
        let (mut passed, mut count) = (Duration::ZERO, 0_u32);
        while passed < run {
            // As many as come at once: so many that there is always one too many.
            for _ in 0..=burst {
                count += u32::from(limits.ask(&[0], start + passed).is_ok());
            }
            passed += step;
        }
        let due = run.as_secs_f64() / per.as_secs_f64() * f64::from(requests);
        let beyond = f64::from(count) - f64::from(burst) - due;
        assert!(beyond <= 1e-6 && beyond >= -0.01 * due, "{requests} per {per:?}: {count} of {due}");
    }
}

/// A token bucket that counts in exact fractions: `tokens` is in 1 / (requests * per) of a request.
struct Naive {
    requests: u128,
    per: u128,
    burst: u128,
    filled: u128,
    at: Instant,
}

impl Naive {
    fn new(requests: u32, per: Duration, burst: u32, at: Instant) -> Self {
        let (requests, per, burst) = (u128::from(requests), per.as_nanos(), u128::from(burst));
        Self { requests, per, burst, filled: burst * per, at }
    }

    fn grants(&mut self, now: Instant) -> bool {
        self.filled = (self.filled + (now - self.at).as_nanos() * self.requests).min(self.burst * self.per);
        self.at = now;
        let grants = self.filled >= self.per;
        if grants {
            self.filled -= self.per;
        }
        grants
    }
}

proptest! {
    #[test]
    fn it_grants_what_a_token_bucket_grants(
        (requests, per_ms, burst) in (1..2_000_u32, 1..100_000_u64, 1..50_u32),
        steps in proptest::collection::vec(0..3_000_000_u64, 1..400),
    ) {
        let mut now = Instant::now();
        let mut limits = Limits::new(&[of(requests, millis(per_ms), burst, AT_ONCE)]);
        let mut naive = Naive::new(requests, millis(per_ms), burst, now);
        for step in steps {
            now += Duration::from_nanos(step * per_ms / u64::from(requests));
            prop_assert_eq!(limits.ask(&[0], now).is_ok(), naive.grants(now));
        }
    }

    #[test]
    fn random_arrivals_beyond_the_rate_are_granted_at_the_rate(
        (requests, per_ms, burst) in (1..5_000_u32, 1..60_000_u64, 2..6_u32),
        seed in any::<u32>(),
    ) {
        let (per, start) = (per_ms * 1_000_000, Instant::now());
        let interval = per / u64::from(requests);
        let mut limits = Limits::new(&[of(requests, millis(per_ms), burst, AT_ONCE)]);
        let (mut passed, mut count, mut dice) = (0_u64, 0_u64, u64::from(seed) | 1);
        while passed < interval * 2_000 {
            // Four times too many, in clumps; xorshift64.
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            passed += dice % (interval / 2 + 1);
            count += u64::from(limits.ask(&[0], start + Duration::from_nanos(passed)).is_ok());
        }
        let due = u64::try_from(u128::from(passed) * u128::from(requests) / u128::from(per)).unwrap();
        prop_assert!(count <= due + u64::from(burst));
        prop_assert!(count * 100 >= due * 99, "{} of {}", count, due);
    }

    #[test]
    fn slots_that_are_waited_for_come_at_the_rate_exactly(
        (requests, per_ms, burst) in (1..5_000_u32, 1..60_000_u64, 1..20_u32),
        steps in proptest::collection::vec(0..1_000_u64, 300..600),
    ) {
        let patience = millis(per_ms);
        let (start, mut now) = (Instant::now(), Instant::now());
        let mut limits = Limits::new(&[of(requests, millis(per_ms), burst, patience)]);
        let mut sent = VecDeque::new();
        for step in steps {
            now += Duration::from_nanos(step * per_ms * 1_000 / u64::from(requests) / 2);
            if let Ok(slot) = limits.ask(&[0], now) {
                prop_assert!(slot.wait <= patience);
                sent.push_back(now + slot.wait - start);
            }
        }
        // Any `burst + n` in a row take at least n distances, to the nanosecond that a wait is rounded up by.
        let burst = usize::try_from(burst).unwrap();
        for n in [1_usize, 7, 50, 200] {
            for (first, last) in sent.iter().zip(sent.iter().skip(burst + n - 1)) {
                let least = u128::from(per_ms) * 1_000_000 * u128::try_from(n).unwrap() / u128::from(requests);
                prop_assert!((*last - *first).as_nanos() + 1 >= least);
            }
        }
    }
}

#[test]
fn the_adaptive_limit_falls_by_a_tenth_once_for_each_round_of_losses() {
    let now = Instant::now();
    let mut limit = Aimd::new(100);
    assert_eq!(limit.limit(), 100);
    (0..50).for_each(|_| limit.lost(now, now + secs(1)));
    assert_eq!(limit.limit(), 90, "all of them began before the cut");
    limit.lost(now + secs(2), now + secs(3));
    assert_eq!(limit.limit(), 81);
    for round in 2..200 {
        limit.lost(now + secs(2 * round), now + secs(2 * round + 1));
        assert!(limit.limit() >= 1);
    }
    assert_eq!(limit.limit(), 1);
}

#[test]
fn the_adaptive_limit_climbs_by_one_a_round_and_only_when_it_is_used() {
    let now = Instant::now();
    let mut limit = Aimd::new(12);
    limit.lost(now, now);
    assert_eq!(limit.limit(), 10);
    (0..1000).for_each(|_| limit.fine(4, now));
    assert_eq!(limit.limit(), 10, "less than half of it was in use");
    (0..9).for_each(|_| limit.fine(5, now));
    assert_eq!(limit.limit(), 10);
    limit.fine(5, now);
    assert_eq!(limit.limit(), 11);
    (0..1000).for_each(|_| limit.fine(11, now));
    assert_eq!(limit.limit(), 12, "and no further than its ceiling");
}

#[test]
fn the_adaptive_limit_follows_its_ceiling() {
    let now = Instant::now();
    let mut limit = Aimd::new(0);
    assert_eq!(limit.limit(), 1);
    limit.retune(100);
    assert_eq!(limit.limit(), 100);
    limit.lost(now, now);
    limit.retune(200);
    assert_eq!(limit.limit(), 90);
    limit.retune(50);
    assert_eq!(limit.limit(), 50);
    limit.retune(0);
    assert_eq!(limit.limit(), 1);
    let mut largest = Aimd::new(u32::MAX);
    largest.fine(u32::MAX, now);
    assert_eq!(largest.limit(), u32::MAX);
}
