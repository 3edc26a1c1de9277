//! How long to wait between two attempts.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Positive, Time, Times};

/// What the config says about the wait between attempts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backoff")]
pub struct Settings {
    /// How the wait grows.
    pub strategy: Strategy,
    /// The first wait.
    #[serde(with = "Time")]
    pub base: Duration,
    /// The longest wait.
    #[serde(with = "Time")]
    pub max: Duration,
    /// What each wait is multiplied by, for `exponential`.
    #[serde(with = "Positive")]
    pub factor: f64,
    /// The waits one by one, for `schedule`; the last one repeats.
    #[serde(with = "Times")]
    pub schedule: Vec<Duration>,
    /// How chance spreads the wait, so that clients do not come back together.
    pub jitter: Jitter,
}

/// How the wait grows from one attempt to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// `base`, then `factor` times longer each time.
    Exponential,
    /// `base`, twice `base`, three times `base`…
    Linear,
    /// `base` each time.
    Fixed,
    /// `base` times 1, 1, 2, 3, 5, 8…
    Fibonacci,
    /// The waits that `schedule` lists.
    Schedule,
}

/// How chance spreads a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// The wait as computed.
    None,
    /// Anything from zero to the wait.
    Full,
    /// Half of the wait, and anything up to the other half.
    Equal,
    /// Anything from `base` to three times the previous wait.
    Decorrelated,
}
