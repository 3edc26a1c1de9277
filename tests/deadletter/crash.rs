//! A process that captures and is killed at random points loses nothing that it had a receipt for.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use fender::deadletter::{Captured, Draft, Filter, LetterId, Settled, State, Store};
use fender::policy::outcome::Outcome;

use super::{Bench, attempt, draft, runtime, settings};

/// The environment variable that makes this test's executable the one that is killed.
const STORE: &str = "FENDER_TEST_STORE_TO_BE_KILLED_WITH";

const ROUNDS: u64 = 50;

fn body(client: u32, number: u64) -> Vec<u8> {
    let mut body = format!("{client} {number} ").into_bytes();
    body.resize(40 + usize::try_from(number * 977 % 9000).unwrap(), b'.');
    body
}

/// Captures, delivers and discards until it is killed; writes a line for each thing that it was told is done.
#[test]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let (store, _) = Store::open(&settings(path.as_ref())).unwrap();
    let told = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    };
    let client = async |client: u32| {
        for number in 0_u64.. {
            let draft = Draft {
                repeatable: true,
                order_key: Some(format!("{client}")),
                ..draft(body(client, number))
            };
            let Ok(Captured::New(receipt)) = store.capture(draft).await else { return };
            told(format!("\nkept {} {client} {number}\n", receipt.id()));
            // Every third of them goes on.
            if number % 3 == 0 {
                let due = store.due("api", false, u64::MAX, 1).await.unwrap();
                let Some(due) = due.first() else { continue };
                if store.begin(due.id, 1).await.unwrap().is_some() {
                    told(format!("\nsending {}\n", due.id));
                    store.settle(due.id, attempt(Outcome::Success), Settled::Delivered).await.unwrap();
                    told(format!("\ndelivered {}\n", due.id));
                }
            }
        }
    };
    runtime().block_on(async {
        tokio::join!(client(0), client(1), client(2), client(3));
    });
}

#[derive(Default)]
struct Ledger {
    kept: Vec<(LetterId, u32, u64)>,
    delivered: Vec<LetterId>,
}

impl Ledger {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["kept", id, client, number] => {
                self.kept.push((id.parse().unwrap(), client.parse().unwrap(), number.parse().unwrap()));
            }
            ["delivered", id] => self.delivered.push(id.parse().unwrap()),
            _ => {}
        }
    }
}

#[test]
fn nothing_that_was_accepted_is_lost_when_the_process_is_killed() {
    let mut bench = Bench::new();
    bench.close();
    let mut ledger = Ledger::default();
    let seed = fastrand_seed();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["deadletter::crash::the_process_that_is_killed", "--exact", "--nocapture"])
            .env(STORE, bench.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // After some receipts, then some microseconds into whatever it does.
        let receipts = (seed.wrapping_mul(round + 1) >> 7) % 40;
        let until = ledger.kept.len() as u64 + receipts;
        while (ledger.kept.len() as u64) < until {
            ledger.read(&lines.next().expect("it goes on").unwrap());
        }
        std::thread::sleep(Duration::from_micros((seed.wrapping_mul(round + 7) >> 9) % 3000));
        child.kill().unwrap();
        // What it wrote before it died is in the pipe: whole lines, since each is one write.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.iter().for_each(|line| ledger.read(line));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        bench.open();
        check(&bench, &ledger, &format!("round {round}, seed {seed}"));
        bench.close();
    }
    eprintln!("{} kept, {} delivered", ledger.kept.len(), ledger.delivered.len());
    assert!(ledger.kept.len() > 200 && ledger.delivered.len() > 20, "{} kept", ledger.kept.len());
}

fn check(bench: &Bench, ledger: &Ledger, when: &str) {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = bench.ask(async |store| store.list(Filter::default(), 1000, cursor).await).unwrap();
        all.extend(page.letters);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let known: std::collections::HashMap<_, _> = all.iter().map(|letter| (letter.id, letter)).collect();
    for (id, client, number) in &ledger.kept {
        let letter = known.get(id).unwrap_or_else(|| panic!("{when}: {id} was accepted and is gone"));
        assert!(matches!(letter.state, State::Pending | State::Delivered), "{when}: {letter:?}");
        if ledger.delivered.contains(id) {
            assert_eq!(letter.state, State::Delivered, "{when}: {id}");
        }
        // Bodies of the last round; those before were read before.
        if ledger.kept.iter().rev().take(60).any(|(recent, ..)| recent == id) {
            let content = bench.ask(async |store| store.content(*id).await).unwrap();
            assert_eq!(content.body, body(*client, *number), "{when}: {id}");
        }
    }
    let figures = bench.store().figures();
    assert_eq!(figures.total(State::Pending) + figures.total(State::Delivered), all.len() as u64, "{when}");
    assert_eq!(figures.total(State::Sending), 0, "{when}");
}

/// Another one each run; it is in every message.
fn fastrand_seed() -> u64 {
    super::now_ms().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}
