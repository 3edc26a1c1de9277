//! The client's own faults: one vocabulary for the front door and the pipeline.

use super::reason::Reason;

/// The client's own fault. The text of `Bad` is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    #[error("{0}")]
    Bad(&'static str),
    #[error("the request body is larger than max_request_body")]
    BodyTooLarge,
    #[error("the request head is larger than max_header_bytes, or has more than 100 fields")]
    HeadTooLarge,
    #[error("the request head did not arrive within header_timeout")]
    HeadTooSlow,
    #[error("the request body did not arrive within the idle timeout")]
    BodyTooSlow,
    #[error("the client broke its request off")]
    Gone,
}

impl ClientFault {
    /// The reason that the client is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Bad(_) => Reason::BadRequest,
            Self::BodyTooLarge => Reason::BodyTooLarge,
            Self::HeadTooLarge => Reason::HeadersTooLarge,
            Self::HeadTooSlow => Reason::HeaderTimeout,
            Self::BodyTooSlow => Reason::BodyTimeout,
            Self::Gone => Reason::Cancelled,
        }
    }
}
