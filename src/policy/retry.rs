//! Whether a failed attempt is made again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::trigger::Trigger;
use super::{backoff, budget};
use crate::units::{AtLeastOne, Size, Time};

/// What the config says about retries.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub struct Settings {
    /// All attempts at one request; 1 = never retry.
    #[serde(with = "AtLeastOne::<u32>")]
    pub max_attempts: u32,
    /// What is retried: words and statuses.
    pub on: Vec<Trigger>,
    /// Larger bodies stream through, unretried, and are counted.
    #[serde(with = "Size")]
    pub max_body: u64,
    /// The longest told wait to sit out; a longer one ends the request at once.
    #[serde(with = "Time")]
    pub retry_after: Duration,
    /// The wait between attempts.
    pub backoff: backoff::Settings,
    /// How many retries the traffic pays for.
    pub budget: budget::Settings,
}
