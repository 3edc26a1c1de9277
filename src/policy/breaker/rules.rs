//! When a breaker trips, how long it stays open, and how traffic comes back.

use std::time::{Duration, Instant};

use super::Settings;
use super::words::Why;
use crate::policy::window::{LARGEST_COUNT, Tally};

/// What opens a closed breaker, if anything does.
///
/// A share is compared as a quotient: two decimals that are equal on paper are then equal in floating point, which they
/// need not be as products.
pub(super) fn trips(settings: &Settings, tally: Tally, consecutive: u32) -> Option<Why> {
    if settings.consecutive_failures > 0 && consecutive >= settings.consecutive_failures {
        return Some(Why::Consecutive);
    }
    // A window of fewer calls than the minimum could never be judged.
    let size = settings.window_requests.map_or(u32::MAX, |size| size.get().min(LARGEST_COUNT));
    if tally.calls < settings.minimum_requests.min(size) {
        return None;
    }
    if tally.failures > 0 && tally.failure_rate() >= settings.failure_rate {
        return Some(Why::FailureRate);
    }
    is_slow(settings, tally).then_some(Why::SlowRate)
}

pub(super) fn is_slow(settings: &Settings, tally: Tally) -> bool {
    settings.slow_call.is_some() && tally.slow > 0 && tally.slow_rate() >= settings.slow_rate
}

/// How long it stays open: `open_for`, doubled for each reopening, at most `max_open_for`, spread by a tenth either way
/// (at the top only downwards, so that it is spread there too). No less than was told, but that too within
/// `max_open_for`.
pub(super) fn open_for(settings: &Settings, reopenings: u32, told: Option<Duration>, dice: f64) -> Duration {
    let most = settings.max_open_for;
    let doubled = 2_u32.checked_pow(reopenings).and_then(|times| settings.open_for.checked_mul(times));
    let plain = doubled.unwrap_or(most).min(most);
    let least = plain - plain / 10;
    let spread = plain.saturating_add(plain / 10).min(most).saturating_sub(least);
    let dice = if dice.is_nan() { 0.0 } else { dice.clamp(0.0, 1.0) };
    let drawn =
        least.saturating_add(Duration::try_from_secs_f64(spread.as_secs_f64() * dice).unwrap_or(spread));
    drawn.max(told.unwrap_or_default()).min(most)
}

/// Whether the ramp after an outage keeps this call out, and when to come back. The share that it lets in grows from a
/// tenth to all over `ramp`; a tenth at the start is what Envoy's slow start gives too.
pub(super) fn ramp_refuses(
    settings: &Settings,
    recovered: Option<Instant>,
    now: Instant,
    dice: f64,
) -> Option<Duration> {
    let (ramp, recovered) = settings.ramp.zip(recovered)?;
    let passed = now.saturating_duration_since(recovered);
    if passed >= ramp {
        return None;
    }
    let share = 0.1 + 0.9 * passed.as_secs_f64() / ramp.as_secs_f64();
    (dice >= share).then(|| (ramp.saturating_sub(passed) / 10).min(GUESS))
}

/// What a caller is told to wait where nothing better is known.
pub(super) const GUESS: Duration = Duration::from_secs(1);
