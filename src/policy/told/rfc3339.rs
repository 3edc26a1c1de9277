//! Dates as RFC 3339 writes them.

use std::time::Duration;

use super::forms::{is_digits, nanoseconds};

/// The time since 1970 of `2026-01-02T03:04:05.678Z` or `2026-01-02T03:04:05+01:00`; zero before 1970. A leap second is the
/// first one of the next minute.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let (year, month, day) = three(date, '-', [4, 2, 2])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if is_digits(fraction) => (clock, nanoseconds(fraction)),
        Some(_) => return None,
        None => (clock, 0),
    };
    let (hour, minute, second) = three(clock, ':', [2, 2, 2])?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    Some(u64::try_from(seconds).map_or(Duration::ZERO, |seconds| Duration::new(seconds, fraction)))
}

/// `Z` or `+01:00`, in seconds.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (sign, rest) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days from 1970 to a date of the Gregorian calendar, with years that begin in March: Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn three(text: &str, separator: char, widths: [usize; 3]) -> Option<(i64, i64, i64)> {
    let [first, second, third] = widths;
    let mut parts = text.split(separator);
    let numbers =
        (number(parts.next()?, first)?, number(parts.next()?, second)?, number(parts.next()?, third)?);
    parts.next().is_none().then_some(numbers)
}

/// A number of exactly so many digits.
fn number(text: &str, width: usize) -> Option<i64> {
    if text.len() == width && is_digits(text) { text.parse().ok() } else { None }
}
