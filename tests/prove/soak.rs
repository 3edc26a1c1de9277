//! Hours of everything at once: writes, reads, streams and clients that hang up, an upstream that fails, a disk that fails, reloads
//! and kills. Every write has one owner all along, and what the process holds does not grow.
//!
//! `FENDER_SOAK` says how many seconds it lasts; `just soak` takes two hours. Each cycle ends at rest, where it is measured.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::{LETTERS, acted_on, letters, one_write, waiting};
use crate::deadletter::failing_disk::{Call, FailingDisk, Fault, Shim};
use crate::support::{Client, Fender, PATIENCE, Setup, Upstream, eventually};

/// How long it lasts where nobody says.
const LASTS: Duration = Duration::from_secs(30);

/// Beyond the first half nothing is killed: what one life holds is compared over that time.
const CYCLES_AT_LEAST: u32 = 12;
const CYCLE_AT_MOST: Duration = Duration::from_mins(1);
const A_KILL_IN: u32 = 3;

const WRITERS: u32 = 4;
const READERS: u32 = 2;

/// What a process holds while nobody asks anything of it.
#[derive(Debug, Clone, Copy)]
struct Held {
    rss_kib: u64,
    descriptors: usize,
    threads: usize,
    tasks: u64,
    buffer: u64,
    database: u64,
    wal: u64,
    files: usize,
}

/// What each of them may differ by between two times at rest: idle connections come and go, an allocator keeps what it has.
const SLACK: Held = Held {
    rss_kib: 3 << 10,
    descriptors: 12,
    threads: 1,
    tasks: 12,
    buffer: 2 << 20,
    database: 1 << 20,
    wal: 4 << 20,
    files: 2,
};

impl Held {
    fn by(fender: &Fender, disk: &Path) -> Self {
        let overview = ask(fender, "GET", "/api/v1/overview", "");
        let count = |path: String| std::fs::read_dir(path).unwrap().count();
        let length = |name: &str| std::fs::metadata(disk.join(name)).map_or(0, |metadata| metadata.len());
        Self {
            rss_kib: fender.rss_kib(),
            descriptors: count(format!("/proc/{}/fd", fender.id())),
            threads: count(format!("/proc/{}/task", fender.id())),
            tasks: overview["workers"]["tasks"].as_u64().expect("tasks are told"),
            buffer: overview["buffer"]["used_bytes"].as_u64().expect("the buffer is told"),
            database: length("letters.db"),
            wal: length("letters.db-wal"),
            files: count(disk.display().to_string()),
        }
    }

    /// Of each figure.
    fn each(&self) -> [(&'static str, u64); 8] {
        let wide = |number: usize| u64::try_from(number).unwrap();
        [
            ("resident KiB", self.rss_kib),
            ("descriptors", wide(self.descriptors)),
            ("threads", wide(self.threads)),
            ("tasks", self.tasks),
            ("buffer", self.buffer),
            ("database", self.database),
            ("WAL", self.wal),
            ("files", wide(self.files)),
        ]
    }
}

/// The highest of each figure.
fn highest(of: &[Held]) -> [(&'static str, u64); 8] {
    let mut all = of.iter().map(Held::each);
    let first = all.next().expect("there were cycles");
    all.fold(first, |highest, next| {
        std::array::from_fn(|at| if next[at].1 > highest[at].1 { next[at] } else { highest[at] })
    })
}

#[test]
fn nothing_grows_over_hours_of_faults_reloads_and_kills() {
    let Some(shim) = Shim::compile() else { return };
    let asked = std::env::var("FENDER_SOAK").ok();
    let lasts =
        asked.map_or(LASTS, |asked| Duration::from_secs(asked.parse().expect("FENDER_SOAK: seconds")));
    let cycle = (lasts / CYCLES_AT_LEAST).min(CYCLE_AT_MOST);
    let cycles = u32::try_from(lasts.as_millis() / cycle.as_millis()).unwrap();
    let mut soak = Soak::start(&shim, cycle);
    eprintln!(
        "cycle\tlife\twrites\treads\tstreams\tkills\tfaults\treloads\tresident KiB\tdescriptors\tthreads\ttasks\tbuffer\tdatabase\tWAL\tfiles"
    );
    let mut lives = vec![Vec::new()];
    for number in 0..cycles {
        let kills = number < cycles / 2 && number % A_KILL_IN == A_KILL_IN - 1;
        let ends = Instant::now() + cycle;
        soak.cycle(kills);
        if kills {
            lives.push(Vec::new());
        }
        let held = soak.at_rest();
        lives.last_mut().unwrap().push(held);
        thread::sleep(ends.saturating_duration_since(Instant::now()));
        let figures = held.each().map(|(_, figure)| figure.to_string()).join("\t");
        eprintln!("{}\t{}\t{}\t{figures}", number + 1, lives.len(), soak.counts());
    }
    let last = lives.last().unwrap();
    let third = last.len() / 3;
    assert!(third > 0, "a life is too short to compare: {}", last.len());
    let (early, late) = (highest(&last[..2 * third]), highest(&last[last.len() - third..]));
    for ((early, late), slack) in early.into_iter().zip(late).zip(SLACK.each()) {
        assert!(late.1 <= early.1 + slack.1, "{}: {} at first, {} at the end", early.0, early.1, late.1);
    }
}

struct Soak {
    fender: Option<Fender>,
    ledger: Arc<Ledger>,
    upstream: Upstream,
    disk: FailingDisk,
    /// Each in its turn.
    setups: [Setup; 2],
    address: Arc<Mutex<SocketAddr>>,
    cycle: Duration,
    reads: Arc<AtomicU64>,
    streams: Arc<AtomicU64>,
    kills: u32,
    faults: u64,
    reloads: usize,
}

impl Soak {
    fn start(shim: &Shim, cycle: Duration) -> Self {
        let ledger = Arc::new(Ledger::new(fastrand::u64(..)));
        let upstream = upstream(&ledger);
        let disk = FailingDisk::new(shim);
        let store = disk.path().join("letters.db");
        let setup = |attempts: u32| {
            let lines = LETTERS.replace("max_attempts = 2", &format!("max_attempts = {attempts}"));
            assert!(attempts == 2 || lines != LETTERS);
            let setup = Setup::new(format!("[dead_letter]\npath = {store:?}\n{}", upstream.as_api(&lines)))
                .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"s\"\n")
                .server("workers = 2\n");
            disk.under(setup)
        };
        let setups = [setup(2), setup(3)];
        let fender = setups[0].clone().start();
        let address = Arc::new(Mutex::new(fender.server()));
        let (reads, streams) = (Arc::default(), Arc::default());
        let fender = Some(fender);
        Self {
            fender,
            ledger,
            upstream,
            disk,
            setups,
            address,
            cycle,
            reads,
            streams,
            kills: 0,
            faults: 0,
            reloads: 0,
        }
    }

    fn fender(&self) -> &Fender {
        self.fender.as_ref().expect("it runs")
    }

    /// Traffic and trouble for four fifths of the time, then rest.
    fn cycle(&mut self, kills: bool) {
        let (start, lasts) = (Instant::now(), self.cycle);
        let part = |percent: u32| (start + lasts * percent / 100).saturating_duration_since(Instant::now());
        self.ledger.trouble(true);
        let stop = Arc::new(AtomicBool::new(false));
        let clients = self.clients(&stop);
        thread::sleep(part(20));
        self.reload();
        thread::sleep(part(30));
        if kills {
            // Not beside a failing disk: who dies then may keep what it could not take back, as is said of it.
            self.fender = None; // kill -9
            let fender = self.setups[0].clone().start();
            *self.address.lock().unwrap() = fender.server();
            self.fender = Some(fender);
            self.kills += 1;
        } else {
            self.disk.arm(self.fault());
            thread::sleep(part(45));
            self.disk.disarm();
            self.faults += self.disk.hit();
        }
        thread::sleep(part(60));
        self.reload();
        thread::sleep(part(80));
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().expect("a client found nothing amiss"));
    }

    fn fault(&self) -> Fault {
        let dice = |below: usize| usize::try_from(self.ledger.dice(below as u64)).unwrap();
        // A read that fails for long makes a letter look damaged, as is said of it.
        let calls: Vec<Call> = Call::ALL.into_iter().filter(|call| *call != Call::Read).collect();
        let call = calls[dice(calls.len())];
        let kind = call.kinds()[dice(call.kinds().len())];
        Fault { call, kind, nth: 1 + self.ledger.dice(20), on: dice(2) == 0 }
    }

    fn reload(&mut self) {
        self.reloads += 1;
        let setup = &self.setups[self.reloads % 2];
        self.fender().rewrite_config(setup);
        self.fender().sighup();
    }

    fn clients(&self, stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
        let (ledger, address) = (Arc::clone(&self.ledger), Arc::clone(&self.address));
        let write = move || {
            let address = *address.lock().unwrap();
            one_write(&ledger, address);
            thread::sleep(Duration::from_millis(ledger.dice(60)));
        };
        let (ledger, address, reads) =
            (Arc::clone(&self.ledger), Arc::clone(&self.address), Arc::clone(&self.reads));
        let read = move || {
            let address = *address.lock().unwrap();
            let Some(mut client) = Client::try_connect(address) else { return };
            for _ in 0..20 {
                client.send("GET /read HTTP/1.1\r\nhost: a\r\n\r\n");
                if client.try_response("GET").is_none() {
                    return;
                }
                reads.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(ledger.dice(20)));
            }
        };
        let (address, streams) = (Arc::clone(&self.address), Arc::clone(&self.streams));
        let stream = move || {
            let address = *address.lock().unwrap();
            let Some(mut client) = Client::try_connect(address) else { return };
            client.send("GET /stream HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n");
            streams.fetch_add(u64::from(client.try_response("GET").is_some()), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
        };
        let mut clients = Vec::new();
        clients.extend((0..WRITERS).map(|_| again(stop, write.clone())));
        clients.extend((0..READERS).map(|_| again(stop, read.clone())));
        clients.push(again(stop, stream));
        clients
    }

    /// Everything is delivered and judged, and what it left cleared away; what is held then.
    fn at_rest(&self) -> Held {
        self.ledger.trouble(false);
        let fender = self.fender();
        let healthy = || fender.metric("fender_dead_letter_store_healthy", &[]) > 0.0;
        eventually("the store is well again", healthy);
        eventually("the letters are delivered", || waiting(fender) == 0.0);
        self.ledger.close(&letters(fender));
        self.upstream.forget();
        loop {
            let parked = ask(
                fender,
                "POST",
                "/api/v1/letters/discard",
                "{\"filter\":{\"state\":\"parked\"},\"limit\":1000}",
            );
            if parked["done"].as_array().expect("what was discarded").is_empty() {
                break;
            }
        }
        ask(fender, "POST", "/api/v1/letters/purge", "");
        eventually("nothing is in flight", || {
            let overview = ask(fender, "GET", "/api/v1/overview", "");
            (overview["in_flight"].as_u64(), overview["connections"].as_u64()) == (Some(0), Some(0))
        });
        thread::sleep(Duration::from_millis(1100)); // Tasks are counted once a second.
        Held::by(fender, &self.disk.path())
    }

    fn counts(&self) -> String {
        let (reads, streams) = (self.reads.load(Ordering::Relaxed), self.streams.load(Ordering::Relaxed));
        let Self { kills, faults, reloads, .. } = self;
        format!("{}\t{reads}\t{streams}\t{kills}\t{faults}\t{reloads}", self.ledger.writes())
    }
}

/// Does this until it is told to stop.
fn again(stop: &Arc<AtomicBool>, mut work: impl FnMut() + Send + 'static) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            work();
        }
    })
}

/// What the operator's API answers.
fn ask(fender: &Fender, method: &str, path: &str, body: &str) -> serde_json::Value {
    let fields = "authorization: Bearer s\r\ncontent-type: application/json\r\n";
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = Client::connect(fender.admin()).request(method, path, fields, body.as_bytes());
        if answer.status() == 200 {
            return answer.json();
        }
        assert!(Instant::now() < until, "{method} {path}: {} {}", answer.status(), answer.text());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Writes as elsewhere; reads that fail at times; streams that are cut at times.
fn upstream(ledger: &Arc<Ledger>) -> Upstream {
    let ledger = Arc::clone(ledger);
    Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let troubled = |percent| ledger.troubled(percent);
            let goes_on = match received.head.target() {
                "/read" if troubled(10) => connection.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"),
                "/read" if troubled(5) => false,
                "/read" => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nread"),
                "/stream" => streamed(connection, if troubled(20) { 10 } else { 20 }),
                _ => acted_on(&ledger, connection, &received),
            };
            if !goes_on {
                return;
            }
        }
    })
}

/// So many of twenty events, and the end only after all of them.
fn streamed(connection: &mut crate::support::Connection, events: u32) -> bool {
    connection
        .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..events {
        if !connection.send("f\r\ndata: an event\n\r\n") {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    events == 20 && connection.send("0\r\n\r\n")
}
