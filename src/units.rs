//! Durations and sizes as people write them, and the bounds that go with them.
//!
//! Parsing is checked: nothing overflows, nothing is negative, nothing is guessed. The marker types
//! (`Time`, `Size`, `Share`…) name a bound once for serde and for the JSON Schema:
//! `#[serde(with = "Time")] connect: Duration`. Zero is refused wherever the marker does not say otherwise.
//!
//! Messages never repeat the text that was given: it may have come from a secret.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// Why a text is not the quantity that it should be; a fragment that follows the key's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(&'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Invalid {}

/// Reads `"250ms"`, `"30s"`, `"5m"`, `"24h"` or `"7d"`: one whole number and one unit.
pub fn parse_duration(text: &str) -> Result<Duration, Invalid> {
    let (count, unit) = number_and_unit(text).ok_or(NOT_A_DURATION)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(NOT_A_DURATION),
    };
    count
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or(TOO_LONG)
}

/// Writes a duration so that `parse_duration` reads the same one, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units: [(u128, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    for (size, unit) in units {
        if milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    format!("{milliseconds}ms")
}

/// Reads `"512B"`, `"64KiB"`, `"1MiB"` or `"2GiB"`.
pub fn parse_size(text: &str) -> Result<u64, Invalid> {
    let (count, unit) = number_and_unit(text).ok_or(NOT_A_SIZE)?;
    let shift: u32 = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(NOT_A_SIZE),
    };
    count.checked_mul(1 << shift).filter(|bytes| *bytes <= LARGEST).ok_or(TOO_LARGE)
}

/// Writes a size so that `parse_size` reads the same one.
pub fn format_size(bytes: u64) -> String {
    let units: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (size, unit) in units {
        if bytes != 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// A duration above zero.
pub struct Time;

/// A duration in which zero has its plain meaning: at once, no wait.
pub struct TimeOrZero;

/// A duration in which zero means off; `None` then.
pub struct TimeOrOff;

/// A list of durations above zero.
pub struct Times;

/// A size above zero.
pub struct Size;

/// A size in which zero means no limit; `None` then.
pub struct SizeOrOff;

/// A share in `0 < x <= 1`.
pub struct Share;

/// A share in `0 <= x <= 1`.
pub struct ShareOrZero;

/// A finite number above zero.
pub struct Positive;

/// A finite number, zero or above.
pub struct PositiveOrZero;

/// A whole number of at least one.
pub struct AtLeastOne<T>(PhantomData<T>);

/// A text in which `""` means none; `None` then.
pub struct TextOrNone;

impl Time {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let duration = TimeOrZero::deserialize(from)?;
        if duration.is_zero() {
            return Err(D::Error::custom(ABOVE_ZERO));
        }
        Ok(duration)
    }
}

impl TimeOrZero {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_str(Parsed(parse_duration, EXPECTED_DURATION))
    }
}

impl TimeOrOff {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        TimeOrZero::deserialize(from).map(|duration| (!duration.is_zero()).then_some(duration))
    }
}

impl Times {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        struct One(Duration);
        impl<'de> Deserialize<'de> for One {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Time::deserialize(from).map(One)
            }
        }
        let all = Vec::<One>::deserialize(from)?;
        Ok(all.into_iter().map(|one| one.0).collect())
    }
}

impl Size {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        SizeOrOff::deserialize(from)?.ok_or_else(|| D::Error::custom(ABOVE_ZERO))
    }
}

impl SizeOrOff {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let bytes = from.deserialize_str(Parsed(parse_size, EXPECTED_SIZE))?;
        Ok((bytes != 0).then_some(bytes))
    }
}

impl Share {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let share = ShareOrZero::deserialize(from)?;
        if share == 0.0 {
            return Err(D::Error::custom(ABOVE_ZERO));
        }
        Ok(share)
    }
}

impl ShareOrZero {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let share = PositiveOrZero::deserialize(from)?;
        if share > 1.0 {
            return Err(D::Error::custom("must be at most 1"));
        }
        Ok(share)
    }
}

impl Positive {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let number = PositiveOrZero::deserialize(from)?;
        if number == 0.0 {
            return Err(D::Error::custom(ABOVE_ZERO));
        }
        Ok(number)
    }
}

impl PositiveOrZero {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let number = f64::deserialize(from)?;
        if !number.is_finite() {
            return Err(D::Error::custom("must be a finite number"));
        }
        if number < 0.0 {
            return Err(D::Error::custom("must not be negative"));
        }
        Ok(number)
    }
}

impl<T> AtLeastOne<T> {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error>
    where
        T: Deserialize<'de> + PartialOrd + From<u8>,
    {
        let number = T::deserialize(from)?;
        if number < T::from(1) {
            return Err(D::Error::custom("must be at least 1"));
        }
        Ok(number)
    }
}

impl TextOrNone {
    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        String::deserialize(from).map(|text| (!text.is_empty()).then_some(text))
    }
}

struct Parsed<T>(fn(&str) -> Result<T, Invalid>, &'static str);

impl<T> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

macro_rules! schema {
    ($($marker:ident $name:literal $schema:tt;)*) => {$(
        impl JsonSchema for $marker {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema! {
    Time "Time" {"type": "string", "pattern": r"^0*[1-9][0-9]*(ms|s|m|h|d)$|\$\{", "examples": ["250ms", "30s", "5m", "24h"]};
    TimeOrZero "TimeOrZero" {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h|d)$|\$\{", "examples": ["0s", "250ms", "30s", "5m"]};
    TimeOrOff "TimeOrOff" {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h|d)$|\$\{", "examples": ["0s", "250ms", "30s", "5m"]};
    Times "Times" {"type": "array", "items": {"type": "string", "pattern": r"^0*[1-9][0-9]*(ms|s|m|h|d)$|\$\{"}, "examples": [["60s", "180s", "600s"]]};
    Size "Size" {"type": "string", "pattern": r"^0*[1-9][0-9]*(B|KiB|MiB|GiB)$|\$\{", "examples": ["64KiB", "1MiB", "1GiB"]};
    SizeOrOff "SizeOrOff" {"type": "string", "pattern": r"^[0-9]+(B|KiB|MiB|GiB)$|\$\{", "examples": ["0B", "64KiB", "1MiB"]};
    Share "Share" {"type": "number", "exclusiveMinimum": 0, "maximum": 1};
    ShareOrZero "ShareOrZero" {"type": "number", "minimum": 0, "maximum": 1};
    Positive "Positive" {"type": "number", "exclusiveMinimum": 0};
    PositiveOrZero "PositiveOrZero" {"type": "number", "minimum": 0};
    TextOrNone "TextOrNone" {"type": "string"};
}

impl<T> JsonSchema for AtLeastOne<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AtLeastOne".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1})
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    if number.is_empty() {
        return None;
    }
    // A number beyond u64 is still a number: it fails as too large, not as malformed.
    Some((number.parse().unwrap_or(u64::MAX), unit))
}

const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400); // An Instant plus this never overflows.
const LARGEST: u64 = 1 << 50; // Fits i64 and f64 exactly, and no machine has it.

const NOT_A_DURATION: Invalid =
    Invalid("must be one number and one unit (ms, s, m, h, d), such as \"250ms\" or \"30s\"");
const TOO_LONG: Invalid = Invalid("must be at most ten years");
const NOT_A_SIZE: Invalid =
    Invalid("must be one number and one unit (B, KiB, MiB, GiB), such as \"64KiB\" or \"1MiB\"");
const TOO_LARGE: Invalid = Invalid("must be at most 1048576GiB");
const ABOVE_ZERO: &str = "must be more than zero";
const EXPECTED_DURATION: &str = "a duration such as \"30s\"";
const EXPECTED_SIZE: &str = "a size such as \"1MiB\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["0s", "250ms", "30s", "5m", "24h", "90s", "1001ms"] {
            assert_eq!(format_duration(parse_duration(text).expect(text)), text);
        }
    }

    #[test]
    fn what_is_not_one_number_and_one_unit_is_refused() {
        for text in ["", "s", "5", "-5s", "+5s", "1.5s", "1h30m", "5 s", "5S", "٣s", "99999999999999999999s"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "B", "5", "-5B", "1.5MiB", "5MB", "5kib", "5 KiB", "99999999999999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_back_as_written() {
        for text in ["0B", "512B", "64KiB", "1MiB", "32GiB", "1025B"] {
            assert_eq!(format_size(parse_size(text).expect(text)), text);
        }
    }
}
