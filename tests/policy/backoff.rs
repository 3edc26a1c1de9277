//! Waits between attempts.

use std::time::Duration;

use fender::policy::backoff::{Jitter, Settings, Strategy as Growth};
use proptest::prelude::*;

use super::{millis, secs};

fn plain(strategy: Growth) -> Settings {
    Settings {
        strategy,
        base: millis(100),
        max: secs(10),
        factor: 2.0,
        schedule: vec![secs(60), secs(180), secs(600)],
        jitter: Jitter::None,
    }
}

fn waits(settings: &Settings, retries: &[u32]) -> Vec<u128> {
    retries.iter().map(|retry| settings.wait(*retry, Duration::ZERO, 0.5).as_millis()).collect()
}

#[test]
fn each_strategy_grows_as_it_says_and_stops_at_max() {
    let first = [1, 2, 3, 4, 5, 6];
    assert_eq!(waits(&plain(Growth::Exponential), &first), [100, 200, 400, 800, 1600, 3200]);
    assert_eq!(waits(&plain(Growth::Linear), &first), [100, 200, 300, 400, 500, 600]);
    assert_eq!(waits(&plain(Growth::Fixed), &first), [100; 6]);
    assert_eq!(waits(&plain(Growth::Fibonacci), &first), [100, 100, 200, 300, 500, 800]);
    for growing in [Growth::Exponential, Growth::Linear, Growth::Fibonacci] {
        assert_eq!(waits(&plain(growing), &[101, 1_000, u32::MAX]), [10_000; 3], "{growing:?}");
    }
    let half = Settings { factor: 0.5, ..plain(Growth::Exponential) };
    assert_eq!(waits(&half, &[1, 2, 3, u32::MAX]), [100, 50, 25, 0]);
}

#[test]
fn a_schedule_is_meant_as_written_and_its_last_wait_repeats() {
    let schedule = plain(Growth::Schedule);
    assert_eq!(waits(&schedule, &[1, 2, 3, 4, u32::MAX]), [60_000, 180_000, 600_000, 600_000, 600_000]);
    assert_eq!(waits(&Settings { schedule: Vec::new(), ..schedule }, &[1, 9]), [100, 100]);
}

#[test]
fn jitter_comes_after_the_cut_so_that_chance_still_spreads_at_max() {
    let at = |jitter, dice| Settings { jitter, ..plain(Growth::Exponential) }.wait(50, Duration::ZERO, dice);
    assert_eq!([0.0, 0.5].map(|dice| at(Jitter::Full, dice)), [Duration::ZERO, secs(5)]);
    assert_eq!([0.0, 0.5].map(|dice| at(Jitter::Equal, dice)), [secs(5), millis(7_500)]);
}

#[test]
fn decorrelated_jitter_draws_from_base_to_thrice_the_wait_before() {
    let settings = Settings { jitter: Jitter::Decorrelated, ..plain(Growth::Fixed) };
    assert_eq!(settings.wait(1, Duration::ZERO, 0.0), millis(100));
    assert_eq!(settings.wait(1, Duration::ZERO, 0.5), millis(200));
    assert_eq!(settings.wait(2, secs(1), 0.5), millis(1_550));
    assert_eq!(settings.wait(9, secs(9), 0.99), secs(10));
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let growth = prop_oneof![
        Just(Growth::Exponential),
        Just(Growth::Linear),
        Just(Growth::Fixed),
        Just(Growth::Fibonacci),
        Just(Growth::Schedule),
    ];
    let jitter =
        prop_oneof![Just(Jitter::None), Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)];
    let times = (1..=u64::MAX, 1..=u64::MAX, proptest::collection::vec(1..=u64::MAX, 1..5));
    (growth, jitter, times, 0.001..1e9_f64).prop_map(|(strategy, jitter, (base, max, schedule), factor)| {
        Settings {
            strategy,
            jitter,
            base: millis(base),
            max: millis(max),
            factor,
            schedule: schedule.into_iter().map(millis).collect(),
        }
    })
}

proptest! {
    #[test]
    fn no_wait_is_beyond_its_bounds(
        settings in any_settings(),
        retry in any::<u32>(),
        previous in any::<u64>(),
        dice in prop_oneof![0.0..1.0_f64, Just(f64::NAN), Just(1.0), Just(-1.0)],
    ) {
        let previous = millis(previous);
        let wait = settings.wait(retry, previous, dice);
        let plain = Settings { jitter: Jitter::None, ..settings.clone() }.wait(retry, previous, dice);
        let listed = settings.schedule.iter().max().copied().unwrap_or_default();
        let most = if settings.strategy == Growth::Schedule { listed } else { settings.max };
        prop_assert!(plain <= most);
        // A double holds fifteen digits of a wait of centuries.
        let dust = plain / 1_000_000_000 + Duration::from_nanos(2);
        match settings.jitter {
            Jitter::None => prop_assert_eq!(wait, plain),
            Jitter::Full => prop_assert!(wait <= plain + dust),
            Jitter::Equal => prop_assert!(wait + dust >= plain / 2 && wait <= plain + dust),
            Jitter::Decorrelated => {
                prop_assert!(wait >= settings.base.min(settings.max) && wait <= settings.max);
                let most = previous.max(settings.base).saturating_mul(3);
                prop_assert!(wait <= most + most / 1_000_000_000 + Duration::from_nanos(2));
            }
        }
    }
}
