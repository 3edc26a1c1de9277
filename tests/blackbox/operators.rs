//! The admin API: who may do what, what it does, and what it makes of nonsense.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::letters::keeping;
use crate::support::{Client, Fender, Response, Setup, Upstream, eventually};

/// All that the matrix has: each role, bounded and not.
const TOKENS: &str = "[[admin.token]]\nname = \"eyes-of-one\"\nrole = \"viewer\"\nsecret = \"eyes-of-one\"\nupstreams = [\"other\"]\n\
    [[admin.token]]\nname = \"hands-of-one\"\nrole = \"operator\"\nsecret = \"hands-of-one\"\nupstreams = [\"other\"]\n";

const OPS: &str = "operators-secret";
const EYES: &str = "viewers-secret";

fn ask(fender: &Fender, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Response {
    let bearer = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let length = if body.is_empty() { "content-length: 0\r\n" } else { "" };
    Client::connect(fender.admin()).request(method, path, &format!("{length}{bearer}"), body)
}

fn told(fender: &Fender, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = ask(fender, method, path, Some(OPS), &body);
    assert!(answer.status() < 300, "{method} {path}: {} {}", answer.status(), answer.text());
    answer.json()
}

fn get(fender: &Fender, path: &str) -> Value {
    told(fender, "GET", path, &Value::Null)
}

/// One upstream that answers 200, and the other that nobody answers for.
fn two() -> (Fender, Upstream, tempfile::TempDir) {
    let upstream = Upstream::ok("ok");
    let (setup, folder) =
        keeping(&upstream.as_api("dead_letter.mode = \"on_failure\"\nshed_at = \"severe\""));
    (setup.admin(TOKENS).start(), upstream, folder)
}

/// A call of the description, with something in place of its parameters.
struct Call {
    method: String,
    template: String,
    role: String,
}

impl Call {
    fn path(&self, name: &str) -> String {
        self.template.replace("{name}", name).replace("{id}", "00000000000000000000000000")
    }
}

fn described(fender: &Fender) -> Vec<Call> {
    let document = get(fender, "/api/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let of = |(template, methods): (&String, &Value)| -> Vec<Call> {
        let methods = methods.as_object().expect("methods");
        let call = |(method, operation): (&String, &Value)| Call {
            method: method.to_uppercase(),
            template: template.clone(),
            role: operation["x-fender-role"].as_str().expect("each call has a rule").to_owned(),
        };
        methods.iter().map(call).collect()
    };
    paths.iter().flat_map(of).collect()
}

/// Of the contract, each call is there, under its rule.
#[test]
fn the_description_has_every_call_of_the_contract() {
    let (fender, _upstream, _folder) = two();
    let have: Vec<String> = described(&fender)
        .iter()
        .map(|call| format!("{} {}: {}", call.method, call.template, call.role))
        .collect();
    insta::assert_snapshot!("calls", have.join("\n"));
}

/// Whoever may not is told so before anything is done; whoever may is not. Every call, every kind of token.
#[test]
fn every_call_asks_who_calls() {
    let (fender, _upstream, _folder) = two();
    // The last one ends the process: it is tried last.
    let mut calls = described(&fender);
    calls.sort_by_key(|call| call.template == "/api/v1/quit");
    for call in &calls {
        let path = call.path("other");
        let status = |token| match (call.template.as_str(), token) {
            // Whoever may follow it would follow it for ever.
            ("/api/v1/events", Some(secret)) if secret != "wrong" => head_only(&fender, &path, secret),
            _ => ask(&fender, &call.method, &path, token, b"").status(),
        };
        let what = format!("{} {path} ({})", call.method, call.role);
        if call.role == "open" {
            assert!(status(None) < 300, "{what}");
            continue;
        }
        assert_eq!((status(None), status(Some("wrong"))), (401, 401), "{what}");
        let (operates, all) = (call.role.starts_with("operator"), call.role.ends_with("of all upstreams"));
        for (token, operator, bounded) in [
            ("eyes-of-one", false, true),
            (EYES, false, false),
            ("hands-of-one", true, true),
            (OPS, true, false),
        ] {
            let may = (operator || !operates) && !(bounded && all);
            let got = status(Some(token));
            assert_eq!(got != 403, may, "{what} as {token}: {got}");
            assert!(![401, 500].contains(&got), "{what} as {token}: {got}");
        }
    }
    assert!(fender.wait_exit(Duration::from_secs(20)).success(), "the last call was to quit");
}

fn head_only(fender: &Fender, path: &str, token: &str) -> u16 {
    let mut client = Client::connect(fender.admin());
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"));
    client.head().expect("an answer").status()
}

/// An upstream that is not the token's is refused whether it is there or not.
#[test]
fn a_bounded_token_sees_its_own_alone() {
    let (fender, _upstream, _folder) = two();
    for call in described(&fender).iter().filter(|call| call.template.contains("{name}")) {
        for (name, own, whole) in [("other", 200, 200), ("api", 403, 200), ("nowhere", 403, 404)] {
            let path = call.path(name);
            let status = |token| ask(&fender, &call.method, &path, Some(token), b"").status();
            assert_eq!((status("hands-of-one"), status(OPS)), (own, whole), "{} {path}", call.method);
        }
    }
    for (path, list) in [
        ("/api/v1/upstreams", "upstreams"),
        ("/api/v1/breakers", "breakers"),
        ("/api/v1/overview", "upstreams"),
        ("/api/v1/degradation", "upstreams"),
    ] {
        let seen = ask(&fender, "GET", path, Some("eyes-of-one"), b"").json();
        assert_eq!(seen[list].as_array().expect(path).len(), 1, "{path}: {seen}");
        assert!(!seen.to_string().contains("\"api\""), "{path}: {seen}");
        assert_eq!(get(&fender, path)[list].as_array().expect(path).len(), 2, "{path}");
    }
}

#[test]
fn the_public_listener_has_the_four_open_paths_and_nothing_else() {
    let upstream = Upstream::ok("ok");
    let (setup, _folder) = keeping(&upstream.as_api(""));
    let fender = setup.admin_first("public_listen = \"127.0.0.1:0\"").start();
    let open = ["/metrics", "/health/live", "/health/ready", "/health/startup"];
    for call in described(&fender) {
        let path = call.path("api");
        let bearer = format!("authorization: Bearer {OPS}\r\n");
        let answer = Client::connect(fender.public()).request(&call.method, &path, &bearer, b"");
        let wanted = if open.contains(&path.as_str()) { 200 } else { 404 };
        assert_eq!(answer.status(), wanted, "{} {path}", call.method);
    }
}

/// Nonsense is refused, told as a problem, and hurts nobody.
#[test]
fn no_call_falls_over_hostile_input() {
    let (fender, _upstream, _folder) = two();
    let large = vec![b'['; 70_000];
    let deep = "[".repeat(20_000).into_bytes();
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\"\xff\xfe\"",
        b"{\"filter\":{\"state\":\"\\u0000\"},\"limit\":-1}",
        b"{\"level\":\"normal\",\"level\":\"critical\",\"for\":\"99999999999999999999d\"}",
        &large,
        &deep,
    ];
    let queries = [
        "",
        "?",
        "?limit=-1&limit=5",
        "?limit=99999999999999999999&cursor=%00&state=%ff",
        "?since=9999-99-99T99:99:99Z&until=1e308",
        "?%00=%00&route=%ff&types=%0a%0d&last-event-id=%0aevent:x",
    ];
    let names = ["..%2f..%2fetc", "%00", "%ff%fe", &"x".repeat(5_000), "api%20", "'%3bdrop%20table"];
    for call in described(&fender)
        .iter()
        .filter(|call| !["/api/v1/quit", "/api/v1/events"].contains(&call.template.as_str()))
    {
        let mut tried = Vec::new();
        tried.extend(bodies.iter().map(|body| (call.path("api"), *body)));
        tried.extend(queries.iter().map(|query| (format!("{}{query}", call.path("api")), &b""[..])));
        if call.template.contains('{') {
            let filled = |name: &&str| call.template.replace("{name}", name).replace("{id}", name);
            tried.extend(names.iter().map(|name| (filled(name), &b""[..])));
        }
        for (path, body) in tried {
            let answer = ask(&fender, &call.method, &path, Some(OPS), body);
            let what = format!(
                "{} {:.80} {:.40?}: {}",
                call.method,
                path,
                String::from_utf8_lossy(body),
                answer.status()
            );
            assert!(answer.status() < 500, "{what}");
            if answer.status() >= 400 {
                assert_eq!(answer.field("content-type"), "application/problem+json", "{what}");
                let problem = answer.json();
                assert_eq!(problem["status"], answer.status(), "{what}");
                assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}");
            }
        }
    }
    for query in queries {
        let path = format!("/api/v1/events{query}");
        assert!([200, 400].contains(&head_only(&fender, &path, OPS)), "{path}");
    }
    assert_eq!(fender.admin_get("/health/ready").status(), 200);
    assert!(!fender.log().contains("panic"), "{}", fender.log());
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let (fender, _upstream, _folder) = two();
    let mut client = Client::connect(fender.admin());
    client.send(format!(
        "POST /api/v1/letters/replay HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {OPS}\r\ncontent-length: 1000000000\r\n\r\n"
    ));
    assert_eq!(client.response("POST").status(), 413);
}

#[test]
fn wrong_tokens_are_limited_and_right_ones_are_not() {
    let (fender, _upstream, _folder) = two();
    let status = |token: &str| ask(&fender, "GET", "/api/v1/overview", Some(token), b"").status();
    for _ in 0..300 {
        assert_eq!(status(OPS), 200);
    }
    // No token is no guess.
    for _ in 0..300 {
        assert_eq!(ask(&fender, "GET", "/api/v1/overview", None, b"").status(), 401);
    }
    let statuses: Vec<u16> = (0..400).map(|number| status(&format!("guess-{number}"))).collect();
    assert!(statuses.iter().take(100).all(|status| *status == 401), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    // The right one among the guesses is not told from the wrong ones then.
    let refused = ask(&fender, "GET", "/api/v1/overview", Some(OPS), b"");
    if refused.status() == 429 {
        assert!(refused.field("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    }
    assert_eq!(fender.admin_get("/health/ready").status(), 200, "probes have no token");
    eventually("it ends by itself", || status(OPS) == 200);
}

#[test]
fn each_act_is_a_line_of_the_audit() {
    let (fender, _upstream, _folder) = two();
    told(&fender, "PUT", "/api/v1/degradation", &json!({"level": "minor", "reason": "drill", "for": "1h"}));
    told(&fender, "DELETE", "/api/v1/degradation", &Value::Null);
    for word in ["force-open", "force-close", "auto", "reset"] {
        told(&fender, "POST", &format!("/api/v1/breakers/api/{word}"), &Value::Null);
    }
    told(&fender, "PUT", "/api/v1/log-level", &json!({"level": "info"}));
    told(&fender, "POST", "/api/v1/config/reload", &Value::Null);
    told(&fender, "POST", "/api/v1/letters/replay", &Value::Null);
    for what in [
        "degradation.set",
        "degradation.clear",
        "breaker.force_open",
        "breaker.force_close",
        "breaker.auto",
        "breaker.reset",
        "log.level",
        "config.reload",
        "letters.replay",
    ] {
        let line = fender.logged_where(what, |line| line["message"] == "audit" && line["what"] == what);
        assert_eq!((line["who"].as_str(), line["done"].as_bool()), (Some("ops"), Some(true)), "{line}");
    }
    ask(&fender, "POST", "/api/v1/quit", Some(EYES), b"");
    let line = fender.logged_where("a refusal", |line| line["message"] == "audit: refused");
    assert_eq!((line["who"].as_str(), line["path"].as_str()), (Some("eyes"), Some("/api/v1/quit")), "{line}");
}

/// Fails with 500 until it is told to be well.
fn failing(lines: &str) -> (Fender, Arc<AtomicBool>, Upstream) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "500 Oops" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let setup = Setup::new(upstream.as_api(lines)).admin(super::letters::TOKENS_OF_ALL);
    (setup.start(), well, upstream)
}

#[test]
fn breakers_obey_their_operator() {
    let lines = "retry.max_attempts = 1\nbreaker = { consecutive_failures = 3, open_for = \"1h\", max_open_for = \"1h\" }";
    let (fender, well, upstream) = failing(lines);
    let say = |word: &str| told(&fender, "POST", &format!("/api/v1/breakers/api/{word}"), &Value::Null);
    let shown = |state: &str| {
        let labels = [("upstream", "api"), ("route", ""), ("state", state)];
        let all = get(&fender, "/api/v1/breakers")["breakers"][0]["state"] == state;
        let one = get(&fender, "/api/v1/breakers/api")["state"] == state;
        let open = fender.admin_get("/health/breakers").json()["breakers"][0]["state"] == state;
        all && one && open && fender.metric("fender_breaker_state", &labels) == 1.0
    };
    // Failures do not open one that is forced closed.
    assert_eq!(say("force-close")["state"], "forced_closed");
    for _ in 0..10 {
        assert_eq!(fender.get("/").status(), 500);
    }
    assert!(shown("forced_closed"));
    // By itself again, it opens as it should.
    say("auto");
    for _ in 0..3 {
        assert_eq!(fender.get("/").status(), 500);
    }
    fender.get("/").is_problem(503, "breaker_open");
    assert!(shown("open"));
    assert_eq!(fender.admin_get("/health").json()["upstreams"]["api"], "unhealthy");
    // Closed long before its time, with nothing counted.
    well.store(true, Ordering::SeqCst);
    let after = say("reset");
    assert_eq!((after["state"].as_str(), after["calls"].as_u64()), (Some("closed"), Some(0)), "{after}");
    assert_eq!(fender.get("/").status(), 200);
    // Open though all is well, over a reload too.
    say("force-open");
    fender.get("/").is_problem(503, "breaker_open");
    told(&fender, "POST", "/api/v1/config/reload", &Value::Null);
    let before = upstream.requests().len();
    fender.get("/").is_problem(503, "breaker_open");
    assert!(shown("forced_open"));
    assert_eq!(upstream.requests().len(), before);
    say("auto");
    assert_eq!(fender.get("/").status(), 200);
    assert!(shown("closed"));
}

#[test]
fn a_word_may_be_for_one_route_alone() {
    let upstream = Upstream::ok("ok");
    let routes = "[[route]]\npath = \"/own\"\nname = \"own\"\nupstream = \"api\"\nstrip_prefix = false\nbreaker.consecutive_failures = 2";
    let fender =
        Setup::new(format!("{}\n{routes}", upstream.as_api(""))).admin(super::letters::TOKENS_OF_ALL).start();
    let say = |path: &str| ask(&fender, "POST", &format!("/api/v1/breakers/api/{path}"), Some(OPS), b"");
    let both = || (fender.get("/").status(), fender.get("/own").status());
    assert_eq!(both(), (200, 200));
    assert_eq!(say("force-open?route=own").json()["routes"][0]["state"], "forced_open");
    assert_eq!(both(), (200, 503));
    assert_eq!(say("force-open?route=").json()["state"], "forced_open");
    assert_eq!(both(), (503, 503));
    assert_eq!(say("auto").status(), 200);
    assert_eq!(both(), (200, 200));
    assert_eq!(say("reset?route=none").status(), 404);
    assert_eq!(say("reset?rote=own").status(), 400);
}

/// A word that would not be obeyed is refused, not swallowed.
#[test]
fn a_breaker_that_is_off_or_only_watches_takes_no_word() {
    for (mode, word) in [("enabled = false", "switched off"), ("observe = true", "observes")] {
        let upstream = Upstream::ok("ok");
        let setup =
            Setup::new(upstream.as_api(&format!("breaker.{mode}"))).admin(super::letters::TOKENS_OF_ALL);
        let fender = setup.start();
        let answer = ask(&fender, "POST", "/api/v1/breakers/api/force-open", Some(OPS), b"");
        assert_eq!(answer.status(), 409);
        assert!(answer.text().contains(word), "{}", answer.text());
        assert_eq!(fender.get("/").status(), 200);
    }
}

#[test]
fn the_level_may_be_set_by_hand_for_a_while() {
    let (fender, _upstream, _folder) = two();
    let level = || fender.metric("fender_degradation_level", &[]);
    assert_eq!(fender.get("/").status(), 200);
    let body = json!({"level": "severe", "reason": "the bank is closed", "for": "1h"});
    let set = told(&fender, "PUT", "/api/v1/degradation", &body);
    assert_eq!((set["level"].as_str(), set["automatic"].as_str()), (Some("severe"), Some("normal")), "{set}");
    assert_eq!(
        (set["by_hand"]["who"].as_str(), set["by_hand"]["reason"].as_str()),
        (Some("ops"), Some("the bank is closed"))
    );
    assert_eq!(level(), 3.0);
    // In force at once: what is shed at severe is shed.
    fender.get("/").is_problem(503, "degraded");
    assert_eq!(fender.admin_get("/health").json()["level"], "severe");
    told(&fender, "POST", "/api/v1/config/reload", &Value::Null);
    fender.get("/").is_problem(503, "degraded");
    let cleared = told(&fender, "DELETE", "/api/v1/degradation", &Value::Null);
    assert_eq!(
        (cleared["level"].as_str(), cleared["by_hand"].is_null()),
        (Some("normal"), true),
        "{cleared}"
    );
    assert_eq!(fender.get("/").status(), 200);
    // It ends by itself.
    told(&fender, "PUT", "/api/v1/degradation", &json!({"level": "critical", "for": "300ms"}));
    assert_eq!(level(), 4.0);
    eventually("its time is over", || level() == 0.0 && fender.get("/").status() == 200);
    assert!(get(&fender, "/api/v1/degradation")["by_hand"].is_null());
    for wrong in [
        json!({}),
        json!({"level": "awful"}),
        json!({"level": "minor", "for": "soon"}),
        json!({"level": "minor", "for": "31d"}),
        json!({"level": "minor", "for": "0s"}),
        json!({"level": "minor", "reason": "x".repeat(501)}),
        json!({"level": "minor", "until": "tomorrow"}),
    ] {
        let answer = ask(&fender, "PUT", "/api/v1/degradation", Some(OPS), wrong.to_string().as_bytes());
        assert_eq!(answer.status(), 400, "{wrong}");
    }
    assert_eq!(level(), 0.0);
}

#[test]
fn the_config_in_force_is_shown_without_secrets() {
    const SECRET: &str = "s3cret-of-the-test";
    let upstream = Upstream::ok("ok");
    let lines = "retry.max_attempts = 7\n[upstream.api.headers]\nset = { authorization = \"Bearer ${env:TEST_SECRET}\", x-plain = \"s3cret-of-the-test\" }\n\
        [upstream.bot]\nurl = \"http://127.0.0.1:9/bot123456789:s3cret-of-the-test/send\"\n";
    let fender = Setup::new(upstream.as_api(lines))
        .admin(super::letters::TOKENS_OF_ALL)
        .environment("TEST_SECRET", SECRET)
        .start();
    let config = get(&fender, "/api/v1/config");
    assert_eq!(config["upstream"]["api"]["retry"]["max_attempts"], 7);
    assert_eq!(config["upstream"]["api"]["timeout"]["attempt"], "15s", "defaults are in force too");
    assert_eq!(config["upstream"]["api"]["headers"]["set"]["authorization"], "(hidden)${env:TEST_SECRET}");
    let whole = [
        config,
        get(&fender, "/api/v1/upstreams/api"),
        get(&fender, "/api/v1/upstreams/bot"),
        get(&fender, "/api/v1/overview"),
    ];
    for text in whole.map(|value| value.to_string()) {
        for secret in [SECRET, OPS, EYES] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(ask(&fender, "GET", "/api/v1/config", Some(EYES), b"").status(), 200);
}

#[test]
fn an_upstream_is_shown_whole() {
    let (fender, _upstream, _folder) = two();
    for _ in 0..3 {
        assert_eq!(fender.get("/").status(), 200);
    }
    eventually("three are counted", || get(&fender, "/api/v1/upstreams/api")["attempts"]["success"] == 3);
    let seen = get(&fender, "/api/v1/upstreams/api");
    assert_eq!(seen["policies"]["retry"]["max_attempts"], 3, "{seen}");
    assert_eq!(seen["routes"][0]["path"], "/", "{seen}");
    assert_eq!(seen["endpoints"].as_array().map(Vec::len), Some(1), "{seen}");
    assert_eq!(seen["breakers"][0]["state"], "closed", "{seen}");
    assert_eq!(
        (seen["status"].as_str(), seen["concurrency_limit"].as_u64()),
        (Some("healthy"), Some(256)),
        "{seen}"
    );
    let overview = fender.admin_get("/health/detailed").json();
    assert_eq!(
        (overview["phase"].as_str(), overview["status"].as_str()),
        (Some("serving"), Some("healthy")),
        "{overview}"
    );
    assert_eq!(overview["dead_letters"]["by_state"]["pending"], 0, "{overview}");
}

#[test]
fn the_log_tells_more_when_it_is_asked_to() {
    let upstream = Upstream::ok("ok");
    let lines = "rate_limit = [{ requests = 1, per = \"1h\" }]";
    let fender = Setup::new(upstream.as_api(lines)).admin(super::letters::TOKENS_OF_ALL).start();
    fender.get("/");
    fender.get("/").is_problem(429, "rate_limited");
    assert!(!fender.log().contains("\"DEBUG\""), "{}", fender.log());
    assert_eq!(told(&fender, "PUT", "/api/v1/log-level", &json!({"level": "debug"}))["level"], "debug");
    fender.get("/").is_problem(429, "rate_limited");
    fender.logged_where("the refusal", |line| line["message"] == "refused");
    assert_eq!(get(&fender, "/api/v1/log-level")["level"], "debug");
    for wrong in ["loud", "fender=loud", "", "info,", "[span]=info", "info\n"] {
        let body = json!({ "level": wrong }).to_string();
        assert_eq!(
            ask(&fender, "PUT", "/api/v1/log-level", Some(OPS), body.as_bytes()).status(),
            400,
            "{wrong:?}"
        );
    }
}

#[test]
fn quit_drains_and_ends_well() {
    let upstream = Upstream::ok("ok");
    let setup = Setup::new(upstream.as_api(""))
        .server("drain_quiet = \"100ms\"")
        .admin(super::letters::TOKENS_OF_ALL);
    let fender = setup.start();
    let start = Instant::now();
    let answer = ask(&fender, "POST", "/api/v1/quit", Some(OPS), b"");
    assert_eq!(
        (answer.status(), answer.json()["status"].as_str().map(str::to_owned)),
        (202, Some("draining".to_owned()))
    );
    assert!(fender.wait_exit(Duration::from_secs(10)).success());
    assert!(start.elapsed() < Duration::from_secs(8));
}

/// Nobody means all by a list, by nothing, or by a filter in the wrong place.
#[test]
fn a_bulk_call_that_does_not_say_which_does_nothing() {
    let (fender, _upstream, _folder) = two();
    assert_eq!(fender.post("/other-none", "", b"x").status(), 200);
    for (path, body) in [
        ("/api/v1/letters/discard", ""),
        ("/api/v1/letters/discard", "{}"),
        ("/api/v1/letters/discard", "[]"),
        ("/api/v1/letters/discard", "{\"filter\":[]}"),
        ("/api/v1/letters/discard?state=parked", "{\"filter\":{}}"),
        ("/api/v1/letters/replay", "[]"),
        ("/api/v1/letters/purge", "[{},1]"),
        ("/api/v1/letters/replay?upstream=api", ""),
    ] {
        let answer = ask(&fender, "POST", path, Some(OPS), body.as_bytes());
        assert_eq!(answer.status(), 400, "{path} {body}: {}", answer.text());
    }
    for (path, body) in
        [("/api/v1/log-level", "[\"info\"]"), ("/api/v1/degradation", "[\"severe\",\"x\",\"1m\"]")]
    {
        assert_eq!(ask(&fender, "PUT", path, Some(OPS), body.as_bytes()).status(), 400, "{path}");
    }
    assert_eq!(ask(&fender, "POST", "/api/v1/letters/discard", Some(OPS), b"{\"filter\":{}}").status(), 200);
}

/// What has been begun is done and told, though its caller has gone.
#[test]
fn an_act_is_audited_though_its_caller_hangs_up() {
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let (setup, _folder) =
        keeping(&upstream.as_api("dead_letter.mode = \"on_failure\"\nbreaker.enabled = false"));
    let fender = setup.start();
    let ids: Vec<String> = (0..20).map(|_| fender.post("/", "", b"x").field("fender-letter")).collect();
    for id in &ids {
        let mut client = Client::connect(fender.admin());
        client.send(format!(
            "POST /api/v1/letters/{id}/discard HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {OPS}\r\ncontent-length: 0\r\n\r\n"
        ));
        drop(client);
    }
    let discarded = || {
        let stats = get(&fender, "/api/v1/letters/stats");
        stats["by_state"]["discarded"].as_u64().unwrap_or(0)
    };
    // A call that had not been read when its caller left is not begun; each that was is told.
    eventually("all that was begun is told", || {
        let log = fender.log();
        let told = ids.iter().filter(|id| {
            log.lines().any(|line| line.contains("\"letters.discard\"") && line.contains(id.as_str()))
        });
        told.count() as u64 == discarded() && discarded() > 0
    });
}

#[test]
fn an_import_of_rubbish_has_a_bounded_answer() {
    let (fender, _upstream, _folder) = two();
    let before = fender.rss_kib();
    let rubbish = b"x\n".repeat(4 << 20);
    let answer = ask(&fender, "POST", "/api/v1/letters/import", Some(OPS), &rubbish);
    assert_eq!(answer.status(), 200);
    assert!(answer.body.len() < 200_000, "{}", answer.body.len());
    assert_eq!(answer.json()["failed"].as_array().map(Vec::len), Some(1_001));
    let grown = fender.rss_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB");
}

/// Silent connections take no probe's place, on either listener.
#[test]
fn a_probe_finds_a_place_among_the_silent() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).admin("public_listen = \"127.0.0.1:0\"").start();
    for address in [fender.admin(), fender.public()] {
        let silent: Vec<_> = (0..200).map(|_| Client::connect(address)).collect();
        let start = Instant::now();
        for _ in 0..5 {
            assert_eq!(Client::connect(address).request("GET", "/health/live", "", b"").status(), 200);
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(silent);
    }
}

#[test]
fn of_an_address_nobody_is_shown_what_may_be_a_secret() {
    let lines = "[upstream.hook]\nurl = \"https://hooks.example/services/T0SECRETPATH/B1/xyz\"\nroute = \"/hook\"\n\
        health.path = \"/check?token=HEALTHSECRET\"\nhealth.interval = \"1h\"\n";
    let fender = Setup::new(lines).admin(super::letters::TOKENS_OF_ALL).start();
    for path in ["/api/v1/upstreams/hook", "/api/v1/config", "/api/v1/overview"] {
        let shown = get(&fender, path).to_string();
        assert!(!shown.contains("T0SECRETPATH") && !shown.contains("HEALTHSECRET"), "{path}: {shown}");
    }
    assert_eq!(get(&fender, "/api/v1/upstreams/hook")["policies"]["url"], "https://hooks.example/(hidden)");
}

/// A pipe among the files that a config names would hold up signals and probes.
#[test]
fn a_secret_that_is_a_pipe_is_refused_and_nothing_hangs() {
    let upstream = Upstream::ok("ok");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let setup =
        Setup::new(upstream.as_api("")).server("drain_quiet = \"0s\"").admin(super::letters::TOKENS_OF_ALL);
    let fender = setup.clone().start();
    let named = format!("[upstream.api.headers]\nset = {{ x-key = \"${{file:{}}}\" }}", pipe.display());
    let with_pipe = Setup::new(upstream.as_api(&named))
        .server("drain_quiet = \"0s\"")
        .admin(super::letters::TOKENS_OF_ALL);
    fender.rewrite_config(&with_pipe);
    let refused = ask(&fender, "POST", "/api/v1/config/reload", Some(OPS), b"");
    assert_eq!(refused.status(), 422, "{}", refused.text());
    assert!(refused.text().contains("no regular file"), "{}", refused.text());
    assert_eq!(fender.admin_get("/health/live").status(), 200);
    fender.sigterm();
    assert!(fender.wait_exit(Duration::from_secs(10)).success());
}
