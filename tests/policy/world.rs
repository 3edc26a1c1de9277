//! A day of traffic in virtual time: clients, an upstream that fails in all the ways in which upstreams fail, and the pure
//! policies between them, wired as the proxy wires them (`proxy/admit.rs`, `proxy/attempts.rs`). What must hold at every
//! moment is asserted where it happens; a script that breaks it is printed.

mod laws;
mod traffic;

use std::time::{Duration, Instant};

use fender::policy::breaker::State;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{millis, secs};
use traffic::{Rules, Sim};

/// A stretch of time.
#[derive(Clone, Debug)]
struct Phase {
    seconds: u64,
    does: Does,
    /// Requests in ten seconds, evenly spread…
    per_ten: u64,
    /// …and so many at its beginning.
    burst: u64,
}

/// How the upstream is.
#[derive(Clone, Copy, Debug)]
enum Does {
    Well,
    /// Answers 500 at once.
    Down,
    /// Never answers.
    Hangs,
    /// Answers 200 after so many milliseconds.
    Slow(u64),
    /// Answers 429, and tells to wait so many seconds.
    Throttles(u64),
    /// Is well and down in turn, so many seconds each.
    Flaps(u64),
    /// Answers 500 to so many of a hundred.
    Browns(u64),
}

const fn phase(seconds: u64, does: Does, per_ten: u64) -> Phase {
    Phase { seconds, does, per_ten, burst: 0 }
}

fn any_does() -> impl Strategy<Value = Does> {
    prop_oneof![
        3 => Just(Does::Well),
        2 => Just(Does::Down),
        2 => Just(Does::Hangs),
        1 => (10..3_000_u64).prop_map(Does::Slow),
        2 => (0..90_u64).prop_map(Does::Throttles),
        2 => (1..20_u64).prop_map(Does::Flaps),
        2 => (1..100_u64).prop_map(Does::Browns),
        2 => Just(Does::Browns(30)),
    ]
}

fn any_script() -> impl Strategy<Value = Vec<Phase>> {
    let phase = (1..120_u64, any_does(), 0..200_u64, 0..60_u64)
        .prop_map(|(seconds, does, per_ten, burst)| Phase { seconds, does, per_ten, burst });
    proptest::collection::vec(phase, 1..8)
}

/// A config, as a user would write it.
fn any_rules() -> impl Strategy<Value = String> {
    let retry = (1..5_u32, 0..=10_u32, 0..30_u32, 1..20_u64, 0..3_000_u64);
    let breaker = (any::<bool>(), 0..8_u32, 1..=10_u32, 1..20_u64, 1..60_u64, 1..5_u32, 0..20_u64);
    let limits = (1..40_u32, 0..40_u32, 1..2_000_u64, 1..60_u64, 0..3_u64, 0..60_u32, 0..2_000_u64);
    (retry, breaker, limits).prop_map(|(retry, breaker, limits)| {
        let (attempts, tenths, floor, window, base) = retry;
        let (counts, row, rate, open, most, probes, ramp) = breaker;
        let (max, queue, patience, pause, wait, rate_limit, slot_wait) = limits;
        let window_of = if counts { "window_requests = 20" } else { "window = '10s'" };
        let limit = if rate_limit == 0 {
            String::new()
        } else {
            format!("[[upstream.a.rate_limit]]\nrequests = {rate_limit}\nper = '2s'\nmax_wait = '{slot_wait}ms'")
        };
        format!(
            "timeout = {{ attempt = '2s', total = '20s' }}\n\
             retry = {{ max_attempts = {attempts}, backoff = {{ base = '{}ms', max = '5s' }}, \
             budget = {{ ratio = {:?}, min_per_second = {:?}, window = '{window}s' }} }}\n\
             breaker = {{ {window_of}, minimum_requests = 5, failure_rate = {:?}, consecutive_failures = {row}, \
             open_for = '{open}s', max_open_for = '{}s', half_open_probes = {probes}, half_open_timeout = '5s', \
             slow_call = '1s', ramp = '{ramp}s' }}\n\
             concurrency = {{ max = {max}, queue = {queue}, queue_timeout = '{patience}ms' }}\n\
             throttle = {{ max_pause = '{pause}s', max_wait = '{wait}s' }}\n{limit}",
            base + 1,
            f64::from(tenths) / 10.0,
            f64::from(floor) / 10.0,
            f64::from(rate) / 10.0,
            open + most,
        )
    })
}

/// The same scripts on every run.
fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x0F_E4_DE_12),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(fixed(200))]

    /// The laws themselves are in `laws`, which sees each send, grant and transition.
    #[test]
    fn whatever_the_upstream_does_the_laws_hold(
        rules in any_rules(),
        script in any_script(),
        hangups in 0..10_u64,
        seed in any::<u64>(),
    ) {
        let mut sim = Sim::new(Rules::of(&rules), seed);
        sim.hangups = hangups;
        sim.play(&script);
        sim.laws.over(&sim.rules, sim.budget_floor());
    }

    #[test]
    fn once_the_upstream_is_well_all_closes_in_a_stated_time(
        rules in any_rules(),
        script in any_script(),
        seed in any::<u64>(),
    ) {
        let rules = Rules { rate_limit: Vec::new(), ..Rules::of(&rules) };
        let bound = rules.recovers_within(20);
        let mut sim = Sim::new(rules, seed);
        sim.play(&script);
        sim.play(&[phase(bound.as_secs() + 1, Does::Well, 20)]);
        prop_assert_eq!(sim.breaker.state(), State::Closed);
        let (asked, sent) = (sim.laws.arrivals.len(), sim.laws.sends.len());
        sim.play(&[phase(60, Does::Well, 20)]);
        prop_assert_eq!(sim.laws.sends.len() - sent, sim.laws.arrivals.len() - asked, "each request is one attempt");
    }

    #[test]
    fn a_breaker_that_is_never_failed_never_opens(
        rules in any_rules(),
        lengths in proptest::collection::vec((1..200_u64, 0..300_u64, 0..60_u64), 1..6),
        hangups in 0..50_u64,
        seed in any::<u64>(),
    ) {
        let script: Vec<_> = lengths
            .into_iter()
            .map(|(seconds, per_ten, burst)| Phase { seconds, does: Does::Well, per_ten, burst })
            .collect();
        let mut sim = Sim::new(Rules::of(&rules), seed);
        sim.hangups = hangups;
        sim.play(&script);
        prop_assert_eq!((sim.breaker.state(), sim.laws.turned), (State::Closed, 0));
    }
}

/// The defaults through a day with two outages, an hour of brown-out and an API that throttles over lunch.
#[test]
fn a_day_with_the_defaults() {
    let hour = 3_600;
    let script = [
        phase(6 * hour, Does::Well, 20),
        phase(hour, Does::Down, 20),
        phase(2 * hour, Does::Well, 20),
        phase(hour, Does::Browns(30), 20),
        phase(hour, Does::Throttles(20), 20),
        phase(4 * hour, Does::Well, 20),
        phase(hour, Does::Hangs, 20),
        phase(hour, Does::Flaps(45), 20),
        phase(7 * hour, Does::Well, 20),
    ];
    let mut sim = Sim::new(Rules::of(""), 1);
    let mut loads = Vec::new();
    for phase in &script {
        let (asked, sent) = (sim.laws.arrivals.len(), sim.laws.sends.len());
        sim.play(std::slice::from_ref(phase));
        let asked = sim.laws.arrivals.len() - asked;
        loads.push((sim.laws.sends.len() - sent) as f64 / asked as f64);
    }
    sim.laws.over(&sim.rules, sim.budget_floor());
    assert_eq!(sim.laws.arrivals.len(), 24 * 3_600 * 2);
    let [well, down, after, brown, throttled, ..] = loads[..] else { unreachable!() };
    assert!((well - 1.0).abs() < 0.001, "{loads:?}");
    assert!(down < 0.01, "an hour's outage costs the upstream less than a hundredth of the load: {loads:?}");
    assert!(after > 0.9, "all of the load is back within max_open_for: {loads:?}");
    assert!(brown < 1.2 + 0.5, "{loads:?}");
    assert!(throttled < 0.2, "{loads:?}");
    assert!((loads[8] - 1.0).abs() < 0.05, "{loads:?}");
}

/// No breaker, no pause: the budget alone holds the line, at `ratio` and its floor.
#[test]
fn without_a_breaker_an_outage_costs_no_more_than_the_budget() {
    let rules = "breaker = { enabled = false }\nretry = { max_attempts = 10, budget = { ratio = 0.2, min_per_second = 0.0 } }";
    let mut sim = Sim::new(Rules::of(rules), 3);
    sim.play(&[phase(3_600, Does::Down, 100)]);
    let load = sim.laws.sends.len() as f64 / sim.laws.arrivals.len() as f64;
    assert!((1.19..=1.2).contains(&load), "{load}");
}

fn since(start: Instant, at: Instant) -> Duration {
    at.saturating_duration_since(start)
}

#[test]
fn one_seed_is_one_day() {
    let script = [phase(300, Does::Browns(40), 50), phase(60, Does::Throttles(3), 50)];
    let run = || {
        let mut sim = Sim::new(Rules::of(""), 9);
        sim.play(&script);
        sim.laws.sends.iter().map(|at| since(sim.start, *at)).collect::<Vec<_>>()
    };
    let first = run();
    assert!(!first.is_empty() && first == run() && first.last() <= Some(&(secs(361) + millis(1))));
}
