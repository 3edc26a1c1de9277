//! What a letter is: plain data, as it is captured, kept and told.

use bytes::Bytes;

use super::id::LetterId;
use super::seal::KeyId;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

/// Where a letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its next replay.
    Pending,
    /// Is being replayed; on disk before the first byte may leave.
    Sending,
    /// The upstream took it.
    Delivered,
    /// Waits for an operator.
    Parked,
    /// An operator gave it up.
    Discarded,
}

impl State {
    /// All of them, in the order in which metrics list them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Sending, Self::Delivered, Self::Parked, Self::Discarded];

    /// The word under which the state is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Parked => "parked",
            Self::Discarded => "discarded",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Why a letter is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Because {
    /// The write may have happened.
    Ambiguous,
    /// Its client was not told that Fender owns it.
    Unanswered,
    /// The upstream will never take it.
    Permanent,
    /// Its attempts are used up.
    Attempts,
    /// It is too old.
    Expired,
    /// Its credential can neither be unsealed nor supplied.
    Credential,
    /// What is on disk is not what was stored.
    Damaged,
    /// An operator said so.
    Operator,
}

impl Because {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ambiguous,
        Self::Unanswered,
        Self::Permanent,
        Self::Attempts,
        Self::Expired,
        Self::Credential,
        Self::Damaged,
        Self::Operator,
    ];

    /// The word under which it is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous",
            Self::Unanswered => "unanswered",
            Self::Permanent => "permanent",
            Self::Attempts => "attempts",
            Self::Expired => "expired",
            Self::Credential => "credential",
            Self::Damaged => "damaged",
            Self::Operator => "operator",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|because| because.as_str() == word)
    }
}

/// One send of the write, before it was captured or at a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// What went wrong, in words without secrets. Cut at [`ERROR_MAX`] bytes when stored.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// The beginning of the upstream's answer. Cut at [`ANSWER_MAX`] bytes when stored.
    pub answer: Option<String>,
}

/// The most of an attempt's error that is kept, in bytes.
pub const ERROR_MAX: usize = 512;

/// The most of an upstream's answer that is kept with an attempt, in bytes.
pub const ANSWER_MAX: usize = 2048;

/// The most attempts that a letter's trail holds; the oldest give way.
pub const TRAIL_MAX: u32 = 64;

/// In which state a write is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Fender owns it and will replay it by itself.
    Pending {
        /// Not before, in milliseconds since 1970.
        next_attempt_at_ms: u64,
    },
    /// An operator decides.
    Parked(Because),
}

/// A write to be captured.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The upstream's name.
    pub upstream: String,
    /// The route's name.
    pub route: String,
    /// The request's method.
    pub method: String,
    /// Path and query as they go up, without secrets.
    pub path: String,
    /// The headers as they go up, without credentials.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Bytes,
    /// What is kept under the seal alone: a store without a key refuses the write.
    pub credentials: Option<Credentials>,
    /// What the last attempt did upstream.
    pub verdict: Verdict,
    /// Why it was captured; `None`: nothing had failed, it was stored first.
    pub reason: Option<Reason>,
    /// Whether it replays by itself.
    pub begin: Begin,
    /// Letters of one upstream and key replay in the order of their capture, one at a time.
    pub order_key: Option<String>,
    /// The client's own idempotency key: a second capture that bears it is the same letter (contract 5.10).
    pub idempotency_key: Option<String>,
    /// The header, name and value, that every replay bears, where the API acts once under it.
    pub key_header: Option<(String, String)>,
    /// Whether a second send is harmless whatever the first one did (contract 5.1).
    pub repeatable: bool,
    /// Higher replays first.
    pub priority: i32,
    /// When it is parked as expired, in milliseconds since 1970.
    pub expires_at_ms: u64,
    /// What was tried before.
    pub attempts: Vec<Attempt>,
}

/// A letter as it stands, without its headers and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// The upstream's name.
    pub upstream: String,
    /// The route's name.
    pub route: String,
    /// Where it stands.
    pub state: State,
    /// What the last attempt before the capture did upstream.
    pub verdict: Verdict,
    /// Why it was captured; `None`: nothing had failed, it was stored first.
    pub reason: Option<Reason>,
    /// Why it is parked, while it is.
    pub parked_because: Option<Because>,
    /// The request's method.
    pub method: String,
    /// Path and query as they go up.
    pub path: String,
    /// Letters of one key replay in order.
    pub order_key: Option<String>,
    /// The client's own idempotency key.
    pub idempotency_key: Option<String>,
    /// The header that every replay bears.
    pub key_header: Option<(String, String)>,
    /// The body's length in bytes.
    pub body_bytes: u64,
    /// When it was captured, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it last changed.
    pub updated_at_ms: u64,
    /// Not replayed before; only while pending.
    pub next_attempt_at_ms: Option<u64>,
    /// When its replay last gave a sign of life; only while sending.
    pub heartbeat_at_ms: Option<u64>,
    /// When it is parked as expired.
    pub expires_at_ms: u64,
    /// How often it changed: the number in its ETag.
    pub version: u64,
    /// Its trail, oldest first; at most [`TRAIL_MAX`].
    pub attempts: Vec<Attempt>,
    /// Higher replays first.
    pub priority: i32,
    /// Whether a second send is harmless.
    pub repeatable: bool,
    /// Replays since the capture, or since an operator's word.
    pub attempts_made: u32,
    /// How it is sealed at rest; `None`: it lies in the clear.
    pub sealed: Option<SealedWith>,
}

/// How a letter is sealed at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedWith {
    /// With which key.
    pub key: KeyId,
    /// That key is not configured: path, keys, headers and body cannot be read, and it waits until it is.
    pub locked: bool,
}

/// What a client bore to be let in, as it goes up again at replay. Nothing shows it: no list, export, log or answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Path and query, where a secret is in them.
    pub path: Option<String>,
    /// Header fields.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

impl Credentials {
    /// As a list of fields; no header is named like the path.
    pub(super) fn fields(&self) -> Vec<(String, Vec<u8>)> {
        let path = self.path.iter().map(|path| (PATH.to_owned(), path.clone().into_bytes()));
        path.chain(self.headers.iter().cloned()).collect()
    }

    /// What [`Self::fields`] told.
    pub(super) fn of(fields: Vec<(String, Vec<u8>)>) -> Self {
        let mut own = Self::default();
        for (name, value) in fields {
            if name == PATH {
                own.path = String::from_utf8(value).ok();
            } else {
                own.headers.push((name, value));
            }
        }
        own
    }

    /// What is in it, by name.
    pub(super) fn names(&self) -> Vec<String> {
        self.fields().into_iter().map(|(name, _)| name).collect()
    }
}

const PATH: &str = ":path";

impl Letter {
    /// Its ETag, quotes included: another one after every change.
    #[must_use]
    pub fn etag(&self) -> String {
        etag(self.version)
    }
}

pub(super) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// A letter's headers and body, verified against their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The headers as they go up, without credentials.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Bytes,
    /// What was kept under the seal alone.
    pub credentials: Option<Credentials>,
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The upstream took it.
    Delivered,
    /// It is tried again.
    Again {
        /// Not before, in milliseconds since 1970.
        next_attempt_at_ms: u64,
    },
    /// An operator decides.
    Parked(Because),
}

/// A letter whose turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub id: LetterId,
    /// Its order key as the store keeps it: no other of this key is due beside it.
    pub order_key: Option<String>,
    /// Replays made so far.
    pub attempts_made: u32,
}
