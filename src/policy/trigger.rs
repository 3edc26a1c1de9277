//! What a policy reacts to, as the config words it: outcomes, causes and statuses.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// One entry of `retry.on` or `breaker.failures`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// No connection came about.
    Connect,
    /// The connection broke.
    Reset,
    /// A time limit ran out.
    Timeout,
    /// The dialect calls it transient.
    Transient,
    /// The upstream told to slow down.
    Throttled,
    /// Any status from 500 to 599.
    ServerError,
    /// This status.
    Status(u16),
}

impl Trigger {
    const WORDS: &'static [&'static str] = &["connect", "reset", "timeout", "transient", "throttled", "5xx"];
}

impl<'de> Deserialize<'de> for Trigger {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TriggerVisitor)
    }
}

struct TriggerVisitor;

impl Visitor<'_> for TriggerVisitor {
    type Value = Trigger;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word or a status from 100 to 599")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Trigger, E> {
        match word {
            "connect" => Ok(Trigger::Connect),
            "reset" => Ok(Trigger::Reset),
            "timeout" => Ok(Trigger::Timeout),
            "transient" => Ok(Trigger::Transient),
            "throttled" => Ok(Trigger::Throttled),
            "5xx" => Ok(Trigger::ServerError),
            other => Err(E::unknown_variant(other, Trigger::WORDS)),
        }
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<Trigger, E> {
        status_of(status).map(Trigger::Status)
    }

    fn visit_i64<E: Error>(self, status: i64) -> Result<Trigger, E> {
        self.visit_u64(u64::try_from(status).unwrap_or(0))
    }
}

/// A status from 100 to 599, or why not.
pub fn status_of<E: Error>(number: u64) -> Result<u16, E> {
    u16::try_from(number)
        .ok()
        .filter(|status| (100..=599).contains(status))
        .ok_or_else(|| E::custom("must be a status from 100 to 599"))
}

impl JsonSchema for Trigger {
    fn schema_name() -> Cow<'static, str> {
        "Trigger".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"enum": Self::WORDS},
                {"type": "integer", "minimum": 100, "maximum": 599},
            ]
        })
    }
}
