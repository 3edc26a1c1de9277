//! The one place where the time is read: monotonic for decisions, wall-clock for what people read.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic now; virtual where a test has paused time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall-clock milliseconds since 1970; 0 if the clock stands before that.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A moment from which the others are counted.
static ANCHOR: LazyLock<Instant> = LazyLock::new(now);

/// The wall-clock time of [`ANCHOR`] in milliseconds since 1970, as last seen; 0 until then.
static ANCHORED: AtomicI64 = AtomicI64::new(0);

/// Wall-clock milliseconds since 1970 at a moment of the monotonic clock, without a look at another one. A wall clock that is set
/// is followed with the next [`align`].
#[must_use]
pub fn unix_ms_at(moment: Instant) -> u64 {
    if ANCHORED.load(Ordering::Relaxed) == 0 {
        align();
    }
    u64::try_from(ANCHORED.load(Ordering::Relaxed).saturating_add(since_anchor(moment))).unwrap_or(0)
}

/// Wall-clock nanoseconds since 1970 at a moment of the monotonic clock that lies not far back, by a look at both.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_ns_at(moment: Instant) -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = wall.saturating_sub(now().saturating_duration_since(moment));
    u64::try_from(then.as_nanos()).unwrap_or(u64::MAX)
}

/// Sees how the wall clock stands; to be called about once a second.
pub fn align() {
    let wall = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
    ANCHORED.store(wall.saturating_sub(since_anchor(now())), Ordering::Relaxed);
}

fn since_anchor(moment: Instant) -> i64 {
    let since = moment.saturating_duration_since(*ANCHOR);
    i64::try_from(since.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_mul(1000)
        .saturating_add(since.subsec_millis().into())
}

/// Milliseconds since 1970 as `2026-01-02T03:04:05.678Z`.
#[must_use]
pub fn rfc3339_ms(unix_ms: u64) -> String {
    let seconds = rfc3339(unix_ms);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms % 1000)
}

/// Milliseconds since 1970 as `2026-01-02T03:04:05Z`.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date in the proleptic Gregorian calendar, with years that begin in March: Howard Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
