//! Who is due, and in which order.

use fender::deadletter::{Because, Begin, Draft, LetterId, Settled, State};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::{Bench, draft, keyed};

#[test]
fn the_higher_priority_comes_first_then_the_older() {
    let bench = Bench::new();
    let with = |priority| bench.capture(Draft { priority, ..draft("x") });
    let (low, high, also_low, also_high) = (with(-1), with(5), with(-1), with(5));
    assert_eq!(bench.due("api", false), [high, also_high, low, also_low]);
    assert_eq!(bench.due("other", false), []);
}

#[test]
fn many_due_letters_come_in_the_same_order_as_few() {
    let bench = Bench::new();
    let one = |n: i32| (-(n % 3), bench.capture(Draft { priority: n % 3, ..draft("x") }));
    let mut order: Vec<(i32, LetterId)> = (0..300).map(one).collect();
    order.sort_unstable();
    let want: Vec<LetterId> = order.into_iter().map(|(_, id)| id).take(100).collect();
    assert_eq!(bench.due("api", false), want);
}

#[test]
fn nobody_is_due_before_their_time() {
    let bench = Bench::new();
    let id = bench.capture(Draft { begin: Begin::Pending { next_attempt_at_ms: 500 }, ..draft("x") });
    let due = |now| bench.ask(async |store| store.due("api", false, now, 9).await).unwrap().len();
    assert_eq!((due(499), due(500)), (0, 1));
    assert_eq!(bench.ask(async |store| store.next_due("api").await), Ok(Some(500)));
    bench.deliver(id);
    assert_eq!(bench.ask(async |store| store.next_due("api").await), Ok(None));
}

#[test]
fn letters_of_one_key_go_one_at_a_time() {
    let bench = Bench::new();
    let (a1, a2, b1) =
        (bench.capture(keyed("1", "a")), bench.capture(keyed("2", "a")), bench.capture(keyed("3", "b")));
    assert_eq!(bench.due("api", false), [a1, b1]);
    assert_eq!(bench.begin(a2), None, "not its turn");
    bench.begin(a1).unwrap();
    assert_eq!(bench.due("api", false), [b1]);
    bench.settle(a1, Settled::Again { next_attempt_at_ms: 1 });
    assert_eq!(bench.due("api", false), [a1, b1]);
    bench.deliver(a1);
    assert_eq!(bench.due("api", false), [a2, b1]);
}

#[test]
fn a_head_that_waits_holds_its_key() {
    let bench = Bench::new();
    let late = Begin::Pending { next_attempt_at_ms: u64::MAX };
    bench.capture(Draft { begin: late, ..keyed("1", "a") });
    bench.capture(keyed("2", "a"));
    assert_eq!(bench.due("api", false), []);
}

#[test]
fn a_parked_letter_blocks_its_key_only_where_that_is_asked_for() {
    let bench = Bench::new();
    let (first, second) = (bench.capture(keyed("1", "a")), bench.capture(keyed("2", "a")));
    bench.begin(first).unwrap();
    bench.settle(first, Settled::Parked(Because::Permanent));
    assert_eq!(bench.due("api", true), []);
    assert_eq!(bench.due("api", false), [second]);
    bench.ask(async |store| store.replay(first, None).await).unwrap();
    assert_eq!(bench.due("api", false), [first], "the older one has its turn again");
    bench.deliver(first);
    assert_eq!(bench.due("api", true), [second]);
}

#[test]
fn a_key_is_waiting_while_a_letter_of_it_is() {
    let bench = Bench::new();
    let waiting = |key: &str, hold| bench.ask(async |store| store.waiting("api", key, hold).await).unwrap();
    assert!(!waiting("a", false));
    let id = bench.capture(keyed("1", "a"));
    assert!(waiting("a", false) && !waiting("b", false));
    bench.begin(id).unwrap();
    assert!(waiting("a", false));
    bench.settle(id, Settled::Parked(Because::Permanent));
    assert!(!waiting("a", false) && waiting("a", true));
    bench.ask(async |store| store.discard(id, None).await).unwrap();
    assert!(!waiting("a", true));
}

#[derive(Debug, Clone)]
enum Step {
    Capture(u8),
    Begin(usize),
    Settle(usize, Settled),
    Replay(usize),
    Discard(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let settled = prop_oneof![
        Just(Settled::Delivered),
        Just(Settled::Again { next_attempt_at_ms: 1 }),
        Just(Settled::Parked(Because::Permanent)),
    ];
    let step = prop_oneof![
        4 => (0_u8..3).prop_map(Step::Capture),
        4 => any::<usize>().prop_map(Step::Begin),
        4 => (any::<usize>(), settled).prop_map(|(which, settled)| Step::Settle(which, settled)),
        1 => any::<usize>().prop_map(Step::Replay),
        1 => any::<usize>().prop_map(Step::Discard),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the store says is due is what a walk over all letters finds.
#[test]
fn a_keys_letters_are_delivered_in_order_whatever_becomes_of_them() {
    let config = proptest::test_runner::Config { cases: 40, failure_persistence: None, ..Default::default() };
    proptest::proptest!(config, |(steps in steps())| {
        let bench = Bench::with(|settings| settings.sync = fender::config::model::Sync::Normal);
        let mut letters: Vec<(LetterId, u8, State)> = Vec::new();
        for step in steps {
            let of = |which: usize, states: &[State]| {
                let some: Vec<usize> = (0..letters.len()).filter(|n| states.contains(&letters[*n].2)).collect();
                (!some.is_empty()).then(|| some[which % some.len()])
            };
            match step {
                Step::Capture(key) => {
                    letters.push((bench.capture(keyed("x", &key.to_string())), key, State::Pending));
                }
                Step::Begin(which) => {
                    let due = bench.due("api", false);
                    if !due.is_empty() {
                        let id = due[which % due.len()];
                        bench.begin(id).unwrap();
                        letters.iter_mut().find(|letter| letter.0 == id).unwrap().2 = State::Sending;
                    }
                }
                Step::Settle(which, settled) => {
                    if let Some(n) = of(which, &[State::Sending]) {
                        letters[n].2 = bench.settle(letters[n].0, settled).state;
                    }
                }
                Step::Replay(which) => {
                    if let Some(n) = of(which, &[State::Pending, State::Parked]) {
                        bench.ask(async |store| store.replay(letters[n].0, None).await).unwrap();
                        letters[n].2 = State::Pending;
                    }
                }
                Step::Discard(which) => {
                    if let Some(n) = of(which, &[State::Pending, State::Parked]) {
                        bench.ask(async |store| store.discard(letters[n].0, None).await).unwrap();
                        letters[n].2 = State::Discarded;
                    }
                }
            }
            for hold in [false, true] {
                let blocks = |state| matches!(state, State::Pending) || (hold && state == State::Parked);
                let due: Vec<LetterId> = letters.iter().enumerate().filter(|(n, (_, key, state))| {
                    let same = || letters.iter().enumerate().filter(|(_, other)| other.1 == *key);
                    *state == State::Pending
                        && !same().any(|(_, other)| other.2 == State::Sending)
                        && !same().any(|(other_n, other)| other_n < *n && blocks(other.2))
                }).map(|(_, letter)| letter.0).collect();
                proptest::prop_assert_eq!(bench.due("api", hold), due);
            }
        }
    });
}
