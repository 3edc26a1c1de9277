//! Questions about many letters, and what operators do to many.

use fender::deadletter::{Act, Because, Begin, Draft, Filter, LetterId, State, StoreError};
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;

use super::{Bench, attempt, draft, keyed, now_ms};

fn listed(bench: &Bench, filter: &Filter, limit: u32) -> Vec<LetterId> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = bench.ask(async |store| store.list(filter.clone(), limit, cursor).await).unwrap();
        assert!(page.letters.len() <= limit as usize);
        assert!(page.next.is_none() || page.letters.len() == limit as usize);
        ids.extend(page.letters.iter().map(|letter| letter.id));
        let Some(next) = page.next else { return ids };
        cursor = Some(next.to_string().parse().unwrap());
    }
}

#[test]
fn pages_are_newest_first_and_miss_nothing() {
    let bench = Bench::new();
    let mut ids: Vec<LetterId> = (0..25).map(|_| bench.capture(draft("x"))).collect();
    ids.reverse();
    for limit in [1, 7, 25, 1000] {
        assert_eq!(listed(&bench, &Filter::default(), limit), ids, "{limit}");
    }
    assert!("nonsense".parse::<fender::deadletter::Cursor>().is_err());
}

#[test]
fn each_filter_finds_its_own_and_they_combine() {
    let bench = Bench::new();
    let before = now_ms();
    let plain = bench.capture(draft("x"));
    let other = bench.capture(Draft { upstream: "b".to_owned(), ..draft("x") });
    let timeout = bench.capture(Draft { reason: Some(Reason::Timeout), ..draft("x") });
    let key = bench.capture(keyed("x", "k"));
    let parked = bench.capture(Draft {
        begin: Begin::Parked(Because::Operator),
        reason: Some(Reason::Timeout),
        ..draft("x")
    });
    let find = |filter: Filter| listed(&bench, &filter, 2);
    let of = |name: &str| Some(name.to_owned());
    let all = || Filter::default();
    assert_eq!(find(Filter { upstream: of("b"), ..all() }), [other]);
    assert_eq!(find(Filter { upstreams: Some(vec!["b".to_owned(), "c".to_owned()]), ..all() }), [other]);
    assert_eq!(find(Filter { upstreams: Some(vec![]), ..all() }), []);
    assert_eq!(find(Filter { reason: Some(Reason::Timeout), ..all() }), [parked, timeout]);
    assert_eq!(find(Filter { key: of("k"), ..all() }), [key]);
    assert_eq!(find(Filter { state: Some(State::Parked), ..all() }), [parked]);
    assert_eq!(
        find(Filter { state: Some(State::Pending), reason: Some(Reason::Timeout), ..all() }),
        [timeout]
    );
    assert_eq!(find(Filter { since_ms: Some(before), ..all() }), [parked, key, timeout, other, plain]);
    assert_eq!(find(Filter { until_ms: Some(before), ..all() }), []);
    assert_eq!(find(Filter { upstream: of("b"), key: of("k"), ..all() }), []);
}

#[test]
fn a_bulk_act_tells_what_became_of_each() {
    let bench = Bench::new();
    let ids: Vec<LetterId> = (0..250).map(|_| bench.capture(draft("x"))).collect();
    bench.begin(ids[7]).unwrap();
    let bulk = |filter, limit, act| bench.ask(async |store| store.bulk(filter, limit, act).await).unwrap();
    let some = bulk(Filter::default(), 3, Act::Discard);
    assert_eq!((some.done.len(), some.failed.len()), (3, 0));
    assert_eq!(some.done[0], ids[249], "newest first");
    let sending = Filter { state: Some(State::Sending), ..Filter::default() };
    assert_eq!(bulk(sending, 10, Act::Replay).failed, [(ids[7], StoreError::Standing(State::Sending))]);
    let rest = bulk(Filter::default(), 10_000, Act::Discard);
    assert_eq!((rest.done.len(), rest.failed.len()), (246, 0));
    assert_eq!(bench.store().figures().total(State::Discarded), 249);
}

#[test]
fn a_purge_takes_what_is_done_with_and_nothing_else() {
    let bench = Bench::new();
    let ids: Vec<LetterId> = (0..150).map(|_| bench.capture(draft("x"))).collect();
    bench.deliver(ids[0]);
    ids[1..130].iter().for_each(|id| drop(bench.ask(async |store| store.discard(*id, None).await).unwrap()));
    let purge = |filter| bench.ask(async |store| store.purge(filter).await);
    let of = |state| Filter { state: Some(state), ..Filter::default() };
    assert!(matches!(purge(of(State::Pending)), Err(StoreError::Invalid(_))));
    assert_eq!(purge(Filter { upstream: Some("other".to_owned()), ..Filter::default() }), Ok(0));
    assert_eq!((purge(of(State::Delivered)), purge(Filter::default())), (Ok(1), Ok(129)));
    assert_eq!(listed(&bench, &Filter::default(), 100).len(), 20);
}

#[test]
fn the_figures_are_those_of_the_letters() {
    let mut bench = Bench::new();
    let attempts = |count| Draft { attempts: vec![attempt(Outcome::Transient); count], ..draft("x") };
    let first = bench.capture(attempts(1));
    bench.capture(attempts(3));
    bench.capture(Draft { upstream: "b".to_owned(), ..attempts(0) });
    bench.deliver(first);
    bench.reopen();
    let oldest = bench.letter(first).created_at_ms;
    let stats = bench.ask(async |store| store.stats(Filter::default()).await).unwrap();
    assert_eq!((stats.by_state()[&State::Pending], stats.by_state()[&State::Delivered]), (2, 1));
    assert_eq!((stats.attempts_max, stats.avg_duration_ms), (3, 12.0));
    assert!((stats.attempts_avg - 5.0 / 3.0).abs() < 1e-9);
    assert!(stats.oldest_at_ms >= Some(oldest));
    assert_eq!(stats.recent_failures.len(), 5);
    let scoped = Filter { upstreams: Some(vec!["b".to_owned()]), ..Filter::default() };
    let stats = bench.ask(async |store| store.stats(scoped).await).unwrap();
    assert_eq!((stats.by_upstream.len(), stats.attempts_max, stats.recent_failures.len()), (1, 0, 0));
    let figures = bench.store().figures();
    assert_eq!((figures.count("api", State::Pending), figures.total(State::Pending)), (1, 2));
    assert!(figures.healthy && !figures.full && figures.bytes > 100_000);
    assert!(figures.oldest_pending_ms["api"] >= oldest);
}

#[test]
fn retention_takes_what_the_config_says_and_tells_it() {
    let bench =
        Bench::with(|settings| settings.retain_parked = Some(std::time::Duration::from_secs(172_800)));
    let delivered = bench.capture(draft("x"));
    bench.deliver(delivered);
    let parked = bench.capture(Draft { begin: Begin::Parked(Because::Permanent), ..draft("x") });
    let expiring = bench.capture(Draft { expires_at_ms: 10, ..draft("x") });
    let kept = bench.capture(draft("x"));
    let retain =
        |hours: u64| bench.ask(async |store| store.retain(now_ms() + hours * 3_600_000).await).unwrap();
    let first = retain(0);
    assert_eq!(first.expired.iter().map(|gone| gone.id).collect::<Vec<_>>(), [expiring]);
    assert_eq!((first.removed.len(), first.more), (0, false));
    assert_eq!(bench.letter(expiring).parked_because, Some(Because::Expired));
    let next = retain(25);
    assert_eq!(
        next.removed.iter().map(|gone| (gone.id, gone.was)).collect::<Vec<_>>(),
        [(delivered, State::Delivered)]
    );
    let last = retain(49);
    assert_eq!(last.removed.iter().map(|gone| gone.id).collect::<Vec<_>>(), [parked, expiring]);
    assert_eq!(listed(&bench, &Filter::default(), 9), [kept]);
    assert_eq!(bench.ask(async |store| store.letter(parked).await), Err(StoreError::NotFound(parked)));
}

#[test]
fn space_goes_back_to_the_disk_in_small_steps() {
    let bench = Bench::new();
    let ids: Vec<LetterId> = (0..64).map(|_| bench.capture(draft(vec![7; 100_000]))).collect();
    for id in ids {
        bench.deliver(id);
    }
    let before = std::fs::metadata(bench.path()).unwrap().len();
    let mut turns = 0;
    while bench.ask(async |store| store.retain(now_ms() + 90_000_000).await).unwrap().more {
        turns += 1;
        assert!(turns < 50);
    }
    // What the last turns gave back reaches the file with the next checkpoint: closing makes one.
    let path = bench.path();
    bench.ask(async |store| store.close().await);
    let after = std::fs::metadata(path).unwrap().len();
    assert!(turns > 2 && after < before / 3, "{turns} turns: {before} -> {after}");
}
