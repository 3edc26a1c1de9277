//! Windows against a naive list of what happened.

use std::time::{Duration, Instant};

use fender::policy::breaker::Settings;
use fender::policy::window::{LARGEST_COUNT, Tally, Window};
use proptest::prelude::*;

use super::{of_requests, secs, settings};

const WINDOW: Duration = secs(20);
const SLICE: Duration = secs(1);

fn naive<'a>(calls: impl Iterator<Item = &'a (Instant, bool, bool)>) -> Tally {
    calls.fold(Tally::default(), |tally, (_, failed, slow)| tally.and(*failed, *slow))
}

#[test]
fn a_window_slides_and_forgets() {
    let start = Instant::now();
    let mut window = Window::new(&Settings { window: WINDOW, ..settings() });
    window.record(start, true, false);
    window.record(start + secs(10), false, true);
    assert_eq!(window.tally(start + secs(19)), Tally { calls: 2, failures: 1, slow: 1 });
    assert_eq!(window.tally(start + secs(20)), Tally { calls: 1, failures: 0, slow: 1 });
    assert_eq!(window.tally(start + secs(30)), Tally::default());
    assert_eq!(window.tally(start), Tally { calls: 2, failures: 1, slow: 1 }, "looking changes nothing");
    window.record(start + secs(1_000_000), true, true);
    assert_eq!(window.tally(start + secs(1_000_000)), Tally { calls: 1, failures: 1, slow: 1 });
    window.clear();
    assert_eq!(window.tally(start + secs(1_000_000)), Tally::default());
}

#[test]
fn a_window_of_calls_holds_the_last_so_many() {
    let now = Instant::now();
    let mut window = Window::new(&Settings { window_requests: of_requests(3), ..settings() });
    for (failed, failures) in [(true, 1), (true, 2), (true, 3), (false, 2), (false, 1), (false, 0)] {
        window.record(now, failed, !failed);
        assert_eq!(window.tally(now).failures, failures);
    }
    assert_eq!(window.tally(now + secs(1_000_000)), Tally { calls: 3, failures: 0, slow: 3 });
}

#[test]
fn the_largest_window_of_calls_is_bounded() {
    let now = Instant::now();
    let mut window = Window::new(&Settings { window_requests: of_requests(u32::MAX), ..settings() });
    for _ in 0..LARGEST_COUNT + 5 {
        window.record(now, false, false);
    }
    assert_eq!(window.tally(now).calls, LARGEST_COUNT);
}

proptest! {
    #[test]
    fn a_window_of_time_is_at_most_one_slice_short(
        steps in proptest::collection::vec((0..5_000_u64, any::<bool>(), any::<bool>()), 1..300),
    ) {
        let mut now = Instant::now();
        let mut window = Window::new(&Settings { window: WINDOW, ..settings() });
        let mut all = Vec::new();
        for (ms, failed, slow) in steps {
            now += Duration::from_millis(ms);
            window.record(now, failed, slow);
            all.push((now, failed, slow));
            let tally = window.tally(now);
            let within = |age: Duration| naive(all.iter().filter(|(at, ..)| now - *at < age));
            let (least, most) = (within(WINDOW - SLICE), within(WINDOW));
            prop_assert!((least.calls..=most.calls).contains(&tally.calls));
            prop_assert!((least.failures..=most.failures).contains(&tally.failures));
            prop_assert!((least.slow..=most.slow).contains(&tally.slow));
        }
    }

    #[test]
    fn a_window_of_calls_is_exact(
        size in 1..50_u32,
        calls in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..300),
    ) {
        let now = Instant::now();
        let mut window = Window::new(&Settings { window_requests: of_requests(size), ..settings() });
        let mut all = Vec::new();
        for (failed, slow) in calls {
            window.record(now, failed, slow);
            all.push((now, failed, slow));
            prop_assert_eq!(window.tally(now), naive(all.iter().rev().take(usize::try_from(size).unwrap())));
        }
    }
}
