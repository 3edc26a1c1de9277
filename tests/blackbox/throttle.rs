//! The upstream's own words: one answer that says "wait" pauses all traffic of its scope.

use std::time::{Duration, Instant};

use crate::support::{Fender, Upstream, eventually};

const ONCE: &str = "retry = { max_attempts = 1 }";

#[test]
fn a_told_wait_pauses_the_credential_that_was_told() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 2", "200 OK"]);
    let fender = Fender::start(upstream.as_api(ONCE));
    let ask =
        |key: &str| fender.client().request("GET", "/", &format!("authorization: Bearer {key}\r\n"), b"");
    let told = Instant::now();
    assert_eq!(ask("one").status(), 429);
    let paused = ask("one");
    paused.is_problem(429, "throttled");
    assert!(["1", "2"].contains(&paused.field("retry-after").as_str()));
    assert_eq!(ask("two").status(), 200, "another credential was told nothing");
    assert_eq!(upstream.requests().len(), 2);
    eventually("the pause ends", || ask("one").status() == 200);
    assert!(told.elapsed() >= Duration::from_secs(2), "after {:?}", told.elapsed());
    let seconds = fender.metric("fender_throttled_seconds_total", &[]);
    assert!((1.9..2.2).contains(&seconds), "{seconds}");
    assert!(!fender.log().contains("Bearer"), "a credential is in the log");
}

#[test]
fn who_may_wait_waits_for_the_end_of_the_pause() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 1", "200 OK"]);
    let fender = Fender::start(upstream.as_api(&format!("{ONCE}\nthrottle = {{ max_wait = \"5s\" }}")));
    let told = Instant::now();
    assert_eq!(fender.get("/").status(), 429);
    assert_eq!(fender.get("/").status(), 200);
    assert!(told.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_used_up_quota_pauses_its_scope_and_then_lets_one_through() {
    let upstream = Upstream::in_turn(&["402 Pay", "200 OK"]);
    let fender = Fender::start(upstream.as_api("throttle = { max_pause = \"600ms\" }"));
    let first = fender.get("/");
    assert_eq!((first.status(), first.text().as_str()), (402, "answer 1"));
    assert_eq!(
        (first.field("fender-reason").as_str(), first.field("fender-attempts").as_str()),
        ("quota", "1")
    );
    fender.get("/").is_problem(429, "throttled");
    eventually("the probe passes", || fender.get("/").status() == 200);
    assert_eq!(fender.get("/").status(), 200);
    assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "quota")]), 1.0);
}

#[test]
fn without_adapt_nobody_waits_for_anothers_answer() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 30", "200 OK"]);
    let fender = Fender::start(upstream.as_api(&format!("{ONCE}\nthrottle = {{ adapt = false }}")));
    assert_eq!((fender.get("/").status(), fender.get("/").status()), (429, 200));
}

#[test]
fn the_scope_may_be_a_field_of_the_body() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 30", "200 OK"]);
    let fender = Fender::start(upstream.as_api(&format!("{ONCE}\nthrottle = {{ scope = \"json:/model\" }}")));
    assert_eq!(fender.post("/", "", br#"{"model":"big"}"#).status(), 429);
    fender.post("/", "", br#"{"model":"big"}"#).is_problem(429, "throttled");
    assert_eq!(fender.post("/", "", br#"{"model":"small"}"#).status(), 200);
}
