//! A write becomes a letter, once.

use std::os::unix::fs::PermissionsExt;

use fender::deadletter::{Because, Begin, Captured, Draft, LetterId, Settled, State, StoreError, TRAIL_MAX};
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;
use fender::policy::verdict::Verdict;

use super::{Bench, LATE, attempt, draft, standing};

fn under_key(body: &str, key: &str) -> Draft {
    Draft { idempotency_key: Some(key.to_owned()), ..draft(body) }
}

fn again(bench: &Bench, draft: Draft) -> Captured {
    bench.ask(async |store| store.capture(draft).await).unwrap()
}

#[test]
fn a_letter_is_what_was_captured() {
    let mut bench = Bench::new();
    let key_header = Some(("idempotency-key".to_owned(), "k1".to_owned()));
    let id = bench.capture(Draft {
        key_header: key_header.clone(),
        repeatable: true,
        priority: 7,
        ..draft("hello")
    });
    bench.reopen();
    let letter = bench.letter(id);
    assert_eq!((letter.state, letter.version, letter.attempts_made), (State::Pending, 1, 0));
    assert_eq!((letter.verdict, letter.reason), (Verdict::NeverSent, Some(Reason::Connect)));
    assert_eq!((letter.method.as_str(), letter.path.as_str()), ("POST", "/v1/messages?x=1"));
    assert_eq!((letter.key_header, letter.repeatable, letter.priority), (key_header, true, 7));
    assert_eq!((letter.body_bytes, letter.next_attempt_at_ms, letter.expires_at_ms), (5, Some(1), LATE));
    assert_eq!(letter.attempts, [attempt(Outcome::Transient)]);
    let content = bench.ask(async |store| store.content(id).await).unwrap();
    assert_eq!((content.headers, content.body.as_ref()), (draft("").headers, b"hello".as_slice()));
}

#[test]
fn a_receipt_says_how_durable_it_is_and_the_file_is_its_owners_alone() {
    let bench = Bench::new();
    let Captured::New(receipt) = again(&bench, draft("x")) else { panic!("captured before") };
    assert_eq!(receipt.durable(), "full");
    for file in std::fs::read_dir(bench.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn ids_rise_with_the_captures() {
    let mut bench = Bench::new();
    let mut ids: Vec<LetterId> = (0..20).map(|number| bench.capture(draft(format!("{number}")))).collect();
    bench.reopen();
    ids.extend((0..20).map(|number| bench.capture(draft(format!("{number}")))));
    assert!(ids.is_sorted_by(|one, other| one < other), "{ids:?}");
}

#[test]
fn a_second_capture_under_the_clients_key_is_the_same_letter() {
    let mut bench = Bench::new();
    let id = bench.capture(under_key("one", "k"));
    bench.reopen();
    assert_eq!(again(&bench, under_key("one", "k")), Captured::Already { id, state: State::Pending });
    assert_eq!(again(&bench, under_key("two", "k")), Captured::OtherBody { id });
    assert_eq!(bench.store().figures().total(State::Pending), 1);
}

#[test]
fn another_key_upstream_method_or_path_is_another_letter() {
    let bench = Bench::new();
    bench.capture(under_key("one", "k"));
    bench.capture(under_key("one", "other"));
    bench.capture(Draft { upstream: "b".to_owned(), ..under_key("one", "k") });
    bench.capture(Draft { method: "PUT".to_owned(), ..under_key("one", "k") });
    bench.capture(Draft { path: "/elsewhere".to_owned(), ..under_key("one", "k") });
    assert_eq!(bench.store().figures().total(State::Pending), 5);
}

#[test]
fn a_letter_that_is_done_with_lends_its_key_to_no_other() {
    let bench = Bench::new();
    let first = bench.capture(under_key("one", "k"));
    bench.deliver(first);
    let second = bench.capture(under_key("one", "k"));
    bench.ask(async |store| store.discard(second, None).await).unwrap();
    let third = bench.capture(Draft { begin: Begin::Parked(Because::Unanswered), ..under_key("one", "k") });
    assert_eq!(again(&bench, under_key("one", "k")), Captured::Already { id: third, state: State::Parked });
}

#[test]
fn captures_of_one_key_at_once_make_one_letter() {
    let bench = Bench::new();
    let made = bench.ask(async |store| {
        let all: Vec<_> = (0..32)
            .map(|_| {
                let store = store.clone();
                async move { store.capture(under_key("same", "k")).await }
            })
            .collect();
        let set: tokio::task::JoinSet<_> = all.into_iter().collect();
        set.join_all().await
    });
    let new = made.iter().filter(|captured| matches!(captured, Ok(Captured::New(_)))).count();
    assert_eq!((new, made.iter().filter(|captured| captured.is_ok()).count()), (1, 32));
}

#[test]
fn a_capture_may_be_parked_at_once() {
    let bench = Bench::new();
    let id = bench.capture(Draft { begin: Begin::Parked(Because::Ambiguous), ..draft("x") });
    let letter = bench.letter(id);
    assert_eq!((letter.state, letter.parked_because), (State::Parked, Some(Because::Ambiguous)));
    assert_eq!((bench.due("api", false), bench.begin(id)), (vec![], None));
}

#[test]
fn every_change_has_an_etag_of_its_own() {
    let bench = Bench::new();
    let id = bench.capture(draft("x"));
    let etag = bench.letter(id).etag();
    let discard = |etag: &str| bench.ask(async |store| store.discard(id, Some(etag)).await);
    bench.ask(async |store| store.replay(id, Some(&format!("\"0\", {etag}"))).await).unwrap();
    let now = bench.letter(id).etag();
    assert_eq!(discard(&etag), Err(StoreError::Changed { etag: now.clone() }));
    assert_ne!(etag, now);
    assert_eq!(discard("*").unwrap().state, State::Discarded);
    assert_eq!(standing(discard("*")), State::Discarded);
}

#[test]
fn an_operators_replay_counts_attempts_anew_and_keeps_the_trail() {
    let bench = Bench::new();
    let id = bench.capture(draft("x"));
    bench.begin(id).unwrap();
    let parked = bench.settle(id, Settled::Parked(Because::Attempts));
    assert_eq!((parked.attempts_made, parked.attempts.len(), parked.heartbeat_at_ms), (1, 2, None));
    let letter = bench.ask(async |store| store.replay(id, None).await).unwrap();
    assert_eq!((letter.state, letter.attempts_made, letter.attempts.len()), (State::Pending, 0, 2));
    assert_eq!(letter.parked_because, None);
    assert_eq!(bench.due("api", false), [id]);
}

#[test]
fn what_is_being_sent_is_nobodys_but_its_replays() {
    let bench = Bench::new();
    let id = bench.capture(draft("x"));
    let (letter, content) = bench.begin(id).unwrap();
    assert_eq!((letter.state, letter.heartbeat_at_ms), (State::Sending, Some(5)));
    assert_eq!(content.body.as_ref(), b"x");
    assert_eq!(bench.begin(id), None);
    assert_eq!(standing(bench.ask(async |store| store.discard(id, None).await)), State::Sending);
    assert_eq!(standing(bench.ask(async |store| store.replay(id, None).await)), State::Sending);
    bench.ask(async |store| store.heartbeat(&[id], 99).await).unwrap();
    assert_eq!(bench.letter(id).heartbeat_at_ms, Some(99));
    bench.ask(async |store| store.postpone(id, 77).await).unwrap();
    let letter = bench.letter(id);
    assert_eq!(
        (letter.state, letter.next_attempt_at_ms, letter.attempts_made),
        (State::Pending, Some(77), 0)
    );
    let settled =
        bench.ask(async |store| store.settle(id, attempt(Outcome::Success), Settled::Delivered).await);
    assert_eq!(standing(settled), State::Pending);
}

#[test]
fn a_trail_is_bounded_and_so_are_its_words() {
    let bench = Bench::new();
    let long = fender::deadletter::Attempt {
        error: Some("é".repeat(1000)),
        answer: Some("é".repeat(5000)),
        ..attempt(Outcome::Transient)
    };
    let id = bench.capture(Draft { attempts: vec![long; 200], ..draft("x") });
    let letter = bench.letter(id);
    assert_eq!(letter.attempts.len(), TRAIL_MAX as usize);
    assert_eq!(letter.attempts[0].error.as_ref().map(String::len), Some(512));
    assert_eq!(letter.attempts[0].answer.as_ref().map(String::len), Some(2048));
    bench.begin(id).unwrap();
    let letter = bench.settle(id, Settled::Again { next_attempt_at_ms: 1 });
    assert_eq!(letter.attempts.len(), TRAIL_MAX as usize);
    assert_eq!(letter.attempts.last(), Some(&attempt(Outcome::Transient)));
}

#[test]
fn a_closed_store_says_so() {
    let bench = Bench::new();
    bench.ask(async |store| store.close().await);
    let said = bench.ask(async |store| {
        (store.capture(draft("x")).await.map(|_| ()), store.due("other", false, 1, 1).await.map(|_| ()))
    });
    assert_eq!(said.0, Err(StoreError::Closed));
    assert_eq!(
        bench.ask(async |store| store.stats(Default::default()).await.map(|_| ())),
        Err(StoreError::Closed)
    );
}

#[test]
fn a_second_capture_under_a_key_waits_as_long_as_its_client_was_told() {
    let bench = Bench::new();
    let told = |next_attempt_at_ms, outcome| Draft {
        begin: Begin::Pending { next_attempt_at_ms },
        attempts: vec![attempt(outcome)],
        ..under_key("x", "k")
    };
    let later = super::now_ms() + 600_000;
    let id = bench.capture(told(later, Outcome::Transient));
    for (next, outcome, expected) in [
        (later + 5, Outcome::Throttled, later + 5),
        (later, Outcome::Transient, later + 5), // A shorter one changes nothing.
    ] {
        let already = again(&bench, told(next, outcome));
        assert!(matches!(already, Captured::Already { id: same, state: State::Pending } if same == id));
        assert_eq!(bench.letter(id).next_attempt_at_ms, Some(expected));
    }
    let letter = bench.letter(id);
    assert_eq!((letter.version, letter.attempts_made), (2, 0));
    assert_eq!(letter.attempts, [attempt(Outcome::Transient), attempt(Outcome::Throttled)]);
    // A recovery that wakes letters knows that this one was told to wait.
    assert_eq!(bench.ask(async |store| store.hasten("api", 10).await), Ok(0));
    // What is on its way, or waits for an operator, is not touched.
    let parked = bench.capture(Draft { begin: Begin::Parked(Because::Operator), ..under_key("x", "p") });
    assert!(matches!(
        again(&bench, Draft { begin: Begin::Pending { next_attempt_at_ms: later }, ..under_key("x", "p") }),
        Captured::Already { state: State::Parked, .. }
    ));
    assert_eq!(bench.letter(parked).next_attempt_at_ms, None);
}
