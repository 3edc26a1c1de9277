//! What can come about on a request's way, each with the figures that decided.

use std::time::Duration;

use crate::policy::breaker::Refused;
use crate::policy::budget::Left;
use crate::policy::degradation::{Level, ShedAt};
use crate::policy::reason::Reason;
use crate::policy::retry::Stop;

/// One of them.
#[derive(Debug, Clone)]
pub enum Fact {
    /// An attempt was made and has ended.
    Sent {
        /// Which of the story's attempts.
        attempt: usize,
        /// The key of the config whose time ran out, if one did.
        limit: Option<&'static str>,
    },
    /// There is another attempt, after this wait.
    Again {
        wait: Duration,
        because: WaitOf,
        /// Attempts made, and the most.
        made: u32,
        most: u32,
        /// What the budget has left after it.
        left: Option<Left>,
    },
    /// There is none.
    Stopped(Box<Stopped>),
    /// A policy refused: nothing was sent.
    Refused { reason: Reason, detail: Box<str>, retry_after: Duration, by: Option<Box<By>> },
    /// Its answer has paused the traffic of its scope, for so much longer than it was.
    Paused { longer: Duration, told: Option<Duration>, quota: bool },
    /// It stood in line.
    Waited { line: Line, how_long: Duration },
    /// It goes ahead alone, and what becomes of it decides for the others.
    Probes(Probe),
    /// Its end has turned the breaker.
    Turned(Box<Turned>),
    /// A fallback answers.
    FellBack { kind: &'static str, to: Option<Box<str>>, number: usize, reason: Reason },
    /// One does not, though it is meant for such a failure.
    NoFallback { kind: &'static str, to: Option<Box<str>>, number: usize, why: NoFallback },
    /// It is a letter's turn, not a client's request.
    Replays { letter: Box<str> },
    /// It was stored.
    Kept {
        letter: Box<str>,
        reason: Option<Reason>,
        /// The client is told so: it is Fender's now.
        accepted: bool,
        /// Why it waits for an operator, if it does.
        parked: Option<&'static str>,
    },
    /// It was to be stored and was not.
    NotKept { why: &'static str },
    /// It could not be served at all: the client's own fault, no route, a bound of the process.
    Failed {
        reason: Reason,
        detail: Box<str>,
        /// The key of the config that bounds it, if one does.
        key: Option<&'static str>,
    },
    /// Its idempotency key is that of a letter which was stored before.
    Already {
        letter: Box<str>,
        /// Where that one stands.
        state: &'static str,
        /// The client is told that it is Fender's.
        accepted: bool,
    },
    /// The answer broke off after its head.
    Cut { reason: Option<Reason>, error: Box<str>, limit: Option<&'static str> },
    /// The client hung up.
    Gone(Gone),
}

/// What of it was under way when the client hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Nothing, or its answer.
    Idle,
    /// An attempt, which was broken off.
    Sending,
    /// A write that may be stored: what was under way is finished all the same.
    Kept,
}

/// What a request that goes ahead alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether a half-open breaker closes.
    Breaker,
    /// Whether a long pause is over.
    Pause,
}

/// A breaker's change of state.
#[derive(Debug, Clone)]
pub enum Turned {
    /// It has opened, for this.
    Opened(BreakerSays),
    /// It has closed.
    Closed,
}

/// Why a fallback does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFallback {
    /// The client wants none.
    OptedOut,
    /// The client has hung up.
    HungUp,
    /// An attempt may have acted already.
    Acted,
    /// The body is not there whole any more.
    Body,
    /// The body is not what the fallback would change.
    Rewrite,
    /// A credential would go along.
    Credential,
    /// The config in force has no such upstream, or its path cannot be made.
    Nowhere,
    /// It was asked, and brought no answer.
    Failed,
    /// There is no good answer that is young enough.
    NoneKept,
    /// Fixed words answer a write only if it is Fender's by then.
    NotFenders,
}

/// Why there is no other attempt, and what was known then.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub stop: Stop,
    /// Not what the client wants, but that it has hung up.
    pub gone: bool,
    /// Attempts made, and the most.
    pub made: u32,
    pub most: u32,
    /// A quota is used up: nothing is tried again then.
    pub quota: bool,
    /// The wait that the upstream told, the header field that told it, and the longest that is sat out.
    pub told: Option<Duration>,
    pub told_by: Option<&'static str>,
    pub patience: Duration,
    /// What is left of the request's time, and whether its client has set that.
    pub time_left: Duration,
    pub clients_time: bool,
    pub left: Option<Left>,
    pub breaker: Option<BreakerSays>,
}

/// Where a wait comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitOf {
    /// The config's backoff.
    Backoff,
    /// The upstream's word, in this header field; `None`: in its answer's body.
    Told(Option<&'static str>),
}

/// What is stood in line for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The end of a pause that the upstream asked for.
    Pause,
    /// A slot of a rate limit.
    Slot,
    /// A seat in the bulkhead.
    Seat,
}

/// Who refused, with what it knows.
#[derive(Debug, Clone)]
pub enum By {
    Breaker(BreakerSays),
    /// No seat: so many are let in, and so many may wait, so long.
    Bulkhead {
        full: bool,
        limit: u32,
        queue: u32,
        patience: Duration,
    },
    /// No slot: which of the limits, and what it grants.
    RateLimit {
        number: usize,
        requests: u32,
        per: Duration,
        patience: Duration,
        /// The slot would come too late for the request's own time.
        too_late: bool,
    },
    /// A pause is on: a quota is used up, or the upstream told to wait. It was waited for so long already.
    Pause {
        spent: bool,
        waited: Duration,
        patience: Duration,
        /// The key that says how long that is.
        key: &'static str,
    },
    /// The degradation level.
    Level {
        level: Level,
        shed_at: ShedAt,
    },
    /// The store, for which the write must not be sent before it is kept.
    Store,
}

/// What a breaker refused for.
#[derive(Debug, Clone)]
pub struct BreakerSays {
    /// Its answer.
    pub refused: Refused,
    /// What it goes by.
    pub settings: Settings,
}

/// What of a breaker's settings tells why it opened.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// It refuses nothing.
    pub observe: bool,
    pub window: Duration,
    pub window_requests: Option<u32>,
    pub failure_rate: f64,
    pub consecutive_failures: u32,
    pub slow_rate: f64,
}

impl BreakerSays {
    /// A breaker's answer, and what it goes by.
    #[must_use]
    pub fn new(refused: Refused, settings: &crate::policy::breaker::Settings) -> Self {
        let settings = Settings {
            observe: settings.observe,
            window: settings.window,
            window_requests: settings.window_requests.map(std::num::NonZeroU32::get),
            failure_rate: settings.failure_rate,
            consecutive_failures: settings.consecutive_failures,
            slow_rate: settings.slow_rate,
        };
        Self { refused, settings }
    }
}
