//! What all workers share, in service: a breaker behind its lock, and what it shows of itself.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fender::memory::Memory;
use fender::policy::breaker::{Settings, State};
use fender::telemetry::feed::Feed;
use fender::telemetry::metrics::Metrics;
use fender::upstream::breaker::BreakerCell;

fn settings(toml: &str) -> Settings {
    let text = format!("[upstream.a]\nurl = 'http://a'\nroute = '/'\nbreaker = {{ {toml} }}");
    fender::config::load_text("fender.toml", &text).expect(&text).config.upstream["a"].breaker.clone()
}

fn cell(metrics: &Metrics, toml: &str) -> Arc<BreakerCell> {
    BreakerCell::new(("a", ""), &settings(toml), metrics.breaker("a", ""), Feed::new(&Memory::new(0)))
}

#[test]
fn one_state_is_shown_at_a_time_after_every_change() {
    let metrics = Metrics::new().unwrap();
    let breaker = cell(&metrics, "consecutive_failures = 2, half_open_probes = 1, open_for = '10s'");
    let mut now = Instant::now();
    let shown = |state: &str, label: &str| {
        for other in State::ALL.map(State::as_str) {
            let is = metrics.total("fender_breaker_state", &[("upstream", "a"), ("state", other)]);
            assert_eq!(is, f64::from(u8::from(other == state)), "{label}: {other}");
        }
    };
    let fail = |now| breaker.ask(None, now).expect("a leave").failed(false, None, now);
    shown("closed", "new");
    fail(now);
    shown("closed", "one failure");
    fail(now);
    shown("open", "two");
    assert!(breaker.ask(None, now).is_err());
    now += Duration::from_secs(12);
    let probe = breaker.ask(None, now).expect("a probe");
    shown("half_open", "its time is over");
    probe.failed(false, None, now);
    shown("open", "the probe failed");
    now += Duration::from_secs(24);
    breaker.ask(None, now).expect("a probe").succeeded(false, now);
    breaker.tick(now);
    shown("closed", "the probe succeeded");
    for (word, state) in [
        (BreakerCell::force_open as fn(&BreakerCell, Instant), "forced_open"),
        (BreakerCell::force_close, "forced_closed"),
        (BreakerCell::auto, "closed"),
        (BreakerCell::health_down, "open"),
        (BreakerCell::health_up, "half_open"),
        (BreakerCell::reset, "closed"),
    ] {
        word(&breaker, now);
        shown(state, state);
    }
}

#[test]
fn a_leave_that_is_dropped_gives_its_place_back() {
    let metrics = Metrics::new().unwrap();
    let breaker = cell(&metrics, "half_open_probes = 1");
    let now = Instant::now();
    breaker.health_down(now);
    breaker.health_up(now);
    let probe = breaker.ask(None, now).expect("a probe");
    assert!(breaker.ask(None, now).is_err(), "the one probe is out");
    drop(probe);
    drop(breaker.ask(None, now).expect("its place is free again"));
    assert_eq!(breaker.worst(), State::HalfOpen);
}

/// Eight threads ask and tell as fast as they can, of which one failure in ten: nothing is lost and nothing counted twice.
#[test]
fn eight_threads_on_one_breaker_count_exactly() {
    const EACH: usize = 10_000;
    let metrics = Metrics::new().unwrap();
    let breaker = cell(&metrics, "window_requests = 1000000, failure_rate = 1.0, consecutive_failures = 0");
    let now = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..EACH {
                    let leave = breaker.ask(None, now).expect("it is closed");
                    if number % 10 == 0 {
                        leave.failed(false, None, now);
                    } else {
                        leave.succeeded(false, now);
                    }
                }
            });
        }
    });
    let tally = breaker.figures(now).tally;
    assert_eq!((tally.calls, tally.failures), (80_000, 8_000));
}

/// And half open it grants exactly its probes, however many ask at once.
#[test]
fn eight_threads_get_no_more_probes_than_there_are() {
    let metrics = Metrics::new().unwrap();
    let breaker = cell(&metrics, "half_open_probes = 5");
    let now = Instant::now();
    breaker.health_down(now);
    breaker.health_up(now);
    let leaves: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..100).filter_map(|_| breaker.ask(None, now).ok()).collect::<Vec<_>>()))
            .collect();
        asking.into_iter().flat_map(|asking| asking.join().unwrap()).collect()
    });
    assert_eq!(leaves.len(), 5);
    for leave in leaves {
        let _turned = leave.succeeded(false, now);
    }
    assert_eq!(breaker.worst(), State::Closed);
}
