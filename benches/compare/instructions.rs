//! Instructions in user space per request, counted by callgrind over the real binary with one worker. This program is client and
//! upstream in one thread, so each run has the same steps in the same order; the difference between a run and one of twice as many
//! requests is free of start and end. A record lies in `benches/instructions.toml`: beyond it by a tenth fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::machine::says;
use crate::report::Musts;
use crate::stepwise::{Kind, run_counted};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");

/// Beyond this part of the record it is told, up as a failure.
const TOLERANCE: f64 = 0.1;

const GET_MAX: f64 = 30_000.0;

const ONE: &str = "get_1k_among_1_route";
const MANY_ROUTES: &str = "get_1k_among_1000_routes";
const MANY_UPSTREAMS: &str = "get_1k_among_100_upstreams";

/// Name, what is counted, how many in the shorter run.
const CASES: [(&str, Kind, usize); 7] = [
    ("get_1k", Kind::Get, 1_000),
    ("post_4k", Kind::Post, 1_000),
    ("get_1k_new_connection", Kind::Fresh, 500),
    ("stream_event", Kind::Event, 1_000),
    (ONE, Kind::Many(1, 1), 1_000),
    (MANY_ROUTES, Kind::Many(1_000, 1), 1_000),
    (MANY_UPSTREAMS, Kind::Many(100, 100), 1_000),
];

type Counts = BTreeMap<String, u64>;

/// Counts, and compares with the record or writes it; whether all is well.
pub(crate) fn run(words: &[&str]) -> Result<bool, String> {
    let (write, keep) = match words {
        [] => (false, None),
        ["--write"] => (true, None),
        ["--keep", folder] => (false, Some(Path::new(folder))),
        _ => return Err(format!("not known: {words:?}; only --write and --keep FOLDER are")),
    };
    let Some(valgrind) = says("valgrind", "--version") else {
        eprintln!("skipped: instructions: valgrind is not installed");
        return Ok(true);
    };
    let mut counts = Counts::new();
    for (name, kind, count) in CASES {
        let counted = |count| {
            let kept = keep.map(|folder| folder.join(format!("callgrind.{name}.{count}")));
            run_counted(kind, count, kept.as_deref())
        };
        let (once, twice) = (counted(count)?, counted(2 * count)?);
        counts.insert(name.to_owned(), twice.saturating_sub(once) / count as u64);
    }
    if write {
        std::fs::write(FILE, written(&counts, &valgrind)).map_err(|error| format!("{FILE}: {error}"))?;
    }
    let verdicts = compared(&counts, &record()?);
    let mut well = true;
    println!("{:<28} {:>9} {:>9}", "instructions", "is", "recorded");
    for (line, good) in verdicts {
        println!("{line}");
        well &= good;
    }
    Ok(well)
}

/// What the record says of a GET; for the table of musts.
pub(crate) fn hold(musts: &mut Musts) {
    let record = record().unwrap_or_default();
    let of = |name: &str| record.get(name).map(|count| *count as f64);
    musts.hold("instructions in user space for a GET", of("get_1k"), GET_MAX, "");
    for (what, many) in [("1,000 routes", MANY_ROUTES), ("100 upstreams", MANY_UPSTREAMS)] {
        let over = of(many).zip(of(ONE)).map(|(many, one)| many / one);
        musts.hold(&format!("{what}, all used: instructions over 1 route"), over, 1.1, "");
    }
}

fn record() -> Result<Counts, String> {
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}; --write makes it"))?;
    toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))
}

fn written(counts: &Counts, valgrind: &str) -> String {
    let mut text = format!(
        "# Instructions in user space for one request, or one event of a stream: the release binary with all policies on, one worker,\n\
         # counted by callgrind ({valgrind}). `just instructions` compares with this, `just instructions --write` renews it.\n"
    );
    for (name, count) in counts {
        writeln!(text, "{name} = {count}").expect("a string");
    }
    text
}

/// A line for each, and whether it is well.
fn compared(counts: &Counts, record: &Counts) -> Vec<(String, bool)> {
    let judge = |(name, count): (&String, &u64)| {
        let Some(recorded) = record.get(name) else {
            return (format!("{name:<28} {count:>9} not recorded: --write does it"), false);
        };
        let part = *count as f64 / *recorded as f64 - 1.0;
        let word = if part > TOLERANCE {
            ": TOO MANY, at most a tenth more than recorded"
        } else if part < -TOLERANCE {
            ": a tenth fewer or better, renew the record with --write"
        } else {
            ""
        };
        let line = format!("{name:<28} {count:>9} {recorded:>9} {:>+6.1} %{word}", part * 100.0);
        (line, part <= TOLERANCE)
    };
    counts.iter().map(judge).collect()
}
