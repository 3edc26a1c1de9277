//! One story for each reason of the contract.

use serde_json::json;

use super::{call, every_line_is_known, id_of, settled, story, why};
use crate::blackbox::letters::{TOKENS_OF_ALL, keeping};
use crate::support::{Fender, Response, Setup, Upstream, eventually};

/// Answers once and for all so.
fn always(head: &str) -> Upstream {
    Upstream::answering(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"))
}

fn with(upstreams: &str) -> Setup {
    Setup::new(upstreams).admin(TOKENS_OF_ALL)
}

/// The story of this answer, which bears this reason.
fn of(fender: &Fender, answer: &Response, reason: &str) -> String {
    assert_eq!(answer.field("fender-reason"), reason, "{}", answer.text());
    let id = id_of(answer);
    let page = settled(&why(fender, &id));
    every_line_is_known(&story(fender, &id));
    page
}

#[test]
fn no_route() {
    let upstream = Upstream::ok("ok");
    let fender = with(&upstream.as_api("").replace("route = \"/\"", "route = \"/api\"")).start();
    insta::assert_snapshot!(of(&fender, &fender.get("/elsewhere?and=a-word"), "no_route"));
}

#[test]
fn bad_request() {
    let fender = with(&Upstream::ok("ok").as_api("")).start();
    let (answer, _) = fender.raw("GET / HTTP/1.1\r\nhost: a\r\nfender-timeout: soon\r\n\r\n");
    insta::assert_snapshot!(of(&fender, &answer, "bad_request"));
}

#[test]
fn body_too_large() {
    let fender = with(&Upstream::ok("ok").as_api("")).server("max_request_body = \"1KiB\"").start();
    let (answer, _) = fender.raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1025\r\n\r\n");
    insta::assert_snapshot!(of(&fender, &answer, "body_too_large"));
}

#[test]
fn headers_too_large() {
    let fender = with(&Upstream::ok("ok").as_api("")).server("max_header_bytes = \"16KiB\"").start();
    let (answer, _) = fender.raw(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(20_000)));
    insta::assert_snapshot!(of(&fender, &answer, "headers_too_large"));
}

#[test]
fn header_timeout() {
    let fender = with(&Upstream::ok("ok").as_api("")).server("header_timeout = \"300ms\"").start();
    let (answer, _) = fender.raw("GET / HTTP/1.1\r\nhost: a\r\nx:");
    insta::assert_snapshot!(of(&fender, &answer, "header_timeout"));
}

#[test]
fn body_timeout() {
    let fender = with(&Upstream::ok("ok").as_api("")).server("body_idle_timeout = \"300ms\"").start();
    let (answer, _) = fender.raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    insta::assert_snapshot!(of(&fender, &answer, "body_timeout"));
}

#[test]
fn breaker_open() {
    let upstream = always("503 Busy");
    let lines = "breaker = { minimum_requests = 4, failure_rate = 0.5, consecutive_failures = 0 }\nretry.max_attempts = 1";
    let fender = with(&upstream.as_api(lines)).start();
    (0..4).for_each(|_| assert_eq!(fender.get("/").status(), 503));
    insta::assert_snapshot!(of(&fender, &fender.get("/now"), "breaker_open"));
}

#[test]
fn breaker_open_after_failures_in_a_row_on_a_route_of_its_own() {
    let upstream = always("503 Busy");
    let lines = "retry.max_attempts = 1\n[[route]]\nname = \"narrow\"\npath = \"/narrow\"\nupstream = \"api\"\n\
                 breaker.consecutive_failures = 2";
    let fender = with(&upstream.as_api(lines)).start();
    (0..2).for_each(|_| assert_eq!(fender.get("/narrow").status(), 503));
    insta::assert_snapshot!(of(&fender, &fender.get("/narrow/path"), "breaker_open"));
}

#[test]
fn overload() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let fender = with(&upstream.as_api("concurrency = { max = 1, queue = 0 }")).start();
    let mut first = fender.client();
    first.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    upstream.request(1);
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "overload"));
}

#[test]
fn rate_limited() {
    let upstream = Upstream::ok("ok");
    let lines = "[[upstream.api.rate_limit]]\nrequests = 1\nper = \"60s\"";
    let fender = with(&upstream.as_api(lines)).start();
    assert_eq!(fender.get("/").status(), 200);
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "rate_limited"));
}

#[test]
fn throttled() {
    let upstream = always("429 Slow\r\nretry-after: 90");
    let fender = with(&upstream.as_api("")).start();
    insta::assert_snapshot!("throttled_by_its_answer", of(&fender, &fender.get("/"), "exhausted"));
    insta::assert_snapshot!("throttled_by_the_pause", of(&fender, &fender.get("/"), "throttled"));
}

#[test]
fn timeout() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let fender = with(&upstream.as_api("timeout = { attempt = \"300ms\" }\nretry.max_attempts = 2")).start();
    insta::assert_snapshot!("timeout_of_a_read", of(&fender, &fender.get("/"), "timeout"));
    insta::assert_snapshot!("timeout_of_a_write", of(&fender, &fender.post("/", "", b"x"), "timeout"));
}

#[test]
fn first_content() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.until_closed();
    });
    let lines = "stream = { first_content = \"300ms\", commit = \"first_content\" }\nretry.max_attempts = 1\ndialect = \"openai\"";
    let fender = with(&upstream.as_api(lines)).start();
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "first_content"));
}

#[test]
fn connect() {
    let lines = format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\n", Upstream::nobody());
    let fender = with(&lines).start();
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "connect"));
}

#[test]
fn reset() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.reset();
    });
    let fender = with(&upstream.as_api("")).start();
    insta::assert_snapshot!(of(&fender, &fender.post("/", "", b"x"), "reset"));
}

#[test]
fn tls() {
    let upstream = Upstream::ok("ok");
    let lines = upstream.as_api("retry.max_attempts = 1").replace("http://", "https://");
    let fender = with(&lines).start();
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "tls"));
}

#[test]
fn protocol() {
    let upstream = Upstream::answering("SMTP is spoken here\r\n\r\n");
    let fender = with(&upstream.as_api("retry.max_attempts = 1")).start();
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "protocol"));
}

#[test]
fn degraded() {
    let fender = with(&Upstream::ok("ok").as_api("shed_at = \"severe\"")).start();
    let by_hand = json!({ "level": "severe", "reason": "a test", "for": "1m" });
    assert_eq!(call(&fender, "PUT", "/api/v1/degradation", super::OPS, &by_hand).0, 200);
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "degraded"));
}

#[test]
fn store_unavailable() {
    let upstream = Upstream::ok("ok");
    let (setup, folder) = keeping(&upstream.as_api("dead_letter.mode = \"outbox\""));
    let fender = setup.start();
    std::fs::remove_dir_all(folder.path()).unwrap();
    let mut answer = fender.post("/", "", b"x");
    eventually("the store has seen that it is gone", || {
        answer = fender.post("/", "", b"x");
        answer.status() == 503
    });
    insta::assert_snapshot!(of(&fender, &answer, "store_unavailable"));
}

const KEEPS: &str = "retry.max_attempts = 1\ndead_letter.mode = \"on_failure\"\ndead_letter.replay.backoff = { base = \"1h\", jitter = \"none\" }";

#[test]
fn credential() {
    let upstream = always("503 Busy\r\nretry-after: 0");
    let (setup, _folder) = keeping(&upstream.as_api(KEEPS));
    let fender = setup.start();
    let answer = fender.post("/", "authorization: Bearer a-secret-of-the-client\r\n", b"x");
    insta::assert_snapshot!(of(&fender, &answer, "credential"));
}

#[test]
fn ambiguous() {
    let upstream = always("500 Oops");
    let (setup, _folder) = keeping(&upstream.as_api(KEEPS));
    let fender = setup.start();
    insta::assert_snapshot!(of(&fender, &fender.post("/", "", b"x"), "ambiguous"));
}

#[test]
fn quota() {
    let upstream = always("402 Pay");
    let fender = with(&upstream.as_api("")).start();
    insta::assert_snapshot!("quota_used_up", of(&fender, &fender.get("/"), "quota"));
    insta::assert_snapshot!("quota_paused", of(&fender, &fender.get("/"), "throttled"));
}

#[test]
fn cancelled() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let fender = with(&upstream.as_api("")).server("").start();
    let mut client = fender.client();
    client.send("POST /send?q=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    let id = upstream.request(1).field("x-request-id").unwrap();
    drop(client);
    insta::assert_snapshot!(settled(&why(&fender, &id)));
}

#[test]
fn exhausted() {
    let upstream = always("503 Busy");
    let lines = "retry = { max_attempts = 3, backoff = { base = \"20ms\", jitter = \"none\" } }";
    let fender = with(&upstream.as_api(lines)).start();
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "exhausted"));
}

#[test]
fn the_callers_own_fault() {
    let fender = with(&always("404 Not Found").as_api("")).start();
    let answer = fender.get("/no-such-thing");
    assert_eq!(answer.status(), 404);
    insta::assert_snapshot!(settled(&why(&fender, &id_of(&answer))));
}

#[test]
fn a_spent_budget() {
    let upstream = always("503 Busy");
    let lines = "retry = { budget = { ratio = 0.1, min_per_second = 0.1, window = \"10s\" }, backoff = { base = \"1ms\" } }\n\
                 breaker.enabled = false";
    let fender = with(&upstream.as_api(lines)).start();
    assert_eq!(fender.get("/").status(), 503);
    insta::assert_snapshot!(of(&fender, &fender.get("/"), "exhausted"));
}

#[test]
fn a_retry_that_does_well() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after-ms: 30", "200 OK"]);
    let lines = "retry.backoff = { base = \"1ms\", jitter = \"none\" }\nthrottle.adapt = false";
    let fender = with(&upstream.as_api(lines)).start();
    let answer = fender.post("/", "", b"x");
    assert_eq!(answer.status(), 200);
    insta::assert_snapshot!(settled(&why(&fender, &id_of(&answer))));
}

#[test]
fn fallbacks() {
    let upstream = always("503 Busy");
    let other = Upstream::ok("other");
    let lines = format!(
        "retry.max_attempts = 1\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"other\"\n\
         [[upstream.api.fallback]]\non = [\"exhausted\"]\nresponse = {{ status = 200, body = \"words\" }}\n\
         [upstream.other]\nurl = \"{}\"\n",
        other.url()
    );
    let fender = with(&upstream.as_api(&lines)).start();
    let answer = fender.get("/");
    assert_eq!(answer.field("fender-fallback"), "other");
    insta::assert_snapshot!("fallback_to_another_upstream", of(&fender, &answer, "exhausted"));
    let answer = fender.post("/", "", b"x");
    assert_eq!(answer.field("fender-fallback"), "response");
    insta::assert_snapshot!("fallback_to_fixed_words", of(&fender, &answer, "exhausted"));
}

#[test]
fn an_answer_that_is_cut() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        connection.close();
    });
    let fender = with(&upstream.as_api("")).start();
    let answer = fender.post("/", "", b"x");
    assert_eq!(answer.status(), 200);
    insta::assert_snapshot!(settled(&why(&fender, &id_of(&answer))));
}

#[test]
fn waits_in_line() {
    let upstream = Upstream::in_turn(&["200 OK"]);
    let lines = "[[upstream.api.rate_limit]]\nrequests = 5\nper = \"1s\"\nburst = 1\nmax_wait = \"1s\"";
    let fender = with(&upstream.as_api(lines)).start();
    assert_eq!(fender.get("/").status(), 200);
    let answer = fender.get("/");
    assert_eq!(answer.status(), 200);
    insta::assert_snapshot!(settled(&why(&fender, &id_of(&answer))));
}

#[test]
fn a_plain_success_is_not_kept_and_it_says_so() {
    let fender = with(&Upstream::ok("ok").as_api("")).start();
    let plain = fender.get("/");
    // What comes after it is there: so would the plain one be.
    let other = fender.post("/", "fender-timeout: soon\r\n", b"");
    why(&fender, &id_of(&other));
    let output = super::asked(&fender, &id_of(&plain), super::OPS, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("404 Not Found: no story of that id") && said.contains("no plain successes"),
        "{said}"
    );
    let wrong = super::asked(&fender, "nonsense", super::OPS, &[]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nhalf");
        connection.until_closed();
    });
    let fender = with(&upstream.as_api("")).start();
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let id = client.head().expect("its head comes").field("fender-request-id").unwrap();
    drop(client);
    let page = settled(&why(&fender, &id));
    assert!(page.contains("the client hung up"), "{page}");
}
