//! `/api/v1/events`: what happens, told as it happens, and again to those who missed it.

use std::time::Duration;

use serde_json::{Value, json};

use super::letters::{TOKENS_OF_ALL, call, keeping};
use crate::support::{Client, Fender, Setup, Upstream};

/// One who follows the events.
struct Follower {
    client: Client,
    pending: String,
}

#[derive(Debug, Clone)]
struct Told {
    id: String,
    event: String,
    data: Value,
}

impl Follower {
    fn start(fender: &Fender, query: &str, fields: &str) -> Self {
        Self::of("operators-secret", fender, query, fields)
    }

    fn of(token: &str, fender: &Fender, query: &str, fields: &str) -> Self {
        let mut client = Client::connect(fender.admin());
        client.send(format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n{fields}\r\n"
        ));
        let head = client.head().expect("an answer");
        assert_eq!(head.status(), 200);
        assert_eq!(head.field("content-type").as_deref(), Some("text/event-stream"));
        let mut follower = Self { client, pending: String::new() };
        // The greeting says that it follows from here on.
        follower.block();
        follower
    }

    /// The next lines up to an empty one.
    fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.pending.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.pending = rest;
                return block;
            }
            let chunk = self.client.chunk().expect("the stream goes on");
            self.pending.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    fn next(&mut self) -> Told {
        loop {
            let block = self.block();
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned).unwrap_or_default()
            };
            if !field("event: ").is_empty() {
                let data = serde_json::from_str(&field("data: ")).unwrap();
                return Told { id: field("id: "), event: field("event: "), data };
            }
        }
    }

    fn until(&mut self, event: &str) -> Told {
        loop {
            let told = self.next();
            if told.event == event {
                return told;
            }
        }
    }
}

fn word(fender: &Fender, upstream: &str, word: &str) {
    let (status, body) = call(
        fender,
        "POST",
        &format!("/api/v1/breakers/{upstream}/{word}"),
        "operators-secret",
        &Value::Null,
    );
    assert_eq!(status, 200, "{body}");
}

#[test]
fn breakers_letters_levels_and_configs_are_told() {
    let upstream = Upstream::answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    let (setup, _folder) = keeping(&upstream.as_api(
        "retry.max_attempts = 1\ndead_letter.mode = \"on_failure\"\nbreaker.consecutive_failures = 2\nbreaker.open_for = \"1h\"\n\
         breaker.max_open_for = \"1h\"",
    ));
    let fender = setup.clone().start();
    let mut follower = Follower::start(&fender, "", "");
    for _ in 0..3 {
        fender.post("/", "", b"x");
    }
    let parked = follower.until("letter.parked");
    assert_eq!(
        (parked.data["upstream"].as_str(), parked.data["because"].as_str()),
        (Some("api"), Some("ambiguous")),
        "{parked:?}"
    );
    let opened = follower.until("breaker.opened");
    assert_eq!(
        (opened.data["from"].as_str(), opened.data["to"].as_str()),
        (Some("closed"), Some("open")),
        "{opened:?}"
    );
    assert_eq!(opened.data["event"], "breaker.opened");
    assert!(opened.data["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{opened:?}");
    let level = follower.until("degradation.changed");
    assert_eq!(level.data["to"], "moderate", "{level:?}");
    // One refused by an open breaker never left: it is Fender's.
    assert_eq!(follower.until("letter.captured").data["upstream"], "api");
    let id = parked.data["letter"].as_str().unwrap();
    let discard = format!("/api/v1/letters/{id}/discard");
    assert_eq!(call(&fender, "POST", &discard, "operators-secret", &Value::Null).0, 200);
    let gone = follower.until("letter.discarded");
    assert_eq!(
        (gone.data["letter"].as_str(), gone.data["who"].as_str()),
        (Some(id), Some("ops")),
        "{gone:?}"
    );
    call(&fender, "POST", "/api/v1/config/reload", "operators-secret", &Value::Null);
    assert_eq!(follower.until("config.reloaded").data["cause"], "api");
    fender.rewrite_config(&setup.head("nonsense = 1\n"));
    fender.sighup();
    let refused = follower.until("config.refused");
    assert!(!refused.data.to_string().contains("nonsense"), "{refused:?}");
}

#[test]
fn a_follower_that_comes_again_misses_nothing() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).admin(TOKENS_OF_ALL).start();
    let mut follower = Follower::start(&fender, "", "");
    word(&fender, "api", "force-open");
    let first = follower.until("breaker.opened");
    drop(follower);
    word(&fender, "api", "auto");
    word(&fender, "api", "force-open");
    let resume = format!("last-event-id: {}\r\n", first.id);
    let mut follower = Follower::start(&fender, "?types=breaker", &resume);
    let next: Vec<Told> = (0..2).map(|_| follower.next()).collect();
    assert_eq!(
        (next[0].event.as_str(), next[1].event.as_str()),
        ("breaker.closed", "breaker.opened"),
        "{next:?}"
    );
    // In the query for those who cannot set headers; and it goes on where the old ones end.
    let mut again = Follower::start(&fender, &format!("?types=breaker&last-event-id={}", next[0].id), "");
    assert_eq!(again.next().id, next[1].id);
    word(&fender, "api", "auto");
    assert_eq!(again.next().event, "breaker.closed");
    // From another life of the process: what it missed is not known, and told as such.
    let mut torn = Follower::start(&fender, "", "last-event-id: 1-5\r\n");
    let missed = torn.next();
    assert_eq!(
        (missed.event.as_str(), &missed.data["missed"]),
        ("events.missed", &Value::Null),
        "{missed:?}"
    );
    assert_eq!(torn.until("breaker.opened").id, first.id);
}

#[test]
fn what_the_ring_has_lost_is_told_as_missed() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).admin(TOKENS_OF_ALL).start();
    let mut follower = Follower::start(&fender, "", "");
    word(&fender, "api", "force-open");
    let first = follower.until("breaker.opened").id;
    drop(follower);
    for _ in 0..520 {
        word(&fender, "api", "auto");
        word(&fender, "api", "force-open");
    }
    let mut follower = Follower::start(&fender, "", &format!("last-event-id: {first}\r\n"));
    let missed = follower.next();
    assert_eq!(missed.event, "events.missed");
    let count = missed.data["missed"].as_u64().unwrap();
    assert!((1..200).contains(&count), "{missed:?}");
    let next = follower.next();
    let number = |id: &str| id.split_once('-').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(number(&next.id), number(&first) + count + 1, "{next:?} {first}");
    assert!(fender.metric("fender_buffer_bytes", &[]) > 0.0, "the ring is counted");
}

#[test]
fn a_bounded_token_hears_of_its_own_alone() {
    let upstream = Upstream::ok("ok");
    let (setup, _folder) = keeping(&upstream.as_api(""));
    let fender = setup.start();
    let mut bounded = Follower::of("others-secret", &fender, "?types=breaker", "");
    let mut whole = Follower::start(&fender, "?types=breaker&upstream=other", "");
    word(&fender, "api", "force-open");
    word(&fender, "other", "force-open");
    for follower in [&mut bounded, &mut whole] {
        assert_eq!(follower.next().data["upstream"], "other");
    }
    let mut client = Client::connect(fender.admin());
    let beyond =
        client.request("GET", "/api/v1/events?upstream=api", "authorization: Bearer others-secret\r\n", b"");
    assert_eq!(beyond.status(), 403);
}

#[test]
fn followers_have_a_bound_and_probes_a_place() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).admin(TOKENS_OF_ALL).start();
    let followers: Vec<Follower> = (0..16).map(|_| Follower::start(&fender, "", "")).collect();
    let one_more = || {
        let bearer = "authorization: Bearer operators-secret\r\n";
        let mut client = Client::connect(fender.admin());
        client.send(format!("GET /api/v1/events HTTP/1.1\r\nhost: a\r\n{bearer}\r\n"));
        client.head().expect("an answer").status()
    };
    assert_eq!(one_more(), 503);
    assert_eq!(fender.admin_get("/health/ready").status(), 200);
    drop(followers);
    crate::support::eventually("their places are free again", || one_more() == 200);
}

/// Whoever follows hears of the end, and the end does not wait for him.
#[test]
fn a_follower_does_not_hold_up_a_drain() {
    let upstream = Upstream::ok("ok");
    let fender =
        Setup::new(upstream.as_api("")).server("drain_quiet = \"100ms\"").admin(TOKENS_OF_ALL).start();
    let mut follower = Follower::start(&fender, "", "");
    let (status, _) = call(&fender, "POST", "/api/v1/quit", "operators-secret", &json!({}));
    assert_eq!(status, 202);
    follower.until("drain.started");
    assert!(fender.wait_exit(Duration::from_secs(10)).success());
}

/// What a reload does to a token it does to those who follow with it: one that is gone or changed hears no more.
#[test]
fn a_token_that_is_taken_away_hears_no_more() {
    let upstream = Upstream::ok("ok");
    let tokens = |secret: &str| {
        format!(
            "{TOKENS_OF_ALL}[[admin.token]]\nname = \"guest\"\nrole = \"viewer\"\nsecret = \"{secret}\"\n"
        )
    };
    let fender = Setup::new(upstream.as_api("")).admin(&tokens("first-secret")).start();
    let mut guest = Follower::of("first-secret", &fender, "", "");
    let mut ops = Follower::start(&fender, "", "");
    fender.rewrite_config(&Setup::new(upstream.as_api("")).admin(&tokens("second-secret")));
    fender.sighup();
    fender.logged("config reloaded");
    ops.until("config.reloaded");
    word(&fender, "api", "force-open");
    ops.until("breaker.opened");
    while let Some(chunk) = guest.client.chunk().filter(|chunk| !chunk.is_empty()) {
        assert!(!String::from_utf8_lossy(&chunk).contains("breaker.opened"));
    }
    Follower::of("second-secret", &fender, "", "");
}

/// One word for all keys of a breaker, and one bulk act, are one event each: they push nothing else out.
#[test]
fn what_is_done_to_many_is_told_once() {
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let lines = "retry.max_attempts = 1\nbreaker = { key = \"header:x-user\", consecutive_failures = 100 }\n\
        dead_letter.mode = \"on_failure\"";
    let (setup, _folder) = keeping(&upstream.as_api(lines));
    let fender = setup.start();
    for user in 0..30 {
        assert!(fender.post("/", &format!("x-user: {user}\r\n"), b"x").status() == 500);
    }
    let mut follower = Follower::start(&fender, "?types=breaker,letter.discarded,letter.replayed", "");
    word(&fender, "api", "force-open");
    assert_eq!(follower.next().event, "breaker.opened");
    word(&fender, "api", "auto");
    assert_eq!(follower.next().event, "breaker.closed");
    let body = json!({ "filter": { "upstream": "api" } });
    let (status, done) = call(&fender, "POST", "/api/v1/letters/discard", "operators-secret", &body);
    assert_eq!((status, done["done"].as_array().map(Vec::len)), (200, Some(30)), "{done}");
    let told = follower.next();
    assert_eq!(
        (told.event.as_str(), told.data["count"].as_u64()),
        ("letter.discarded", Some(30)),
        "{told:?}"
    );
    assert_eq!(told.data["upstream"], "api");
}

#[test]
fn why_a_level_was_set_is_told_to_those_whom_it_concerns() {
    let upstream = Upstream::ok("fine");
    let token = |name: &str| {
        format!(
            "[[admin.token]]\nname = {name:?}\nrole = \"viewer\"\nsecret = {name:?}\nupstreams = [{name:?}]\n"
        )
    };
    let upstreams = format!(
        "{}[upstream.sheds]\nurl = \"{}\"\nroute = \"/sheds\"\nshed_at = \"severe\"\n",
        upstream.as_api(""),
        upstream.url()
    );
    let tokens = format!("{TOKENS_OF_ALL}{}{}", token("api"), token("sheds"));
    let fender = Setup::new(upstreams).admin(&tokens).start();
    let get =
        |token: &str| call(&fender, "GET", "/api/v1/degradation", token, &Value::Null).1["by_hand"].clone();
    let set = |level: &str| {
        let body = json!({"level": level, "reason": "the others move house", "for": "1h"});
        call(&fender, "PUT", "/api/v1/degradation", "operators-secret", &body);
    };
    let mut followers = ["api", "sheds", "viewers-secret"]
        .map(|token| (token, Follower::of(token, &fender, "?types=degradation", "")));
    let secret_words = ["the others move house", "\"ops\""];
    set("minor");
    for token in ["api", "sheds"] {
        let told = get(token);
        assert_eq!(told["level"], "minor", "{told}");
        assert!(secret_words.iter().all(|word| !told.to_string().contains(word)), "{token}: {told}");
    }
    set("severe");
    for (token, knows) in [("api", false), ("sheds", true), ("viewers-secret", true)] {
        let told = get(token);
        assert!(told["until"].is_string(), "{told}");
        assert!(secret_words.iter().all(|word| told.to_string().contains(word) == knows), "{token}: {told}");
    }
    for (token, follower) in &mut followers {
        for to in ["minor", "severe"] {
            let told = follower.next().data;
            assert_eq!((&told["to"], &told["by_hand"]), (&json!(to), &json!(true)), "{token}: {told}");
            // The one is shed by the higher of them alone.
            let knows = match *token {
                "api" => false,
                "sheds" => to == "severe",
                _ => true,
            };
            assert!(
                secret_words.iter().all(|word| told.to_string().contains(word) == knows),
                "{token}: {told}"
            );
        }
    }
    // Without a token nobody's words are told.
    let open = fender.admin_get("/health/degradation").json();
    assert_eq!(open["by_hand"]["level"], "severe", "{open}");
    assert!(secret_words.iter().all(|word| !open.to_string().contains(word)), "{open}");
}
