//! What a breaker is asked and told, and what it answers.

use std::time::{Duration, Instant};

use crate::policy::window::Tally;

/// A breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass and are judged.
    Closed,
    /// Calls are refused until the open time is over.
    Open,
    /// A few probes find out.
    HalfOpen,
    /// An operator refuses all calls.
    ForcedOpen,
    /// An operator lets all calls pass, unjudged.
    ForcedClosed,
}

impl State {
    /// All of them, in the order in which metrics list them.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::ForcedClosed];

    /// The word under which the state is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }

    /// Of two states the larger badness is the worse one: closed, forced closed, half open, open, forced open.
    #[must_use]
    pub const fn badness(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::ForcedClosed => 1,
            Self::HalfOpen => 2,
            Self::Open => 3,
            Self::ForcedOpen => 4,
        }
    }
}

/// How a permitted call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The upstream did its part.
    Success {
        /// It took longer than `slow_call`.
        slow: bool,
    },
    /// One of the breaker's `failures`.
    Failure {
        /// It took longer than `slow_call`.
        slow: bool,
        /// The wait that the upstream told: the least time that the breaker stays open for, if this opens it.
        told: Option<Duration>,
    },
    /// It says nothing about the upstream: the client hung up, or it was never sent. Counts for nothing.
    Abandoned,
}

/// The right to make one call, and the duty to tell how it ended.
#[must_use = "a breaker waits for the end of each call that it permitted: tell it, as Abandoned if need be"]
#[derive(Debug)]
pub struct Permit {
    pub(super) generation: u64,
    pub(super) kind: Kind,
}

/// What a permitted call means to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Traffic of a closed breaker.
    Ordinary,
    /// It decides whether a half-open breaker closes.
    Probe { began: Instant },
    /// It would have been refused, but the breaker only observes.
    Waived,
}

impl Permit {
    /// Whether this call decides the fate of a half-open breaker.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        matches!(self.kind, Kind::Probe { .. })
    }

    /// Whether the call would have been refused, did the breaker not only observe.
    #[must_use]
    pub const fn is_waived(&self) -> bool {
        matches!(self.kind, Kind::Waived)
    }

    /// The end of it: a permit is told once.
    pub(super) const fn spend(self) -> (u64, Kind) {
        (self.generation, self.kind)
    }
}

/// A call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When to come back: at least a millisecond. A guess while probes are out, and while an operator holds it open.
    pub retry_after: Duration,
    /// The state that refuses; `Closed` while traffic is let back in bit by bit.
    pub state: State,
    /// What opened it last; `None` where that was an operator's word.
    pub tripped: Option<Tripped>,
}

/// What opened a breaker, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// What decided.
    pub why: Why,
    /// What was counted then: its window's calls, or its probes.
    pub tally: Tally,
    /// Failures in a row, by then.
    pub consecutive: u32,
    /// How long it stays open.
    pub open_for: Duration,
}

/// The answer to a question, and what time alone had changed before it.
#[derive(Debug)]
pub struct Asked {
    /// The permit, or when to come back.
    pub answer: Result<Permit, Refused>,
    /// The change of state that the question brought to light.
    pub transition: Option<Transition>,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// What decided.
    pub why: Why,
    /// What was counted in the state before: its window's calls, or its probes.
    pub tally: Tally,
    /// How long it stays open, if it opened.
    pub open_for: Option<Duration>,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// `failure_rate` was reached.
    FailureRate,
    /// `consecutive_failures` was reached.
    Consecutive,
    /// `slow_rate` was reached, by traffic or by the probes.
    SlowRate,
    /// A probe failed.
    ProbeFailed,
    /// A probe did not end within `half_open_timeout`.
    ProbeLost,
    /// All probes succeeded.
    ProbesSucceeded,
    /// The open time is over.
    OpenEnded,
    /// The active check failed.
    HealthDown,
    /// The active check recovered.
    HealthUp,
    /// An operator's word, or a new config's.
    Operator,
}

impl Why {
    /// The word under which the reason is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureRate => "failure_rate",
            Self::Consecutive => "consecutive_failures",
            Self::SlowRate => "slow_rate",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeLost => "half_open_timeout",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::OpenEnded => "open_ended",
            Self::HealthDown => "health_down",
            Self::HealthUp => "health_up",
            Self::Operator => "operator",
        }
    }
}

/// What a breaker shows of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The state in force.
    pub state: State,
    /// What the window holds.
    pub tally: Tally,
    /// The share of failures in it, 0 to 1; 0 without a call.
    pub failure_rate: f64,
    /// Failures in a row, until now.
    pub consecutive: u32,
    /// When an open breaker lets a probe through.
    pub retry_at: Option<Instant>,
    /// How many times it has opened again without having been well for a while.
    pub reopenings: u32,
    /// Probes that are on their way.
    pub probes: usize,
}
