//! What others fell into, and where it is held here. The list names each trap's tests, and is held to name ones that exist.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use std::{fs, thread};

use crate::support::{Fender, Setup, Upstream, eventually};

const TRAPS: &[(&str, &[&str])] = &[
    // Breaker.
    (
        "a late result from before the trip decides half-open",
        &[
            "a_late_result_from_before_the_trip_decides_nothing",
            "a_late_result_does_not_make_room_for_one_more_probe",
        ],
    ),
    (
        "a permit never returned leaves half-open for ever",
        &[
            "a_permit_that_never_comes_back_does_not_leave_it_half_open_for_ever",
            "a_client_that_hangs_up_is_no_failure_and_gives_its_probe_back",
            "a_leave_that_is_dropped_gives_its_place_back",
        ],
    ),
    ("the first probe is not counted", &["the_first_probe_is_counted"]),
    ("several failures at once re-enter open", &["several_failures_at_once_open_it_once_and_no_longer"]),
    ("a cancelled probe counts as success", &["a_cancelled_probe_is_no_success_and_gives_its_place_back"]),
    (
        "rejected calls count as traffic",
        &["what_is_refused_is_no_traffic", "calls_in_flight_are_no_traffic_yet"],
    ),
    (
        "> where >= is meant, shares rounded",
        &[
            "the_rate_trips_at_the_threshold_and_not_beyond_it_only",
            "no_threshold_is_missed_or_met_too_early_by_rounding",
        ],
    ),
    (
        "wall-clock steps move windows",
        &["time_that_steps_back_changes_nothing", "sources_keep_the_house_rules"],
    ),
    ("a count window that never slides", &["a_window_of_calls_slides_though_a_million_were_well"]),
    ("a one-hot gauge that is not reset", &["one_state_is_shown_at_a_time_after_every_change"]),
    (
        "success recorded when a stream opens, not when it ends",
        &["a_stream_that_breaks_off_is_a_failure_though_its_head_was_fine"],
    ),
    ("a breaker that needs several hosts", &["it_opens_refuses_probes_and_closes"]),
    ("an open refusal treated as retryable", &["an_open_refusal_is_not_tried_again"]),
    (
        "the breaker missing on one code path",
        &[
            "the_breaker_is_on_the_path_of_streams_uploads_upgrades_and_http2",
            "the_breaker_of_a_fallback_is_asked_and_told",
            "a_health_check_is_no_traffic_and_passes_an_open_breaker",
        ],
    ),
    ("trips on the first failure", &["nothing_trips_on_the_first_failure_unless_told_to"]),
    (
        "each worker has a breaker, a budget, a limit of its own",
        &[
            "four_workers_share_one_breaker",
            "four_workers_share_one_budget",
            "four_workers_share_one_rate_limit",
        ],
    ),
    // Retry.
    (
        "budgets that round 0.3 to 1/3 or 0.6 to 1",
        &["a_ratio_pays_for_exactly_its_share", "finagle_retry_budget"],
    ),
    (
        "retries in backoff count as used but not as traffic",
        &["retries_that_wait_in_backoff_do_not_shrink_what_requests_pay"],
    ),
    (
        "a Retry-After beyond patience is ignored and retried at once",
        &["a_told_wait_is_kept_and_one_beyond_patience_ends_the_request"],
    ),
    (
        "a body over the buffer is retried half",
        &["a_body_too_large_to_be_kept_is_sent_once", "bodies_beyond_the_memory_for_them_pass_unretained"],
    ),
    ("a stale pooled connection costs the client a 502", &["a_get_on_a_stale_connection_is_sent_once_more"]),
    ("SDK retries multiplied by ours", &["a_retry_of_the_clients_sdk_pays_into_no_budget"]),
    (
        "an attempt that used the whole deadline is tried again",
        &["a_failure_that_used_up_the_time_is_not_tried_again"],
    ),
    // Limits.
    (
        "a local limiter that grants a fifth of what it should",
        &[
            "awkward_rates_are_granted_within_a_hundredth",
            "random_arrivals_beyond_the_rate_are_granted_at_the_rate",
        ],
    ),
    (
        "a refusal without Retry-After",
        &[
            "a_rate_limit_refuses_with_the_time_of_the_next_slot",
            "beyond_the_bulkhead_and_its_queue_503_comes_at_once",
            "a_told_wait_pauses_the_credential_that_was_told",
        ],
    ),
    (
        "who stood in line is sent into a pause that began meanwhile",
        &[
            "who_stands_in_line_hears_of_a_pause_that_began_meanwhile",
            "whatever_the_upstream_does_the_laws_hold",
        ],
    ),
];

#[test]
fn each_trap_has_its_tests() {
    fn texts(folder: &std::path::Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                texts(&path, all);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = String::new();
    texts(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut all);
    for (trap, tests) in TRAPS {
        assert!(!tests.is_empty(), "{trap}");
        for test in *tests {
            assert!(all.contains(&format!("fn {test}(")), "{trap}: there is no test {test}");
        }
    }
}

const TRIPS_AT_THREE: &str = "retry = { max_attempts = 1 }\n\
    breaker = { consecutive_failures = 3, open_for = \"60s\", minimum_requests = 1000 }";

#[test]
fn an_open_refusal_is_not_tried_again() {
    let upstream = Upstream::in_turn(&["500 Oops"]);
    let lines = "retry = { max_attempts = 5, backoff = { base = \"1ms\" } }\n\
        breaker = { consecutive_failures = 3, open_for = \"60s\", minimum_requests = 1000 }";
    let fender = Fender::start(upstream.as_api(lines));
    // The third attempt of the first request trips it, and the fourth is not made.
    assert_eq!(fender.get("/").field("fender-attempts"), "3");
    assert_eq!(fender.metric("fender_retries_refused_total", &[("reason", "breaker")]), 1.0);
    for refused in 1..=4 {
        let answer = fender.get("/");
        answer.is_problem(503, "breaker_open");
        assert_eq!(answer.field("fender-attempts"), "0");
        assert_eq!(fender.metric("fender_breaker_refused_total", &[]), f64::from(refused));
    }
    assert_eq!(fender.metric("fender_retries_total", &[]), 2.0);
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn the_breaker_is_on_the_path_of_streams_uploads_upgrades_and_http2() {
    let cut_stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
        9\r\ndata: 0\n\n\r\n";
    let failed = "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for (path, answer, method, fields) in [
        ("stream", cut_stream, "GET", "accept: text/event-stream\r\n"),
        ("upload", failed, "POST", ""),
        ("upgrade", failed, "GET", "connection: upgrade\r\nupgrade: websocket\r\n"),
    ] {
        let upstream = Upstream::scripted(move |connection| {
            connection.request();
            connection.send(answer);
        });
        let fender = Fender::start(upstream.as_api(TRIPS_AT_THREE));
        let body: &[u8] = if method == "POST" { &[b'x'; 100_000] } else { b"" };
        let ask = || fender.client().request(method, "/", fields, body);
        (0..3).for_each(|_| drop(ask()));
        eventually(path, || fender.metric("fender_breaker_state", &[("state", "open")]) == 1.0);
        ask().is_problem(503, "breaker_open");
        assert_eq!(upstream.connections(), 3, "{path}");
    }
    // Nobody there who speaks HTTP/2: no connection is a failure too.
    let lines = format!(
        "[upstream.api]\nurl = \"{}\"\nroute = \"/\"\nhttp = \"2\"\n{TRIPS_AT_THREE}",
        Upstream::nobody()
    );
    let fender = Fender::start(lines);
    (0..3).for_each(|_| fender.get("/").is_problem(502, "connect"));
    fender.get("/").is_problem(503, "breaker_open");
}

#[test]
fn an_upgrade_that_comes_about_is_a_success() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        connection.until_closed();
    });
    let lines = "retry = { max_attempts = 1 }\nbreaker = { window_requests = 4, minimum_requests = 4, consecutive_failures = 0 }";
    let fender = Fender::start(upstream.as_api(lines));
    for _ in 0..8 {
        let mut client = fender.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        assert_eq!(client.head().map(|head| head.status()), Some(101));
    }
    assert_eq!(fender.metric("fender_breaker_state", &[("state", "closed")]), 1.0);
}

#[test]
fn the_breaker_of_a_fallback_is_asked_and_told() {
    let (first, second) = (Upstream::in_turn(&["503 Busy"]), Upstream::in_turn(&["500 Oops"]));
    let fallback =
        "[[upstream.api.fallback]]\non = [\"exhausted\", \"breaker_open\"]\nupstream = \"other\"\n";
    let lines = format!(
        "{}\n{fallback}\n[upstream.other]\nurl = \"{}\"\n{TRIPS_AT_THREE}",
        first.as_api(TRIPS_AT_THREE),
        second.url()
    );
    let fender = Fender::start(lines);
    for _ in 0..6 {
        assert!([500, 503].contains(&fender.get("/").status()));
    }
    assert_eq!((first.requests().len(), second.requests().len()), (3, 3));
    let open = |upstream| fender.metric("fender_breaker_state", &[("upstream", upstream), ("state", "open")]);
    assert_eq!((open("api"), open("other")), (1.0, 1.0));
}

#[test]
fn a_health_check_is_no_traffic_and_passes_an_open_breaker() {
    let (checks, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (checked, requested) = (Arc::clone(&checks), Arc::clone(&requests));
    let upstream = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let counter = if received.head.target() == "/up" { &checked } else { &requested };
            counter.fetch_add(1, Ordering::SeqCst);
            connection.send("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let health =
        "health = { path = \"/up\", interval = \"50ms\", timeout = \"50ms\", unhealthy_after = 100000 }";
    let fender = Fender::start(upstream.as_api(&format!("{TRIPS_AT_THREE}\n{health}")));
    let more = |than: usize| eventually("more checks", || checks.load(Ordering::SeqCst) > than);
    more(5);
    let state = |state| fender.metric("fender_breaker_state", &[("state", state)]);
    assert_eq!(state("closed"), 1.0, "failed checks are not failed calls");
    (0..3).for_each(|_| assert_eq!(fender.get("/").status(), 500));
    assert_eq!(state("open"), 1.0);
    more(checks.load(Ordering::SeqCst) + 3);
    fender.get("/").is_problem(503, "breaker_open");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

/// So many clients at once, each on a connection of its own, so that all workers have some.
fn at_once(fender: &Fender, clients: usize, ask: impl Fn(&Fender) -> u16 + Sync) -> Vec<u16> {
    let start = Barrier::new(clients);
    thread::scope(|scope| {
        let asked: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    ask(fender)
                })
            })
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

fn four_workers(lines: String) -> Fender {
    Setup::new(lines).server("workers = 4\n").start()
}

#[test]
fn four_workers_share_one_breaker() {
    let upstream = Upstream::in_turn(&["500 Oops"]);
    let fender = four_workers(upstream.as_api(&TRIPS_AT_THREE.replace("= 3", "= 17")));
    let statuses: Vec<u16> = (0..60).map(|_| fender.get("/").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 17);
    assert_eq!(upstream.requests().len(), 17);
    assert_eq!(fender.metric("fender_breaker_refused_total", &[]), 43.0);
    assert!(at_once(&fender, 40, |fender| fender.get("/").status()).iter().all(|status| *status == 503));
    assert_eq!(upstream.requests().len(), 17);
}

#[test]
fn four_workers_share_one_budget() {
    let upstream = Upstream::in_turn(&["503 Busy"]);
    let lines = "retry = { max_attempts = 2, backoff = { base = \"1ms\" }, \
        budget = { ratio = 0.3, min_per_second = 0.0, window = \"60s\" } }\nbreaker = { enabled = false }";
    let fender = four_workers(upstream.as_api(lines));
    at_once(&fender, 30, |fender| fender.get("/").status());
    for _ in 0..70 {
        fender.get("/");
    }
    assert_eq!(fender.metric("fender_retries_total", &[]), 30.0);
    assert_eq!(upstream.requests().len(), 130);
}

#[test]
fn four_workers_share_one_rate_limit() {
    let upstream = Upstream::ok("fine");
    let fender = four_workers(upstream.as_api("[[upstream.api.rate_limit]]\nrequests = 20\nper = \"1h\""));
    let statuses = at_once(&fender, 50, |fender| fender.get("/").status());
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20);
    assert_eq!(upstream.requests().len(), 20);
    assert_eq!(fender.metric("fender_rate_limited_total", &[]), 30.0);
}

#[test]
fn who_stands_in_line_hears_of_a_pause_that_began_meanwhile() {
    let (open, gate) = sync_channel::<()>(1);
    let gate = Mutex::new(gate);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            gate.lock().unwrap().recv_timeout(Duration::from_secs(20)).ok();
            connection.send("HTTP/1.1 429 Slow\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let lines = "concurrency = { max = 1, queue_timeout = \"20s\" }\nretry = { max_attempts = 1 }";
    let fender = Fender::start(upstream.as_api(lines));
    let ask = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut first, mut second) = (fender.client(), fender.client());
    first.send(ask);
    upstream.request(1);
    second.send(ask);
    eventually("the second stands in line", || fender.metric("fender_queue_depth", &[]) == 1.0);
    open.send(()).unwrap();
    assert_eq!(first.response("GET").status(), 429);
    second.response("GET").is_problem(429, "throttled");
    assert_eq!(upstream.requests().len(), 1);
}
