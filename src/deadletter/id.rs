//! A letter's id: 26 characters of Crockford's base 32 in small letters; the first ten are the time, so that ids sort by age.

use std::fmt;
use std::str::FromStr;

/// The id of a letter: 48 bits of milliseconds since 1970, then 80 bits that no other letter of that millisecond has.
///
/// Ids of one store rise from capture to capture, even within a millisecond and where the clock was set back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(u128);

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LEN: usize = 26;
const BITS_OF_TIME: u64 = (1 << 48) - 1;

impl LetterId {
    #[cfg(test)]
    pub(super) const NOUGHT: Self = Self(0);

    /// The first one that may come after `last`, at `now_ms`; `dice` are random bits.
    #[must_use]
    pub fn after(last: Option<Self>, now_ms: u64, dice: u128) -> Self {
        let time = u128::from(now_ms.min(BITS_OF_TIME)) << 80;
        // Small steps within a millisecond keep the rest of it free for those that follow.
        let fresh = time | (dice & ((1 << 79) - 1));
        let next = last.map_or(0, |last| last.0.saturating_add(1 + (dice & 0xffff)));
        Self(fresh.max(next))
    }

    /// The time in it, in milliseconds since 1970: that of the capture, or a later one where the clock was set back.
    #[must_use]
    pub fn created_ms(self) -> u64 {
        u64::try_from(self.0 >> 80).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; LEN];
        for (place, character) in text.iter_mut().rev().enumerate() {
            let digit = usize::try_from((self.0 >> (5 * place)) & 31).unwrap_or_default();
            *character = DIGITS.get(digit).copied().unwrap_or(b'0');
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LetterId({self})")
    }
}

/// A text that is no letter's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a letter's id: 26 characters, such as 01j9zq5t3k8v7m2n4p6r8s0w1x")]
pub struct NoLetterId;

impl FromStr for LetterId {
    type Err = NoLetterId;

    /// Exactly what `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, NoLetterId> {
        if text.len() != LEN {
            return Err(NoLetterId);
        }
        let mut value: u128 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte).ok_or(NoLetterId)?;
            // 26 digits are 130 bits: the first one must be below 8.
            if value >> 123 != 0 {
                return Err(NoLetterId);
            }
            value = (value << 5) | u128::try_from(digit).unwrap_or_default();
        }
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_as_written_and_sorts_as_text() {
        let mut last = None;
        let mut texts = Vec::new();
        for (now, dice) in [(0, 0), (5, u128::MAX), (5, 7), (4, 9), (1_800_000_000_000, 1), (u64::MAX, 2)] {
            let id = LetterId::after(last, now, dice);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!(last < Some(id));
            texts.push(id.to_string());
            last = Some(id);
        }
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn refuses_what_it_would_not_write() {
        for text in ["", "0", "80000000000000000000000000", "0000000000000000000000000u", &"0".repeat(27)] {
            assert_eq!(text.parse::<LetterId>(), Err(NoLetterId), "{text}");
        }
    }
}
