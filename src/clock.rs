//! The one place where the time is read: monotonic for decisions, wall-clock for what people read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic now; virtual where a test has paused time.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock milliseconds since 1970; 0 if the clock stands before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
