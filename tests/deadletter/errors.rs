//! The n-th flush of the disk fails, for many n: what was accepted is there, what was refused is not, and the store goes on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fender::deadletter::{Captured, Filter, LetterId, State, Store};

use super::{Bench, draft, runtime, settings};

/// The environment variable that makes this test's executable the one whose disk fails.
const STORE: &str = "FENDER_TEST_STORE_WHOSE_DISK_FAILS";

/// Set where the failures end.
const HEALS: &str = "FENDER_TEST_DISK_HEALS";

const LETTERS: u32 = 40;

/// Captures, and tells what became of each.
#[test]
fn the_process_whose_disk_fails() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let heals = std::env::var_os(HEALS).is_some();
    let (store, _) = match Store::open(&settings(path.as_ref())) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("\nunopened {error}");
            return;
        }
    };
    runtime().block_on(async {
        for number in 0..LETTERS {
            match store.capture(draft(format!("{number}"))).await {
                Ok(Captured::New(receipt)) => eprintln!("\nkept {}", receipt.id()),
                other => eprintln!("\nrefused {number} {other:?}"),
            }
            // A disk that heals is tried again within a second or two; one that does not is not waited for.
            let until = Instant::now() + Duration::from_secs(3);
            while heals && !store.figures().healthy && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        eprintln!("\nhealthy {}", store.figures().healthy);
        store.close().await;
    });
}

/// Runs the child with its `nth` call of `call` failing; what it told.
fn told(path: &Path, call: &str, nth: &str) -> Option<Vec<String>> {
    let traced = path.with_extension("trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error=EIO:when={nth}"), "-o"])
        .arg(traced)
        .arg(std::env::current_exe().unwrap())
        .args(["deadletter::errors::the_process_whose_disk_fails", "--exact", "--nocapture"])
        .env(STORE, path)
        .envs((!nth.ends_with('+')).then_some((HEALS, "1")))
        .stdout(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: there is no strace to make a disk fail with");
        return None;
    };
    let text = String::from_utf8(output.stderr).unwrap();
    if !["\nkept ", "\nrefused ", "\nunopened "].iter().any(|told| text.contains(told)) {
        eprintln!("SKIPPED: strace may not trace here: {text}");
        return None;
    }
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn a_failed_flush_costs_at_most_what_was_refused() {
    let (mut met, mut ever_refused) = (0, 0);
    for call in ["fdatasync", "pwrite64"] {
        // Where the close that follows fails too, the WAL stays, and with it what the failed commit wrote.
        for nth in ["1", "2", "3", "4", "5", "7", "12", "25", "60", "9..10", "14..16"] {
            let mut bench = Bench::new();
            bench.capture(draft("before"));
            bench.close();
            let Some(lines) = told(&bench.path(), call, nth) else { return };
            met += injected(&bench.path());
            let when = format!("{call} {nth}: {lines:?}");
            let kept: Vec<LetterId> = lines
                .iter()
                .filter_map(|line| line.strip_prefix("kept "))
                .map(|id| id.parse().unwrap())
                .collect();
            let refused = lines.iter().filter(|line| line.starts_with("refused ")).count();
            let unopened = lines.iter().any(|line| line.starts_with("unopened "));
            assert!(unopened || kept.len() + refused == LETTERS as usize, "{when}");
            assert!(unopened || lines.iter().any(|line| line == "healthy true"), "{when}");
            assert!(refused <= 2, "{when}");
            ever_refused += refused;
            let opened = bench.open();
            assert_eq!(opened.set_aside, None, "{when}");
            assert_eq!(bench.store().figures().total(State::Pending), kept.len() as u64 + 1, "{when}");
            let page = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap();
            assert!(kept.iter().all(|id| page.letters.iter().any(|letter| letter.id == *id)), "{when}");
        }
    }
    eprintln!("{met} calls failed, {ever_refused} captures were refused");
    assert!(met >= 12 && ever_refused >= 4, "{met} calls failed, {ever_refused} captures were refused");
}

#[test]
fn a_disk_that_goes_on_failing_takes_nothing_that_was_accepted() {
    for (call, from) in [("fdatasync", "9+"), ("fdatasync", "15+"), ("pwrite64", "60+"), ("pwrite64", "90+")]
    {
        let mut bench = Bench::new();
        bench.close();
        let Some(lines) = told(&bench.path(), call, from) else { return };
        let kept: Vec<LetterId> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("kept "))
            .map(|id| id.parse().unwrap())
            .collect();
        let failed = injected(&bench.path());
        eprintln!("{call}: {failed} calls failed, {} letters were kept", kept.len());
        assert!(failed > 0 && lines.iter().any(|line| line == "healthy false"), "{call}: {lines:?}");
        bench.open();
        let page = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap();
        assert!(
            kept.iter().all(|id| page.letters.iter().any(|letter| letter.id == *id)),
            "{call}: {lines:?}"
        );
        // The one whose end is unknown may be there: the process ended before its disk was well.
        assert!(page.letters.len() <= kept.len() + 1, "{call}: {lines:?}");
    }
}

/// How many calls failed in the last run.
fn injected(path: &Path) -> usize {
    let trace = std::fs::read_to_string(path.with_extension("trace")).unwrap();
    trace.lines().filter(|line| line.contains("(INJECTED)")).count()
}
