//! What a failed send was: a reason for the client, a verdict for the one who asks whether it may be sent again.

use std::error::Error;

use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

/// Why an attempt brought no response.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// `connect`, `tls`, `reset`, `protocol` or `timeout`.
    pub reason: Reason,
    /// What the attempt did upstream.
    pub verdict: Verdict,
    /// It ran on a connection that had served before, and no byte of an answer came: the connection was stale.
    pub stale: bool,
    /// For the log, never for the client: it may name addresses.
    pub detail: String,
}

impl Fault {
    /// The request cannot have left.
    #[must_use]
    pub fn never_sent(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, verdict: Verdict::NeverSent, stale: false, detail: detail.into() }
    }

    /// What the HTTP library's error means. `left`: whether a byte of the request may have left.
    #[must_use]
    pub fn of_exchange(error: &hyper::Error, left: bool, stale: bool) -> Self {
        let verdict = if left { verdict_of(error) } else { Verdict::NeverSent };
        let reason = if error.is_parse() { Reason::Protocol } else { Reason::Reset };
        Self { reason, verdict, stale, detail: chain(error) }
    }
}

impl Fault {
    /// The same for a stream of a shared HTTP/2 connection. It was stale if the connection failed, not the stream.
    #[must_use]
    pub fn of_stream(error: &hyper::Error, left: bool, reused: bool) -> Self {
        let reset = error
            .source()
            .and_then(|cause| cause.downcast_ref::<h2::Error>())
            .is_some_and(h2::Error::is_reset);
        Self::of_exchange(error, left, reused && !reset)
    }
}

/// HTTP/2 can say that a stream was not processed: RFC 9113 section 8.7.
fn verdict_of(error: &hyper::Error) -> Verdict {
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else {
        return Verdict::Ambiguous;
    };
    let refused = cause.is_reset() && cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
    // The library gives this error only to the streams above the last id that the GOAWAY names.
    let beyond = cause.is_go_away() && cause.is_remote();
    if refused || beyond { Verdict::Refused } else { Verdict::Ambiguous }
}

/// An error with all its causes on one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
