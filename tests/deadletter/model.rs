//! The store against the plainest model of it: a list in memory.

use std::collections::HashMap;

use fender::config::model::Sync;
use fender::deadletter::{
    Act, Because, Begin, Captured, Draft, Filter, LetterId, Settled, State, StoreError,
};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq};

use super::{Bench, LATE, draft};

#[derive(Debug, Clone, Copy)]
enum Op {
    Capture {
        upstream: u8,
        key: Option<u8>,
        idempotency: Option<u8>,
        body: u8,
        parked: bool,
        repeatable: bool,
    },
    Begin(usize),
    Settle(usize, Settled),
    Postpone(usize),
    Replay(usize),
    Discard(usize),
    Bulk(u8, Act),
    Purge,
    Expire,
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let small = || proptest::option::weighted(0.5, 0_u8..3);
    let capture = (0_u8..2, small(), small(), 0_u8..2, proptest::bool::weighted(0.2), any::<bool>());
    let settled = prop_oneof![
        Just(Settled::Delivered),
        Just(Settled::Again { next_attempt_at_ms: 1 }),
        Just(Settled::Parked(Because::Permanent)),
    ];
    let op = prop_oneof![
        8 => capture.prop_map(|(upstream, key, idempotency, body, parked, repeatable)| Op::Capture {
            upstream, key, idempotency, body, parked, repeatable,
        }),
        6 => any::<usize>().prop_map(Op::Begin),
        5 => (any::<usize>(), settled).prop_map(|(which, settled)| Op::Settle(which, settled)),
        1 => any::<usize>().prop_map(Op::Postpone),
        2 => any::<usize>().prop_map(Op::Replay),
        2 => any::<usize>().prop_map(Op::Discard),
        1 => (1_u8..4, any::<bool>()).prop_map(|(limit, replay)| {
            Op::Bulk(limit, if replay { Act::Replay } else { Act::Discard })
        }),
        1 => Just(Op::Purge),
        1 => Just(Op::Expire),
        1 => Just(Op::Reopen),
    ];
    proptest::collection::vec(op, 1..50)
}

#[derive(Debug, Clone)]
struct Known {
    id: LetterId,
    draft: Draft,
    state: State,
    attempts: usize,
    attempts_made: u32,
    version: u64,
}

#[derive(Default)]
struct Model {
    letters: Vec<Known>,
}

impl Model {
    fn changed(&mut self, at: usize, state: State) {
        self.letters[at].state = state;
        self.letters[at].version += 1;
    }

    /// Drops what is done with; says how many.
    fn forget(&mut self) -> u64 {
        let before = self.letters.len();
        self.letters.retain(|known| !matches!(known.state, State::Delivered | State::Discarded));
        (before - self.letters.len()) as u64
    }

    /// One of the letters in one of these states, if there is one.
    fn pick(&self, which: usize, states: &[State]) -> Option<usize> {
        let some: Vec<usize> =
            (0..self.letters.len()).filter(|at| states.contains(&self.letters[*at].state)).collect();
        (!some.is_empty()).then(|| some[which % some.len()])
    }

    fn live(&self, draft: &Draft) -> Option<&Known> {
        let key = draft.idempotency_key.as_ref()?;
        self.letters.iter().find(|known| {
            known.draft.idempotency_key.as_ref() == Some(key)
                && known.draft.upstream == draft.upstream
                && matches!(known.state, State::Pending | State::Sending | State::Parked)
        })
    }

    fn has_the_turn(&self, at: usize) -> bool {
        let one = &self.letters[at];
        one.draft.order_key.is_none()
            || !self.letters.iter().enumerate().any(|(other_at, other)| {
                other.draft.order_key == one.draft.order_key
                    && other.draft.upstream == one.draft.upstream
                    && (other.state == State::Sending || (other.state == State::Pending && other_at < at))
            })
    }
}

fn drafted(upstream: u8, key: Option<u8>, idempotency: Option<u8>, body: u8) -> Draft {
    Draft {
        upstream: format!("u{upstream}"),
        order_key: key.map(|key| format!("k{key}")),
        idempotency_key: idempotency.map(|key| format!("i{key}")),
        ..draft(vec![body; usize::from(body) * 6000 + 1])
    }
}

fn compare(bench: &Bench, model: &Model) -> Result<(), proptest::test_runner::TestCaseError> {
    let page = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap();
    prop_assert_eq!(page.letters.len(), model.letters.len());
    for (letter, known) in page.letters.iter().rev().zip(&model.letters) {
        prop_assert_eq!(letter.id, known.id);
        prop_assert_eq!(letter.state, known.state);
        prop_assert_eq!(letter.attempts.len(), known.attempts);
        prop_assert_eq!(letter.attempts_made, known.attempts_made);
        prop_assert_eq!(letter.version, known.version);
        prop_assert_eq!(letter.parked_because.is_some(), known.state == State::Parked);
        prop_assert_eq!(letter.next_attempt_at_ms.is_some(), known.state == State::Pending);
        prop_assert_eq!(letter.heartbeat_at_ms.is_some(), known.state == State::Sending);
    }
    let mut counts: HashMap<(String, State), u64> = HashMap::new();
    for known in &model.letters {
        *counts.entry((known.draft.upstream.clone(), known.state)).or_default() += 1;
    }
    let figures = bench.store().figures();
    for upstream in ["u0", "u1"] {
        for state in State::ALL {
            let want = counts.get(&(upstream.to_owned(), state)).copied().unwrap_or_default();
            prop_assert_eq!(figures.count(upstream, state), want, "{} {:?}", upstream, state);
        }
        let due: Vec<LetterId> = (0..model.letters.len())
            .filter(|at| {
                let known = &model.letters[*at];
                known.state == State::Pending && known.draft.upstream == upstream && model.has_the_turn(*at)
            })
            .map(|at| model.letters[at].id)
            .collect();
        prop_assert_eq!(bench.due(upstream, false), due);
    }
    Ok(())
}

type Same = Result<(), proptest::test_runner::TestCaseError>;

/// The store and its model, side by side.
struct Pair {
    bench: Bench,
    model: Model,
    /// How often the keys have changed; `None`: there are none, and never will be.
    keys: Option<usize>,
}

impl Pair {
    fn apply(&mut self, op: Op) -> Same {
        match op {
            Op::Capture { upstream, key, idempotency, body, parked, repeatable } => {
                let mut draft = drafted(upstream, key, idempotency, body);
                draft.repeatable = repeatable;
                if parked {
                    draft.begin = Begin::Parked(Because::Unanswered);
                }
                self.capture(draft)
            }
            Op::Begin(which) => self.begin(which),
            Op::Settle(which, settled) => self.settle(which, settled),
            Op::Postpone(which) => self.postpone(which),
            Op::Replay(which) => self.act(which, Act::Replay),
            Op::Discard(which) => self.act(which, Act::Discard),
            Op::Bulk(limit, act) => self.bulk(limit, act),
            Op::Purge => self.purge(),
            Op::Expire => self.expire(),
            Op::Reopen => self.reopen(),
        }
    }

    fn capture(&mut self, draft: Draft) -> Same {
        let captured = self.bench.ask(async |store| store.capture(draft.clone()).await).unwrap();
        match (captured, self.model.live(&draft)) {
            (Captured::New(receipt), None) => {
                let state =
                    if matches!(draft.begin, Begin::Parked(_)) { State::Parked } else { State::Pending };
                let (attempts, attempts_made, version) = (1, 0, 1);
                self.model.letters.push(Known {
                    id: receipt.id(),
                    draft,
                    state,
                    attempts,
                    attempts_made,
                    version,
                });
            }
            (Captured::Already { id, state }, Some(known)) => {
                prop_assert_eq!((id, state), (known.id, known.state));
                prop_assert_eq!(&draft.body, &known.draft.body);
            }
            (Captured::OtherBody { id }, Some(known)) => {
                prop_assert_eq!(id, known.id);
                prop_assert!(draft.body != known.draft.body);
            }
            other => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    }

    fn begin(&mut self, which: usize) -> Same {
        let Some(at) = self.model.pick(which, &State::ALL) else { return Ok(()) };
        let known = &self.model.letters[at];
        let begun = self.bench.begin(known.id);
        prop_assert_eq!(begun.is_some(), known.state == State::Pending && self.model.has_the_turn(at));
        if let Some((_, content)) = begun {
            prop_assert_eq!(&content.body, &known.draft.body);
            prop_assert_eq!(&content.headers, &known.draft.headers);
            self.model.changed(at, State::Sending);
        }
        Ok(())
    }

    fn settle(&mut self, which: usize, settled: Settled) -> Same {
        let Some(at) = self.model.pick(which, &[State::Sending]) else { return Ok(()) };
        let state = self.bench.settle(self.model.letters[at].id, settled).state;
        self.model.changed(at, state);
        self.model.letters[at].attempts += 1;
        self.model.letters[at].attempts_made += 1;
        Ok(())
    }

    fn postpone(&mut self, which: usize) -> Same {
        let Some(at) = self.model.pick(which, &[State::Sending]) else { return Ok(()) };
        let id = self.model.letters[at].id;
        self.bench.ask(async |store| store.postpone(id, 2).await).unwrap();
        self.model.changed(at, State::Pending);
        Ok(())
    }

    fn act(&mut self, which: usize, act: Act) -> Same {
        let Some(at) = self.model.pick(which, &State::ALL) else { return Ok(()) };
        let (id, was) = (self.model.letters[at].id, self.model.letters[at].state);
        let done = self.bench.ask(async |store| match act {
            Act::Replay => store.replay(id, None).await,
            Act::Discard => store.discard(id, None).await,
        });
        if matches!(was, State::Pending | State::Parked) {
            prop_assert!(done.is_ok(), "{:?}", done);
            self.acted(at, act);
        } else {
            prop_assert_eq!(done, Err(StoreError::Standing(was)));
        }
        Ok(())
    }

    fn acted(&mut self, at: usize, act: Act) {
        match act {
            Act::Replay => {
                self.model.changed(at, State::Pending);
                self.model.letters[at].attempts_made = 0;
            }
            Act::Discard => self.model.changed(at, State::Discarded),
        }
    }

    fn bulk(&mut self, limit: u8, act: Act) -> Same {
        let filter = Filter { state: Some(State::Parked), ..Filter::default() };
        let done = self.bench.ask(async |store| store.bulk(filter, limit.into(), act).await).unwrap().done;
        let newest_first = (0..self.model.letters.len()).rev();
        let parked: Vec<usize> = newest_first
            .filter(|at| self.model.letters[*at].state == State::Parked)
            .take(limit.into())
            .collect();
        prop_assert_eq!(done.len(), parked.len());
        for at in parked {
            prop_assert!(done.contains(&self.model.letters[at].id));
            self.acted(at, act);
        }
        Ok(())
    }

    fn purge(&mut self) -> Same {
        let gone = self.bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
        prop_assert_eq!(gone, self.model.forget());
        Ok(())
    }

    fn expire(&mut self) -> Same {
        let retained = self.bench.ask(async |store| store.retain(LATE).await).unwrap();
        prop_assert_eq!(retained.removed.len() as u64, self.model.forget());
        for at in 0..self.model.letters.len() {
            if self.model.letters[at].state == State::Pending {
                self.model.changed(at, State::Parked);
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Same {
        match &mut self.keys {
            None => drop(self.bench.reopen()),
            Some(turn) => {
                // Nothing, the first key, the second with the first behind it: each is found by the next.
                let keys: Vec<usize> = (0..*turn).rev().map(|number| number % 3).take(3).collect();
                self.bench.reopen_with(&keys);
                *turn += 1;
                if turn.is_multiple_of(2) {
                    self.bench.tend();
                }
            }
        }
        for at in 0..self.model.letters.len() {
            if self.model.letters[at].state == State::Sending {
                let repeatable = self.model.letters[at].draft.repeatable;
                self.model.changed(at, if repeatable { State::Pending } else { State::Parked });
            }
        }
        Ok(())
    }
}

#[test]
fn the_store_does_what_a_list_in_memory_does() {
    does_what_a_list_in_memory_does(48, None);
}

#[test]
fn a_store_whose_keys_change_does_the_same() {
    does_what_a_list_in_memory_does(32, Some(1));
}

fn does_what_a_list_in_memory_does(cases: u32, keys: Option<usize>) {
    let config = proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() };
    proptest::proptest!(config, |(ops in ops())| {
        let bench = Bench::with(|settings| settings.sync = Sync::Normal);
        let mut pair = Pair { bench, model: Model::default(), keys };
        for op in ops {
            pair.apply(op)?;
            compare(&pair.bench, &pair.model)?;
        }
        let report = pair.bench.ask(async |store| store.verify().await).unwrap();
        prop_assert_eq!((report.damaged.len(), report.file.len()), (0, 0));
    });
}
