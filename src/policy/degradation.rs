//! How sick the whole is, and what is given up for it.

use schemars::JsonSchema;
use serde::Deserialize;

/// An upstream's weight in the degradation level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// Nobody notices for a while.
    Low,
    /// Users notice.
    Normal,
    /// Nothing works without it.
    High,
}

/// From which degradation level on an upstream's requests are shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShedAt {
    /// Never.
    Off,
    /// From minor on.
    Minor,
    /// From moderate on.
    Moderate,
    /// From severe on.
    Severe,
    /// At critical alone.
    Critical,
}
