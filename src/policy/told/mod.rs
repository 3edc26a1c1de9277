//! How long an upstream's answer says to wait, in its header fields.
//!
//! What cannot be read is passed over: negative, infinite or malformed values, and what is no number at all. A wait is never longer
//! than [`LONGEST`], and a moment in the past is a wait of zero.

mod forms;
pub mod rfc3339;
mod wait;

use std::time::Duration;

pub use wait::WaitForm;

/// A told wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// How long; at most [`LONGEST`].
    pub wait: Duration,
    /// The header field that told it.
    pub source: &'static str,
}

/// The wait that header fields tell, if any does: the most exact word first, and a word about this request before one
/// about a limit. `field` finds a field's value by its name in lower case; `unix_now` is the time since 1970.
#[must_use]
pub fn told<'a>(field: &dyn Fn(&str) -> Option<&'a str>, unix_now: Duration) -> Option<Told> {
    SINGLE
        .iter()
        .find_map(|(name, read)| Some(Told { wait: read(field(name)?.trim(), unix_now)?, source: name }))
        .or_else(|| FAMILIES.iter().find_map(|family| spent(family, field, unix_now)))
        .map(|told| Told { wait: told.wait.min(LONGEST), ..told })
}

type Read = fn(&str, Duration) -> Option<Duration>;

/// Fields that stand for themselves, in the order in which they are believed.
const SINGLE: &[(&str, Read)] = &[
    ("retry-after-ms", |text, _| forms::decimal(text).map(forms::thousandth)),
    ("x-ms-retry-after-ms", |text, _| forms::decimal(text).map(forms::thousandth)),
    ("x-amz-retry-after", |text, _| forms::decimal(text).map(forms::thousandth)),
    ("retry-after", |text, now| forms::decimal(text).or_else(|| forms::http_date(text, now))),
    ("ratelimit-reset", |text, _| forms::decimal(text)),
    ("ratelimit", |text, _| forms::rate_limit(text)),
    ("x-ratelimit-reset-after", |text, _| forms::decimal(text)),
    ("x-ratelimit-reset", forms::moment),
    ("x-rate-limit-reset", forms::moment),
];

/// Limits that an API counts apart: when each is reset, and what is left of it.
const FAMILIES: &[&[(&str, &str)]] = &[
    &[
        ("x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
        ("x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"),
        ("x-ratelimit-reset-project-requests", "x-ratelimit-remaining-project-requests"),
        ("x-ratelimit-reset-project-tokens", "x-ratelimit-remaining-project-tokens"),
    ],
    &[
        ("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-requests-remaining"),
        ("anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-tokens-remaining"),
        ("anthropic-ratelimit-input-tokens-reset", "anthropic-ratelimit-input-tokens-remaining"),
        ("anthropic-ratelimit-output-tokens-reset", "anthropic-ratelimit-output-tokens-remaining"),
        ("anthropic-priority-input-tokens-reset", "anthropic-priority-input-tokens-remaining"),
        ("anthropic-priority-output-tokens-reset", "anthropic-priority-output-tokens-remaining"),
    ],
];

/// What a family of limits says: see [`judge`].
fn spent<'a>(
    family: &'static [(&'static str, &'static str)],
    field: &dyn Fn(&str) -> Option<&'a str>,
    unix_now: Duration,
) -> Option<Told> {
    judge(|| {
        family.iter().filter_map(|(reset, remaining)| {
            let wait = forms::moment(field(reset)?.trim(), unix_now)?;
            Some((Told { wait, source: reset }, Left::read(field(remaining))))
        })
    })
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Unknown,
    Some,
}

impl Left {
    /// A count of what is left; what is no count, such as the -1 of some servers, is unknown.
    fn read(text: Option<&str>) -> Self {
        match text.and_then(|text| forms::decimal(text.trim())) {
            Some(Duration::ZERO) => Self::Nothing,
            Some(_) => Self::Some,
            None => Self::Unknown,
        }
    }
}

/// Of several limits: the longest wait of those that are used up; if none says so, the shortest of those that do not say;
/// else the shortest of all.
fn judge<I: Iterator<Item = (Told, Left)>>(limits: impl Fn() -> I) -> Option<Told> {
    let those = |left: Left| limits().filter(move |(_, of)| *of == left).map(|(told, _)| told);
    let shortest = |left: Left| those(left).min_by_key(|told| told.wait);
    those(Left::Nothing)
        .max_by_key(|told| told.wait)
        .or_else(|| shortest(Left::Unknown))
        .or_else(|| shortest(Left::Some))
}

/// The longest wait that is believed: a month covers the quotas that are known, and anything longer is a mistake.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);
