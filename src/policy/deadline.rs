//! How long anything may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{TextOrNone, Time, TimeOrOff};

/// What the config says about time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Timeout")]
pub struct Settings {
    /// Until a connection stands, name look-up and TLS included.
    #[serde(with = "Time")]
    pub connect: Duration,
    /// One attempt, until its answer is committed.
    #[serde(with = "Time")]
    pub attempt: Duration,
    /// All attempts, waits included, until then.
    #[serde(with = "Time")]
    pub total: Duration,
    /// Between two pieces of a body, in either direction.
    #[serde(with = "Time")]
    pub idle: Duration,
    /// The whole response body; 0s = no limit.
    #[serde(with = "TimeOrOff")]
    pub stream: Option<Duration>,
    /// A header that tells the upstream the milliseconds that are left; "" = none.
    #[serde(with = "TextOrNone")]
    pub propagate: Option<String>,
}
