//! A great backlog costs neither memory nor time, and goes without holding up who writes.
//!
//! `FENDER_SCALE` says how many letters drain; `just scale` takes a million.

use std::time::{Duration, Instant};

use fender::config::model::Sync;
use fender::deadletter::{Act, Because, Begin, Captured, Draft, Filter, State, Store};
use fender::policy::reason::Reason;

use super::{Bench, LATE, draft};

/// More of them are in `benches/deadletter`.
const LETTERS: u32 = 30_000;

/// Anonymous memory of this process, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn stored(number: u32) -> Draft {
    let mut draft = draft(format!("{number}{}", " ".repeat(1000)));
    draft.upstream = format!("u{}", number % 5);
    draft.order_key = number.is_multiple_of(2).then(|| format!("k{}", number % 1000));
    draft.reason = Some(if number % 1000 == 1 { Reason::Tls } else { Reason::Timeout });
    if number % 10 == 3 {
        draft.begin = Begin::Parked(Because::Permanent);
    }
    draft
}

/// Figures are printed; the bounds are for a slow machine and an unoptimised build.
#[test]
fn a_great_backlog_costs_neither_memory_nor_time() {
    let before = resident();
    let mut bench = Bench::with(|settings| (settings.max_bytes, settings.sync) = (1 << 30, Sync::Normal));
    bench.ask(async |store| {
        for chunk in 0..LETTERS / 200 {
            let each = (0..200).map(|number| {
                let (store, draft) = (store.clone(), stored(chunk * 200 + number));
                async move { store.capture(draft).await.unwrap() }
            });
            let set: tokio::task::JoinSet<_> = each.collect();
            set.join_all().await;
        }
    });
    bench.close();
    let start = Instant::now();
    let (store, _) = Store::open(&bench.settings).unwrap();
    let opened = start.elapsed();
    bench.store = Some(store);
    let after_open = resident() - before;

    let timed = |what: &str, most: u64, filter: Filter, want: usize| {
        let start = Instant::now();
        let page = bench.ask(async |store| store.list(filter, 50, None).await).unwrap();
        let took = start.elapsed();
        eprintln!("{what}: {took:?}");
        assert_eq!(page.letters.len(), want, "{what}");
        assert!(took < Duration::from_millis(most), "{what}: {took:?}");
    };
    let all = Filter::default;
    timed("first page", 200, all(), 50);
    timed("first page, again", 200, all(), 50);
    timed("parked", 200, Filter { state: Some(State::Parked), ..all() }, 50);
    timed("rare reason", 400, Filter { reason: Some(Reason::Tls), ..all() }, 30);
    timed("no such reason", 400, Filter { reason: Some(Reason::Quota), ..all() }, 0);
    timed("none delivered", 200, Filter { state: Some(State::Delivered), ..all() }, 0);
    timed("one key", 400, Filter { key: Some("k500".to_owned()), ..all() }, 30);
    timed(
        "one upstream, one state",
        400,
        Filter { upstream: Some("u3".to_owned()), state: Some(State::Parked), ..all() },
        50,
    );
    timed("the oldest", 400, Filter { until_ms: Some(1), ..all() }, 0);
    let start = Instant::now();
    let due = bench.ask(async |store| store.due("u1", true, LATE, 100).await).unwrap();
    eprintln!("due: {:?}", start.elapsed());
    assert_eq!(due.len(), 100);
    let start = Instant::now();
    assert!(bench.ask(async |store| store.waiting("u0", "k500", false).await).unwrap());
    eprintln!("waiting: {:?}", start.elapsed());
    let start = Instant::now();
    bench.ask(async |store| store.stats(all()).await).unwrap();
    eprintln!("stats: {:?}", start.elapsed());
    let grown = resident() - before;
    eprintln!(
        "opened in {opened:?}, {after_open} KiB more than before there was a letter, {grown} KiB after all of it"
    );
    assert!(opened < Duration::from_secs(1), "{opened:?}");
    assert!(grown < 16 << 10, "{grown} KiB");
}

/// Letters that drain where nobody says how many.
const DRAINED: u32 = 20_000;

/// What of them is kept: the others go by retention.
fn stays(number: u32) -> bool {
    number.is_multiple_of(10)
}

/// Of 1 to 16 KiB.
fn sized(number: u32) -> Draft {
    let mut draft = stored(number);
    draft.body =
        vec![b'x'; 1024 + usize::try_from(number.wrapping_mul(2_654_435_761) >> 18).unwrap() % 15_360].into();
    draft.order_key = None;
    draft.begin = if stays(number) {
        Begin::Pending { next_attempt_at_ms: LATE }
    } else {
        Begin::Parked(Because::Permanent)
    };
    draft
}

/// How long a capture takes, one after the other, while `other` is at work; the last percentile, and the longest.
async fn beside<T>(store: &Store, other: impl Future<Output = T>) -> (T, [Duration; 2]) {
    let (mut other, mut took) = (std::pin::pin!(other), Vec::new());
    loop {
        let capture = async {
            let start = Instant::now();
            assert!(matches!(store.capture(sized(0)).await, Ok(Captured::New(_))));
            start.elapsed()
        };
        tokio::select! {
            biased;
            done = &mut other => {
                took.sort_unstable();
                let at = |share: usize| took.get(took.len() * share / 100).or(took.last()).copied().unwrap_or_default();
                return (done, [at(99), at(100)]);
            }
            one = capture => took.push(one),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn fill(bench: &Bench, letters: u32) {
    bench.ask(async |store| {
        for first in (0..letters).step_by(200) {
            let each = (first..(first + 200).min(letters)).map(|number| {
                let (store, draft) = (store.clone(), sized(number));
                async move { store.capture(draft).await.unwrap() }
            });
            let set: tokio::task::JoinSet<_> = each.collect();
            set.join_all().await;
        }
    });
}

/// What operators ask of a great backlog.
fn asked(bench: &Bench, letters: u32) {
    let timed = |what: &str, most: Duration, start: Instant| {
        eprintln!("{what}: {:.1?}", start.elapsed());
        assert!(start.elapsed() < most, "{what}: {:?}", start.elapsed());
    };
    let page =
        |filter: Filter| bench.ask(async |store| store.list(filter, 50, None).await).unwrap().letters.len();
    let all = Filter::default;
    for (what, filter) in [
        ("first page", all()),
        ("one state", Filter { state: Some(State::Pending), ..all() }),
        ("a rare reason", Filter { reason: Some(Reason::Tls), ..all() }),
        (
            "one upstream and state",
            Filter { upstream: Some("u3".to_owned()), state: Some(State::Parked), ..all() },
        ),
    ] {
        let start = Instant::now();
        let found = page(filter);
        timed(what, Duration::from_secs(2), start);
        assert!(found > 15, "{what}: {found}");
    }
    let start = Instant::now();
    bench.ask(async |store| store.stats(all()).await).unwrap();
    timed("stats", Duration::from_secs(1), start);
    let start = Instant::now();
    let ten = Filter { state: Some(State::Pending), ..all() };
    let hastened = bench.ask(async |store| store.bulk(ten, 1000, Act::Replay).await).unwrap();
    timed("replay of a thousand", Duration::from_secs(20), start);
    assert!(hastened.failed.is_empty() && hastened.done.len() == 1000.min(letters / 10) as usize);
}

/// Retention until there is no more to do: how many letters went, and how long the longest turn took.
async fn drains(store: &Store) -> (usize, Duration) {
    let (mut removed, mut longest) = (0, Duration::ZERO);
    loop {
        let start = Instant::now();
        let retained = store.retain(super::now_ms()).await.unwrap();
        removed += retained.removed.len();
        longest = longest.max(start.elapsed());
        if !retained.more {
            return (removed, longest);
        }
        // As the process does it: then it is others' for as long.
        tokio::time::sleep(start.elapsed()).await;
    }
}

/// Until every letter is sealed with the current key: how many were, and how long the longest turn took.
async fn sealed_anew(store: &Store) -> (u64, Duration) {
    let (mut resealed, mut longest) = (0, Duration::ZERO);
    loop {
        let start = Instant::now();
        let tended = store.tend().await.unwrap();
        resealed += tended.resealed;
        longest = longest.max(start.elapsed());
        if !tended.more {
            return (resealed, longest);
        }
        tokio::time::sleep(start.elapsed()).await;
    }
}

fn letters() -> u32 {
    std::env::var("FENDER_SCALE").map_or(DRAINED, |letters| letters.parse().expect("a number"))
}

fn a_great_store(letters: u32, change: impl FnOnce(&mut fender::config::model::DeadLetter)) -> Bench {
    let max_bytes = u64::from(letters) * (16 << 10) + (1 << 30);
    let bench = Bench::with(|settings| {
        (settings.max_bytes, settings.sync) = (max_bytes, Sync::Normal);
        change(settings);
    });
    let start = Instant::now();
    fill(&bench, letters);
    eprintln!("{letters} letters, {} MiB, captured in {:.1?}", size(&bench) >> 20, start.elapsed());
    bench
}

/// Figures are printed; the bounds are for a slow machine and an unoptimised build.
#[test]
fn a_great_backlog_drains_beside_captures_and_gives_its_space_back() {
    let letters = letters();
    let before = resident();
    let mut bench = a_great_store(letters, |_| ());
    let filled = size(&bench);
    bench.close();
    // From now on what is parked has been kept long enough, and each commit is on disk.
    bench.settings.retain_parked = Some(Duration::ZERO);
    bench.settings.sync = Sync::Full;
    bench.open();
    drained(&mut bench, letters, filled, before);
}

/// The same, sealed; and under another key from one day to the next.
#[test]
fn a_great_sealed_backlog_takes_another_key_and_drains_alike() {
    let letters = letters();
    let before = resident();
    let mut bench = a_great_store(letters, |settings| super::sealed::set_keys(settings, &[0]));
    let filled = size(&bench);
    bench.close();
    bench.settings.retain_parked = Some(Duration::ZERO);
    bench.settings.sync = Sync::Full;
    super::sealed::set_keys(&mut bench.settings, &[1, 0]);
    bench.open();
    let start = Instant::now();
    let ((resealed, longest), [late, latest]) =
        bench.ask(async |store| beside(store, sealed_anew(store)).await);
    eprintln!(
        "{resealed} letters sealed anew in {:.1?}, no turn longer than {longest:.1?}; beside it a capture took {late:.1?} at \
         p99, {latest:.1?} at most",
        start.elapsed()
    );
    assert_eq!(resealed, u64::from(letters));
    assert!(late < Duration::from_millis(500), "{late:?}");
    drained(&mut bench, letters, filled, before);
}

/// What operators ask of it, then all that retention does, beside captures.
fn drained(bench: &mut Bench, letters: u32, filled: u64, before: i64) {
    asked(bench, letters);
    bench.close();
    let start = Instant::now();
    bench.open();
    let opened = start.elapsed();
    purged(bench);
    let start = Instant::now();
    let ((removed, longest), [late, latest]) = bench.ask(async |store| beside(store, drains(store)).await);
    let took = start.elapsed();
    eprintln!(
        "{removed} letters removed in {took:.1?}, no turn longer than {longest:.1?}; beside it a capture took {late:.1?} at p99, \
         {latest:.1?} at most"
    );
    assert_eq!(removed, (0..letters).filter(|number| !stays(*number)).count() - 1000);
    assert!(late < Duration::from_millis(500), "{late:?}");
    let left = size(bench);
    eprintln!("{} of {} MiB are left, opened in {opened:.1?}", left >> 20, filled >> 20);
    assert!(left < filled / 5 + (4 << 20), "{left} of {filled}");
    let start = Instant::now();
    let report = bench.ask(async |store| store.verify().await).unwrap();
    eprintln!("verification of {} letters: {:.1?}", report.letters, start.elapsed());
    assert_eq!((report.damaged, report.file), (vec![], vec![]));
    let grown = resident() - before;
    eprintln!("{grown} KiB more than before there was a letter");
    assert!(opened < Duration::from_secs(1), "{opened:?}");
    assert!(grown < 24 << 10, "{grown} KiB");
}

/// A thousand of those that are parked, discarded and purged.
fn purged(bench: &Bench) {
    let start = Instant::now();
    let parked = Filter { state: Some(State::Parked), ..Filter::default() };
    let discarded = bench.ask(async |store| store.bulk(parked, 1000, Act::Discard).await).unwrap();
    let removed = bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
    eprintln!("a thousand discarded and purged: {:.1?}", start.elapsed());
    assert_eq!((discarded.done.len(), removed), (1000, 1000));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// What the database alone occupies.
fn size(bench: &Bench) -> u64 {
    std::fs::metadata(bench.path()).unwrap().len()
}
