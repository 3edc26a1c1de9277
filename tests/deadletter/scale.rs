//! A great backlog costs neither memory nor time.

use std::time::{Duration, Instant};

use fender::config::model::Sync;
use fender::deadletter::{Because, Begin, Draft, Filter, State, Store};
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
