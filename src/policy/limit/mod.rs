//! How much at once, and how much a second.

mod aimd;
mod gcra;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::key::Key;
use crate::units::{AtLeastOne, Time, TimeOrZero};

pub use aimd::Aimd;
pub use gcra::{BUCKETS, Limits, Refused, Slot};

/// What the config says about the bulkhead; a permit is held to the last byte or the end of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Requests at once.
    #[serde(with = "AtLeastOne::<u32>")]
    pub max: u32,
    /// Requests that may wait; beyond it 503 at once.
    pub queue: u32,
    /// The longest wait in the queue.
    #[serde(with = "Time")]
    pub queue_timeout: Duration,
    /// The limit falls on loss and climbs back; `max` is its ceiling.
    pub adaptive: bool,
}

/// One limit of our own: so many requests in so long a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// So many requests…
    #[serde(with = "AtLeastOne::<u32>")]
    pub requests: u32,
    /// …in this time.
    #[serde(with = "Time")]
    pub per: Duration,
    /// So many at once after a pause; 0 = as many as `requests`.
    pub burst: u32,
    /// One bucket for each value of this: upstream, path, header:NAME or json:/pointer.
    pub key: Key<RateLimitWord>,
    /// How long a request waits for a slot before 429; 0s = it does not.
    #[serde(with = "TimeOrZero")]
    pub max_wait: Duration,
}

/// The plain words that a rate limit's key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitWord {
    /// One bucket for the whole upstream.
    Upstream,
    /// One bucket for each path.
    Path,
}
