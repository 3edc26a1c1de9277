//! The classified end of an attempt.

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Success,
    /// Another try may fare better.
    Transient,
    /// The upstream asked to wait.
    Throttled,
    /// A quota, a balance or a credential is used up: no wait helps soon.
    Quota,
    /// The caller's own fault: no try helps.
    Permanent,
    /// The client hung up, or Fender gave the attempt up.
    Cancelled,
}

impl Outcome {
    /// All of them, in the order in which metrics list them.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Transient, Self::Throttled, Self::Quota, Self::Permanent, Self::Cancelled];

    /// The word under which the outcome is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::Permanent => "permanent",
            Self::Cancelled => "cancelled",
        }
    }

    /// What a status says where no dialect knows better: RFC 9110 section 15, and 529, which AI APIs use for overload.
    /// 401, 403 and 407 are the caller's own fault here: a generic API says them of one resource or one login, and the
    /// credential's other requests must not suffer for it.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            429 => Self::Throttled,
            402 => Self::Quota,
            501 | 505 => Self::Permanent,
            408 | 421 | 425 | 500..=599 => Self::Transient,
            400..=499 => Self::Permanent,
            _ => Self::Success,
        }
    }
}
