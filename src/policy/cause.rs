//! Which failures a fallback answers, as the config words it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::judge::Judged;
use super::outcome::Outcome;
use super::reason::Reason;
use super::trigger::status_of;

/// A failure that a fallback may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The breaker refuses.
    BreakerOpen,
    /// A transient failure that is not retried further.
    Exhausted,
    /// A time limit ran out.
    Timeout,
    /// No connection came about.
    Connect,
    /// The connection broke.
    Reset,
    /// TLS failed.
    Tls,
    /// The upstream told to slow down.
    Throttled,
    /// A quota, a balance or a credential is used up.
    Quota,
    /// The bulkhead and its queue are full.
    Overload,
    /// Shed by the degradation level.
    Degraded,
    /// Any status from 500 to 599.
    ServerError,
    /// This status.
    Status(u16),
}

impl Cause {
    /// Whether it names this failure: what Fender refused the last attempt for, if it did, or how the last attempt ended.
    #[must_use]
    pub fn names(self, refused: Option<Reason>, last: Option<&Judged>) -> bool {
        let own = refused.is_some_and(|reason| self.names_reason(reason));
        own || last.is_some_and(|last| self.names_end(last))
    }

    const fn names_reason(self, reason: Reason) -> bool {
        match self {
            Self::BreakerOpen => matches!(reason, Reason::BreakerOpen),
            Self::Timeout => matches!(reason, Reason::Timeout | Reason::FirstContent),
            Self::Connect => matches!(reason, Reason::Connect),
            Self::Reset => matches!(reason, Reason::Reset | Reason::Protocol),
            Self::Tls => matches!(reason, Reason::Tls),
            Self::Throttled => matches!(reason, Reason::Throttled | Reason::RateLimited),
            Self::Quota => matches!(reason, Reason::Quota),
            Self::Overload => matches!(reason, Reason::Overload),
            Self::Degraded => matches!(reason, Reason::Degraded),
            Self::Exhausted | Self::ServerError | Self::Status(_) => false,
        }
    }

    fn names_end(self, last: &Judged) -> bool {
        match self {
            Self::Exhausted => matches!(last.outcome, Outcome::Transient | Outcome::Throttled),
            Self::Throttled => last.outcome == Outcome::Throttled,
            Self::Quota => last.outcome == Outcome::Quota,
            Self::ServerError => last.status.is_some_and(|status| (500..=599).contains(&status)),
            Self::Status(status) => last.status == Some(status),
            Self::BreakerOpen
            | Self::Timeout
            | Self::Connect
            | Self::Reset
            | Self::Tls
            | Self::Overload
            | Self::Degraded => last.reason.is_some_and(|reason| self.names_reason(reason)),
        }
    }

    const WORDS: &'static [&'static str] = &[
        "breaker_open",
        "exhausted",
        "timeout",
        "connect",
        "reset",
        "tls",
        "throttled",
        "quota",
        "overload",
        "degraded",
        "5xx",
    ];
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CauseVisitor)
    }
}

struct CauseVisitor;

impl Visitor<'_> for CauseVisitor {
    type Value = Cause;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a status from 100 to 599")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Cause, E> {
        Ok(match word {
            "breaker_open" => Cause::BreakerOpen,
            "exhausted" => Cause::Exhausted,
            "timeout" => Cause::Timeout,
            "connect" => Cause::Connect,
            "reset" => Cause::Reset,
            "tls" => Cause::Tls,
            "throttled" => Cause::Throttled,
            "quota" => Cause::Quota,
            "overload" => Cause::Overload,
            "degraded" => Cause::Degraded,
            "5xx" => Cause::ServerError,
            other => return Err(E::unknown_variant(other, Cause::WORDS)),
        })
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<Cause, E> {
        status_of(status).map(Cause::Status)
    }

    fn visit_i64<E: Error>(self, status: i64) -> Result<Cause, E> {
        self.visit_u64(u64::try_from(status).unwrap_or(0))
    }
}

impl JsonSchema for Cause {
    fn schema_name() -> Cow<'static, str> {
        "FallbackCause".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"enum": Self::WORDS}, {"type": "integer", "minimum": 100, "maximum": 599}]
        })
    }
}
