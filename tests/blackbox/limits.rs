//! The bulkhead and the rate limits.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Fender, Setup, Upstream, eventually};

/// Answers each request once it is told to.
fn gated() -> (Upstream, impl Fn()) {
    let (open, gate) = sync_channel::<()>(100);
    let gate = Arc::new(Mutex::new(gate));
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            gate.lock().unwrap().recv_timeout(Duration::from_secs(20)).ok();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (upstream, move || open.send(()).unwrap())
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn beyond_the_bulkhead_and_its_queue_503_comes_at_once() {
    let (upstream, open) = gated();
    let lines = "concurrency = { max = 1, queue = 1, queue_timeout = \"20s\" }\nretry = { max_attempts = 1 }";
    let fender = Fender::start(upstream.as_api(lines));
    let (mut first, mut second) = (fender.client(), fender.client());
    first.send(ASK);
    upstream.request(1);
    second.send(ASK);
    eventually("the second waits", || fender.metric("fender_queue_depth", &[]) == 1.0);
    let start = Instant::now();
    let third = fender.get("/");
    third.is_problem(503, "overload");
    assert_eq!(third.field("retry-after"), "1");
    assert!(start.elapsed() < Duration::from_secs(2));
    open();
    assert_eq!(first.response("GET").status(), 200);
    upstream.request(2);
    open();
    assert_eq!(second.response("GET").status(), 200);
    assert_eq!(fender.metric("fender_concurrency_limit", &[]), 1.0);
    assert_eq!(fender.metric("fender_queue_depth", &[]), 0.0);
}

#[test]
fn nobody_waits_longer_than_queue_timeout_and_who_hangs_up_leaves_the_queue() {
    let (upstream, open) = gated();
    let lines =
        "concurrency = { max = 1, queue = 5, queue_timeout = \"300ms\" }\nretry = { max_attempts = 1 }";
    let fender = Fender::start(upstream.as_api(lines));
    let mut first = fender.client();
    first.send(ASK);
    upstream.request(1);
    fender.get("/").is_problem(503, "overload");
    let mut gone = fender.client();
    gone.send(ASK);
    eventually("it waits", || fender.metric("fender_queue_depth", &[]) == 1.0);
    drop(gone);
    eventually("it has left", || fender.metric("fender_queue_depth", &[]) == 0.0);
    open();
    assert_eq!(first.response("GET").status(), 200);
}

#[test]
fn a_seat_is_held_to_the_last_byte() {
    let (finish, gate) = sync_channel::<()>(1);
    let gate = Mutex::new(gate);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na");
            gate.lock().unwrap().recv_timeout(Duration::from_secs(20)).ok();
            connection.send("b");
        }
    });
    let lines = "concurrency = { max = 1, queue = 0 }\nretry = { max_attempts = 1 }";
    let fender = Fender::start(upstream.as_api(lines));
    let mut first = fender.client();
    first.send(ASK);
    assert_eq!(first.head().map(|head| head.status()), Some(200));
    fender.get("/").is_problem(503, "overload");
    finish.send(()).unwrap();
    finish.send(()).unwrap();
    first.exactly(2).unwrap();
    eventually("the seat is free", || fender.get("/").status() == 200);
}

#[test]
fn a_rate_limit_refuses_with_the_time_of_the_next_slot() {
    let upstream = Upstream::ok("fine");
    let lines = "[[upstream.api.rate_limit]]\nrequests = 2\nper = \"60s\"";
    let fender = Fender::start(upstream.as_api(lines));
    assert_eq!(fender.get("/").status(), 200);
    assert_eq!(fender.get("/").status(), 200);
    let refused = fender.get("/");
    refused.is_problem(429, "rate_limited");
    let wait: u64 = refused.field("retry-after").parse().unwrap();
    assert!((25..=30).contains(&wait), "{wait}");
    assert_eq!(fender.metric("fender_rate_limited_total", &[]), 1.0);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn who_may_wait_for_a_slot_gets_one() {
    let upstream = Upstream::ok("fine");
    let lines = "[[upstream.api.rate_limit]]\nrequests = 10\nper = \"1s\"\nburst = 1\nmax_wait = \"5s\"";
    let fender = Fender::start(upstream.as_api(lines));
    let start = Instant::now();
    for _ in 0..6 {
        assert_eq!(fender.get("/").status(), 200);
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(490), "six in {took:?}");
}

#[test]
fn each_key_has_a_bucket_of_its_own() {
    let upstream = Upstream::ok("fine");
    let lines = "[[upstream.api.rate_limit]]\nrequests = 1\nper = \"60s\"\nkey = \"header:x-user\"\n\
                 [[upstream.api.rate_limit]]\nrequests = 2\nper = \"60s\"\nkey = \"path\"";
    let fender = Fender::start(upstream.as_api(lines));
    let ask = |path: &str, user: &str| {
        fender.client().request("GET", path, &format!("x-user: {user}\r\n"), b"").status()
    };
    assert_eq!((ask("/a", "1"), ask("/a", "1")), (200, 429));
    assert_eq!(ask("/a", "2"), 200, "what one limit refused took nothing from the other");
    assert_eq!((ask("/a", "3"), ask("/b", "3")), (429, 200));
}

#[test]
fn a_reload_gives_nobody_new_slots() {
    let upstream = Upstream::ok("fine");
    let limit = "[[upstream.api.rate_limit]]\nrequests = 1\nper = \"60s\"";
    let fender = Setup::new(upstream.as_api(limit)).start();
    assert_eq!(fender.get("/").status(), 200);
    fender
        .rewrite_config(&Setup::new(upstream.as_api(&format!("timeout = {{ attempt = \"7s\" }}\n{limit}"))));
    fender.sighup();
    fender.logged("config reloaded");
    fender.get("/").is_problem(429, "rate_limited");
}

#[test]
fn the_limit_falls_on_loss_and_climbs_back() {
    let upstream = Upstream::in_turn(&["503 Busy", "503 Busy", "503 Busy", "200 OK"]);
    let lines = "concurrency = { max = 8, adaptive = true }\nretry = { max_attempts = 1 }\nbreaker = { enabled = false }";
    let fender = Fender::start(upstream.as_api(lines));
    for _ in 0..3 {
        fender.get("/");
    }
    let fallen = fender.metric("fender_concurrency_limit", &[]);
    assert!((1.0..8.0).contains(&fallen), "{fallen}");
    assert_eq!(fender.get("/").status(), 200);
}
