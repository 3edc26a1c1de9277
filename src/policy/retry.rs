//! Whether a failed attempt is made again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::judge::Judged;
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

/// What is asked after an attempt that brought no final answer.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one request")]
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// How the attempt ended.
    pub ended: Judged,
    /// Attempts made so far, this one included.
    pub attempts: u32,
    /// Whether the request may be sent again (contract 5.1).
    pub resend: bool,
    /// Whether its body is still there from its beginning.
    pub replayable: bool,
    /// `fender-policy: no-retry`.
    pub opted_out: bool,
    /// How long the attempt took.
    pub took: Duration,
    /// Until the deadline over all attempts.
    pub left: Duration,
    /// The wait before this attempt; zero before the first.
    pub previous: Duration,
    /// Whether the breaker would refuse another attempt now.
    pub breaker_refuses: bool,
}

/// Whether there is another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// After this wait.
    Again { wait: Duration },
    /// No.
    Stop(Stop),
}

/// Why there is no other attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// `retry.on` does not name this end.
    Unlisted,
    /// `max_attempts` are made.
    Attempts,
    /// The request opted out.
    OptedOut,
    /// It may have acted, and a second send may act again.
    Unsafe,
    /// Its body was too large to be kept.
    Body,
    /// The told wait is longer than `retry_after`.
    Patience,
    /// Too little time is left.
    Deadline,
    /// The breaker is open.
    Breaker,
    /// The budget is spent.
    Budget,
}

/// What is left after the wait must be at least this share of what the failed attempt took: a failure that used up the
/// time is not tried again, since the next attempt would most likely be cut short.
const LEFT_OF_TOOK: f64 = 0.1;

impl Settings {
    /// Whether to try again, and after which wait. `dice`: uniform in [0, 1). `budget` is asked last, so that only a retry
    /// that will be made takes from it.
    #[must_use]
    pub fn decide(&self, asking: &Asking, dice: f64, budget: impl FnOnce() -> bool) -> Decision {
        let told = asking.ended.told.unwrap_or_default();
        let wait = self.backoff.wait(asking.attempts, asking.previous, dice).max(told);
        let left = asking.left.saturating_sub(wait);
        let stop = if !asking.ended.is_named_by(&self.on) {
            Stop::Unlisted
        } else if asking.attempts >= self.max_attempts {
            Stop::Attempts
        } else if asking.opted_out {
            Stop::OptedOut
        } else if !asking.resend {
            Stop::Unsafe
        } else if !asking.replayable {
            Stop::Body
        } else if told > self.retry_after {
            Stop::Patience
        } else if left.is_zero() || left < asking.took.mul_f64(LEFT_OF_TOOK) {
            Stop::Deadline
        } else if asking.breaker_refuses {
            Stop::Breaker
        } else if !budget() {
            Stop::Budget
        } else {
            return Decision::Again { wait };
        };
        Decision::Stop(stop)
    }
}

impl Stop {
    /// Those that refuse a retry which the settings would otherwise have made, in the order in which metrics list them.
    pub const REFUSALS: [Self; 7] = [
        Self::Budget,
        Self::Unsafe,
        Self::Body,
        Self::Deadline,
        Self::Breaker,
        Self::Patience,
        Self::OptedOut,
    ];

    /// The word under which it is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::Attempts => "attempts",
            Self::OptedOut => "opted_out",
            Self::Unsafe => "unsafe",
            Self::Body => "body",
            Self::Patience => "patience",
            Self::Deadline => "deadline",
            Self::Breaker => "breaker",
            Self::Budget => "budget",
        }
    }
}
