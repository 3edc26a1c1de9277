//! The breaker's states, as scripts; see `script` for the words.

use std::time::Duration;

use fender::policy::breaker::{Ended, Settings, State, Why};

use super::script::{Life, play};
use super::{of_requests, secs, settings, three_in_a_row};

#[test]
fn the_whole_circle() {
    play(
        &three_in_a_row(),
        "closed fail*2 still closed fail why=consecutive_failures for=10s open | refuse=10s +4s refuse=6s |
         +6s probe why=open_ended ok half_open probe ok still half_open probe ok why=probes_succeeded closed | ok*20 still",
    );
}

#[test]
fn failures_in_a_row_trip_whatever_the_minimum_and_a_success_between_them_counts_anew() {
    play(&three_in_a_row(), "fail*2 ok fail*2 ok fail*2 closed fail open");
    play(&Settings { consecutive_failures: 1, ..three_in_a_row() }, "ok closed fail open");
    play(&settings(), "fail*9 closed");
}

#[test]
fn the_rate_trips_at_the_threshold_and_not_beyond_it_only() {
    let half = Settings { failure_rate: 0.5, ..settings() };
    play(&half, "ok*5 fail*4 closed fail why=failure_rate open");
    play(&half, "fail*5 ok*4 closed ok why=failure_rate open");
    play(&half, "ok*6 fail*5 closed fail open");
}

#[test]
fn no_threshold_is_missed_or_met_too_early_by_rounding() {
    for hundredths in 1..=100_u32 {
        let rate = format!("0.{hundredths:02}").parse().unwrap_or(1.0);
        let rate = if hundredths == 100 { 1.0 } else { rate };
        let settings = Settings { failure_rate: rate, minimum_requests: 100, ..settings() };
        play(&settings, &format!("ok*{} fail*{hundredths} open", 100 - hundredths));
        if hundredths > 1 {
            let short = hundredths - 1;
            play(&settings, &format!("fail*{short} ok*{} closed", 100 - short));
        }
    }
}

#[test]
fn nothing_trips_on_the_first_failure_unless_told_to() {
    play(&Settings { failure_rate: 0.01, ..settings() }, "fail closed ok*8 closed ok open");
}

#[test]
fn a_minimum_beyond_a_window_of_calls_is_that_window() {
    let settings = Settings { window_requests: of_requests(5), minimum_requests: 100, ..settings() };
    play(&settings, "fail*4 closed fail open");
}

#[test]
fn a_window_of_calls_slides_though_a_million_were_well() {
    let settings = Settings { window_requests: of_requests(10), failure_rate: 0.5, ..settings() };
    play(&settings, "ok*100000 fail*4 closed fail open");
}

#[test]
fn a_window_of_time_forgets() {
    let half = Settings { failure_rate: 0.5, ..settings() };
    play(&half, "fail*9 +31s fail closed ok*9 closed");
    play(&half, "fail*5 +20s ok*4 closed +5s ok open");
    play(&half, "fail*5 +20s ok*4 closed +11s ok closed");
}

#[test]
fn slow_calls_trip_by_their_share_failed_or_not() {
    let slow = Settings { slow_call: Some(secs(1)), slow_rate: 0.5, ..settings() };
    play(&slow, "ok*5 slow*4 closed slow why=slow_rate open");
    play(&slow, "ok*5 slow*4 closed slowfail why=slow_rate open");
    play(&settings(), "slow*100 closed");
}

#[test]
fn probes_that_are_slow_do_not_close_what_slow_calls_opened() {
    let slow = Settings { slow_call: Some(secs(1)), slow_rate: 0.5, ..settings() };
    play(&slow, "slow*10 open +10s probe slow probe slow probe ok why=slow_rate for=20s open");
    play(&slow, "slow*10 open +10s probe slow probe ok probe ok why=probes_succeeded closed");
}

#[test]
fn what_is_refused_is_no_traffic() {
    let half = Settings { failure_rate: 0.5, half_open_probes: 1, ..settings() };
    let life = play(&half, "ok*5 fail*5 open refuse*1000 still");
    assert_eq!(life.breaker.figures(life.now).tally.calls, 10);
    play(&half, "ok*5 fail*5 open refuse*1000 +10s probe ok closed ok*4 fail*5 closed fail open");
}

#[test]
fn calls_in_flight_are_no_traffic_yet() {
    let half = Settings { failure_rate: 0.5, ..settings() };
    play(&half, "call:a call:b call:c call:d call:e ok*5 fail*4 closed fail open");
}

#[test]
fn a_late_result_from_before_the_trip_decides_nothing() {
    let script = "call:good call:bad fail*3 open bad=fail still open +10s probe:p why=open_ended";
    let one = Settings { half_open_probes: 1, ..three_in_a_row() };
    play(&one, &format!("{script} | good=ok still half_open | p=ok why=probes_succeeded"));
    play(
        &three_in_a_row(),
        "call:bad fail*3 +10s probe:p why=open_ended bad=fail still half_open p=ok half_open",
    );
    play(&one, "call:bad fail*3 +10s probe ok why=probes_succeeded bad=fail still ok fail*2 closed");
}

#[test]
fn a_late_result_does_not_make_room_for_one_more_probe() {
    play(&three_in_a_row(), "call:late fail*3 +10s probe:a probe:b probe:c refuse late=ok refuse*2");
}

#[test]
fn a_probe_of_an_earlier_half_open_phase_decides_nothing_in_a_later_one() {
    play(
        &three_in_a_row(),
        "fail*3 +10s probe:old probe fail why=probe_failed for=20s +20s probe:a probe:b probe:c why=open_ended
         old=ok still a=ok b=ok half_open c=ok closed",
    );
    play(
        &three_in_a_row(),
        "fail*3 +10s probe:old probe fail +20s probe:a why=open_ended old=fail still half_open",
    );
}

#[test]
fn the_first_probe_is_counted() {
    play(
        &three_in_a_row(),
        "fail*3 +10s probe:a probe:b probe:c refuse*5 a=ok refuse b=ok refuse c=ok closed",
    );
    play(&Settings { half_open_probes: 1, ..three_in_a_row() }, "fail*3 +10s probe:a refuse a=ok closed");
}

#[test]
fn the_first_probe_that_fails_opens_again_and_the_others_count_no_more() {
    play(
        &three_in_a_row(),
        "fail*3 +10s probe:a probe:b probe:c b=fail why=probe_failed for=20s open a=fail still c=ok still refuse=20s",
    );
}

#[test]
fn several_failures_at_once_open_it_once_and_no_longer() {
    play(
        &three_in_a_row(),
        "call:a call:b call:c call:d call:e a=fail b=fail still c=fail why=consecutive_failures +5s d=fail e=fail still refuse=5s",
    );
}

#[test]
fn a_cancelled_probe_is_no_success_and_gives_its_place_back() {
    let one = Settings { half_open_probes: 1, ..three_in_a_row() };
    play(&one, "fail*3 +10s probe:a refuse a=drop half_open probe:b refuse b=drop half_open probe ok closed");
    play(&three_in_a_row(), "fail*3 +10s probe:a probe:b probe:c a=drop b=ok c=ok half_open probe ok closed");
}

#[test]
fn a_cancelled_call_is_neither_success_nor_failure() {
    play(&three_in_a_row(), "fail*2 drop*50 closed fail open");
    play(&settings(), "fail*9 drop*50 closed fail open");
}

#[test]
fn a_permit_that_never_comes_back_does_not_leave_it_half_open_for_ever() {
    let script = "fail*3 +10s probe:lost probe:b probe:c b=ok c=ok refuse +29s refuse +1s refuse=20s why=half_open_timeout";
    play(
        &three_in_a_row(),
        &format!("{script} open lost=ok still open +20s probe ok probe ok probe ok closed"),
    );
    play(&three_in_a_row(), "fail*3 +10s probe:lost +30s tick why=half_open_timeout for=20s open");
    play(&three_in_a_row(), "fail*3 +10s probe:lost +30s lost=ok why=half_open_timeout open");
    play(&three_in_a_row(), "fail*3 +10s probe:lost +30s lost=fail why=probe_failed open");
    play(&three_in_a_row(), "fail*3 +10s probe:lost +29s probe:b lost=ok +29s probe:c b=ok half_open");
}

#[test]
fn a_refusal_says_when_to_come_back() {
    play(&three_in_a_row(), "fail*3 +9s refuse=1s +999ms refuse=1ms");
    let mut life = play(&three_in_a_row(), "fail*3 +9s +999ms");
    life.now += Duration::from_micros(999);
    life.on("refuse=1ms");
    play(
        &three_in_a_row(),
        "fail*3 +10s probe:a probe:b probe:c refuse=1s +29s refuse=1s +500ms refuse=500ms",
    );
}

#[test]
fn the_open_time_doubles_at_each_reopening_up_to_its_maximum() {
    let settings = Settings { max_open_for: secs(50), ..three_in_a_row() };
    let again = "probe fail why=probe_failed";
    // At the maximum chance can only shorten it: its middle is 95 %.
    let mut life = play(&settings, &format!("fail*3 for=10s +10s {again} for=20s +20s {again} for=40s"));
    life.on(&format!("+40s {again} for=47500ms +50s {again} for=47500ms +50s"));
    assert_eq!(life.breaker.figures(life.now).reopenings, 4);
    life.dice = 0.999_999;
    for _ in 0..100 {
        life.on(&format!("{again} +50s"));
    }
}

#[test]
fn chance_spreads_the_open_time_by_a_tenth() {
    for (dice, least, most) in [(0.0, 9.0, 9.0), (0.5, 10.0, 10.0), (1.0, 11.0, 11.0), (f64::NAN, 9.0, 9.0)] {
        let mut life = Life::new(&three_in_a_row());
        life.dice = dice;
        life.on("fail*3 open");
        let retry_at = life.breaker.figures(life.now).retry_at.unwrap();
        let open_for = (retry_at - life.now).as_secs_f64();
        assert!((least - 1e-6..=most + 1e-6).contains(&open_for), "{dice}: {open_for}");
    }
}

#[test]
fn a_told_wait_is_the_least_open_time_and_is_bounded_too() {
    play(&three_in_a_row(), "fail*2 told60s for=60s refuse=60s");
    play(&three_in_a_row(), "fail*2 told1s for=10s");
    play(&three_in_a_row(), "fail*2 told24h for=5m");
    play(&three_in_a_row(), "fail*3 +10s probe told90s why=probe_failed for=90s");
}

#[test]
fn it_is_well_again_when_it_was_closed_for_as_long_as_it_had_been_open() {
    let circle = "fail*3 for=10s +10s probe ok probe ok probe ok closed";
    play(&three_in_a_row(), &format!("{circle} +9s fail*3 for=20s"));
    play(&three_in_a_row(), &format!("{circle} +10s fail*3 for=10s"));
    play(&three_in_a_row(), &format!("{circle} reset fail*3 for=10s"));
}

#[test]
fn a_health_check_opens_and_wakes_it() {
    play(
        &settings(),
        "down why=health_down for=10s open down still +5s down refuse=5s still up why=health_up half_open",
    );
    play(&settings(), "up still closed");
    play(&settings(), "down +10s probe:a why=open_ended down why=health_down for=20s a=ok still open");
    play(&settings(), "down up probe ok probe ok probe ok closed up still");
    play(&settings(), "force-close forced_closed down still force-open forced_open up still");
}

#[test]
fn an_operator_forces_it_and_gives_it_back() {
    play(
        &three_in_a_row(),
        "force-open why=operator forced_open refuse*3 +24h tick refuse force-open forced_open auto closed ok",
    );
    play(
        &three_in_a_row(),
        "force-close why=operator forced_closed fail*100 forced_closed auto closed fail*2 closed fail open",
    );
    play(&three_in_a_row(), "call:a fail*2 force-close auto a=fail closed fail*2 closed");
    play(&three_in_a_row(), "fail*3 open reset why=operator closed fail*2 closed fail open");
    play(&three_in_a_row(), "fail*3 open auto open why=consecutive_failures auto still");
    play(&three_in_a_row(), "call:a fail*2 reset still a=fail fail*2 closed");
    play(&three_in_a_row(), "fail*3 +10s probe:a force-close a=fail forced_closed auto closed");
}

#[test]
fn one_that_is_off_permits_all_and_records_nothing() {
    let off = Settings { enabled: false, ..three_in_a_row() };
    let life = play(&off, "fail*100 closed down still force-open still closed fail");
    assert_eq!(life.breaker.figures(life.now).tally.calls, 0);
}

#[test]
fn one_that_observes_turns_and_refuses_nothing() {
    let observe = Settings { observe: true, ..three_in_a_row() };
    play(
        &observe,
        "fail*3 why=consecutive_failures open waived*20 still +10s probe:a probe:b probe:c why=open_ended waived*20 still
         a=ok b=ok still c=ok why=probes_succeeded closed ok",
    );
    play(
        &observe,
        "fail*3 +10s probe fail why=probe_failed open waived +20s probe:lost +30s waived why=half_open_timeout",
    );
    play(&observe, "force-open waived");
}

#[test]
fn what_is_waived_decides_nothing() {
    let mut life = play(&Settings { observe: true, ..three_in_a_row() }, "fail*3 open");
    for state in ["open", "half_open"] {
        life.on(state);
        let permit = life.breaker.ask(life.now, 0.5).answer.unwrap();
        assert!(permit.is_waived());
        let failed = Ended::Failure { slow: false, told: None };
        assert_eq!(life.breaker.tell(permit, failed, life.now, 0.5), None);
        if state == "open" {
            life.on("+10s probe:a probe:b probe:c");
        }
    }
}

#[test]
fn a_ramp_lets_traffic_back_in_bit_by_bit() {
    let ramp = Settings { ramp: Some(secs(10)), half_open_probes: 1, ..three_in_a_row() };
    for (seconds, share) in [(0, 0.1), (5, 0.55), (9, 0.91)] {
        let mut life = play(&ramp, &format!("fail*3 +10s probe ok closed +{seconds}s").replace("+0s", ""));
        let refused = life.breaker.ask(life.now, share).answer.unwrap_err();
        assert_eq!(refused.state, State::Closed);
        assert!(refused.retry_after <= secs(1) && !refused.retry_after.is_zero());
        let permit = life.breaker.ask(life.now, share - 0.001).answer.unwrap();
        assert!(!permit.is_probe());
        assert_eq!(life.breaker.tell(permit, Ended::Abandoned, life.now, 0.0), None);
    }
    let mut life = play(&ramp, "fail*3 +10s probe ok closed");
    life.dice = 0.0;
    life.on("fail*3 why=consecutive_failures open");
    let mut life = play(&ramp, "fail*3 +10s probe ok closed +10s");
    life.dice = 0.999;
    life.on("ok*10");
    let mut life = play(&ramp, "fail*3 reset");
    life.dice = 0.999;
    life.on("ok*10");
    let mut life = play(&Settings { observe: true, ..ramp }, "fail*3 +10s probe ok closed");
    life.dice = 0.999;
    life.on("waived*10");
}

#[test]
fn time_that_steps_back_changes_nothing() {
    play(
        &three_in_a_row(),
        "fail*2 -1h fail open refuse=10s -1h refuse +1h +10s -1ns refuse +1ns probe:a -1h probe:b +1h a=ok b=ok probe ok closed",
    );
    play(&Settings { failure_rate: 0.5, ..settings() }, "ok*5 -1h fail*4 closed +2h fail closed");
}

#[test]
fn a_reload_keeps_state_open_time_generation_and_window() {
    let mut life = play(&three_in_a_row(), "fail*3 open +4s");
    let generation = life.breaker.generation();
    let next = Settings { open_for: secs(1), half_open_probes: 1, ..three_in_a_row() };
    assert_eq!(life.breaker.retune(&next, life.now), None);
    assert_eq!(life.breaker.generation(), generation);
    life.on("refuse=6s +6s probe ok closed");

    let mut life = play(&settings(), "fail*9 closed");
    life.breaker.retune(&Settings { failure_rate: 0.9, ..settings() }, life.now);
    life.on("fail open");
    let mut life = play(&settings(), "fail*9 closed");
    life.breaker.retune(&Settings { window: secs(60), ..settings() }, life.now);
    life.on("fail closed");
}

#[test]
fn a_reload_that_asks_for_fewer_probes_than_succeeded_closes() {
    let mut life = play(&three_in_a_row(), "fail*3 +10s probe ok probe ok half_open");
    life.breaker.retune(&Settings { half_open_probes: 2, ..three_in_a_row() }, life.now);
    assert!(!life.breaker.would_refuse(life.now));
    let asked = life.breaker.ask(life.now, 0.5);
    assert_eq!(asked.transition.unwrap().why, Why::ProbesSucceeded);
    assert!(!asked.answer.unwrap().is_probe());
}

#[test]
fn a_reload_that_switches_it_off_closes_it() {
    let mut life = play(&three_in_a_row(), "fail*3 open");
    let turn = life.breaker.retune(&Settings { enabled: false, ..three_in_a_row() }, life.now).unwrap();
    assert_eq!((turn.from, turn.to, turn.why), (State::Open, State::Closed, Why::Operator));
    life.on("ok fail*10 closed");
}

#[test]
fn transitions_bear_what_was_counted() {
    let mut life = play(&settings(), "fail*9");
    let permit = life.breaker.ask(life.now, 0.5).answer.unwrap();
    let failed = Ended::Failure { slow: true, told: None };
    let turn = life.breaker.tell(permit, failed, life.now, 0.5).unwrap();
    assert_eq!((turn.tally.calls, turn.tally.failures, turn.tally.slow), (10, 10, 1));
    let figures = life.breaker.figures(life.now);
    assert_eq!((figures.state, figures.consecutive, figures.reopenings), (State::Open, 10, 0));
    assert!((figures.failure_rate - 1.0).abs() < f64::EPSILON);
}

#[test]
fn far_ends_of_time_are_no_trouble() {
    let long = Duration::MAX;
    let settings =
        Settings { open_for: long, max_open_for: long, half_open_timeout: long, ..three_in_a_row() };
    let mut life = play(&settings, "fail*2");
    let permit = life.breaker.ask(life.now, 0.5).answer.unwrap();
    let failed = Ended::Failure { slow: false, told: Some(long) };
    assert!(life.breaker.tell(permit, failed, life.now, 1.0).is_some());
}

#[test]
fn the_words_are_those_of_the_contract() {
    let words = State::ALL.map(State::as_str);
    assert_eq!(words, ["closed", "open", "half_open", "forced_open", "forced_closed"]);
    let mut by_badness = State::ALL;
    by_badness.sort_by_key(|state| state.badness());
    use State as S;
    assert_eq!(by_badness, [S::Closed, S::ForcedClosed, S::HalfOpen, S::Open, S::ForcedOpen]);
}
