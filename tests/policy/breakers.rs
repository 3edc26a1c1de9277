//! An upstream's breakers, one for each key.

use std::time::Instant;

use fender::policy::breaker::{Ended, Permit, Settings, State};
use fender::policy::breakers::{Breakers, KEYS};

use super::{secs, three_in_a_row};

const FAILED: Ended = Ended::Failure { slow: false, told: None };
const FINE: Ended = Ended::Success { slow: false };

fn permit(breakers: &mut Breakers, key: Option<u64>, now: Instant) -> Permit {
    breakers.ask(key, now, 0.5).answer.unwrap()
}

fn trip(breakers: &mut Breakers, key: Option<u64>, now: Instant) {
    for _ in 0..3 {
        let permit = permit(breakers, key, now);
        breakers.tell(key, permit, FAILED, now, 0.5);
    }
}

#[test]
fn one_keys_failures_are_not_anothers() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&three_in_a_row());
    trip(&mut breakers, Some(1), now);
    assert!(breakers.would_refuse(Some(1), now) && breakers.ask(Some(1), now, 0.5).answer.is_err());
    for key in [None, Some(2), Some(0)] {
        assert!(!breakers.would_refuse(key, now));
        let permit = permit(&mut breakers, key, now);
        breakers.tell(key, permit, FINE, now, 0.5);
    }
    assert_eq!(breakers.worst(), State::Open);
    assert_eq!(breakers.figures(now).consecutive, 3);
    assert_eq!(breakers.each_figures(now).count(), 3);
}

#[test]
fn a_breaker_that_was_evicted_and_comes_back_knows_nothing_of_its_former_permits() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&Settings { consecutive_failures: 1, ..three_in_a_row() });
    let former = permit(&mut breakers, Some(7), now);
    let unmade = permit(&mut breakers, Some(8), now);
    for key in 0..u64::try_from(KEYS).unwrap() {
        let permit = permit(&mut breakers, Some(1000 + key), now);
        breakers.tell(Some(1000 + key), permit, FINE, now, 0.5);
    }
    let next = permit(&mut breakers, Some(7), now);
    assert_eq!(breakers.tell(Some(7), former, FAILED, now, 0.5), None, "a former self's");
    assert_eq!(breakers.tell(Some(8), unmade, FAILED, now, 0.5), None, "it makes none either");
    assert_eq!(breakers.each_figures(now).count(), KEYS);
    assert_eq!(breakers.worst(), State::Closed);
    assert!(breakers.tell(Some(7), next, FAILED, now, 0.5).is_some());
}

#[test]
fn a_permit_of_one_key_means_nothing_to_another() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&Settings { consecutive_failures: 1, ..three_in_a_row() });
    let one = permit(&mut breakers, Some(1), now);
    let two = permit(&mut breakers, Some(2), now);
    assert_eq!(breakers.tell(Some(2), one, FAILED, now, 0.5), None);
    assert_eq!(breakers.tell(None, two, FAILED, now, 0.5), None);
}

#[test]
fn a_word_for_all_holds_for_those_that_are_made_later() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&three_in_a_row());
    trip(&mut breakers, Some(1), now);

    assert_eq!(breakers.force_open(now).len(), 2);
    for key in [None, Some(1), Some(2)] {
        assert!(breakers.would_refuse(key, now) && breakers.ask(key, now, 0.5).answer.is_err(), "{key:?}");
    }
    assert_eq!((breakers.worst(), breakers.auto(now).len()), (State::ForcedOpen, 3));
    assert_eq!(breakers.worst(), State::Closed);

    assert_eq!(breakers.force_close(now).len(), 3);
    trip(&mut breakers, Some(3), now);
    assert_eq!((breakers.worst(), breakers.reset(now).len()), (State::ForcedClosed, 4));
    trip(&mut breakers, Some(4), now);
    assert_eq!(breakers.worst(), State::Open);
}

#[test]
fn a_check_that_is_down_opens_those_that_are_made_later() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&three_in_a_row());
    assert_eq!(breakers.health_down(now, 0.5).len(), 1);
    assert!(breakers.would_refuse(Some(1), now) && breakers.ask(Some(1), now, 0.5).answer.is_err());
    assert_eq!(breakers.health_up(now).len(), 2);
    assert_eq!(breakers.worst(), State::HalfOpen);
    assert!(permit(&mut breakers, Some(1), now).is_probe());
    assert!(!permit(&mut breakers, Some(2), now).is_probe());
}

#[test]
fn time_and_reload_reach_all() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&three_in_a_row());
    for key in [None, Some(1), Some(2)] {
        trip(&mut breakers, key, now);
    }
    assert_eq!(breakers.tick(now + secs(9), 0.5).len(), 0);
    assert_eq!(breakers.tick(now + secs(10), 0.5).len(), 3);
    let one_probe = Settings { half_open_probes: 1, ..three_in_a_row() };
    assert_eq!(breakers.retune(&one_probe, now).len(), 0);
    let probe = permit(&mut breakers, Some(1), now + secs(10));
    assert!(breakers.tell(Some(1), probe, FINE, now + secs(10), 0.5).is_some());
    let off = Settings { enabled: false, ..three_in_a_row() };
    assert_eq!(breakers.retune(&off, now).len(), 2);
    trip(&mut breakers, Some(9), now);
    assert_eq!(breakers.worst(), State::Closed);
}

/// Where clients choose the key, one of them must not speak for all.
#[test]
fn half_of_the_keys_make_an_upstream_sick_and_one_of_many_does_not() {
    let now = Instant::now();
    let mut breakers = Breakers::new(&three_in_a_row());
    assert!(!breakers.sick());
    trip(&mut breakers, Some(1), now);
    assert!(breakers.sick(), "there is no other");
    for key in 2..=3 {
        let permit = permit(&mut breakers, Some(key), now);
        breakers.tell(Some(key), permit, FINE, now, 0.5);
    }
    assert!(!breakers.sick(), "one of three");
    trip(&mut breakers, Some(2), now);
    assert!(breakers.sick(), "two of three");
    let mut whole = Breakers::new(&three_in_a_row());
    trip(&mut whole, None, now);
    assert!(whole.sick());
    let mut forced = Breakers::new(&three_in_a_row());
    forced.force_open(now);
    assert!(forced.sick());
}
