//! The closed list of causes that answers, metrics, letters and events name.

use std::fmt;

/// Why Fender answered, refused, fell back or captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    NoRoute,
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    HeaderTimeout,
    BodyTimeout,
    BreakerOpen,
    Overload,
    RateLimited,
    Throttled,
    Timeout,
    FirstContent,
    Connect,
    Reset,
    Tls,
    Protocol,
    Degraded,
    StoreUnavailable,
    Credential,
    Ambiguous,
    Quota,
    Cancelled,
    Exhausted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::NoRoute,
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::HeadersTooLarge,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::BreakerOpen,
        Self::Overload,
        Self::RateLimited,
        Self::Throttled,
        Self::Timeout,
        Self::FirstContent,
        Self::Connect,
        Self::Reset,
        Self::Tls,
        Self::Protocol,
        Self::Degraded,
        Self::StoreUnavailable,
        Self::Credential,
        Self::Ambiguous,
        Self::Quota,
        Self::Cancelled,
        Self::Exhausted,
    ];

    /// The reason of that word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The word under which the cause is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BreakerOpen => "breaker_open",
            Self::Overload => "overload",
            Self::RateLimited => "rate_limited",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::FirstContent => "first_content",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Degraded => "degraded",
            Self::StoreUnavailable => "store_unavailable",
            Self::Credential => "credential",
            Self::Ambiguous => "ambiguous",
            Self::Quota => "quota",
            Self::Cancelled => "cancelled",
            Self::Exhausted => "exhausted",
        }
    }

    /// The status of an answer of Fender's own that bears this reason. `None` where the answer is another's: the
    /// upstream's last response, the failure that was captured, or nobody's.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::NoRoute => Some(404),
            Self::BadRequest => Some(400),
            Self::BodyTooLarge => Some(413),
            Self::HeadersTooLarge => Some(431),
            Self::HeaderTimeout | Self::BodyTimeout => Some(408),
            Self::BreakerOpen | Self::Overload | Self::Degraded | Self::StoreUnavailable => Some(503),
            Self::RateLimited | Self::Throttled => Some(429),
            Self::Timeout | Self::FirstContent => Some(504),
            Self::Connect | Self::Reset | Self::Tls | Self::Protocol => Some(502),
            Self::Credential | Self::Ambiguous | Self::Quota | Self::Cancelled | Self::Exhausted => None,
        }
    }

    /// One line for people: the title of a problem answer.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::NoRoute => "No route matches the request",
            Self::BadRequest => "The request is malformed",
            Self::BodyTooLarge => "The request body is too large",
            Self::HeadersTooLarge => "The request head is too large",
            Self::HeaderTimeout => "The request head did not arrive in time",
            Self::BodyTimeout => "The request body did not arrive in time",
            Self::BreakerOpen => "The upstream's circuit breaker is open",
            Self::Overload => "Too much is in flight",
            Self::RateLimited => "The configured rate limit is reached",
            Self::Throttled => "The upstream asked to wait",
            Self::Timeout => "The upstream did not answer in time",
            Self::FirstContent => "The upstream's stream bore no content in time",
            Self::Connect => "The upstream cannot be connected to",
            Self::Reset => "The upstream broke the connection off",
            Self::Tls => "The upstream's TLS handshake failed",
            Self::Protocol => "The upstream's answer is no valid HTTP",
            Self::Degraded => "The upstream is shed at this degradation level",
            Self::StoreUnavailable => "The dead-letter store cannot take the write",
            Self::Credential => "The write's credential can be neither sealed nor supplied",
            Self::Ambiguous => "The write may have happened",
            Self::Quota => "The upstream's quota or credential is used up",
            Self::Cancelled => "The client hung up",
            Self::Exhausted => "The attempts are used up",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
