//! The forms of a wait that a body tells.

use std::time::Duration;

use serde::Deserialize;

use super::{LONGEST, forms, rfc3339};

/// How a wait is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitForm {
    /// A number of seconds.
    #[default]
    Seconds,
    /// A number of milliseconds.
    Milliseconds,
    /// As Go prints a duration, or protobuf does in JSON: `45.8s`, `1m30s`.
    Duration,
    /// An RFC 3339 date.
    Rfc3339,
    /// The seconds since 1970.
    Epoch,
}

impl WaitForm {
    /// The wait that a text of this form tells, at most [`LONGEST`]. `unix_now`: the time since 1970; what is a moment cannot be
    /// read without it.
    #[must_use]
    pub fn read(self, text: &str, unix_now: Option<Duration>) -> Option<Duration> {
        let text = text.trim();
        let until = |moment: Duration| Some(moment.saturating_sub(unix_now?));
        let wait = match self {
            Self::Seconds => forms::decimal(text),
            Self::Milliseconds => forms::decimal(text).map(forms::thousandth),
            Self::Duration => forms::go_duration(text),
            Self::Rfc3339 => rfc3339::parse(text).and_then(until),
            Self::Epoch => forms::decimal(text).and_then(until),
        };
        wait.map(|wait| wait.min(LONGEST))
    }
}
