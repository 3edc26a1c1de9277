//! What a failed send was: a reason for the client, a verdict for the one who asks whether it may be sent again.

use std::error::Error;

use super::tls::Alert;
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
    /// Which of the endpoints, where one was come to.
    pub endpoint: Option<usize>,
}

impl Fault {
    /// Of a connection that was not stale.
    #[must_use]
    pub fn new(reason: Reason, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { reason, verdict, stale: false, detail: detail.into(), endpoint: None }
    }

    /// The request cannot have left.
    #[must_use]
    pub fn never_sent(reason: Reason, detail: impl Into<String>) -> Self {
        Self::new(reason, Verdict::NeverSent, detail)
    }

    /// What the HTTP library's error means. `left`: whether a byte of the request may have left.
    #[must_use]
    pub fn of_exchange(error: &hyper::Error, left: bool, stale: bool) -> Self {
        let alert = super::tls::alert(error);
        let verdict = match alert {
            _ if !left => Verdict::NeverSent,
            Some(Alert::Certificate) => Verdict::Refused,
            Some(Alert::Other) | None => verdict_of(error),
        };
        let nonsense = error.is_parse() || http2_error(error).is_some_and(is_nonsense);
        let reason = match nonsense {
            _ if alert.is_some() => Reason::Tls,
            true => Reason::Protocol,
            false => Reason::Reset,
        };
        Self { stale, ..Self::new(reason, verdict, chain(error)) }
    }
}

impl Fault {
    /// The answer's head was good, but its body broke off before it was passed on.
    #[must_use]
    pub fn of_body(error: &hyper::Error) -> Self {
        let nonsense = error.is_parse() || http2_error(error).is_some_and(is_nonsense);
        let reason = if nonsense { Reason::Protocol } else { Reason::Reset };
        Self::new(reason, Verdict::Ambiguous, chain(error))
    }

    /// The same for a stream of a shared HTTP/2 connection. It was stale if the connection failed, not the stream.
    #[must_use]
    pub fn of_stream(error: &hyper::Error, left: bool, reused: bool) -> Self {
        let reset = http2_error(error).is_some_and(h2::Error::is_reset);
        Self::of_exchange(error, left, reused && !reset)
    }
}

/// HTTP/2 can say that a stream was not processed: RFC 9113 section 8.7.
fn verdict_of(error: &hyper::Error) -> Verdict {
    let Some(cause) = http2_error(error) else { return Verdict::Ambiguous };
    let refused = cause.is_reset() && cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
    // The library gives this error only to the streams above the last id that the GOAWAY names.
    let beyond = cause.is_go_away() && cause.is_remote();
    if refused || beyond { Verdict::Refused } else { Verdict::Ambiguous }
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// The library itself ended the stream or the connection, because what came is not HTTP/2.
fn is_nonsense(error: &h2::Error) -> bool {
    error.is_library() && !error.is_io()
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
