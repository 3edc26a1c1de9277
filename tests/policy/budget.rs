//! The retry budget against a naive list of requests and retries.

use std::time::{Duration, Instant};

use fender::policy::budget::{Budget, Left, Settings};
use proptest::prelude::*;

use super::{millis, secs};

fn of(ratio: f64, min_per_second: f64) -> Settings {
    Settings { ratio, min_per_second, window: secs(10) }
}

fn taken(budget: &mut Budget, now: Instant) -> u64 {
    let mut count = 0;
    while budget.take(now).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn a_ratio_pays_for_exactly_its_share() {
    for hundredths in 0..=100_u32 {
        let ratio = format!("{}.{:02}", hundredths / 100, hundredths % 100).parse().unwrap();
        for requests in [1, 3, 7, 10, 99, 100, 1000, 12_345] {
            let now = Instant::now();
            let mut budget = Budget::new(&of(ratio, 0.0), now);
            (0..requests).for_each(|_| budget.paid(now));
            assert_eq!(
                taken(&mut budget, now),
                u64::from(hundredths) * requests / 100,
                "{ratio} of {requests}"
            );
        }
    }
}

#[test]
fn the_floor_may_be_spent_at_once_and_comes_back_with_the_window() {
    let now = Instant::now();
    let mut budget = Budget::new(&of(0.2, 1.0), now);
    assert_eq!(taken(&mut budget, now), 10);
    assert_eq!(taken(&mut budget, now + secs(10)), 0);
    assert_eq!(taken(&mut budget, now + millis(10_157)), 10, "a 64th of the window later");
}

#[test]
fn nothing_is_nothing() {
    let now = Instant::now();
    let mut budget = Budget::new(&of(0.0, 0.0), now);
    (0..1000).for_each(|_| budget.paid(now));
    let left = Left { available: 0.0, allowed: 0.0, requests: 1000, retries: 0, window: secs(10) };
    assert_eq!(budget.take(now), Err(left));
}

#[test]
fn a_refusal_tells_the_windows_figures() {
    let now = Instant::now();
    let mut budget = Budget::new(&of(0.3, 0.0), now);
    (0..8).for_each(|_| budget.paid(now));
    assert!((budget.available(now) - 2.4).abs() < 1e-9);
    assert_eq!(taken(&mut budget, now), 2);
    let left = budget.take(now).unwrap_err();
    assert_eq!((left.requests, left.retries), (8, 2));
    assert!((left.available - 0.4).abs() < 1e-9 && (left.allowed - 2.4).abs() < 1e-9);
}

#[test]
fn retries_that_wait_in_backoff_do_not_shrink_what_requests_pay() {
    let now = Instant::now();
    let mut budget = Budget::new(&of(0.2, 0.0), now);
    (0..100).for_each(|_| budget.paid(now));
    assert_eq!(taken(&mut budget, now), 20);
    (0..100).for_each(|_| budget.paid(now + secs(5)));
    assert_eq!(taken(&mut budget, now + secs(5)), 20);
}

#[test]
fn what_was_never_sent_is_given_back() {
    let now = Instant::now();
    let mut budget = Budget::new(&of(0.0, 0.2), now);
    assert!(budget.take(now).is_ok() && budget.take(now + secs(3)).is_ok());
    budget.give_back(now + secs(4));
    assert_eq!(taken(&mut budget, now + secs(4)), 1);
    // What stays counted is the newest: it falls out last.
    assert_eq!(taken(&mut budget, now + secs(11)), 0);
    budget.give_back_taken(now, now + secs(11));
    assert_eq!(taken(&mut budget, now + secs(11)), 0, "that one had fallen out already");
    budget.give_back_taken(now + secs(4), now + secs(11));
    assert_eq!(taken(&mut budget, now + secs(11)), 1);
    let mut fresh = Budget::new(&of(0.0, 0.2), now);
    fresh.give_back(now);
    fresh.give_back_taken(now, now);
    assert_eq!(taken(&mut fresh, now), 2, "nothing was taken");
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let now = Instant::now();
    let mut budget = Budget::new(&of(0.2, 0.0), now);
    (0..100).for_each(|_| budget.paid(now));
    assert_eq!(taken(&mut budget, now), 20);
    budget.retune(&of(0.5, 0.0), now);
    assert_eq!(taken(&mut budget, now), 30);
    budget.retune(&Settings { window: secs(20), ..of(0.6, 0.0) }, now + secs(1));
    assert_eq!(taken(&mut budget, now + secs(1)), 10);
    budget.retune(&Settings { window: secs(10), ..of(1.0, 0.0) }, now + secs(1));
    assert_eq!(taken(&mut budget, now + secs(1)), 0, "half of the requests, all of the retries");
}

#[test]
fn far_ends_are_no_trouble() {
    let now = Instant::now() + secs(86_400);
    for settings in
        [of(1.0, f64::MAX), of(f64::MIN_POSITIVE, 0.0), Settings { window: Duration::MAX, ..of(1.0, 1.0) }]
    {
        let mut budget = Budget::new(&settings, now);
        budget.paid(now);
        budget.paid(now - secs(3600));
        assert!(budget.available(now + secs(1_000_000)) >= 0.0);
        budget.retune(&of(0.1, 0.1), now - secs(10));
        budget.take(now).ok();
        budget.give_back_taken(now + secs(5), now);
    }
    let mut tiny = Budget::new(&Settings { window: Duration::from_nanos(1), ..of(1.0, 0.0) }, now);
    tiny.paid(now);
    assert!(tiny.take(now).is_ok());
}

proptest! {
    #[test]
    fn at_every_grant_the_formula_holds_and_no_grant_is_withheld_beyond_a_slice(
        hundredths in 0..=100_u32,
        tenths in 0..30_u32,
        window_ms in 1..20_000_u64,
        events in proptest::collection::vec((0..2_000_u64, 0..5_u32, any::<bool>()), 1..300),
    ) {
        let window = millis(window_ms);
        let settings = Settings {
            ratio: f64::from(hundredths) / 100.0,
            min_per_second: f64::from(tenths) / 10.0,
            window,
        };
        let mut now = Instant::now();
        let mut budget = Budget::new(&settings, now);
        let (mut requests, mut retries) = (Vec::new(), Vec::new());
        for (ms, paid, retry) in events {
            now += millis(ms);
            (0..paid).for_each(|_| {
                budget.paid(now);
                requests.push(now);
            });
            if !retry {
                continue;
            }
            let within = |all: &[Instant], age: Duration| {
                u64::try_from(all.iter().filter(|at| now - **at <= age).count()).unwrap()
            };
            // Thousandths of a hundredth, so that the model is exact too.
            let allowed = |requests: u64| {
                u64::from(hundredths) * 100 * requests + u64::from(tenths) * window_ms
            };
            let slice = window / 50 + Duration::from_nanos(100);
            let granted = budget.take(now).is_ok();
            if granted {
                retries.push(now);
                prop_assert!(within(&retries, window) * 10_000 <= allowed(within(&requests, window)));
            } else {
                let surely = (within(&retries, window + slice) + 1) * 10_000
                    <= allowed(within(&requests, window.saturating_sub(slice)));
                prop_assert!(!surely, "withheld");
            }
        }
    }
}
