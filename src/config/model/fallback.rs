//! `[[upstream.NAME.fallback]]`: what answers when an upstream cannot.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::values::{OptionalFile, Secret};
pub use crate::policy::cause::Cause;
use crate::units::Time;

/// One fallback.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Entry")]
pub struct Fallback {
    /// Which failures it answers.
    pub on: Vec<Cause>,
    /// How.
    pub action: FallbackAction,
}

impl FallbackAction {
    /// The word for it: `upstream`, `response` or `stale`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Upstream { .. } => "upstream",
            Self::Response(_) => "response",
            Self::Stale(_) => "stale",
        }
    }
}

/// How a fallback answers.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackAction {
    /// Another upstream of the same dialect.
    Upstream {
        /// Its name.
        name: String,
        /// The path there; `{rest}` is what follows the route's prefix.
        path: Option<String>,
        /// JSON fields of the body that are replaced, by pointer.
        json: BTreeMap<String, Value>,
        /// Whether it gets the client's credentials.
        pass_credentials: bool,
    },
    /// A fixed answer.
    Response(Answer),
    /// The last good response to the same GET of the same caller, no older than this.
    Stale(Duration),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Its status.
    #[serde(deserialize_with = "status")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Its body.
    pub body: Option<Secret>,
    /// A file that holds its body.
    #[serde(default, deserialize_with = "OptionalFile::deserialize")]
    #[schemars(with = "OptionalFile")]
    pub body_file: Option<PathBuf>,
}

/// One way to answer in its place: exactly one of `upstream`, `response` and `stale`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fallback")]
struct Entry {
    /// Which failures it answers: words and statuses.
    on: Vec<Cause>,
    /// Another upstream of the same dialect.
    upstream: Option<String>,
    /// The path there; {rest} is what follows the route's prefix, without the slash.
    path: Option<String>,
    /// JSON fields of the body that are replaced, by pointer.
    json: Option<BTreeMap<String, Value>>,
    /// Whether the other upstream gets the client's credentials.
    pass_credentials: bool,
    /// Fixed words: a status, headers, and a body or a file with it.
    response: Option<Answer>,
    /// The last good response to the same GET of the same caller, no older than this.
    #[serde(default, deserialize_with = "OptionalTime::deserialize")]
    #[schemars(with = "OptionalTime")]
    stale: Option<Duration>,
}

impl JsonSchema for Fallback {
    fn schema_name() -> Cow<'static, str> {
        Entry::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Entry::json_schema(generator)
    }
}

impl TryFrom<Entry> for Fallback {
    type Error = &'static str;

    fn try_from(entry: Entry) -> Result<Self, Self::Error> {
        let only_upstream = entry.path.is_some() || entry.json.is_some() || entry.pass_credentials;
        let action = match (entry.upstream, entry.response, entry.stale) {
            (Some(name), None, None) => FallbackAction::Upstream {
                name,
                path: entry.path,
                json: entry.json.unwrap_or_default(),
                pass_credentials: entry.pass_credentials,
            },
            (None, Some(_), None) | (None, None, Some(_)) if only_upstream => {
                return Err("path, json and pass_credentials go with upstream alone");
            }
            (None, Some(answer), None) if answer.body.is_some() && answer.body_file.is_some() => {
                return Err("must have body or body_file, not both");
            }
            (None, Some(answer), None) => FallbackAction::Response(answer),
            (None, None, Some(age)) => FallbackAction::Stale(age),
            _ => return Err("must have exactly one of upstream, response and stale"),
        };
        Ok(Self { on: entry.on, action })
    }
}

struct OptionalTime;

impl OptionalTime {
    fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Time::deserialize(from).map(Some)
    }
}

impl JsonSchema for OptionalTime {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OptionalTime".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Time::json_schema(generator)
    }
}

pub(super) fn status<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let number = u64::deserialize(from)?;
    u16::try_from(number)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .ok_or_else(|| D::Error::custom("must be a status from 200 to 599"))
}
