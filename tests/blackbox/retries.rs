//! Attempts after the first: when, how often, and when never.

use std::time::{Duration, Instant};

use crate::support::{Fender, Setup, Upstream};

const FAST: &str = "retry = { backoff = { base = \"5ms\", jitter = \"none\" } }";

fn before(upstream: &Upstream, lines: &str) -> Fender {
    Fender::start(upstream.as_api(lines))
}

#[test]
fn a_failed_get_is_tried_until_it_succeeds() {
    let upstream = Upstream::in_turn(&["503 Busy", "500 Oops", "200 OK"]);
    let fender = before(&upstream, FAST);
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "answer 3"));
    assert_eq!((answer.field("fender-attempts").as_str(), answer.field("fender-reason").as_str()), ("3", ""));
    assert_eq!(fender.metric("fender_retries_total", &[("reason", "transient")]), 2.0);
    assert_eq!(fender.metric("fender_retry_success_total", &[]), 1.0);
    assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "transient")]), 2.0);
}

#[test]
fn when_attempts_are_spent_the_last_answer_is_the_clients() {
    let upstream = Upstream::in_turn(&["503 Busy", "500 Oops", "502 Bad\nx-own: yes"]);
    let fender = before(&upstream, FAST);
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (502, "answer 3"));
    assert_eq!(answer.field("x-own"), "yes");
    assert_eq!(
        (answer.field("fender-attempts").as_str(), answer.field("fender-reason").as_str()),
        ("3", "exhausted")
    );
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn a_body_is_sent_again_whole() {
    let upstream = Upstream::in_turn(&["429 Slow", "200 OK"]);
    let fender = before(&upstream, FAST);
    let body = vec![b'x'; 200_000];
    assert_eq!(fender.post("/", "", &body).status(), 200);
    let lengths: Vec<_> = upstream.whole().iter().map(|received| received.body.bytes.len()).collect();
    assert_eq!(lengths, [200_000, 200_000]);
}

#[test]
fn a_post_is_tried_again_only_where_it_cannot_act_twice() {
    for (first, fields, sent) in [
        ("500 Oops", "", 1),
        ("503 Busy", "", 1),
        ("504 Late", "", 1),
        ("429 Slow", "", 2),
        ("425 Early", "", 2),
        ("503 Busy\nretry-after: 0", "", 2),
        ("500 Oops", "idempotency-key: k\r\n", 2),
        ("404 None", "idempotency-key: k\r\n", 1),
        ("501 Never", "idempotency-key: k\r\n", 1),
        ("402 Pay", "idempotency-key: k\r\n", 1),
    ] {
        let upstream = Upstream::in_turn(&[first, "200 OK"]);
        let fender = before(&upstream, FAST);
        fender.post("/", fields, b"x");
        assert_eq!(upstream.requests().len(), sent, "{first} {fields}");
    }
}

#[test]
fn what_the_config_says_may_be_sent_twice_is_sent_twice() {
    let upstream = Upstream::in_turn(&["500 Oops", "200 OK"]);
    let fender = before(&upstream, &format!("idempotent = \"yes\"\n{FAST}"));
    assert_eq!(fender.post("/", "", b"x").status(), 200);
}

#[test]
fn a_status_that_the_config_names_is_a_failure() {
    let upstream = Upstream::in_turn(&["202 Later", "200 OK"]);
    let fender = before(&upstream, "retry = { on = [202], backoff = { base = \"5ms\" } }");
    assert_eq!(fender.get("/").status(), 200);
    assert_eq!(fender.metric("fender_retries_total", &[("reason", "transient")]), 1.0);
}

#[test]
fn a_client_may_forbid_retries_and_shorten_the_whole() {
    let upstream = Upstream::in_turn(&["503 Busy"]);
    let fender = before(&upstream, FAST);
    let answer = fender.client().request("GET", "/", "fender-policy: no-retry\r\n", b"");
    assert_eq!((answer.status(), answer.field("fender-attempts").as_str()), (503, "1"));
    assert_eq!(fender.metric("fender_retries_refused_total", &[("reason", "opted_out")]), 1.0);
    fender.client().request("GET", "/", "fender-policy: no-rety\r\n", b"").is_problem(400, "bad_request");
}

#[test]
fn a_told_wait_is_kept_and_one_beyond_patience_ends_the_request() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after-ms: 300", "200 OK"]);
    let fender = before(&upstream, FAST);
    let start = Instant::now();
    assert_eq!(fender.get("/").status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());

    let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 3600", "200 OK"]);
    let fender = before(&upstream, FAST);
    let start = Instant::now();
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.field("retry-after").as_str()), (429, "3600"));
    assert_eq!(answer.field("fender-reason"), "exhausted");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(fender.metric("fender_retries_refused_total", &[("reason", "patience")]), 1.0);
}

#[test]
fn a_failure_that_used_up_the_time_is_not_tried_again() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let fender =
        before(&upstream, &format!("timeout = {{ attempt = \"400ms\", total = \"400ms\" }}\n{FAST}"));
    fender.get("/").is_problem(504, "timeout");
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(fender.metric("fender_retries_refused_total", &[("reason", "deadline")]), 1.0);
}

#[test]
fn the_whole_time_bounds_all_attempts() {
    let upstream = Upstream::in_turn(&["503 Busy"]);
    let lines = "timeout = { total = \"600ms\" }\n\
                 retry = { max_attempts = 100, backoff = { strategy = \"fixed\", base = \"100ms\", jitter = \"none\" } }\n\
                 breaker = { enabled = false }";
    let fender = before(&upstream, lines);
    let start = Instant::now();
    assert_eq!(fender.get("/").status(), 503);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    let attempts = upstream.requests().len();
    assert!((4..=7).contains(&attempts), "{attempts} attempts");
}

#[test]
fn a_budget_holds_back_retries_of_all_the_traffic() {
    let upstream = Upstream::in_turn(&["503 Busy"]);
    let lines = "retry = { backoff = { base = \"1ms\" }, budget = { ratio = 0.3, min_per_second = 0.0, window = \"60s\" } }\n\
                 breaker = { enabled = false }";
    let fender = before(&upstream, lines);
    let mut client = fender.client();
    for _ in 0..100 {
        assert_eq!(client.request("GET", "/", "", b"").status(), 503);
    }
    let retries = fender.metric("fender_retries_total", &[]);
    assert_eq!(retries, 30.0);
    assert_eq!(upstream.requests().len(), 130);
    assert!(fender.metric("fender_retries_refused_total", &[("reason", "budget")]) >= 70.0);
    assert_eq!(fender.metric("fender_retry_budget_available", &[]), 0.0);
}

#[test]
fn a_retry_of_the_clients_sdk_pays_into_no_budget() {
    let upstream = Upstream::in_turn(&["503 Busy"]);
    let lines = "retry = { backoff = { base = \"1ms\" }, budget = { ratio = 1.0, min_per_second = 0.0, window = \"60s\" } }\n\
                 breaker = { enabled = false }";
    let fender = before(&upstream, lines);
    for fields in ["x-stainless-retry-count: 1\r\n", "amz-sdk-request: attempt=2; max=3\r\n"] {
        assert_eq!(fender.client().request("GET", "/", fields, b"").field("fender-attempts"), "1");
    }
    assert_eq!(fender.metric("fender_client_retries_total", &[]), 2.0);
    // And what only says that there was none before is a request as any other.
    let answer = fender.client().request("GET", "/", "x-stainless-retry-count: 0\r\n", b"");
    assert_eq!(answer.field("fender-attempts"), "2");
}

#[test]
fn a_body_too_large_to_be_kept_is_sent_once() {
    let upstream = Upstream::in_turn(&["429 Slow", "200 OK"]);
    let fender = before(&upstream, "retry = { max_body = \"1KiB\", backoff = { base = \"1ms\" } }");
    assert_eq!(fender.post("/", "", &[b'x'; 5000]).status(), 429);
    assert_eq!(fender.metric("fender_retries_refused_total", &[("reason", "body")]), 1.0);
}

#[test]
fn a_route_may_retry_otherwise_than_its_upstream() {
    let upstream = Upstream::in_turn(&["503 Busy"]);
    let lines = format!(
        "{}\n[[route]]\npath = \"/once\"\nupstream = \"api\"\nretry = {{ max_attempts = 1 }}",
        upstream.as_api(FAST)
    );
    let fender = Setup::new(lines).start();
    assert_eq!(fender.get("/once").field("fender-attempts"), "1");
    assert_eq!(fender.get("/").field("fender-attempts"), "3");
}
