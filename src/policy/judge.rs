//! What the end of an attempt means: its outcome, its verdict, and which words of the config name it.

use std::time::Duration;

use super::outcome::Outcome;
use super::reason::Reason;
use super::throttle::Scope;
use super::trigger::Trigger;
use super::verdict::Verdict;

/// The end of one attempt, as every policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The answer's status; `None` if none came.
    pub status: Option<u16>,
    /// Why no answer came; `None` if one did.
    pub reason: Option<Reason>,
    /// The class of the end.
    pub outcome: Outcome,
    /// What the attempt did upstream.
    pub verdict: Verdict,
    /// How long the upstream told to wait.
    pub told: Option<Duration>,
    /// Whom that concerns.
    pub scope: Scope,
}

/// What an answer, or an error event of a stream, means: its dialect reads it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The class of the end.
    pub outcome: Outcome,
    /// What the attempt did upstream.
    pub verdict: Verdict,
    /// How long it tells to wait.
    pub told: Option<Duration>,
    /// Whom that concerns.
    pub scope: Scope,
}

impl Meaning {
    /// What a status says where no dialect knows better. `asks_back`: the answer bears Retry-After.
    #[must_use]
    pub const fn by_status(status: u16, told: Option<Duration>, asks_back: bool) -> Self {
        let outcome = Outcome::of_status(status);
        let verdict = Verdict::of_status(status, asks_back, outcome);
        Self { outcome, verdict, told, scope: Scope::Credential }
    }
}

impl Judged {
    /// An answer of this status, and what it means. `listed`: what the config calls a failure. A status that stands there
    /// beats success, nothing else: quota, permanent and the verdict are the dialect's.
    #[must_use]
    pub fn answer(status: u16, meaning: Meaning, listed: &[&[Trigger]]) -> Self {
        let Meaning { outcome, mut verdict, told, scope } = meaning;
        let named = || listed.iter().any(|list| list.contains(&Trigger::Status(status)));
        let beaten = outcome == Outcome::Success && named();
        let outcome = if beaten { Outcome::Transient } else { outcome };
        if beaten {
            verdict = Verdict::of_status(status, false, outcome);
        }
        let failed = outcome != Outcome::Success;
        Self { status: Some(status), reason: None, outcome, verdict, told: told.filter(|_| failed), scope }
    }

    /// The same end at a replay: see [`super::redelivery::outcome_of`].
    #[must_use]
    pub fn at_replay(mut self) -> Self {
        if let Some(status) = self.status {
            let outcome = super::redelivery::outcome_of(status, self.outcome);
            if outcome != self.outcome {
                self.verdict = Verdict::Refused;
            }
            self.outcome = outcome;
        }
        self
    }

    /// No answer came.
    #[must_use]
    pub const fn fault(reason: Reason, verdict: Verdict) -> Self {
        Self {
            status: None,
            reason: Some(reason),
            outcome: Outcome::Transient,
            verdict,
            told: None,
            scope: Scope::Credential,
        }
    }

    /// The client's side failed first: nothing is known of the upstream's.
    #[must_use]
    pub const fn client(gone: bool, reason: Reason, verdict: Verdict) -> Self {
        let outcome = if gone { Outcome::Cancelled } else { Outcome::Permanent };
        Self { status: None, reason: Some(reason), outcome, verdict, told: None, scope: Scope::Credential }
    }

    /// Whether a list such as `retry.on` or `breaker.failures` names this end. Quota, permanent and cancelled ends are
    /// named by none. A TLS failure is a kind of `connect`, nonsense instead of an answer a kind of `reset`.
    #[must_use]
    pub fn is_named_by(&self, list: &[Trigger]) -> bool {
        if !matches!(self.outcome, Outcome::Transient | Outcome::Throttled) {
            return false;
        }
        list.iter().any(|trigger| match trigger {
            Trigger::Connect => matches!(self.reason, Some(Reason::Connect | Reason::Tls)),
            Trigger::Reset => matches!(self.reason, Some(Reason::Reset | Reason::Protocol)),
            Trigger::Timeout => matches!(self.reason, Some(Reason::Timeout | Reason::FirstContent)),
            Trigger::Transient => self.outcome == Outcome::Transient,
            Trigger::Throttled => self.outcome == Outcome::Throttled,
            Trigger::ServerError => self.status.is_some_and(|status| (500..=599).contains(&status)),
            Trigger::Status(status) => self.status == Some(*status),
        })
    }

    /// Whether the answer goes to the client as it is: nothing that Fender could do would better it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self.outcome, Outcome::Success | Outcome::Permanent | Outcome::Cancelled)
    }

    /// One word for logs and metrics: the fault's reason, or the answer's outcome.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.reason {
            Some(reason) => reason.as_str(),
            None => self.outcome.as_str(),
        }
    }
}
