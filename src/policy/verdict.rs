//! What a failed attempt did upstream, and whether the request may be sent again.

use super::outcome::Outcome;

/// What a failed attempt did upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No byte of the request can have reached the upstream's application.
    NeverSent,
    /// The upstream said that it did not act.
    Refused,
    /// The request may have been acted on.
    Ambiguous,
    /// The upstream answered: it acted.
    Done,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NeverSent, Self::Refused, Self::Ambiguous, Self::Done];

    /// What an answer says of its own request, where no dialect knows better: 421, 425 and 429 were not acted on, nor was a
    /// 503 that says when to come back, nor what a used-up balance refused; another failure may have acted.
    #[must_use]
    pub const fn of_status(status: u16, asks_back: bool, outcome: Outcome) -> Self {
        match (status, outcome) {
            (421 | 425 | 429, _) | (_, Outcome::Quota) => Self::Refused,
            (503, _) if asks_back => Self::Refused,
            (_, Outcome::Success | Outcome::Permanent) => Self::Done,
            _ => Self::Ambiguous,
        }
    }

    /// The word under which the verdict is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverSent => "never_sent",
            Self::Refused => "refused",
            Self::Ambiguous => "ambiguous",
            Self::Done => "done",
        }
    }
}

/// What makes a second send of a request harmless, whatever the first one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repeatable {
    /// A second send may act twice.
    No,
    /// The method is idempotent (RFC 9110 section 9.2.2).
    Method,
    /// The request bears a key under which the API acts once.
    Key,
    /// The config says so.
    Config,
}

impl Repeatable {
    /// Reads the three sources in the order of their strength.
    #[must_use]
    pub fn of(method: &str, bears_key: impl FnOnce() -> bool, configured: impl FnOnce() -> bool) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Self::Method,
            _ if bears_key() => Self::Key,
            _ if configured() => Self::Config,
            _ => Self::No,
        }
    }

    /// Whether a second send is harmless whatever the first one did.
    #[must_use]
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::No)
    }

    /// Whether a request whose last attempt ended with `verdict` may be sent again.
    #[must_use]
    pub const fn permits_resend(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::NeverSent | Verdict::Refused => true,
            Verdict::Ambiguous => !matches!(self, Self::No),
            Verdict::Done => false,
        }
    }
}
