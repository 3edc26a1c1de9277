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

impl Settings {
    /// The wait before the retry-th retry (1 is the first), after a wait of `previous` (zero before the first).
    ///
    /// What `strategy` computes is cut at `max`, and chance then only shortens it; so no wait is longer than `max`. The waits of
    /// a `schedule` are meant as they are written: `max` does not cut them. Decorrelated jitter knows no strategy but its own:
    /// min(max, uniform(base, 3 * previous)), where previous begins at base. The formulas are those of "Exponential Backoff And
    /// Jitter" (AWS Architecture Blog). Nothing overflows at any number of retries.
    #[must_use]
    pub fn wait(&self, retry: u32, previous: Duration, dice: f64) -> Duration {
        let dice = if dice.is_nan() { 0.0 } else { dice.clamp(0.0, 1.0) };
        match self.jitter {
            Jitter::None => self.plain(retry),
            Jitter::Full => times(self.plain(retry), dice),
            Jitter::Equal => times(self.plain(retry), 0.5 + dice / 2.0),
            Jitter::Decorrelated => {
                let most = previous.max(self.base).saturating_mul(3);
                let spread = times(most.saturating_sub(self.base), dice);
                self.base.saturating_add(spread).min(self.max)
            }
        }
    }

    /// The wait without chance.
    fn plain(&self, retry: u32) -> Duration {
        let retry = retry.max(1);
        let grown = match self.strategy {
            Strategy::Exponential => times(self.base, self.factor.powf(f64::from(retry - 1))),
            Strategy::Linear => self.base.saturating_mul(retry),
            Strategy::Fixed => self.base,
            Strategy::Fibonacci => times(self.base, fibonacci(retry)),
            Strategy::Schedule => {
                let index = usize::try_from(retry - 1).unwrap_or(usize::MAX);
                let wait = self.schedule.get(index).or_else(|| self.schedule.last());
                return wait.copied().unwrap_or(self.base.min(self.max));
            }
        };
        grown.min(self.max)
    }
}

/// The n-th number of 1, 1, 2, 3, 5, 8…; from the 100th on, that one: it is longer than any `max`.
fn fibonacci(n: u32) -> f64 {
    let (nth, _) = (1..n.min(100)).fold((1.0, 1.0), |(this, next), _| (next, this + next));
    nth
}

/// A product that is too large is the longest duration.
fn times(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
