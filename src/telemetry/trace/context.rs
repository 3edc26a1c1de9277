//! A place in a trace, as `traceparent` tells it (W3C Trace Context).

use std::fmt;

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace's id; never 0.
    pub trace: u128,
    /// The span's; never 0.
    pub span: u64,
    /// Flags: of version 00 the lowest bit says that it is sampled.
    pub flags: u8,
}

/// The trace is recorded by whoever is before this.
const SAMPLED: u8 = 1;

/// What of the flags is known (Level 2: sampled, random).
const KNOWN: u8 = 3;

impl Context {
    /// Reads the value of a `traceparent`; `None` if it is not well-formed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = value.splitn(5, |byte| *byte == b'-');
        let mut part = |length| parts.next().filter(|part| part.len() == length);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let future = parts.next().is_none() || version != b"00";
        hex(version).filter(|version| future && *version != 0xff)?;
        let trace = hex(trace).filter(|trace| *trace != 0)?;
        let span = hex(span).filter(|span| *span != 0).and_then(|span| u64::try_from(span).ok())?;
        let flags = hex(flags).and_then(|flags| u8::try_from(flags).ok())?;
        Some(Self { trace, span, flags })
    }

    /// Whether whoever wrote it records the trace.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Another span of the same trace, which is recorded.
    #[must_use]
    pub const fn sampled(self, span: u64) -> Self {
        Self { span, flags: (self.flags | SAMPLED) & KNOWN, ..self }
    }
}

/// As `traceparent` writes it.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Small letters alone, as the standard has it.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |sum: u128, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_again() {
        let read = Context::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(read.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((read.span, read.is_sampled()), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(
            Context { flags: 0xfe, ..read }.sampled(1).to_string(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-03"
        );
    }

    #[test]
    fn what_is_not_well_formed_is_none() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let long = format!("{GOOD}-more");
        for bad in ["", "00", zero_trace, zero_span, &long, &GOOD.replace("00-", "ff-"), &GOOD.to_uppercase()]
        {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
        // A later version may have more.
        assert!(Context::parse(long.replace("00-0af", "01-0af").as_bytes()).is_some());
        assert!(!Context::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().is_sampled());
    }
}
