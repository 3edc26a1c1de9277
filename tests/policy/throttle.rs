//! Pauses that the upstream's own words bring about.

use std::time::{Duration, Instant};

use fender::policy::throttle::{Gate, PROBE_LOST, Pause, Pauses, ProbeEnd, ProbePermit, SCOPES};
use proptest::prelude::*;

use super::{millis, secs};

const MOST: Duration = secs(300);

fn free(pause: &mut Pause, now: Instant) -> bool {
    matches!(pause.ask(now), Gate::Free)
}

fn wait(pause: &mut Pause, now: Instant) -> Option<Duration> {
    match pause.ask(now) {
        Gate::Paused { wait, .. } => Some(wait),
        Gate::Free | Gate::Probe(_) => None,
    }
}

fn probe(pause: &mut Pause, now: Instant) -> ProbePermit {
    match pause.ask(now) {
        Gate::Probe(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn probes(pause: &mut Pause, now: Instant) -> bool {
    matches!(pause.ask(now), Gate::Probe(_))
}

#[test]
fn a_told_wait_pauses_until_then() {
    let now = Instant::now();
    let mut pause = Pause::default();
    assert!(free(&mut pause, now));
    assert_eq!(pause.told(secs(20), MOST, now), Some(secs(20)));
    assert_eq!(wait(&mut pause, now + secs(5)), Some(secs(15)));
    assert_eq!(pause.paused_for(now + secs(5)), secs(15));
    assert_eq!(wait(&mut pause, now + millis(19_999) + Duration::from_micros(999)), Some(millis(1)));
    assert!(free(&mut pause, now + secs(20)));
    assert_eq!(pause.paused_for(now + secs(20)), Duration::ZERO);
}

#[test]
fn a_pause_is_never_shortened_and_counted_once() {
    let now = Instant::now();
    let mut pause = Pause::default();
    assert_eq!(pause.told(secs(20), MOST, now), Some(secs(20)));
    assert_eq!(pause.told(secs(5), MOST, now + secs(1)), None);
    assert_eq!(pause.told(Duration::ZERO, MOST, now + secs(1)), None);
    assert_eq!(pause.paused_for(now), secs(20));
    assert_eq!(pause.told(secs(20), MOST, now + secs(1)), Some(secs(1)));
    assert_eq!(pause.told(secs(3), MOST, now + secs(30)), Some(secs(3)));
    assert_eq!(Pause::default().told(Duration::ZERO, MOST, now), None);
}

#[test]
fn a_longer_wait_pauses_as_long_as_allowed_and_then_sends_one_probe() {
    let now = Instant::now();
    let mut pause = Pause::default();
    assert_eq!(pause.told(secs(86_400), MOST, now), Some(MOST));
    assert_eq!(wait(&mut pause, now + secs(299)), Some(secs(1)));
    let later = now + MOST;
    let permit = probe(&mut pause, later);
    assert_eq!(wait(&mut pause, later), Some(secs(1)), "one at a time");
    assert_eq!(pause.ended(permit, ProbeEnd::Passed, later), None);
    assert!(free(&mut pause, later));
}

#[test]
fn a_wait_of_exactly_the_longest_pause_needs_no_probe() {
    let now = Instant::now();
    let mut pause = Pause::default();
    pause.told(MOST, MOST, now);
    assert!(free(&mut pause, now + MOST));
}

#[test]
fn a_quota_that_is_used_up_pauses_and_then_sends_one_probe() {
    let now = Instant::now();
    let mut pause = Pause::default();
    assert_eq!(pause.spent(MOST, now), Some(MOST));
    assert_eq!(pause.spent(MOST, now + secs(10)), None, "the answers that were on their way say nothing new");
    let permit = probe(&mut pause, now + MOST);
    let still = ProbeEnd::Failed { told: None, max_pause: MOST };
    assert_eq!(pause.ended(permit, still, now + MOST), Some(MOST));
    assert_eq!(wait(&mut pause, now + MOST), Some(MOST));
    let permit = probe(&mut pause, now + MOST * 2);
    pause.ended(permit, ProbeEnd::Passed, now + MOST * 2);
    assert!(free(&mut pause, now + MOST * 2));
}

#[test]
fn a_short_wait_before_a_used_up_quota_keeps_the_probe() {
    let now = Instant::now();
    for quota_first in [true, false] {
        let mut pause = Pause::default();
        if quota_first {
            pause.spent(MOST, now);
        }
        pause.told(MOST, MOST, now + secs(1));
        if !quota_first {
            pause.spent(MOST, now);
        }
        assert!(probes(&mut pause, now + secs(301)));
    }
}

#[test]
fn a_probe_that_fails_heeds_what_it_was_told() {
    let now = Instant::now();
    let ended = |told: Option<Duration>| {
        let mut pause = Pause::default();
        pause.spent(MOST, now - MOST);
        let permit = probe(&mut pause, now);
        pause.ended(permit, ProbeEnd::Failed { told, max_pause: MOST }, now);
        pause
    };
    let mut short = ended(Some(secs(20)));
    assert_eq!(wait(&mut short, now), Some(secs(20)));
    assert!(free(&mut short, now + secs(20)));
    let mut long = ended(Some(secs(3600)));
    assert_eq!(wait(&mut long, now), Some(MOST));
    assert!(probes(&mut long, now + MOST));
    assert!(probes(&mut ended(Some(Duration::ZERO)), now));
}

#[test]
fn an_abandoned_probe_leaves_the_question_open() {
    let now = Instant::now();
    let mut pause = Pause::default();
    pause.spent(MOST, now);
    let permit = probe(&mut pause, now + MOST);
    assert_eq!(pause.ended(permit, ProbeEnd::Abandoned, now + MOST), None);
    assert!(probes(&mut pause, now + MOST));
}

#[test]
fn a_probe_that_never_ends_is_lost_and_its_late_word_counts_for_nothing() {
    let now = Instant::now();
    let mut pause = Pause::default();
    pause.spent(MOST, now);
    let start = now + MOST;
    let lost = probe(&mut pause, start);
    assert_eq!(wait(&mut pause, start + PROBE_LOST - millis(300)), Some(millis(300)));
    let next = probe(&mut pause, start + PROBE_LOST);
    pause.ended(lost, ProbeEnd::Passed, start + PROBE_LOST);
    assert!(wait(&mut pause, start + PROBE_LOST).is_some());
    pause.ended(next, ProbeEnd::Passed, start + PROBE_LOST);
    assert!(free(&mut pause, start + PROBE_LOST));
}

#[test]
fn a_newer_word_overtakes_a_probe() {
    let now = Instant::now();
    let mut pause = Pause::default();
    pause.spent(MOST, now);
    let permit = probe(&mut pause, now + MOST);
    assert_eq!(pause.told(secs(30), MOST, now + MOST), Some(secs(30)));
    assert_eq!(pause.ended(permit, ProbeEnd::Passed, now + MOST), None);
    assert_eq!(wait(&mut pause, now + MOST), Some(secs(30)));
    assert!(probes(&mut pause, now + MOST + secs(30)));
}

#[test]
fn an_operator_or_a_health_check_ends_it() {
    let now = Instant::now();
    let mut pause = Pause::default();
    pause.spent(MOST, now);
    pause.resume();
    assert!(free(&mut pause, now));
    pause.spent(MOST, now);
    let permit = probe(&mut pause, now + MOST);
    pause.resume();
    pause.ended(permit, ProbeEnd::Failed { told: None, max_pause: MOST }, now + MOST);
    assert!(free(&mut pause, now + MOST));
}

#[test]
fn far_ends_of_time_are_no_trouble() {
    let now = Instant::now() + secs(86_400);
    let mut pause = Pause::default();
    assert!(pause.told(Duration::MAX, Duration::MAX, now).is_some());
    assert!(wait(&mut pause, now - secs(3600)).is_some());
    pause.spent(Duration::MAX, now - secs(60));
    assert!(wait(&mut pause, now).is_some());
}

#[test]
fn one_scopes_pause_is_not_anothers() {
    let now = Instant::now();
    let mut pauses = Pauses::default();
    assert!(matches!(pauses.ask(1, now), Gate::Free));
    assert_eq!(pauses.told(1, secs(20), MOST, now), Some(secs(20)));
    assert_eq!(pauses.told(1, secs(25), MOST, now), Some(secs(5)));
    assert_eq!(pauses.spent(2, secs(60), now), Some(secs(60)));
    assert_eq!(pauses.total(), secs(85));
    assert_eq!(pauses.longest(now + secs(24)), (2, secs(36)));
    assert_eq!(pauses.longest(now + secs(26)), (1, secs(34)));
    assert_eq!((pauses.paused_for(1, now), pauses.paused_for(3, now)), (secs(25), Duration::ZERO));
    assert!(matches!(pauses.ask(3, now), Gate::Free));
    pauses.resume(1);
    assert!(matches!(pauses.ask(1, now), Gate::Free));
    pauses.resume(9);
    pauses.resume_all();
    assert_eq!(pauses.longest(now), (0, Duration::ZERO));
}

#[test]
fn a_scope_that_was_forgotten_and_comes_back_knows_nothing_of_its_former_probe() {
    let now = Instant::now();
    let mut pauses = Pauses::default();
    pauses.spent(7, MOST, now);
    let Gate::Probe(former) = pauses.ask(7, now + MOST) else { panic!("no probe") };
    for scope in 0..u64::try_from(SCOPES).unwrap() {
        pauses.told(1000 + scope, secs(1), MOST, now);
    }
    assert!(matches!(pauses.ask(7, now + MOST), Gate::Free));
    pauses.spent(7, MOST, now + MOST);
    let Gate::Probe(next) = pauses.ask(7, now + MOST * 2) else { panic!("no probe") };
    pauses.ended(7, former, ProbeEnd::Passed, now + MOST * 2);
    assert!(matches!(pauses.ask(7, now + MOST * 2), Gate::Paused { .. }));
    pauses.ended(7, next, ProbeEnd::Passed, now + MOST * 2);
    assert!(matches!(pauses.ask(7, now + MOST * 2), Gate::Free));
}

proptest! {
    #[test]
    fn there_is_one_probe_at_a_time_and_no_pause_for_ever(
        events in proptest::collection::vec((0..6_u8, 0..90_u64, any::<bool>()), 1..200),
    ) {
        let most = secs(30);
        let mut now = Instant::now();
        let mut pause = Pause::default();
        let mut out: Vec<(ProbePermit, Instant)> = Vec::new();
        let mut total = Duration::ZERO;
        let begin = now;
        for (what, number, flag) in events {
            let grown = match what {
                0 => pause.told(secs(number), most, now),
                1 => pause.spent(most, now),
                2 => {
                    if let Gate::Probe(permit) = pause.ask(now) {
                        out.push((permit, now));
                    }
                    None
                }
                3 if !out.is_empty() => {
                    let (permit, _) = out.remove(0);
                    let told = flag.then_some(secs(number));
                    let how = [ProbeEnd::Passed, ProbeEnd::Abandoned, ProbeEnd::Failed { told, max_pause: most }];
                    pause.ended(permit, how[usize::try_from(number % 3).unwrap()], now)
                }
                _ => {
                    now += secs(number);
                    None
                }
            };
            total += grown.unwrap_or_default();
            prop_assert!(pause.paused_for(now) <= most);
        }
        prop_assert!(total <= now + most - begin, "counted twice");
        now += most + PROBE_LOST;
        prop_assert!(wait(&mut pause, now).is_none());
    }
}
