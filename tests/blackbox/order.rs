//! Letters of one key through the replayer, to an upstream that fails as it likes: what it sees of each key is in the order of
//! capture, whatever fails in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Fender, Setup, Upstream, eventually};

const KEYS: usize = 6;
const LETTERS: usize = 10;

const RULES: &str = "retry = { max_attempts = 1 }\ntimeout = { attempt = \"1s\" }\nthrottle = { adapt = false }\n\
    breaker = { consecutive_failures = 5, open_for = \"40ms\", max_open_for = \"40ms\", half_open_probes = 1 }\n\
    dead_letter.mode = \"outbox\"\ndead_letter.order_by = \"header:x-key\"\n\
    dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"10ms\", jitter = \"none\" }, per_second = 5000.0, \
    concurrency = 8, max_attempts = 6 }";

/// What the upstream saw of each key: which letter, and whether it took it.
type Seen = Arc<Mutex<BTreeMap<String, Vec<(usize, bool)>>>>;

/// Takes a letter, refuses it, forbids it, hangs up on it or is late, as its dice say; while `trouble` lasts.
fn moody(seen: &Seen, trouble: &Arc<AtomicBool>, seed: u64) -> Upstream {
    let (seen, trouble) = (Arc::clone(seen), Arc::clone(trouble));
    let dice = Mutex::new(fastrand::Rng::with_seed(seed));
    Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let fate = if trouble.load(Ordering::SeqCst) { dice.lock().unwrap().u8(..100) } else { 0 };
            let (key, number) = (received.field("x-key").unwrap(), received.text().parse().unwrap());
            // Written down before anybody hears of it.
            seen.lock().unwrap().entry(key).or_default().push((number, fate < 40));
            let status = match fate {
                0..40 => "200 OK",
                40..65 => "429 Slow",
                65..80 => "503 Busy\r\nretry-after: 0",
                80..86 => "400 Never",
                86..97 => return connection.reset(),
                _ => {
                    thread::sleep(Duration::from_millis(1300));
                    "500 Late"
                }
            };
            if !connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")) {
                return;
            }
        }
    })
}

/// Each key's letters by a client of its own, one after the other.
fn capture_all(fender: &Fender) {
    let clients: Vec<_> = (0..KEYS)
        .map(|key| {
            let address = fender.server();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for number in 0..LETTERS {
                    let (key, body) = (format!("x-key: k{key}\r\n"), number.to_string());
                    assert_eq!(client.request("POST", "/", &key, body.as_bytes()).status(), 202);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

fn call(fender: &Fender, method: &str, path: &str, body: &str) -> Value {
    let token = "authorization: Bearer s\r\ncontent-type: application/json\r\n";
    let answer = Client::connect(fender.admin()).request(method, path, token, body.as_bytes());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

/// The states of each key's letters, in the order of their capture.
fn states(fender: &Fender) -> BTreeMap<String, Vec<String>> {
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let page = call(fender, "GET", "/api/v1/letters?limit=1000", "");
    for letter in page["letters"].as_array().unwrap().iter().rev() {
        let text = |name: &str| letter[name].as_str().unwrap().to_owned();
        states.entry(text("order_key")).or_default().push(text("state"));
    }
    states
}

fn in_order(seen: &Seen, seed: u64) {
    for (key, letters) in seen.lock().unwrap().iter() {
        assert!(letters.is_sorted_by_key(|(number, _)| number), "{key} came as {letters:?}, seed {seed}");
        for number in 0..LETTERS {
            let taken = letters.iter().filter(|(seen, taken)| *seen == number && *taken).count();
            assert!(taken <= 1, "{key}: {number} was taken {taken} times, seed {seed}");
        }
    }
}

fn setup(upstream: &Upstream, on_parked: &str) -> (Setup, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (path, rules) =
        (folder.path().join("letters.db"), format!("{RULES}\ndead_letter.on_parked = \"{on_parked}\""));
    let setup = Setup::new(format!("[dead_letter]\npath = {path:?}\n{}", upstream.as_api(&rules)))
        .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"s\"\n");
    (setup, folder)
}

#[test]
fn letters_of_a_key_arrive_in_order_and_those_that_are_parked_are_passed_over() {
    let (seen, trouble, seed) = (Seen::default(), Arc::new(AtomicBool::new(true)), fastrand::u64(..));
    let upstream = moody(&seen, &trouble, seed);
    let (setup, _folder) = setup(&upstream, "skip");
    let fender = setup.start();
    capture_all(&fender);
    let done = |state: &String| state == "delivered" || state == "parked";
    eventually("each letter has come to its end", || states(&fender).values().flatten().all(done));
    in_order(&seen, seed);
    let (seen, states) = (seen.lock().unwrap(), states(&fender));
    assert_eq!(states.len(), KEYS);
    for (key, states) in &states {
        let taken: Vec<bool> = (0..LETTERS).map(|number| seen[key].contains(&(number, true))).collect();
        let delivered: Vec<bool> = states.iter().map(|state| state == "delivered").collect();
        assert_eq!(taken, delivered, "{key}: {states:?}, seed {seed}");
    }
}

#[test]
fn a_parked_letter_holds_its_key_until_an_operator_sends_it_on() {
    let (seen, trouble, seed) = (Seen::default(), Arc::new(AtomicBool::new(true)), fastrand::u64(..));
    let upstream = moody(&seen, &trouble, seed);
    let (setup, _folder) = setup(&upstream, "hold");
    let fender = setup.start();
    capture_all(&fender);
    let stands = |states: &[String]| {
        states.iter().find(|state| *state != "delivered").is_none_or(|state| state == "parked")
    };
    for round in 0..4 {
        trouble.store(round < 3, Ordering::SeqCst);
        eventually("each key is done or held", || states(&fender).values().all(|states| stands(states)));
        for (key, states) in states(&fender) {
            let parked = states.iter().filter(|state| *state == "parked").count();
            let first = states.iter().position(|state| state == "parked").unwrap_or(LETTERS);
            assert!(
                parked <= 1 && states[first..].iter().skip(1).all(|state| state == "pending"),
                "{key}: {states:?}"
            );
        }
        in_order(&seen, seed);
        call(
            &fender,
            "POST",
            "/api/v1/letters/replay",
            &json!({ "filter": { "state": "parked" } }).to_string(),
        );
    }
    eventually("all are delivered", || states(&fender).values().flatten().all(|state| state == "delivered"));
    in_order(&seen, seed);
    assert_eq!(fender.metric("fender_dead_letters", &[("state", "delivered")]), (KEYS * LETTERS) as f64);
}
