//! `[dead_letter]` and `[upstream.NAME.dead_letter]`: the store, and which failed writes go there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::fallback::status;
use super::values::{HeaderNames, Methods, Secret};
use crate::policy::backoff;
use crate::policy::key::Key;
use crate::units::{AtLeastOne, Positive, Size, Time, TimeOrOff};

/// The store of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// The SQLite file, on a volume that lasts; a relative path starts from the working folder.
    pub path: PathBuf,
    /// All that the store occupies; when full, new captures are refused and nothing stored is dropped.
    #[serde(with = "Size")]
    pub max_bytes: u64,
    /// When a letter counts as stored.
    pub sync: Sync,
    /// 32 bytes in base64: what letters bear is sealed at rest. Letters in the clear, and under old keys, are sealed anew.
    pub encryption_key: Option<Secret>,
    /// Still read, no longer written.
    pub old_encryption_keys: Vec<Secret>,
    /// How long delivered letters are kept.
    #[serde(with = "Time")]
    pub retain_delivered: Duration,
    /// How long parked letters are kept; 0s = until an operator discards or purges.
    #[serde(with = "TimeOrOff")]
    pub retain_parked: Option<Duration>,
}

/// The length of a key.
pub const KEY_BYTES: usize = 32;

/// The bytes of a key of the store; `None` if it is none.
#[must_use]
pub fn key_bytes(key: &Secret) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let decoded = Zeroizing::new(STANDARD.decode(key.expose()).ok()?);
    Some(Zeroizing::new(decoded.as_slice().try_into().ok()?))
}

/// When a letter counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// On disk before the client hears of it.
    Full,
    /// Survives a crash of the process, not of the machine.
    Normal,
}

/// Which failed writes of an upstream are kept, and how they are replayed.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UpstreamDeadLetter")]
pub struct LetterRule {
    /// Whether, and when, writes are stored.
    pub mode: Mode,
    /// The methods that count as writes.
    #[serde(with = "Methods")]
    pub methods: Vec<Method>,
    /// What the client hears of a write that is kept.
    pub respond: Respond,
    /// Larger writes are not captured; the failure is passed on, and counted.
    #[serde(with = "Size")]
    pub max_body: u64,
    /// What becomes of credentials.
    pub credentials: Credentials,
    /// Letters of one key replay in order, one at a time: none, auto (what the dialect orders by), path, header:NAME or json:/pointer.
    pub order_by: Key<OrderWord>,
    /// Whether a parked letter holds up the later letters of its key.
    pub on_parked: OnParked,
    /// Letters of a higher number are replayed first; those of one key stay in order.
    pub priority: i32,
    /// More headers that are never stored.
    #[serde(with = "HeaderNames")]
    pub redact: Vec<HeaderName>,
    /// The answer to a captured write.
    pub accepted: AcceptedAnswer,
    /// How letters are delivered later.
    pub replay: Replay,
}

/// Whether, and when, writes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Never.
    Off,
    /// When they could not be delivered.
    OnFailure,
    /// First, then answered at once, then delivered by replay.
    Outbox,
}

/// What the client of a captured write hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Respond {
    /// That it was accepted.
    Accepted,
    /// The failure itself; the letter is stored all the same.
    Error,
}

impl LetterRule {
    /// Whether any write is kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.mode != Mode::Off
    }
}

/// What becomes of the credentials of a captured write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// They are not stored.
    Drop,
    /// They are stored sealed; needs dead_letter.encryption_key.
    Seal,
}

/// The plain words that an order may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderWord {
    /// In no order.
    None,
    /// By path.
    Path,
    /// By what the dialect says: the chat, the channel, the recipient.
    Auto,
}

/// Whether a parked letter blocks its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnParked {
    /// It does not.
    Skip,
    /// It does.
    Hold,
}

/// The answer to a captured write.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptedAnswer {
    /// Its status.
    #[serde(deserialize_with = "status")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body; {letter} is filled in; auto: the dialect's own.
    pub body: String,
}

/// How letters are delivered later.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Whether letters are replayed at all; without it new ones are parked.
    pub enabled: bool,
    /// The wait between two attempts at one letter.
    pub backoff: backoff::Settings,
    /// Another wait after this outcome: transient, throttled or quota.
    pub by_outcome: BTreeMap<ReplayOutcome, backoff::Settings>,
    /// After so many attempts a letter is parked.
    #[serde(with = "AtLeastOne::<u32>")]
    pub max_attempts: u32,
    /// Replays of this upstream at once.
    #[serde(with = "AtLeastOne::<u32>")]
    pub concurrency: u32,
    /// Replays of this upstream a second.
    #[serde(with = "Positive")]
    pub per_second: f64,
    /// A letter older than this is parked as expired.
    #[serde(with = "Time")]
    pub expire_after: Duration,
    /// What becomes of a letter whose write may have been done.
    pub ambiguous: Ambiguous,
}

/// An outcome after which a letter is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// It may work soon.
    Transient,
    /// The upstream told to slow down.
    Throttled,
    /// A quota, a balance or a credential is used up.
    Quota,
}

/// What becomes of a letter whose write may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ambiguous {
    /// It waits for an operator.
    Park,
    /// It is sent again.
    Replay,
}
