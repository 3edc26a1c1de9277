//! `[[notify]]`: what calls for an operator reaches a receiver, signed, in order and once, whatever the receiver does meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::letters::{TOKENS_OF_ALL, call};
use crate::support::{Fender, Setup, Upstream, eventually};

const SECRET: &str = "the webhook's secret";

const WORDS: &str =
    r#"["breaker.opened", "breaker.closed", "letter.parked", "degradation.changed", "store.full"]"#;

/// A breaker that opens changes the level as well.
const BREAKER: &str = r#"["breaker.opened", "breaker.closed"]"#;

/// RFC 2104, from the hash alone.
fn hmac(key: &str, body: &[u8]) -> String {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key.bytes()).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(body).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bodies that came and were taken.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Value>>>);

impl Heard {
    fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, word: &str) -> Vec<Value> {
        self.all().into_iter().filter(|body| body["event"] == word).collect()
    }

    fn events(&self) -> Vec<String> {
        self.all().iter().map(|body| body["event"].as_str().unwrap().to_owned()).collect()
    }
}

/// Answers the posts in turn with these heads, then takes all; checks each signature.
fn receiver(first: &'static [&'static str]) -> (Upstream, Heard) {
    let (heard, tries) = (Heard::default(), AtomicU32::new(0));
    let kept = heard.clone();
    let upstream = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            assert_eq!(received.head.target(), "/services/T0/B0");
            assert_eq!(received.field("content-type").as_deref(), Some("application/json"));
            let signed = received.field("fender-signature").expect("it is signed");
            assert_eq!(signed, format!("sha256={}", hmac(SECRET, &received.body.bytes)));
            let number = tries.fetch_add(1, Ordering::SeqCst) as usize;
            match first.get(number).copied() {
                Some("") => return connection.reset(),
                Some(head) => drop(connection.send(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"))),
                None => {
                    kept.0.lock().unwrap().push(serde_json::from_str(&received.text()).unwrap());
                    connection.send("HTTP/1.1 204 None\r\n\r\n");
                }
            }
        }
    });
    (upstream, heard)
}

fn notify(receiver: &Upstream, on: &str) -> String {
    format!("[[notify]]\nurl = \"{}/services/T0/B0\"\non = {on}\nsecret = {SECRET:?}\n", receiver.url())
}

fn told(upstream: &Upstream, lines: &str, notify: &str) -> Setup {
    Setup::new(format!("{}\n{notify}", upstream.as_api(lines))).admin(TOKENS_OF_ALL)
}

fn ask(fender: &Fender, method: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = call(fender, method, path, "operators-secret", body);
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

fn breaker(fender: &Fender, word: &str) {
    ask(fender, "POST", &format!("/api/v1/breakers/api/{word}"), &Value::Null);
}

fn webhook(fender: &Fender) -> Value {
    ask(fender, "GET", "/api/v1/overview", &Value::Null)["webhooks"][0].clone()
}

#[test]
fn each_word_arrives_once_signed_and_without_a_secret() {
    let api = Upstream::answering("HTTP/1.1 400 Planted-word\r\ncontent-length: 12\r\n\r\nplanted-word");
    let (receiver, heard) = receiver(&[]);
    let folder = tempfile::tempdir().unwrap();
    let lines = "breaker = { open_for = \"1s\" }\ndead_letter.mode = \"outbox\"\n\
        dead_letter.replay.backoff = { strategy = \"fixed\", base = \"10ms\", jitter = \"none\" }";
    let path = folder.path().join("letters.db");
    let store = format!("[dead_letter]\npath = {path:?}\nmax_bytes = \"16MiB\"\n");
    let setup = Setup::new(format!("{store}{}\n{}", api.as_api(lines), notify(&receiver, WORDS)));
    let fender = setup.admin(TOKENS_OF_ALL).start();
    let post = "x-kept: planted-word\r\n";
    let id = fender.post("/a?key=planted-word", post, b"planted-word").field("fender-letter");
    eventually("the letter is told", || !heard.of("letter.parked").is_empty());
    ask(&fender, "PUT", "/api/v1/degradation", &json!({"level": "severe", "reason": "a drill"}));
    breaker(&fender, "force-open");
    eventually("the breaker is told", || !heard.of("breaker.opened").is_empty());
    breaker(&fender, "force-close");
    let body = vec![b'x'; 1_000_000];
    while fender.post("/", "", &body).status() == 202 {}
    for word in ["letter.parked", "degradation.changed", "breaker.opened", "breaker.closed", "store.full"] {
        eventually(word, || !heard.of(word).is_empty());
        let first = &heard.of(word)[0];
        assert_eq!(first["count"], 1, "{first}");
        assert!(first["id"].as_str().is_some_and(|id| id.contains('-')), "{first}");
        assert!(first["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");
    }
    let parked = &heard.of("letter.parked")[0];
    assert_eq!((&parked["upstream"], &parked["letter"]), (&json!("api"), &json!(id)), "{parked}");
    let level = &heard.of("degradation.changed")[0];
    assert_eq!(level["to"], "severe", "{level}");
    assert_eq!(heard.of("breaker.opened").len(), 1);
    let ids: Vec<Value> = heard.all().iter().map(|body| body["id"].clone()).collect();
    assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1), "{ids:?}");
    for text in [format!("{:?}", heard.all()), fender.log()] {
        assert!(!text.contains("planted-word") && !text.contains(SECRET), "{text}");
    }
    let log = fender.log();
    assert!(!log.contains("/services/T0"), "a webhook's path may be a secret: {log}");
    let config = ask(&fender, "GET", "/api/v1/config", &Value::Null).to_string();
    assert!(!config.contains("T0") && !config.contains(SECRET) && config.contains("notify"), "{config}");
}

#[test]
fn a_receiver_that_fails_and_recovers_misses_nothing_and_hears_nothing_twice() {
    let api = Upstream::ok("ok");
    let (receiver, heard) = receiver(&["500 Oops", "", "429 Slow\r\nretry-after: 1"]);
    let fender = told(&api, "", &notify(&receiver, BREAKER)).start();
    breaker(&fender, "force-open");
    receiver.request(1);
    breaker(&fender, "force-close");
    eventually("the failure is told", || !webhook(&fender)["last_error"].is_null());
    assert_eq!(fender.get("/").status(), 200);
    let until = Instant::now() + Duration::from_secs(20);
    while heard.all().len() < 2 {
        assert!(Instant::now() < until, "{:?}", heard.all());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(heard.events(), ["breaker.opened", "breaker.closed"]);
    eventually("all is told", || webhook(&fender)["queued"] == 0);
    let figures = webhook(&fender);
    assert_eq!(
        (&figures["delivered"], &figures["failed"], &figures["dropped"], &figures["last_error"]),
        (&json!(2), &json!(0), &json!(0), &Value::Null)
    );
    assert_eq!(fender.log().matches("webhook fails").count(), 1, "one line a spell");
    assert_eq!(fender.logged("webhook works again")["tries"], 4);
}

#[test]
fn what_a_receiver_refuses_is_given_up_and_told() {
    let api = Upstream::ok("ok");
    let (receiver, heard) = receiver(&["400 Never"]);
    let fender = told(&api, "", &notify(&receiver, BREAKER)).start();
    breaker(&fender, "force-open");
    fender.logged("webhook given up");
    breaker(&fender, "force-close");
    eventually("the next one is told", || !heard.all().is_empty());
    let next = &heard.all()[0];
    assert_eq!((&next["event"], &next["dropped"]), (&json!("breaker.closed"), &json!(1)));
    assert_eq!(webhook(&fender)["failed"], 1);
}

/// A receiver that takes connections and never answers holds up neither traffic nor the other receiver, nor the end.
#[test]
fn a_receiver_that_hangs_is_in_nobodys_way() {
    let api = Upstream::ok("ok");
    let hangs = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let (receiver, heard) = receiver(&[]);
    let hooks = format!("{}{}", notify(&hangs, BREAKER), notify(&receiver, BREAKER));
    let fender = told(&api, "", &hooks).server("drain_quiet = \"100ms\"\n").start();
    breaker(&fender, "force-open");
    eventually("the other one is told", || heard.events() == ["breaker.opened"]);
    hangs.request(1);
    breaker(&fender, "auto");
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(fender.get("/").status(), 200);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let start = Instant::now();
    fender.sigterm();
    assert_eq!(fender.wait_exit(Duration::from_secs(10)).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(heard.events(), ["breaker.opened", "breaker.closed"], "what waits is told at the end");
}

/// While a receiver takes its time, more happens than anybody remembers: what it is to hear of is not lost among the rest.
#[test]
fn what_it_waits_for_is_not_lost_among_a_thousand_other_events() {
    let api = Upstream::answering("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n");
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (heard, wait) = (Heard::default(), Mutex::new(wait));
    let kept = heard.clone();
    let receiver = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            if kept.all().is_empty() {
                wait.lock().unwrap().recv_timeout(Duration::from_secs(9)).ok();
            }
            kept.0.lock().unwrap().push(serde_json::from_str(&received.text()).unwrap());
            connection.send("HTTP/1.1 204 None\r\n\r\n");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let store = format!("[dead_letter]\npath = {:?}\nsync = \"normal\"\n", folder.path().join("letters.db"));
    let lines = "dead_letter.mode = \"outbox\"\nthrottle = { adapt = false }";
    let other = "[upstream.other]\nurl = \"http://127.0.0.1:9\"\n";
    let hooks = format!("{other}{}", notify(&receiver, BREAKER));
    let setup = Setup::new(format!("{store}{}\n{hooks}", api.as_api(lines))).admin(TOKENS_OF_ALL);
    let fender = setup.start();
    ask(&fender, "POST", "/api/v1/breakers/other/force-open", &Value::Null);
    receiver.request(1);
    breaker(&fender, "force-open");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let address = fender.server();
            thread::spawn(move || {
                let mut client = crate::support::Client::connect(address);
                (0..200).for_each(|_| assert_eq!(client.request("POST", "/", "", b"x").status(), 202));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    go.send(()).unwrap();
    eventually("the second one is told", || heard.all().len() == 2);
    let second = &heard.all()[1];
    assert_eq!((&second["upstream"], &second["dropped"]), (&json!("api"), &Value::Null), "{second}");
}

#[test]
fn a_thousand_letters_are_two_messages() {
    let api = Upstream::answering("HTTP/1.1 400 Never\r\ncontent-length: 0\r\n\r\n");
    let (receiver, heard) = receiver(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.db");
    let lines = "dead_letter.mode = \"outbox\"\ndead_letter.replay.per_second = 5000.0";
    let store = format!("[dead_letter]\npath = {path:?}\nsync = \"normal\"\n");
    let setup =
        Setup::new(format!("{store}{}\n{}", api.as_api(lines), notify(&receiver, "[\"letter.parked\"]")));
    let fender = setup.admin(TOKENS_OF_ALL).server("drain_quiet = \"100ms\"\nworkers = 1\n").start();
    let mut client = fender.client();
    for _ in 0..200 {
        assert_eq!(client.request("POST", "/", "", b"x").status(), 202);
    }
    eventually("all are parked", || fender.metric("fender_dead_letters", &[("state", "parked")]) == 200.0);
    eventually("one is told", || !heard.all().is_empty());
    fender.sigterm();
    assert_eq!(fender.wait_exit(Duration::from_secs(10)).code(), Some(0));
    let counts: Vec<u64> = heard.all().iter().map(|body| body["count"].as_u64().unwrap()).collect();
    assert_eq!((counts.iter().sum::<u64>(), counts[0]), (200, 1), "{counts:?}");
    assert!(counts.len() <= 3, "{counts:?}");
}

#[test]
fn a_reload_brings_webhooks_and_takes_them_away() {
    let api = Upstream::ok("ok");
    let (first, heard_first) = receiver(&[]);
    let (second, heard_second) = receiver(&[]);
    let fender = told(&api, "", &notify(&first, BREAKER)).start();
    breaker(&fender, "force-open");
    eventually("it is told", || heard_first.events() == ["breaker.opened"]);
    fender.rewrite_config(&told(&api, "", &notify(&second, "[\"breaker.closed\"]")));
    fender.sighup();
    fender.logged("config reloaded");
    breaker(&fender, "auto");
    eventually("the new one is told", || heard_second.events() == ["breaker.closed"]);
    breaker(&fender, "force-open");
    assert_eq!(heard_first.events(), ["breaker.opened"], "the old one is gone");
    assert_eq!(webhook(&fender)["delivered"], 1);
}

/// What a post bore: its target, its event, and whether it was signed with this secret.
type Post = (String, String, Option<String>);

/// Keeps each post; the first is answered with this head, once there is a word to go on.
fn slow_receiver(first: &'static str) -> (Upstream, Arc<Mutex<Vec<Post>>>, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (posts, wait) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(wait));
    let kept = Arc::clone(&posts);
    let upstream = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let body: Value = serde_json::from_str(&received.text()).unwrap();
            let signature = received.field("fender-signature");
            let secret = [SECRET, "another"].into_iter().find(|secret| {
                signature.as_deref() == Some(&format!("sha256={}", hmac(secret, &received.body.bytes)))
            });
            let event = body["event"].as_str().unwrap().to_owned();
            let number = {
                let mut posts = kept.lock().unwrap();
                posts.push((received.head.target().to_owned(), event, secret.map(str::to_owned)));
                posts.len()
            };
            let head = if number == 1 { first } else { "204 None" };
            if number == 1 {
                wait.lock().unwrap().recv_timeout(Duration::from_secs(9)).ok();
            }
            connection.send(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    (upstream, posts, go)
}

fn events_and_secrets(posts: &Mutex<Vec<Post>>) -> Vec<(String, String)> {
    let posts = posts.lock().unwrap();
    posts.iter().map(|(_, event, secret)| (event.clone(), secret.clone().unwrap_or_default())).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(event, secret)| ((*event).to_owned(), (*secret).to_owned())).collect()
}

fn reload(fender: &Fender, setup: &Setup) {
    fender.rewrite_config(setup);
    fender.sighup();
    fender.logged("config reloaded");
}

#[test]
fn a_reload_that_changes_a_webhook_keeps_what_waits() {
    let api = Upstream::ok("ok");
    let (receiver, posts, go) = slow_receiver("204 None");
    let fender = told(&api, "", &notify(&receiver, BREAKER)).start();
    breaker(&fender, "force-open");
    receiver.request(1);
    breaker(&fender, "force-close");
    eventually("both wait", || webhook(&fender)["queued"] == 2);
    let other = notify(&receiver, WORDS).replace(SECRET, "another");
    reload(&fender, &told(&api, "", &other));
    ask(&fender, "PUT", "/api/v1/degradation", &json!({"level": "severe"}));
    go.send(()).unwrap();
    let all = [("breaker.opened", SECRET), ("breaker.closed", "another"), ("degradation.changed", "another")];
    let mut wanted = pairs(&all);
    eventually("all are told", || posts.lock().unwrap().len() >= wanted.len());
    let mut found = events_and_secrets(&posts);
    // Those of two subjects may change places.
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    eventually("it is counted on", || webhook(&fender)["delivered"] == 3 && webhook(&fender)["queued"] == 0);
    assert_eq!(ask(&fender, "GET", "/api/v1/overview", &Value::Null)["webhook_events_lost"], 0);
    assert!(!fender.log().contains("webhook given up"), "{}", fender.log());
}

#[test]
fn what_waits_for_another_try_is_told_as_the_new_settings_say() {
    let api = Upstream::ok("ok");
    let (receiver, posts, go) = slow_receiver("429 Slow\r\nretry-after: 3");
    let fender = told(&api, "", &notify(&receiver, BREAKER)).start();
    breaker(&fender, "force-open");
    receiver.request(1);
    breaker(&fender, "force-close");
    go.send(()).unwrap();
    eventually("the failure is told", || !webhook(&fender)["last_error"].is_null());
    // No closing any more.
    let words = r#"["breaker.opened", "degradation.changed"]"#;
    reload(&fender, &told(&api, "", &notify(&receiver, words).replace(SECRET, "another")));
    eventually("what nobody asks for waits no more", || webhook(&fender)["queued"] == 1);
    let until = Instant::now() + Duration::from_secs(20);
    while webhook(&fender)["queued"] != 0 {
        assert!(Instant::now() < until, "{posts:?}");
        thread::sleep(Duration::from_millis(50));
    }
    ask(&fender, "PUT", "/api/v1/degradation", &json!({"level": "severe"}));
    eventually("the next one is told", || posts.lock().unwrap().len() >= 3);
    let all = [("breaker.opened", SECRET), ("breaker.opened", "another"), ("degradation.changed", "another")];
    assert_eq!(events_and_secrets(&posts), pairs(&all));
}

#[test]
fn a_webhook_that_a_reload_takes_out_ends_its_post_and_loses_the_rest_aloud() {
    let api = Upstream::ok("ok");
    let (receiver, posts, go) = slow_receiver("204 None");
    let (second, heard) = receiver_of_all();
    let fender = told(&api, "", &notify(&receiver, BREAKER)).start();
    breaker(&fender, "force-open");
    receiver.request(1);
    breaker(&fender, "force-close");
    eventually("both wait", || webhook(&fender)["queued"] == 2);
    reload(&fender, &told(&api, "", &notify(&second, BREAKER)));
    breaker(&fender, "force-open");
    eventually("the new one is told", || heard.events() == ["breaker.opened"]);
    go.send(()).unwrap();
    let told = fender.logged("webhook given up");
    assert_eq!((&told["events"], &told["error"]), (&json!(1), &json!("taken out by a reload")), "{told}");
    assert_eq!(events_and_secrets(&posts), pairs(&[("breaker.opened", SECRET)]));
    let overview = ask(&fender, "GET", "/api/v1/overview", &Value::Null);
    assert_eq!(overview["webhook_events_lost"], 1, "{overview}");
}

fn receiver_of_all() -> (Upstream, Heard) {
    receiver(&[])
}

#[test]
fn a_url_may_bear_a_query_that_nobody_is_shown() {
    let api = Upstream::ok("ok");
    let (receiver, posts, go) = slow_receiver("500 Oops");
    let hook = |path: &str| format!("[[notify]]\nurl = \"{}{path}\"\non = {BREAKER}\n", receiver.url());
    let fender = told(&api, "", &hook("/hook/?token=planted-word&x=a%20b")).start();
    go.send(()).unwrap();
    breaker(&fender, "force-open");
    fender.logged("webhook works again");
    fender.rewrite_config(&told(&api, "", &hook("?token=planted-word")));
    fender.sighup();
    fender.logged("config reloaded");
    breaker(&fender, "force-close");
    eventually("the new one is told", || posts.lock().unwrap().len() == 3);
    let targets: Vec<String> = posts.lock().unwrap().iter().map(|(target, ..)| target.clone()).collect();
    let first = "/hook/?token=planted-word&x=a%20b";
    assert_eq!(targets, [first, first, "/?token=planted-word"]);
    for path in ["/api/v1/config", "/api/v1/overview"] {
        let shown = ask(&fender, "GET", path, &Value::Null).to_string();
        assert!(!shown.contains("planted-word"), "{path}: {shown}");
    }
    let metrics = String::from_utf8(fender.admin_get("/metrics").body).unwrap();
    for text in [fender.log(), metrics] {
        assert!(!text.contains("planted-word"), "{text}");
    }
}
