//! What can go wrong with a request, by blame: the client's, Fender's, the upstream's.

use crate::policy::blame::ClientFault;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
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
    #[error("upstream: {0}")]
    Upstream(#[from] UpstreamFault),
}

impl Failure {
    /// The reason that the client is told.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Client(fault) => fault.reason(),
            Self::NoRoute => Reason::NoRoute,
            Self::Overload(_) => Reason::Overload,
            Self::Upstream(fault) => fault.reason,
        }
    }

    /// The sentence that the client is told: no address, no secret.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Client(fault) => fault.to_string(),
            Self::NoRoute => "no [[route]] of the config matches this host, path and method".to_owned(),
            Self::Overload(what) => (*what).to_owned(),
            Self::Upstream(fault) => upstream_detail(fault),
        }
    }
}

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
