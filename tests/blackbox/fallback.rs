//! Who answers when the upstream cannot.

use std::time::Duration;

use crate::support::{Fender, Setup, Upstream, eventually};

const ONCE: &str = "retry = { max_attempts = 1 }";

fn two(first: &Upstream, lines: &str, second: &Upstream, more: &str) -> Fender {
    let second = format!("[upstream.other]\nurl = \"{}\"\n{more}", second.url());
    Setup::new(format!("{}\n{second}", first.as_api(lines))).start()
}

#[test]
fn another_upstream_answers_under_its_own_name_path_and_credentials() {
    let (first, second) = (Upstream::in_turn(&["503 Busy"]), Upstream::ok("from the other"));
    let lines = format!(
        "{ONCE}\nheaders.set = {{ x-first = \"mine\" }}\ndead_letter.redact = [\"x-session\"]\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"other\"\n\
         path = \"/v2/{{rest}}\"\njson = {{ \"/model\" = \"small\", \"/n\" = 2 }}"
    );
    let fender =
        two(&first, &lines, &second, "idempotent = \"yes\"\nheaders.set = { x-api-key = \"theirs\" }");
    let credentials = "authorization: Bearer clients\r\ncookie: a=b\r\nx-keep: yes\r\nidempotency-key: k\r\n\
                       x-session: secret\r\nx-first: clients\r\n";
    let answer = fender.post("/chat?q=1", credentials, br#"{"model":"big","deep":1.50}"#);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "from the other"));
    assert_eq!(
        [answer.field("fender-fallback"), answer.field("fender-reason"), answer.field("fender-attempts")],
        ["other", "exhausted", "2"]
    );
    let received = second.request(1);
    assert_eq!(received.head.target(), "/v2/chat?q=1");
    assert_eq!(received.text(), r#"{"model":"small","deep":1.50,"n":2}"#);
    assert_eq!(received.field("authorization"), None);
    assert_eq!(received.field("cookie"), None);
    assert_eq!(received.field("x-first"), None);
    assert_eq!(received.field("x-session"), None, "what is redacted is a credential too");
    assert_eq!(received.field("x-api-key").as_deref(), Some("theirs"));
    assert_eq!(received.field("x-keep").as_deref(), Some("yes"));
    assert_eq!(fender.metric("fender_fallback_total", &[("upstream", "api"), ("kind", "upstream")]), 1.0);
    assert_eq!(fender.metric("fender_requests_total", &[("upstream", "api"), ("source", "fallback")]), 1.0);
    assert_eq!(fender.metric("fender_attempts_total", &[("upstream", "other"), ("outcome", "success")]), 1.0);
}

#[test]
fn an_ambiguous_write_never_falls_back_to_an_upstream() {
    let (first, second) = (Upstream::in_turn(&["500 Oops"]), Upstream::ok("twice"));
    let lines =
        format!("{ONCE}\n[[upstream.api.fallback]]\non = [\"exhausted\", \"5xx\"]\nupstream = \"other\"");
    let fender = two(&first, &lines, &second, "");
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.text().as_str()), (500, "answer 1"));
    assert!(second.requests().is_empty());
    assert_eq!(fender.get("/").text(), "twice");
}

#[test]
fn an_open_breaker_sends_all_to_the_other_and_nothing_to_the_sick_one() {
    let (first, second) = (Upstream::in_turn(&["500 Oops"]), Upstream::ok("other"));
    let lines = format!(
        "{ONCE}\nbreaker = {{ consecutive_failures = 1, open_for = \"60s\" }}\n\
         [[upstream.api.fallback]]\non = [\"breaker_open\"]\nupstream = \"other\""
    );
    let fender = two(&first, &lines, &second, "");
    assert_eq!(fender.get("/").status(), 500, "its own failure is no open breaker");
    for _ in 0..3 {
        let answer = fender.post("/", "", b"never sent to the sick one");
        assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (200, "breaker_open"));
    }
    assert_eq!((first.requests().len(), second.requests().len()), (1, 3));
}

#[test]
fn fixed_words_answer_when_the_other_fails_too() {
    let (first, second) = (Upstream::in_turn(&["503 Busy"]), Upstream::in_turn(&["500 Oops"]));
    let lines = format!(
        "{ONCE}\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"other\"\n\
         [[upstream.api.fallback]]\non = [\"exhausted\"]\n\
         response = {{ status = 203, headers = {{ content-type = \"text/plain\" }}, body = \"sorry\" }}"
    );
    let fender = two(&first, &lines, &second, ONCE);
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (203, "sorry"));
    assert_eq!(
        [answer.field("content-type"), answer.field("fender-fallback"), answer.field("fender-reason")],
        ["text/plain", "response", "exhausted"]
    );
    assert_eq!(second.requests().len(), 1);
}

#[test]
fn where_no_fallback_fits_the_first_failure_is_the_answer() {
    let (first, second) = (Upstream::in_turn(&["503 Busy"]), Upstream::in_turn(&["500 Oops"]));
    let lines = format!("{ONCE}\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"other\"");
    let fender = two(&first, &lines, &second, ONCE);
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (503, "answer 1"));
    assert_eq!(answer.field("fender-fallback"), "");
}

#[test]
fn the_others_fallback_is_followed_too() {
    let (first, second) = (Upstream::in_turn(&["503 Busy"]), Upstream::in_turn(&["500 Oops"]));
    let third = Upstream::ok("third");
    let lines = format!("{ONCE}\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"other\"");
    let more = format!(
        "{ONCE}\n[[upstream.other.fallback]]\non = [\"5xx\"]\nupstream = \"third\"\n\
         [upstream.third]\nurl = \"{}\"",
        third.url()
    );
    let fender = two(&first, &lines, &second, &more);
    let answer = fender.get("/");
    assert_eq!((answer.text().as_str(), answer.field("fender-fallback").as_str()), ("third", "third"));
    assert_eq!(answer.field("fender-attempts"), "3");
}

#[test]
fn a_client_may_forbid_fallbacks() {
    let first = Upstream::in_turn(&["503 Busy"]);
    let lines = format!(
        "{ONCE}\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nresponse = {{ status = 200, body = \"sorry\" }}"
    );
    let fender = Fender::start(first.as_api(&lines));
    assert_eq!(fender.client().request("GET", "/", "fender-policy: no-fallback\r\n", b"").status(), 503);
    assert_eq!(fender.get("/").text(), "sorry");
}

#[test]
fn each_cause_has_its_word() {
    let words = |on: &str| {
        format!(
            "{ONCE}\n[[upstream.api.fallback]]\non = [\"{on}\"]\nresponse = {{ status = 200, body = \"sorry\" }}"
        )
    };
    let dead =
        format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\n{}", Upstream::nobody(), words("connect"));
    assert_eq!(Fender::start(dead).get("/").field("fender-reason"), "connect");
    for (answer, on, reason) in [
        ("429 Slow", "throttled", "exhausted"),
        ("402 Pay", "quota", "quota"),
        ("503 Busy", "5xx", "exhausted"),
    ] {
        let upstream = Upstream::in_turn(&[answer]);
        let answer = Fender::start(upstream.as_api(&words(on))).get("/");
        assert_eq!(
            (answer.text().as_str(), answer.field("fender-reason").as_str()),
            ("sorry", reason),
            "{on}"
        );
    }
    let silent = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let lines = format!("timeout = {{ attempt = \"200ms\" }}\n{}", words("timeout"));
    assert_eq!(Fender::start(silent.as_api(&lines)).get("/").field("fender-reason"), "timeout");
    let broken = Upstream::scripted(|connection| {
        connection.request();
    });
    assert_eq!(Fender::start(broken.as_api(&words("reset"))).get("/").field("fender-reason"), "reset");
}

#[test]
fn the_last_good_answer_serves_the_same_caller_alone_and_shows_its_age() {
    let upstream = Upstream::in_turn(&[
        "200 OK\netag: \"1\"\nvary: x-tone\nset-cookie: s=1\nage: 5",
        "200 OK\ncache-control: no-store",
        "500 Oops",
    ]);
    let lines = format!(
        "{ONCE}\nbreaker = {{ enabled = false }}\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nstale = \"10m\""
    );
    let fender = Fender::start(upstream.as_api(&lines));
    let ask = |path: &str, fields: &str| {
        fender.client().request("GET", path, &format!("authorization: Bearer a\r\n{fields}"), b"")
    };
    assert_eq!(ask("/x?1", "x-tone: low\r\n").status(), 200);
    assert_eq!(ask("/kept-nowhere", "").status(), 200);
    let again = ask("/x?1", "x-tone: low\r\n");
    assert_eq!((again.status(), again.text().as_str()), (200, "answer 1"));
    assert_eq!(
        [again.field("fender-fallback"), again.field("fender-reason"), again.field("etag")],
        ["stale", "exhausted", "\"1\""]
    );
    assert!(again.field("age").parse::<u64>().unwrap() >= 5);
    assert_eq!(again.field("set-cookie"), "");
    for (path, fields) in [("/x?2", "x-tone: low\r\n"), ("/x?1", "x-tone: high\r\n"), ("/kept-nowhere", "")] {
        assert_eq!(ask(path, fields).status(), 500, "{path} {fields}");
    }
    let tenant = ask("/x?1", "x-tone: low\r\nx-tenant: another\r\n");
    assert_eq!(tenant.status(), 500, "any field may tell callers apart");
    let other = fender.client().request("GET", "/x?1", "authorization: Bearer b\r\nx-tone: low\r\n", b"");
    assert_eq!(other.status(), 500, "another caller's answer is another's");
    assert_eq!(
        fender.client().request("POST", "/x?1", "authorization: Bearer a\r\nx-tone: low\r\n", b"").status(),
        500
    );
    assert!(fender.metric("fender_buffer_bytes", &[]) > 0.0);
}

#[test]
fn at_a_degradation_level_an_upstream_is_shed() {
    let (sick, well) = (Upstream::in_turn(&["500 Oops"]), Upstream::ok("fine"));
    let lines = format!("{ONCE}\nbreaker = {{ consecutive_failures = 1, open_for = \"60s\" }}");
    let more = "route = \"/other\"\ncriticality = \"low\"\nshed_at = \"moderate\"\n";
    let fender = two(&sick, &lines, &well, more);
    assert_eq!(fender.get("/other/").status(), 200);
    assert_eq!(fender.get("/").status(), 500);
    eventually("the level", || fender.metric("fender_degradation_level", &[]) >= 2.0);
    let shed = fender.get("/other/");
    shed.is_problem(503, "degraded");
    assert_eq!(shed.field("retry-after"), "5");
    let health = fender.admin_get("/health").json();
    assert_ne!(health["level"], "normal");
    assert_eq!(health["upstreams"]["api"], "unhealthy");
    std::thread::sleep(Duration::ZERO);
}
