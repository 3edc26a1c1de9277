//! A request's id: 32 hexadecimal digits, the first twelve of them the time, so that ids sort by age.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;

use crate::clock;
use crate::telemetry::trace::Context;

/// The id under which a request is known to its client, in the log, upstream, and as the trace that begins with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    header: HeaderValue,
    traceparent: HeaderValue,
}

/// Where the id stands in a trace context.
const TRACE_ID: std::ops::Range<usize> = 3..35;

impl Default for RequestId {
    fn default() -> Self {
        Self::at(clock::now())
    }
}

impl RequestId {
    /// A new one, of a request that came `now`: 48 bits of milliseconds since 1970, 80 random bits.
    #[must_use]
    pub fn at(now: Instant) -> Self {
        let high = (clock::unix_ms_at(now) << 16) | u64::from(fastrand::u16(..));
        // One text holds the trace context (version, trace id, parent id, flags: not sampled) and, within it, the id.
        let mut text = *b"00-................................-................-00";
        text[3..19].copy_from_slice(&hex(high));
        text[19..35].copy_from_slice(&hex(fastrand::u64(..)));
        text[36..52].copy_from_slice(&hex(fastrand::u64(1..)));
        let whole = Bytes::from_owner(text);
        let header = HeaderValue::from_maybe_shared(whole.slice(TRACE_ID));
        let traceparent = HeaderValue::from_maybe_shared(whole);
        let none = || HeaderValue::from_static("");
        Self {
            header: header.unwrap_or_else(|_| none()),
            traceparent: traceparent.unwrap_or_else(|_| none()),
        }
    }

    /// As a header's value.
    #[must_use]
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.header.to_str().unwrap_or_default()
    }

    /// The same as numbers.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        Context::parse(self.traceparent.as_bytes())
    }

    /// A W3C trace context that begins here, not sampled.
    #[must_use]
    pub fn traceparent(&self) -> HeaderValue {
        self.traceparent.clone()
    }
}

fn hex(value: u64) -> [u8; 16] {
    // Spread the nibbles over bytes, then add what lies between a digit and its character, all sixteen at once.
    let spread = |half: u32| {
        let mut bytes = u64::from(half);
        bytes = (bytes | (bytes << 16)) & 0x0000_ffff_0000_ffff;
        bytes = (bytes | (bytes << 8)) & 0x00ff_00ff_00ff_00ff;
        bytes = (bytes | (bytes << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = ((bytes + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        (bytes + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
    };
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    let (high, low) = (spread(u32::from_be_bytes([a, b, c, d])), spread(u32::from_be_bytes([e, f, g, h])));
    let mut text = [0; 16];
    let (left, right) = text.split_at_mut(8);
    left.copy_from_slice(&high);
    right.copy_from_slice(&low);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(std::str::from_utf8(&hex(value)).unwrap(), format!("{value:016x}"));
        }
    }

    #[test]
    fn the_trace_bears_the_id() {
        let id = RequestId::default();
        assert_eq!(id.as_str().len(), 32);
        assert_eq!(id.traceparent().to_str().unwrap().get(TRACE_ID), Some(id.as_str()));
        assert_ne!(id.as_str(), RequestId::default().as_str());
    }
}
