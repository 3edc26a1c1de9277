//! The store beside what a disk can do at all: letters captured durably a second, and as many appends of the same bytes to a
//! bare file, each with its `fdatasync`, interleaved in one run. Then what a great backlog costs, how fast one goes out again, and
//! what captures do to the traffic beside them.
//!
//! `--check` fails beyond the limits; `--rounds N` measures longer; `--beside` measures the last alone.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure stops at once")]
#![expect(clippy::print_stdout, reason = "its table is what it is for")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a bench that cannot measure stops at once")]

mod beside;
mod drain;
#[path = "../proxy/load.rs"]
#[expect(dead_code, reason = "the proxy's bench uses the rest")]
mod load;
mod paced;
#[path = "../proxy/peers.rs"]
#[expect(dead_code, reason = "the proxy's bench uses the rest")]
mod peers;
#[path = "../proxy/subject.rs"]
#[expect(dead_code, reason = "the proxy's bench uses the rest")]
mod subject;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fender::config::model::{DeadLetter, Sync};
use fender::deadletter::{Begin, Captured, Draft, Filter, Store};
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;
use fender::policy::verdict::Verdict;

const BODY: usize = 4 << 10;
const SLICE: Duration = Duration::from_millis(300);
const ROUNDS: usize = 7;
const BACKLOG: u64 = 100_000;

/// One client may get so few captures for each bare append: flushes begin 4 ms apart. 64 clients share commits, and must get more.
const ALONE_MIN: f64 = 0.04;
const SHARED_MIN: f64 = 1.0;
const OPEN_MAX: Duration = Duration::from_millis(300);
const PAGE_MAX: Duration = Duration::from_millis(20);
const RESIDENT_MAX_MIB: f64 = 8.0;

/// What a thousand captures a second may make of the p99 of the reads beside them, over what the same traffic makes of it where
/// its writes are refused and a bare file is flushed as often: that much is the machine's.
const BESIDE_MAX: f64 = 1.1;

/// Letters delivered a second: where the config says how many, and where nothing holds them up.
const PACED: f64 = 200.0;
const PACED_WITHIN: f64 = 0.05;
const UNLIMITED_MIN: f64 = 2000.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rounds = words.iter().skip_while(|word| *word != "--rounds").nth(1);
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["backlog", path] => return backlog(Path::new(path)),
        ["role", "upstream", listen] => {
            peers::upstream(listen.parse().unwrap());
            return ExitCode::SUCCESS;
        }
        ["role", "paced", target, path, per_second, status, millis] => {
            let slice = Duration::from_millis(millis.parse().unwrap());
            paced::run(target.parse().unwrap(), path, per_second.parse().unwrap(), status, slice);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }

    let mut missed = Vec::new();
    if !words.contains(&"--beside") {
        missed.extend(store(folder.path(), rounds));
        missed.extend(drains(folder.path()));
    }
    let [over_alone, over_flushed] = beside::measure(folder.path(), rounds);
    println!(
        "p99 beside captures: {over_alone:.2} of alone, {over_flushed:.2} of beside refusals and bare flushes"
    );
    if over_flushed > BESIDE_MAX {
        missed.push(format!("p99 beside captures over that beside the same traffic and bare flushes: {over_flushed:.2}, at most {BESIDE_MAX}"));
    }
    for miss in &missed {
        println!("beyond the limit: {miss}");
    }
    if words.contains(&"--check") && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the store does by itself; what of it is missed.
fn store(folder: &Path, rounds: usize) -> Vec<String> {
    let mut missed = Vec::new();
    println!("{rounds} rounds of {SLICE:?}, bodies of {BODY} bytes; latency in us\n");
    println!("{:>8} {:<8} {:>10} {:>8} {:>8} {:>7}", "clients", "", "a second", "p50", "p99", "ratio");
    for clients in [1, 8, 64] {
        let ratio = captures(folder, clients, rounds);
        let least = if clients == 64 { SHARED_MIN } else { ALONE_MIN };
        if ratio < least {
            missed.push(format!("{clients} clients: {ratio:.2} of a bare file, at least {least}"));
        }
    }

    let path = folder.join("backlog.db");
    fill(&path);
    // In a process of its own, whose memory is the store's.
    let own = std::env::current_exe().unwrap();
    let status = std::process::Command::new(own).arg("backlog").arg(&path).status().unwrap();
    if !status.success() {
        missed.push("a backlog".to_owned());
    }
    missed
}

/// Prints how fast letters go out; gives what is beyond the limits.
fn drains(folder: &Path) -> Vec<String> {
    let paced = drain::measure(folder, "paced", 2000, &format!("per_second = {PACED:.1}, concurrency = 16"));
    let unlimited = drain::measure(folder, "unlimited", 20_000, "per_second = 1000000.0, concurrency = 64");
    println!(
        "\nreplays: {paced:.1} a second where {PACED} are allowed, {unlimited:.0} where nothing holds them up"
    );
    let mut missed = Vec::new();
    if (paced / PACED - 1.0).abs() > PACED_WITHIN {
        missed.push(format!("replays: {paced:.1} a second, not {PACED} within {PACED_WITHIN}"));
    }
    if unlimited < UNLIMITED_MIN {
        missed.push(format!("replays: {unlimited:.0} a second, at least {UNLIMITED_MIN}"));
    }
    missed
}

/// Prints both rows; gives captures for each bare append.
fn captures(folder: &Path, clients: usize, rounds: usize) -> f64 {
    let path = folder.join(format!("letters-{clients}.db"));
    let (store, _) = Store::open(&settings(&path)).unwrap();
    let (sealing, _) = Store::open(&sealing(&folder.join(format!("sealed-{clients}.db")))).unwrap();
    let mut bare = File::create(folder.join(format!("bare-{clients}"))).unwrap();
    let runtime = runtime();
    let (mut kept, mut sealed, mut appended) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        appended.extend(append(&mut bare));
        kept.extend(runtime.block_on(capture_all(&store, clients)));
        sealed.extend(runtime.block_on(capture_all(&sealing, clients)));
    }
    runtime.block_on(store.close());
    runtime.block_on(sealing.close());
    let time = SLICE.as_secs_f64() * count(rounds);
    let (kept_rate, bare_rate) = (count(kept.len()) / time, count(appended.len()) / time);
    let ratio = kept_rate / bare_rate;
    let row = |name: &str, rate: f64, times: &mut Vec<Duration>, ratio: f64| {
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).map_or(0, Duration::as_micros);
        println!("{clients:>8} {name:<8} {rate:>10.0} {:>8} {:>8} {ratio:>7.2}", at(50), at(99));
    };
    row("bare", bare_rate, &mut appended, 1.0);
    row("store", kept_rate, &mut kept, ratio);
    let sealed_rate = count(sealed.len()) / time;
    row("sealed", sealed_rate, &mut sealed, sealed_rate / bare_rate);
    ratio
}

fn append(file: &mut File) -> Vec<Duration> {
    let (end, body, mut times) = (Instant::now() + SLICE, vec![b'x'; BODY], Vec::new());
    while Instant::now() < end {
        let start = Instant::now();
        file.write_all(&body).unwrap();
        file.sync_data().unwrap();
        times.push(start.elapsed());
    }
    times
}

async fn capture_all(store: &Store, clients: usize) -> Vec<Duration> {
    let end = Instant::now() + SLICE;
    let client = |store: Store| async move {
        let mut times = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            let captured = store.capture(draft(0)).await;
            assert!(matches!(captured, Ok(Captured::New(_))), "{captured:?}");
            times.push(start.elapsed());
        }
        times
    };
    let all: tokio::task::JoinSet<_> = (0..clients).map(|_| client(store.clone())).collect();
    all.join_all().await.into_iter().flatten().collect()
}

fn fill(path: &Path) {
    let (store, _) = Store::open(&DeadLetter { sync: Sync::Normal, ..settings(path) }).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        capture_many(&store, 0..BACKLOG, draft).await;
        store.close().await;
    });
}

/// A letter for each number, a thousand at once.
async fn capture_many(store: &Store, numbers: std::ops::Range<u64>, draft: impl Fn(u64) -> Draft) {
    let numbers: Vec<u64> = numbers.collect();
    for chunk in numbers.chunks(1000) {
        let one = |number: &u64| {
            let (store, draft) = (store.clone(), draft(*number));
            async move { store.capture(draft).await.map(|_| ()) }
        };
        let all: tokio::task::JoinSet<_> = chunk.iter().map(one).collect();
        all.join_all().await.into_iter().for_each(|captured| captured.unwrap());
    }
}

/// Opens a great backlog, asks about it, and tells the times and the memory.
fn backlog(path: &Path) -> ExitCode {
    let runtime = runtime();
    let before = resident_mib();
    let start = Instant::now();
    let (store, _) = Store::open(&settings(path)).unwrap();
    let opened = start.elapsed();
    let mut slowest = Duration::ZERO;
    let mut page = |what: &str, filter: Filter| {
        let start = Instant::now();
        let page = runtime.block_on(store.list(filter, 50, None)).unwrap();
        let took = start.elapsed();
        slowest = slowest.max(took);
        println!("  {what}: {took:.1?} ({} letters)", page.letters.len());
    };
    println!("\n{BACKLOG} letters of {BODY} bytes");
    page("first page", Filter::default());
    page("of one reason", Filter { reason: Some(Reason::Tls), ..Filter::default() });
    page("of a reason that none has", Filter { reason: Some(Reason::Quota), ..Filter::default() });
    page("of one key", Filter { key: Some("8".to_owned()), ..Filter::default() });
    let start = Instant::now();
    let due = runtime.block_on(store.due("api", true, u64::MAX, 100)).unwrap().len();
    println!("  due: {:.1?} ({due} letters)", start.elapsed());
    let grown = resident_mib() - before;
    println!("  opened in {opened:.1?}, {grown:.1} MiB resident for it all");
    runtime.block_on(store.close());
    if opened <= OPEN_MAX && slowest <= PAGE_MAX && grown <= RESIDENT_MAX_MIB {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn settings(path: &Path) -> DeadLetter {
    DeadLetter {
        path: path.to_owned(),
        max_bytes: 8 << 30,
        sync: Sync::Full,
        encryption_key: None,
        old_encryption_keys: Vec::new(),
        retain_delivered: Duration::from_secs(86_400),
        retain_parked: None,
    }
}

/// As [`settings`], with a key.
fn sealing(path: &Path) -> DeadLetter {
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned();
    DeadLetter { encryption_key: Some(key.into()), ..settings(path) }
}

fn draft(number: u64) -> Draft {
    Draft {
        upstream: "api".to_owned(),
        route: "/api".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/messages".to_owned(),
        headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
        body: vec![b'x'; BODY].into(),
        credentials: None,
        verdict: Verdict::NeverSent,
        reason: Some(if number % 1000 == 7 { Reason::Tls } else { Reason::Connect }),
        begin: Begin::Pending { next_attempt_at_ms: 1 },
        order_key: number.is_multiple_of(2).then(|| (number % 1000).to_string()),
        idempotency_key: None,
        key_header: None,
        repeatable: false,
        priority: 0,
        expires_at_ms: u64::MAX,
        attempts: vec![fender::deadletter::Attempt {
            at_ms: 1,
            outcome: Outcome::Transient,
            status: None,
            error: Some("connection refused".to_owned()),
            duration_ms: 1,
            answer: None,
        }],
    }
}

/// One that waits for no other.
fn unkeyed(number: u64) -> Draft {
    Draft { order_key: None, ..draft(number) }
}

#[expect(clippy::cast_precision_loss, reason = "a count of a bench is far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Anonymous memory of this process.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}
