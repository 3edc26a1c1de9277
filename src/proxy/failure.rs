//! What can go wrong with a request, by blame: the client's, Fender's, the upstream's.

use std::time::Duration;

use crate::policy::blame::ClientFault;
use crate::policy::breaker::{self, Refused, State};
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::telemetry::story::{BreakerSays, By};
use crate::upstream::Fault as UpstreamFault;

/// The end of a request that Fender answers itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("client: {0}")]
    Client(#[from] ClientFault),
    #[error("no route matches")]
    NoRoute,
    #[error("overload: {0}")]
    Overload(&'static str),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("upstream: {0}")]
    Upstream(#[from] UpstreamFault),
}

/// A policy's no: nothing was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// `breaker_open`, `overload`, `rate_limited`, `throttled` or `degraded`.
    pub reason: Reason,
    /// When it is worth asking again.
    pub retry_after: Duration,
    /// One sentence for the client.
    pub detail: String,
    /// A quota is used up: it is waited for, and what answers instead of a used-up quota answers now.
    pub quota: bool,
    /// Who refuses, with the figures that decided.
    pub by: Option<Box<By>>,
}

impl Refusal {
    /// `detail`: one sentence for the client.
    #[must_use]
    pub fn new(reason: Reason, retry_after: Duration, detail: impl Into<String>) -> Self {
        Self { reason, retry_after, detail: detail.into(), quota: false, by: None }
    }

    /// The same, and who says so.
    #[must_use]
    pub fn by(mut self, by: By) -> Self {
        self.by = Some(Box::new(by));
        self
    }

    /// The client has hung up: what has not begun does not begin.
    #[must_use]
    pub fn gone() -> Self {
        Self::new(Reason::Cancelled, Duration::ZERO, "the client hung up")
    }

    /// The breaker's.
    #[must_use]
    pub fn breaker(refused: Refused, settings: &breaker::Settings) -> Self {
        let what = match refused.state {
            State::ForcedOpen => "an operator holds the upstream's circuit breaker open",
            State::HalfOpen => "the upstream is being probed after failures",
            State::Closed | State::ForcedClosed => "the upstream is being let back in step by step",
            State::Open => "the upstream has failed too often of late",
        };
        let says = BreakerSays::new(refused, settings);
        Self::new(Reason::BreakerOpen, refused.retry_after, what).by(By::Breaker(says))
    }
}

impl Failure {
    /// The reason that the client is told.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Client(fault) => fault.reason(),
            Self::NoRoute => Reason::NoRoute,
            Self::Overload(_) => Reason::Overload,
            Self::Refused(refusal) => refusal.reason,
            Self::Upstream(fault) => fault.reason,
        }
    }

    /// Whether a used-up quota is behind it.
    #[must_use]
    pub const fn is_of_quota(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.quota)
    }

    /// When it is worth asking again, where that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overload(_) => Some(SOON),
            Self::Refused(refusal) => Some(refusal.retry_after),
            Self::Client(_) | Self::NoRoute | Self::Upstream(_) => None,
        }
    }

    /// The sentence that the client is told: no address, no secret.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Client(fault) => fault.to_string(),
            Self::NoRoute => "no [[route]] of the config matches this host, path and method".to_owned(),
            Self::Overload(what) => (*what).to_owned(),
            Self::Refused(refusal) => refusal.detail.clone(),
            Self::Upstream(fault) => upstream_detail(fault),
        }
    }
}

/// When an overloaded proxy may be asked again: nothing better is known than "soon".
const SOON: Duration = Duration::from_secs(1);

fn upstream_detail(fault: &UpstreamFault) -> String {
    let what = match fault.reason {
        Reason::Connect => "no connection could be opened to any of the upstream's addresses",
        Reason::Tls => "the TLS handshake with the upstream failed",
        Reason::Timeout => "the upstream's answer did not begin in time",
        Reason::Protocol => "the upstream's answer could not be read as HTTP",
        _ => "the upstream closed the connection before its answer was complete",
    };
    let sent = match fault.verdict {
        Verdict::NeverSent | Verdict::Refused => "; the request was not acted on",
        Verdict::Ambiguous | Verdict::Done => "",
    };
    format!("{what}{sent}")
}
