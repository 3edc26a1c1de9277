//! What we were told: plain data, every key resolved, every value within its bounds.
//!
//! The doc comments here are the descriptions of the JSON Schema; the defaults are in `config/defaults.toml`.

mod admin;
mod dead_letter;
mod fallback;
mod route;
mod server;
mod upstream;
mod url;
pub(crate) mod values;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::admin::{Admin, Role, Token};
pub use self::dead_letter::{
    AcceptedAnswer, Ambiguous, Credentials, DeadLetter, KEY_BYTES, LetterRule, Mode, OnParked, OrderWord,
    Replay, ReplayOutcome, Respond, Sync, key_bytes,
};
pub use self::fallback::{Answer, Cause, Fallback, FallbackAction};
pub use self::route::{Plan, Route};
pub use self::server::{Server, ServerTls, TrustClientHeaders};
pub use self::upstream::{
    Commit, Headers, Health, HttpVersion, IdempotencyHeader, Idempotent, Pool, Preset, Stream, Upstream,
    UpstreamTls,
};
pub use self::url::{HookUrl, Scheme, Url};
pub use self::values::Secret;
use self::values::UrlOrNone;
use crate::dialect;
use crate::units::ShareOrZero;

/// The whole config of one Fender.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which set of defaults this environment starts from.
    pub profile: Profile,
    /// The side that the application talks to.
    pub server: Server,
    /// The side that operators, scrapers and probes talk to.
    pub admin: Admin,
    /// The store of dead letters, one for the process, opened only if some upstream uses it.
    pub dead_letter: DeadLetter,
    /// The external services, by name.
    pub upstream: BTreeMap<String, Upstream>,
    /// Which requests go to which upstream; the most specific one wins.
    pub route: Vec<Route>,
    /// Webhooks that are told of events.
    pub notify: Vec<Notify>,
    /// Other APIs that Fender is taught, or changes to the built-in ones, by name.
    pub dialect: BTreeMap<String, dialect::Spec>,
    /// One line a request.
    pub access_log: AccessLog,
    /// OpenTelemetry.
    pub trace: Trace,
}

/// Which set of defaults an environment starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The defaults as they are.
    Production,
    /// Logs as text, quick breakers, quick exit.
    Development,
    /// One attempt, short timeouts, no chance.
    Testing,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Where events are sent; its path and its query are secrets.
    #[schemars(with = "Url")]
    pub url: HookUrl,
    /// Which events.
    pub on: Vec<NotifyOn>,
    /// Signs each body: `fender-signature: sha256=<hex HMAC-SHA256>`.
    pub secret: Option<Secret>,
}

/// An event that a webhook may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum NotifyOn {
    /// A breaker opened.
    #[serde(rename = "breaker.opened")]
    BreakerOpened,
    /// A breaker closed.
    #[serde(rename = "breaker.closed")]
    BreakerClosed,
    /// A letter was parked.
    #[serde(rename = "letter.parked")]
    LetterParked,
    /// The degradation level changed.
    #[serde(rename = "degradation.changed")]
    DegradationChanged,
    /// The store is full.
    #[serde(rename = "store.full")]
    StoreFull,
}

impl NotifyOn {
    /// The event's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BreakerOpened => "breaker.opened",
            Self::BreakerClosed => "breaker.closed",
            Self::LetterParked => "letter.parked",
            Self::DegradationChanged => "degradation.changed",
            Self::StoreFull => "store.full",
        }
    }
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// One JSON line a request, each attempt listed.
    pub enabled: bool,
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Where spans are sent; "" = off.
    #[serde(with = "UrlOrNone")]
    pub otlp_endpoint: Option<Url>,
    /// The share of requests that are traced.
    #[serde(with = "ShareOrZero")]
    pub sample: f64,
}

impl Profile {
    /// As the config words it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
            Self::Testing => "testing",
        }
    }

    /// Whether logs are text rather than JSON when nobody says which.
    pub fn logs_as_text(self) -> bool {
        self == Self::Development
    }
}

impl Config {
    /// Whether the store is needed: some write of some upstream is kept.
    #[must_use]
    pub fn keeps_letters(&self) -> bool {
        self.upstream.values().any(|upstream| upstream.dead_letter.keeps())
            || self.route.iter().any(|route| route.plan.dead_letter.keeps())
    }
}
