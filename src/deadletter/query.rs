//! What can be asked about letters, and what is answered.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::id::LetterId;
use super::key_use::KeyUse;
use super::letter::{Letter, State};
use super::seal::KeyId;
use crate::config::model::Sync;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::telemetry::events::StoreOpened;

/// The proof that a letter is stored, as durably as `dead_letter.sync` says. Only the store makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an acceptance may be said for it"]
pub struct Receipt {
    id: LetterId,
    sync: Sync,
}

impl Receipt {
    pub(super) const fn new(id: LetterId, sync: Sync) -> Self {
        Self { id, sync }
    }

    /// The letter's id.
    #[must_use]
    pub const fn id(&self) -> LetterId {
        self.id
    }

    /// How durably it is stored: `full` or `normal`.
    #[must_use]
    pub const fn durable(&self) -> &'static str {
        match self.sync {
            Sync::Full => "full",
            Sync::Normal => "normal",
        }
    }
}

/// What became of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Captured {
    /// It is a letter now.
    New(Receipt),
    /// It was one already, under its client's idempotency key (contract 5.10).
    Already {
        /// That letter.
        id: LetterId,
        /// Where it stands.
        state: State,
    },
    /// Its client's idempotency key belongs to a letter with another body (contract 5.10).
    OtherBody {
        /// That letter.
        id: LetterId,
    },
}

/// Which letters are meant. What is `None` is not asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Of this upstream.
    pub upstream: Option<String>,
    /// Of one of these upstreams: what a scoped token may see.
    pub upstreams: Option<Vec<String>>,
    /// Of this order key.
    pub key: Option<String>,
    /// Captured for this reason.
    pub reason: Option<Reason>,
    /// Captured at or after, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Captured before.
    pub until_ms: Option<u64>,
}

/// Where a page of letters ended. As text it is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(super) created_at_ms: u64,
    pub(super) id: LetterId,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{}", self.created_at_ms, self.id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let wrong = || StoreError::Invalid("not a cursor of this list".to_owned());
        let (time, id) = text.split_once('-').ok_or_else(wrong)?;
        Ok(Self {
            created_at_ms: u64::from_str_radix(time, 16).map_err(|_| wrong())?,
            id: id.parse().map_err(|_| wrong())?,
        })
    }
}

/// Some letters, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The letters.
    pub letters: Vec<Letter>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// Some exported letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// One JSON object each, without a line's end.
    pub lines: Vec<String>,
    /// After which letter the next page begins; `None` at the end.
    pub next: Option<LetterId>,
}

/// What became of an imported line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is a letter now.
    New(LetterId),
    /// A letter of that id was there, and is as it was.
    Already(LetterId),
}

/// What an operator does to letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// They are due now, with their attempts counted anew.
    Replay,
    /// They are given up.
    Discard,
}

/// What became of each letter of a bulk act.
#[derive(Debug, Default)]
pub struct BulkResult {
    /// Done.
    pub done: Vec<LetterId>,
    /// Not done, and why.
    pub failed: Vec<(LetterId, StoreError)>,
}

/// A letter that retention took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its id.
    pub id: LetterId,
    /// The upstream's name.
    pub upstream: String,
    /// Where it stood before.
    pub was: State,
}

/// What retention did in one turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Removed: delivered or discarded for longer than `retain_delivered`, parked for longer than `retain_parked`.
    pub removed: Vec<Gone>,
    /// Pending ones that are now parked as expired.
    pub expired: Vec<Gone>,
    /// Whether there is more to do: the next turn may come at once.
    pub more: bool,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Letters read, each with its content.
    pub letters: u64,
    /// Those whose content is not what was stored (the first 1,000). Pending ones among them are now parked as damaged.
    pub damaged: Vec<LetterId>,
    /// What SQLite itself found wrong with the file, and what lies beside it that was set aside as damaged.
    pub file: Vec<String>,
    /// Letters that could not be looked into: the keys that they are sealed with are not configured.
    pub locked: BTreeMap<KeyId, u64>,
}

/// One attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The letter.
    pub id: LetterId,
    /// The upstream's name.
    pub upstream: String,
    /// When the attempt began, in milliseconds since 1970.
    pub at_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The store in numbers, over the letters that are in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Letters by upstream and state.
    pub by_upstream: BTreeMap<String, BTreeMap<State, u64>>,
    /// Attempts a letter, on average.
    pub attempts_avg: f64,
    /// The most attempts of one letter.
    pub attempts_max: u64,
    /// How long an attempt took on average, in milliseconds.
    pub avg_duration_ms: f64,
    /// When the oldest pending letter was captured.
    pub oldest_at_ms: Option<u64>,
    /// The last attempts that failed, newest first; at most 20.
    pub recent_failures: Vec<Failure>,
    /// Letters by the key that they are sealed with. Only of all upstreams together.
    pub keys: Vec<KeyUse>,
}

impl Stats {
    /// Letters by state.
    #[must_use]
    pub fn by_state(&self) -> BTreeMap<State, u64> {
        let mut sums: BTreeMap<State, u64> = State::ALL.into_iter().map(|state| (state, 0)).collect();
        for (state, letters) in self.by_upstream.values().flatten() {
            *sums.entry(*state).or_default() += letters;
        }
        sums
    }
}

/// What is known without looking into the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Letters by upstream and state: all states of each upstream that ever had a letter.
    pub letters: BTreeMap<String, BTreeMap<State, u64>>,
    /// When each upstream's oldest pending letter was captured, in milliseconds since 1970.
    pub oldest_pending_ms: BTreeMap<String, u64>,
    /// What the store occupies on disk: database, WAL with its index, and reserve.
    pub bytes: u64,
    /// False while the file cannot be written; it is tried again each second.
    pub healthy: bool,
    /// True while captures are refused for want of space.
    pub full: bool,
}

impl Figures {
    /// How many letters of `upstream` are in `state`.
    #[must_use]
    pub fn count(&self, upstream: &str, state: State) -> u64 {
        self.letters.get(upstream).and_then(|states| states.get(&state)).copied().unwrap_or_default()
    }

    /// How many letters are in `state`.
    #[must_use]
    pub fn total(&self, state: State) -> u64 {
        self.letters.values().filter_map(|states| states.get(&state)).sum()
    }
}

/// What opening the store found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The file was not there before.
    pub created: bool,
    /// The schema was brought up from this version.
    pub migrated_from: Option<u32>,
    /// Left in `sending` by a crash, and now pending: a second send is harmless.
    pub resumed: Vec<LetterId>,
    /// Left in `sending` by a crash, and now parked as ambiguous.
    pub parked: Vec<LetterId>,
    /// A damaged file was moved here, and a fresh one begun.
    pub set_aside: Option<PathBuf>,
    /// Where the WAL was copied to of which commits cannot be read any more.
    pub kept_wal: Option<PathBuf>,
    /// Letters that could be read out of the file that was set aside, and are in the fresh one.
    pub salvaged: u64,
}

/// Why the store could not be opened. None of them touches the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another Fender{}", path.display(), pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who has it, where it says so.
        pid: Option<u32>,
    },
    /// A later Fender wrote it.
    #[error("{} was written by a newer Fender (schema {found}, this one knows up to {known}): run that version, or name another file", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The last schema that this Fender knows.
        known: u32,
    },
    /// The file system or SQLite says no.
    #[error("{} cannot be opened: {cause}", path.display())]
    Failed {
        /// The database.
        path: PathBuf,
        /// What it said.
        cause: String,
    },
}

impl<'a> From<&'a Opened> for StoreOpened<'a> {
    fn from(opened: &'a Opened) -> Self {
        Self {
            created: opened.created,
            migrated_from: opened.migrated_from,
            resumed: opened.resumed.len(),
            parked: opened.parked.len(),
            set_aside: opened.set_aside.as_deref(),
            kept_wal: opened.kept_wal.as_deref(),
            salvaged: opened.salvaged,
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `dead_letter.max_bytes` is spent, or the disk is full. Nothing was stored.
    #[error("the dead-letter store is full")]
    Full,
    /// The file cannot be written or read now; it is tried again each second.
    #[error("the dead-letter store is unavailable: {0}")]
    Unavailable(String),
    /// There is no such letter.
    #[error("there is no letter {0}")]
    NotFound(LetterId),
    /// `If-Match` names another version.
    #[error("the letter has changed: its etag is now {etag}")]
    Changed {
        /// The letter's ETag now.
        etag: String,
    },
    /// The letter stands where this cannot be done.
    #[error("the letter is {}", .0.as_str())]
    Standing(State),
    /// The content is not what was stored.
    #[error("what is on disk is not what was stored")]
    Damaged(LetterId),
    /// The key that it is sealed with is not configured.
    #[error("the letter is sealed with key {key}, which is not configured")]
    Locked {
        /// The letter.
        id: LetterId,
        /// The key.
        key: KeyId,
    },
    /// What was given makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The store was closed.
    #[error("the dead-letter store is closed")]
    Closed,
}
