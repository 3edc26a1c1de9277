//! When an upstream is left alone for a while.

mod machine;
mod phase;
mod rules;
mod words;

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::key::Key;
use super::trigger::Trigger;
use crate::units::{AtLeastOne, Share, Time, TimeOrOff};

pub use machine::Breaker;
pub use words::{Asked, Ended, Figures, Permit, Refused, State, Transition, Tripped, Why};

/// What the config says about the breaker.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Breaker")]
pub struct Settings {
    /// Whether there is a breaker.
    pub enabled: bool,
    /// Decides and reports, but refuses nothing.
    pub observe: bool,
    /// How far back failures are counted.
    #[serde(with = "Time")]
    pub window: Duration,
    /// Counts the last so many requests instead of a time.
    #[serde(default)]
    pub window_requests: Option<NonZeroU32>,
    /// With fewer requests than this in the window no rate is judged.
    #[serde(with = "AtLeastOne::<u32>")]
    pub minimum_requests: u32,
    /// The share of failures that opens the breaker.
    #[serde(with = "Share")]
    pub failure_rate: f64,
    /// So many failures in a row open it, whatever the rate; 0 = off.
    pub consecutive_failures: u32,
    /// A call that takes longer than this is slow; 0s = off.
    #[serde(with = "TimeOrOff")]
    pub slow_call: Option<Duration>,
    /// The share of slow calls that opens the breaker.
    #[serde(with = "Share")]
    pub slow_rate: f64,
    /// How long it stays open; doubles at each reopening, with a jitter of a tenth.
    #[serde(with = "Time")]
    pub open_for: Duration,
    /// The longest that it stays open.
    #[serde(with = "Time")]
    pub max_open_for: Duration,
    /// So many probes at once when half open; all must succeed to close it.
    #[serde(with = "AtLeastOne::<u32>")]
    pub half_open_probes: u32,
    /// A probe that has not ended by then has failed.
    #[serde(with = "Time")]
    pub half_open_timeout: Duration,
    /// After closing, traffic comes back in over this time; 0s = at once.
    #[serde(with = "TimeOrOff")]
    pub ramp: Option<Duration>,
    /// One breaker for each value of this: upstream, header:NAME or json:/pointer.
    pub key: Key<BreakerWord>,
    /// What counts as a failure: words and statuses.
    pub failures: Vec<Trigger>,
}

/// The plain words that a breaker's key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerWord {
    /// One breaker for the whole upstream.
    Upstream,
}
