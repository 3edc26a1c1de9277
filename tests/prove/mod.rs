//! Every write has exactly one owner: a ledger of what clients were told, what the upstream did and what Fender keeps, over
//! kill -9 at random points, hang-ups and cut answers.
//!
//! `FENDER_PROVE_ROUNDS` says how often Fender is killed; `just prove` does it a thousand times.

mod ledger;
mod soak;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use self::ledger::{Heard, Ledger, Write};
use crate::support::{Client, Connection, Fender, Received, Setup, Upstream, eventually};

/// Rounds where nobody says how many.
const ROUNDS: u32 = 40;

/// Clients at once, and writes of each, in one round.
const CLIENTS: u32 = 6;
const WRITES: u32 = 8;

const LETTERS: &str = "dead_letter.mode = \"on_failure\"\n\
    dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"20ms\", jitter = \"none\" }, per_second = 2000.0, \
    concurrency = 8, max_attempts = 1000 }\n\
    throttle = { adapt = false }\nretry = { max_attempts = 2, backoff = { base = \"2ms\" } }\n\
    breaker = { consecutive_failures = 20, open_for = \"50ms\", max_open_for = \"100ms\" }\n\
    timeout = { attempt = \"400ms\", total = \"1s\" }";

#[test]
fn every_write_has_exactly_one_owner_whenever_fender_is_killed() {
    let rounds =
        std::env::var("FENDER_PROVE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("letters.db");
    let ledger = Arc::new(Ledger::new(fastrand::u64(..)));
    let upstream = upstream(&ledger);
    let setup = Setup::new(format!("[dead_letter]\npath = {store:?}\n{}", upstream.as_api(LETTERS)))
        .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"s\"\n")
        .server("workers = 2\n");
    for round in 0..rounds {
        ledger.trouble(true);
        let fender = setup.clone().start();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (ledger, address) = (Arc::clone(&ledger), fender.server());
                thread::spawn(move || (0..WRITES).for_each(|_| one_write(&ledger, address)))
            })
            .collect();
        thread::sleep(Duration::from_millis(ledger.dice(120)));
        drop(fender); // kill -9
        clients.into_iter().for_each(|client| client.join().unwrap());
        if round % 4 == 3 || round + 1 == rounds {
            ledger.trouble(false);
            let fender = setup.clone().start();
            eventually("the letters are delivered", || waiting(&fender) == 0.0);
            ledger.judge(&letters(&fender));
        }
    }
}

/// By one look, since a letter goes to and fro.
fn waiting(fender: &Fender) -> f64 {
    let of = |name: &str| {
        name.starts_with("fender_dead_letters{")
            && (name.contains("state=\"pending\"") || name.contains("state=\"sending\""))
    };
    fender.metrics().iter().filter(|(name, _)| of(name)).map(|(_, value)| value).sum()
}

/// One write, and what its client heard of it.
fn one_write(ledger: &Ledger, address: std::net::SocketAddr) {
    let write = ledger.new_write();
    let Some(mut client) = Client::try_connect(address) else { return ledger.heard(write, Heard::Nothing) };
    let key = if write.keyed { format!("idempotency-key: {}\r\n", write.id) } else { String::new() };
    let body = format!("write {}", write.id);
    client.send(format!(
        "POST /{} HTTP/1.1\r\nhost: a\r\n{key}content-length: {}\r\n\r\n{body}",
        write.id,
        body.len()
    ));
    if write.hangs_up {
        thread::sleep(Duration::from_millis(ledger.dice(30)));
        return ledger.heard(write, Heard::Nothing);
    }
    let heard = match client.try_response("POST") {
        None => Heard::Nothing,
        Some(answer) => match (answer.status(), answer.field("fender-letter")) {
            (202, letter) if !letter.is_empty() => Heard::Accepted(letter),
            (200, _) => Heard::Done,
            _ => Heard::Failure,
        },
    };
    ledger.heard(write, heard);
}

/// Does what the ledger's dice say, and writes down what it did.
fn upstream(ledger: &Arc<Ledger>) -> Upstream {
    let ledger = Arc::clone(ledger);
    Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            if !acted_on(&ledger, connection, &received) {
                return;
            }
        }
    })
}

/// Whether the connection goes on.
fn acted_on(ledger: &Ledger, connection: &mut Connection, received: &Received) -> bool {
    let id = received.head.target().trim_start_matches('/').to_owned();
    let whole = received.text() == format!("write {id}");
    assert!(whole, "{id} came as {:?}", received.text());
    match ledger.fate() {
        ledger::Fate::Acts => {
            ledger.acted(&id);
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        }
        ledger::Fate::Refuses => connection.send("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n"),
        ledger::Fate::ActsAndFails => {
            ledger.acted(&id);
            connection.send("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")
        }
        ledger::Fate::ActsAndHangsUp => {
            ledger.acted(&id);
            false
        }
        ledger::Fate::ActsLate => {
            ledger.acted(&id);
            thread::sleep(Duration::from_millis(60));
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        }
    }
}

/// All letters: id, state, path, why it is parked.
fn letters(fender: &Fender) -> Vec<ledger::Letter> {
    let mut letters = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = Client::connect(fender.admin()).request(
            "GET",
            &format!("/api/v1/letters?limit=1000{cursor}"),
            "authorization: Bearer s\r\n",
            b"",
        );
        let page = answer.json();
        letters.extend(page["letters"].as_array().unwrap().iter().map(ledger::Letter::of));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return letters,
        }
    }
}

/// The client's side of a write, for the ledger.
impl Write {
    fn of(id: String, dice: u64) -> Self {
        Self { id, keyed: dice.is_multiple_of(3), hangs_up: dice.is_multiple_of(7) }
    }
}
