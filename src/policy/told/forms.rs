//! The forms in which APIs write a wait or a moment. Each reads the whole text or nothing.

use std::time::{Duration, UNIX_EPOCH};

use super::{Left, Told, judge, rfc3339};

/// `12` or `0.25` seconds; no sign, no exponent. What is too large to count is as long as can be.
pub(super) fn decimal(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let seconds = whole.parse().unwrap_or(u64::MAX);
    Some(Duration::new(seconds, nanoseconds(fraction)))
}

/// What was read as seconds, if it was milliseconds.
pub(super) fn thousandth(seconds: Duration) -> Duration {
    seconds / 1000
}

/// An HTTP date (RFC 9110 section 5.6.7, the two obsolete forms too), as the wait until then.
pub(super) fn http_date(text: &str, unix_now: Duration) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(unix_now))
}

/// When a limit is reset, in whatever form: a number of seconds, the seconds or milliseconds since 1970, a duration in Go's
/// form, or an RFC 3339 date.
pub(super) fn moment(text: &str, unix_now: Duration) -> Option<Duration> {
    if let Some(number) = decimal(text) {
        return Some(match number.as_secs() {
            seconds if seconds < FIRST_EPOCH_SECOND => number,
            seconds if seconds < FIRST_EPOCH_MILLISECOND => number.saturating_sub(unix_now),
            _ => thousandth(number).saturating_sub(unix_now),
        });
    }
    go_duration(text).or_else(|| rfc3339::parse(text).map(|then| then.saturating_sub(unix_now)))
}

/// A duration as Go prints it: `6m0s`, `120ms`, `1h2m3.5s`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit_on) = rest.split_at_checked(digits)?;
        let end = unit_on.find(|c: char| c.is_ascii_digit()).unwrap_or(unit_on.len());
        let (unit, after) = unit_on.split_at_checked(end)?;
        let number = decimal(number)?;
        let part = match unit {
            "h" => number.saturating_mul(3600),
            "m" => number.saturating_mul(60),
            "s" => number,
            "ms" => thousandth(number),
            "us" | "µs" | "μs" => number / 1_000_000,
            "ns" => number / 1_000_000_000,
            _ => return None,
        };
        sum = sum.saturating_add(part);
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// The `RateLimit` field in its two drafts (draft-ietf-httpapi-ratelimit-headers): `"default";r=0;t=30`, one item for
/// each policy, and the older `limit=100, remaining=0, reset=30`.
pub(super) fn rate_limit(text: &str) -> Option<Duration> {
    let older = outside_quotes(text, ',').find_map(|item| value(item, "reset"));
    if let Some(reset) = older {
        return decimal(reset);
    }
    let limits = || {
        outside_quotes(text, ',').filter_map(|item| {
            let of =
                |name| outside_quotes(item, ';').skip(1).find_map(move |parameter| value(parameter, name));
            let wait = decimal(of("t")?)?;
            Some((Told { wait, source: "ratelimit" }, Left::read(of("r"))))
        })
    };
    judge(limits).map(|told| told.wait)
}

fn value<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = pair.split_once('=')?;
    key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

/// Parts between separators that stand outside of quotes.
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The nanoseconds of a decimal fraction's digits; what is finer is cut off.
pub(super) fn nanoseconds(fraction: &str) -> u32 {
    let digits = fraction.bytes().filter(u8::is_ascii_digit).chain(std::iter::repeat(b'0')).take(9);
    digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// Numbers below this (2001 as a date) are waits; thirty years are none.
const FIRST_EPOCH_SECOND: u64 = 1_000_000_000;

/// Numbers from this on (2001 as a date in milliseconds, the year 33658 in seconds) are milliseconds.
const FIRST_EPOCH_MILLISECOND: u64 = 1_000_000_000_000;
