//! The store of letters, as the pipeline, the replays and the operators use it.

mod capture;
mod crash;
mod damage;
mod disk;
mod errors;
pub(crate) mod failing_disk;
mod files;
mod full;
mod fuzz;
mod inject;
mod lines;
mod lists;
mod model;
mod power;
mod rot;
mod scale;
mod sealed;
mod turns;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fender::config::model::{DeadLetter, Sync};
use fender::deadletter::{
    Attempt, Begin, Captured, Content, Draft, Letter, LetterId, Opened, Settled, Store, StoreError,
};
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;
use fender::policy::verdict::Verdict;

/// A store in a folder of its own, and the runtime that asks it.
struct Bench {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    settings: DeadLetter,
    store: Option<Store>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut DeadLetter)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(&folder.path().join("letters.db"));
        change(&mut settings);
        let mut bench = Self { folder, runtime: runtime(), settings, store: None };
        bench.open();
        bench
    }

    fn path(&self) -> PathBuf {
        self.settings.path.clone()
    }

    fn open(&mut self) -> Opened {
        let (store, opened) = Store::open(&self.settings).unwrap();
        self.store = Some(store);
        opened
    }

    fn close(&mut self) {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
    }

    fn reopen(&mut self) -> Opened {
        self.close();
        self.open()
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Asks the store, and waits.
    fn ask<T>(&self, question: impl AsyncFnOnce(&Store) -> T) -> T {
        self.runtime.block_on(question(self.store()))
    }

    fn capture(&self, draft: Draft) -> LetterId {
        match self.ask(async |store| store.capture(draft).await).unwrap() {
            Captured::New(receipt) => receipt.id(),
            other => panic!("{other:?}"),
        }
    }

    fn letter(&self, id: LetterId) -> Letter {
        self.ask(async |store| store.letter(id).await).unwrap()
    }

    fn begin(&self, id: LetterId) -> Option<(Letter, Content)> {
        self.ask(async |store| store.begin(id, 5).await).unwrap()
    }

    fn settle(&self, id: LetterId, settled: Settled) -> Letter {
        self.ask(async |store| store.settle(id, attempt(Outcome::Transient), settled).await).unwrap()
    }

    /// From pending to delivered.
    fn deliver(&self, id: LetterId) {
        self.begin(id).unwrap();
        self.settle(id, Settled::Delivered);
    }

    /// The ids that are due at the end of time.
    fn due(&self, upstream: &str, hold: bool) -> Vec<LetterId> {
        let due = self.ask(async |store| store.due(upstream, hold, LATE, 100).await).unwrap();
        due.into_iter().map(|due| due.id).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.close();
    }
}

/// After all that a test plans.
const LATE: u64 = 4_000_000_000_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn settings(path: &Path) -> DeadLetter {
    DeadLetter {
        path: path.to_owned(),
        max_bytes: 64 << 20,
        sync: Sync::Full,
        encryption_key: None,
        old_encryption_keys: Vec::new(),
        retain_delivered: Duration::from_secs(86_400),
        retain_parked: None,
    }
}

fn draft(body: impl Into<Vec<u8>>) -> Draft {
    Draft {
        upstream: "api".to_owned(),
        route: "/api".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/messages?x=1".to_owned(),
        headers: vec![
            ("content-type".to_owned(), b"application/json".to_vec()),
            ("x-odd".to_owned(), vec![0xff, 0xfe]),
        ],
        body: body.into().into(),
        credentials: None,
        verdict: Verdict::NeverSent,
        reason: Some(Reason::Connect),
        begin: Begin::Pending { next_attempt_at_ms: 1 },
        order_key: None,
        idempotency_key: None,
        key_header: None,
        repeatable: false,
        priority: 0,
        expires_at_ms: LATE,
        attempts: vec![attempt(Outcome::Transient)],
    }
}

fn keyed(body: &str, key: &str) -> Draft {
    Draft { order_key: Some(key.to_owned()), ..draft(body) }
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        at_ms: 1_700_000_000_123,
        outcome,
        status: Some(503),
        error: Some("overloaded".to_owned()),
        duration_ms: 12,
        answer: Some("{\"error\":true}".to_owned()),
    }
}

fn now_ms() -> u64 {
    fender::clock::unix_ms()
}

fn standing<T: std::fmt::Debug>(result: Result<T, StoreError>) -> fender::deadletter::State {
    match result {
        Err(StoreError::Standing(state)) => state,
        other => panic!("{other:?}"),
    }
}
