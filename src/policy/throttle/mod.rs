//! What the upstream itself says about waiting.

mod pause;
mod pauses;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::key::Key;
use crate::units::{Time, TimeOrZero};

pub use pause::{Gate, PROBE_LOST, Pause, ProbeEnd, ProbePermit};
pub use pauses::{Pauses, SCOPES};

/// What the config says about told waits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Throttle")]
pub struct Settings {
    /// One answer that says "wait" pauses all traffic of its scope until then.
    pub adapt: bool,
    /// Whom a told wait concerns: auto, credential, upstream, header:NAME or json:/pointer.
    pub scope: Key<ThrottleWord>,
    /// A longer told wait pauses this long, then one probe.
    #[serde(with = "Time")]
    pub max_pause: Duration,
    /// A request waits this long for the pause to end, then 429; 0s = it does not wait.
    #[serde(with = "TimeOrZero")]
    pub max_wait: Duration,
}

/// The plain words that a throttle's scope may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleWord {
    /// What the dialect says.
    Auto,
    /// One credential.
    Credential,
    /// The whole upstream.
    Upstream,
}

/// Whom a told wait concerns, where the dialect says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All requests under the same credential.
    #[default]
    Credential,
    /// Those of them to the same recipient.
    Recipient,
    /// Those of them to the same model.
    Model,
}
