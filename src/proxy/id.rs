//! A request's id: 32 hexadecimal digits, the first twelve of them the time, so that ids sort by age.

use bytes::Bytes;
use http::HeaderValue;

use crate::clock;

/// The id under which a request is known to its client, in the log, upstream, and as the trace that begins with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    header: HeaderValue,
    text: [u8; 32],
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestId {
    /// A new one: 48 bits of milliseconds since 1970, 80 random bits.
    #[must_use]
    pub fn new() -> Self {
        let id = (u128::from(clock::unix_ms()) << 80) | (fastrand::u128(..) >> 48);
        let text = hex(id);
        let header = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text))
            .unwrap_or(HeaderValue::from_static("0"));
        Self { header, text }
    }

    /// As a header's value.
    #[must_use]
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// A W3C trace context that begins here, not sampled.
    #[must_use]
    pub fn traceparent(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let span = hex(u128::from(fastrand::u64(1..)));
        let (head, tail) = text.split_at_mut(35);
        if let (Some(trace), Some(parent)) = (head.get_mut(3..), tail.get_mut(1..17)) {
            trace.copy_from_slice(&self.text);
            parent.copy_from_slice(span.get(16..).unwrap_or(&[b'1'; 16]));
        }
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

fn hex(value: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = value.to_be_bytes();
    std::array::from_fn(|at| {
        let byte = bytes.get(at / 2).copied().unwrap_or(0);
        let nibble = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
        DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')
    })
}
