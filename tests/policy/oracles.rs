//! What others' own tests demand, as cases in our scripts' words: each table names the project and the file that the cases
//! were read in, and says of each case whether we do the same or differ, and why. No code of theirs is here. Three rows are not
//! from a test but from the library's behaviour: resilience4j's late call and its endless half-open, Failsafe's end that nobody
//! asked leave for.

use std::time::Instant;

use fender::policy::breaker::Settings;
use fender::policy::budget::{self, Budget};
use fender::policy::judge::{Judged, Meaning};
use fender::policy::trigger::Trigger;

use super::script::play;
use super::{of_requests, secs, settings, three_in_a_row};

/// Ours is theirs; or it differs, for this reason.
#[derive(Clone, Copy)]
enum As {
    Theirs,
    Differs(&'static str),
}
use As::{Differs, Theirs};

/// A case: what it demands, whether we do, and our life of it. `OPENED` and `HALF-OPEN` stand for how one gets there.
type Case = (&'static str, As, fn() -> Settings, &'static str);

fn play_all(cases: &[Case], opened: &str, half_open: &str) {
    let mut names = std::collections::BTreeSet::new();
    for (demand, how, settings, script) in cases {
        assert!(names.insert(demand), "{demand} is there twice");
        if let Differs(why) = how {
            assert!(!why.is_empty(), "{demand}: why?");
        }
        play(&settings(), &script.replace("OPENED", opened).replace("HALF-OPEN", half_open));
    }
}

/// resilience4j, resilience4j-circuitbreaker/src/test/…/internal/CircuitBreakerStateMachineTest.java: failure rate 50 % and
/// slow rate 50 % over 5 s with a minimum of 5 calls, slow beyond 4 s, open for 5 s, 4 calls when half open.
#[test]
fn resilience4j() {
    play_all(RESILIENCE4J, "fail*5 open", "fail*5 open +5s");
}

fn r4j() -> Settings {
    Settings {
        window: secs(5),
        minimum_requests: 5,
        failure_rate: 0.5,
        slow_call: Some(secs(4)),
        slow_rate: 0.5,
        open_for: secs(5),
        half_open_probes: 4,
        ..settings()
    }
}

const RESILIENCE4J: &[Case] = &[
    ("an open one refuses", Theirs, r4j, "OPENED refuse"),
    ("a forced open one refuses", Theirs, r4j, "force-open refuse forced_open"),
    (
        "a permit that is given back makes room for another probe",
        Theirs,
        r4j,
        "HALF-OPEN probe:a probe:b probe:c probe:d refuse*2 a=drop probe:e",
    ),
    (
        "only four calls are permitted when half open, each time",
        Theirs,
        r4j,
        "HALF-OPEN probe:a probe:b probe:c probe:d refuse*2 a=fail open +10s probe:e probe:f probe:g probe:h refuse*2",
    ),
    (
        "it opens once the minimum of calls is there and the rate is met, though the last one is well",
        Theirs,
        r4j,
        "fail closed fail closed fail closed ok closed ok why=failure_rate open refuse",
    ),
    (
        "it opens at the rate of slow calls, failed or not",
        Theirs,
        || Settings { failure_rate: 1.0, ..r4j() },
        "slowfail slow fail ok closed slow why=slow_rate open",
    ),
    (
        "it is half open after the wait and not before",
        Theirs,
        r4j,
        "OPENED refuse +3s open refuse +3s probe half_open",
    ),
    (
        "the wait grows with each opening",
        Differs("theirs grows by the factor of the interval function that one writes; ours doubles"),
        || Settings { max_open_for: secs(600), ..r4j() },
        "OPENED refuse +3s refuse +3s probe fail open +6s open refuse +5s probe half_open",
    ),
    (
        "half open goes back to open when the rate of failures is met",
        Differs(
            "theirs waits for all four calls; the first probe that fails says enough, and the others cost the upstream",
        ),
        r4j,
        "HALF-OPEN probe fail why=probe_failed open refuse",
    ),
    (
        "half open goes back to open when the slow rate is met",
        Theirs,
        r4j,
        "HALF-OPEN probe slow probe slow probe slow probe ok why=slow_rate open",
    ),
    (
        "one failure of four closes, as it is below the rate",
        Differs("contract: all probes must succeed to close"),
        r4j,
        "HALF-OPEN probe fail open",
    ),
    (
        "closing forgets what was before",
        Theirs,
        r4j,
        "HALF-OPEN probe ok probe ok probe ok probe ok why=probes_succeeded closed fail*4 closed",
    ),
    ("a reset forgets", Theirs, r4j, "ok fail*3 reset fail*4 closed"),
    (
        "a disabled one permits all and counts nothing",
        Differs("theirs is a state, ours a setting"),
        || Settings { enabled: false, ..r4j() },
        "ok fail*10 closed",
    ),
    ("forced open outlasts the wait", Theirs, r4j, "force-open refuse +6s tick refuse forced_open"),
    (
        "forced closed permits all",
        Differs("theirs goes on counting; ours judges none, so that the word's end begins afresh"),
        r4j,
        "force-close ok fail*10 forced_closed auto closed fail*4 closed",
    ),
    (
        "an ignored end gives the probe back and decides nothing",
        Theirs,
        r4j,
        "HALF-OPEN probe ok probe ok probe ok probe drop half_open probe ok closed",
    ),
    (
        "any number of ignored ends",
        Theirs,
        r4j,
        "HALF-OPEN probe drop probe drop probe drop probe drop half_open probe ok probe ok probe ok half_open probe ok closed",
    ),
    (
        "closed to half open is refused as a transition",
        Differs("there is no such word: only an open one can be woken"),
        r4j,
        "up still closed",
    ),
    ("a reset closes an open one", Theirs, r4j, "OPENED reset closed"),
    (
        "a minimum beyond the ring is the ring",
        Theirs,
        || Settings {
            window_requests: of_requests(5),
            minimum_requests: 100,
            failure_rate: 0.5,
            ..settings()
        },
        "ok*2 fail*2 closed fail open",
    ),
    (
        "a call of the closed state that ends when half open is counted there",
        Differs("a late end says nothing about the state after it: its generation is gone"),
        r4j,
        "call:late fail*5 open +5s probe:a why=open_ended late=fail still half_open a=ok",
    ),
    (
        "without a limit half open may last for ever",
        Differs("half_open_timeout is finite: a probe that is lost has failed"),
        r4j,
        "HALF-OPEN probe:lost +30s tick why=half_open_timeout open",
    ),
];

/// gobreaker, v2/gobreaker_test.go; the row on excluded ends is from what v2/gobreaker.go says of them.
#[test]
fn gobreaker() {
    play_all(GOBREAKER, "", "");
}

/// Its default: more than five failures in a row, open for 60 s, one call when half open.
fn gobreaker_default() -> Settings {
    Settings {
        consecutive_failures: 6,
        minimum_requests: 1_000,
        open_for: secs(60),
        half_open_probes: 1,
        ..settings()
    }
}

/// Its tests' own: three requests and 60 % failures within an interval of 30 s, open for 90 s, three calls.
fn gobreaker_custom() -> Settings {
    Settings { minimum_requests: 3, failure_rate: 0.6, open_for: secs(90), half_open_probes: 3, ..settings() }
}

const GOBREAKER: &[Case] = &[
    (
        "five in a row are not enough, and a success between begins anew",
        Theirs,
        gobreaker_default,
        "fail*5 closed ok fail closed fail*4 closed fail open",
    ),
    (
        "it is open for its time to the second",
        Theirs,
        gobreaker_default,
        "fail*6 open refuse*2 +59s refuse open +1s probe half_open ok closed",
    ),
    (
        "a failed probe opens again, for as long",
        Differs("ours stays open twice as long each time, up to max_open_for"),
        gobreaker_default,
        "fail*6 +60s probe fail open +60s refuse +60s probe ok closed",
    ),
    (
        "a share below the threshold leaves it closed",
        Theirs,
        gobreaker_custom,
        "ok fail ok fail ok fail ok fail ok fail closed +29s ok closed",
    ),
    (
        "the interval's end clears all counts",
        Differs("ours slides: each call leaves when it is a window old, none before"),
        gobreaker_custom,
        "ok*2 +15s fail*2 closed +16s fail why=failure_rate open",
    ),
    ("two of three are beyond 60 %", Theirs, gobreaker_custom, "fail ok fail why=failure_rate open"),
    (
        "three successes close, and a fourth call is refused meanwhile",
        Theirs,
        gobreaker_custom,
        "fail*3 open +90s probe ok probe ok half_open probe:later refuse later=ok closed",
    ),
    (
        "rolling buckets: what is older than the window is gone",
        Theirs,
        gobreaker_custom,
        "fail ok*2 closed +31s fail closed ok closed fail open",
    ),
    (
        "a call of a former generation counts for nothing",
        Theirs,
        gobreaker_default,
        "call:late fail*6 +60s probe ok closed late=fail still fail*5 closed fail open",
    ),
    (
        "an excluded end is neither success nor failure",
        Theirs,
        gobreaker_default,
        "fail*5 drop*9 closed fail open +60s probe drop half_open probe ok closed",
    ),
    (
        "a panic in the call is a failure",
        Differs(
            "a permit that is dropped says nothing about the upstream; half open it gives its place back",
        ),
        gobreaker_default,
        "fail*5 drop closed",
    ),
];

/// Failsafe's half-open table as failsafe-go has it, circuitbreaker/halfopenstate_test.go: thresholds of success (S of n) and
/// of failure (F of n). Ours knows one rule, all of `half_open_probes`; which is S = n, and the first failure opens.
#[test]
fn failsafe_half_open() {
    play_all(FAILSAFE_HALF_OPEN, "fail*3 open", "fail*3 open +10s");
}

fn probes(count: u32) -> Settings {
    Settings { half_open_probes: count, ..three_in_a_row() }
}

const ALL: &str = "contract: all probes must succeed, and one failure says enough";

const FAILSAFE_HALF_OPEN: &[Case] = &[
    ("default: one failure opens", Theirs, || probes(1), "HALF-OPEN probe fail open"),
    ("default: one success closes", Theirs, || probes(1), "HALF-OPEN probe ok closed"),
    ("F3: three failures open", Differs(ALL), || probes(3), "HALF-OPEN probe fail open"),
    (
        "F2 of 3: failure, success, failure open",
        Differs(ALL),
        || probes(3),
        "HALF-OPEN probe ok probe fail open",
    ),
    (
        "S3 F2: two successes and a failure open",
        Theirs,
        || probes(3),
        "HALF-OPEN probe ok probe ok half_open probe fail open",
    ),
    ("S3 of 4: two failures open", Differs(ALL), || probes(4), "HALF-OPEN probe ok probe fail open"),
    ("S3: success, failure opens", Theirs, || probes(3), "HALF-OPEN probe ok probe fail open"),
    ("S3, F3 of 5: the first failure opens", Theirs, || probes(3), "HALF-OPEN probe fail open"),
    ("F2 of 3: failure, success, success close", Differs(ALL), || probes(3), "HALF-OPEN probe fail open"),
    ("F3: failure, success close", Differs(ALL), || probes(3), "HALF-OPEN probe fail open"),
    (
        "S3: three successes close and two do not",
        Theirs,
        || probes(3),
        "HALF-OPEN probe ok half_open probe ok half_open probe ok closed",
    ),
    (
        "S2, F3 of 5: two successes close",
        Theirs,
        || probes(2),
        "HALF-OPEN probe ok half_open probe ok closed",
    ),
    ("half open no delay remains", Theirs, || probes(1), "HALF-OPEN probe ok closed"),
    (
        "a result that nobody asked for makes room for one more",
        Differs("a late end gives no permit back: it had none of this phase"),
        || probes(2),
        "call:late fail*3 open +10s probe:a probe:b late=ok refuse",
    ),
];

/// linkerd2-proxy, linkerd/app/outbound/src/http/breaker/unified.rs (tests inline): three failures in a row, or a success rate
/// below 80 % of the moving average after a minimum; backoff from 1 s; one probe.
#[test]
fn linkerd_unified() {
    play_all(LINKERD_UNIFIED, "", "");
}

fn row() -> Settings {
    Settings {
        consecutive_failures: 3,
        minimum_requests: 1_000,
        open_for: secs(1),
        half_open_probes: 1,
        ..settings()
    }
}

fn rate() -> Settings {
    Settings { minimum_requests: 5, failure_rate: 0.2, open_for: secs(1), half_open_probes: 1, ..settings() }
}

const LINKERD_UNIFIED: &[Case] = &[
    ("it begins open to traffic", Theirs, row, "closed ok"),
    ("it trips on failures in a row", Theirs, row, "fail +100ms closed fail +100ms closed fail open"),
    ("a success resets the row", Theirs, row, "fail*2 ok fail*2 closed"),
    ("it trips on a low success rate", Theirs, rate, "ok +1s fail*3 closed fail why=failure_rate open"),
    ("below the minimum no rate is judged", Theirs, rate, "fail +1s fail +1s fail +1s fail closed"),
    ("a row needs no minimum", Theirs, || Settings { minimum_requests: 100, ..row() }, "fail*3 open"),
    ("a probe that succeeds ends probation", Theirs, row, "fail*3 +1s probe refuse ok closed"),
    ("a told wait is the least backoff", Theirs, row, "fail*2 told5s for=5s +1s refuse +3s refuse +1s probe"),
    ("a row of zero is off", Theirs, || Settings { consecutive_failures: 0, ..row() }, "fail*50 closed"),
    ("after a long silence one failure does not trip", Theirs, rate, "ok*50 +91s fail closed"),
    (
        "after recovery the minimum counts anew",
        Theirs,
        rate,
        "fail*5 open +1s probe ok closed fail*4 closed fail open",
    ),
];

/// The same file: 429 counts against the rate and not against the row, and a probe that meets 429 has failed. Ours differs:
/// throttling is what pauses are for, and a breaker kept open by it would refuse those whom the upstream would serve. Whoever
/// wants it names it: `failures = [.., "throttled"]`.
#[test]
fn linkerd_counts_429_where_it_is_named() {
    let throttled = Judged::answer(429, Meaning::by_status(429, None, false), &[]);
    let defaults = ["connect", "reset", "timeout", "transient", "500", "502", "503", "504", "529"];
    let text = "[upstream.a]\nurl = 'http://a'\nroute = '/'\n\
                [upstream.b]\nurl = 'http://b'\nroute = '/b'\nbreaker.failures = ['transient', 'throttled']";
    let config = fender::config::load_text("fender.toml", text).expect("in order").config;
    assert_eq!(config.upstream["a"].breaker.failures.len(), defaults.len());
    assert!(!throttled.is_named_by(&config.upstream["a"].breaker.failures));
    assert!(throttled.is_named_by(&config.upstream["b"].breaker.failures));
    assert!(throttled.is_named_by(&[Trigger::Status(429)]));
}

/// Finagle, finagle-core/src/test/scala/com/twitter/finagle/service/RetryBudgetTest.scala: `nReqs * percent + ttl * minPerSec`
/// retries, in frozen time; theirs grants an error of one, ours none.
#[test]
fn finagle_retry_budget() {
    let of = |ttl, min_per_second, ratio| budget::Settings { ratio, min_per_second, window: secs(ttl) };
    let now = Instant::now();
    let retried = |settings: &budget::Settings| {
        let mut budget = Budget::new(settings, now);
        let floor = settings.min_per_second * settings.window.as_secs_f64();
        assert!((budget.available(now) - floor).abs() < 1e-6);
        if floor == 0.0 {
            assert!(budget.take(now).is_err());
        }
        let mut retried = 0;
        for _ in 0..10_000 {
            budget.paid(now);
            match budget.take(now) {
                Ok(_) => retried += 1,
                Err(left) => assert!(left.available < 1.0),
            }
        }
        retried
    };
    for (settings, expected) in [
        (of(60, 0.0, 0.0), 0),
        (of(60, 0.0, 0.1), 1_000),
        (of(60, 0.0, 0.5), 5_000),
        (of(60, 0.0, 0.25), 2_500),
        (of(60, 0.0, 0.75), 7_500),
        (of(60, 0.0, 0.99), 9_900),
        (of(60, 0.0, 0.999), 9_990),
        (of(60, 0.0, 0.9999), 9_999),
        (of(60, 0.0, 0.01), 100),
        (of(60, 0.0, 0.001), 10),
        (of(60, 0.0, 0.0001), 1),
        (of(1, 10.0, 0.0), 10),
        (of(2, 5.0, 0.0), 10),
        (of(1, 10.0, 0.1), 1_010),
        (of(2, 5.0, 0.5), 5_010),
        // tower's TpsBudget, of the same shape, makes a third of 0.3 and one of 0.6 (tower/src/retry/budget/tps_budget.rs).
        (of(60, 0.0, 0.3), 3_000),
        (of(60, 0.0, 0.6), 6_000),
    ] {
        assert_eq!(retried(&settings), expected, "{settings:?}");
    }
}

/// The same file: what may stand in its settings. Ours is read from a config. It differs in the window, which may be longer than
/// a minute, and in the ratio, which may not be beyond 1: each request would be retried twice.
#[test]
fn finagle_bounds() {
    for (table, taken) in [
        ("window = '0s'", false),
        ("window = '61s'", true),
        ("min_per_second = -1.0", false),
        ("ratio = -1.0", false),
        ("ratio = 2.0", false),
        ("ratio = 0.0, min_per_second = 0.0", true),
    ] {
        let text = format!("[upstream.a]\nurl = 'http://a'\nroute = '/'\nretry.budget = {{ {table} }}");
        assert_eq!(fender::config::load_text("fender.toml", &text).is_ok(), taken, "{table}");
    }
}
