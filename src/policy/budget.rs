//! How many retries the traffic pays for.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{PositiveOrZero, ShareOrZero, Time};

/// What the config says: in any window, retries <= ratio * requests + min_per_second * window.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RetryBudget")]
pub struct Settings {
    /// Retries allowed for each request.
    #[serde(with = "ShareOrZero")]
    pub ratio: f64,
    /// Retries a second that are allowed whatever the traffic.
    #[serde(with = "PositiveOrZero")]
    pub min_per_second: f64,
    /// How far back requests and retries are counted.
    #[serde(with = "Time")]
    pub window: Duration,
}
