//! The key of the config behind each thing that came about.

use std::borrow::Cow;

use super::{BreakerSays, By, Fact, Line, NoFallback, Probe, Stopped, Turned, WaitOf};
use crate::policy::breaker::{State, Why};
use crate::policy::retry::Stop;

impl Fact {
    /// The key of the config that decided, below its upstream or route; one that begins with `server.` is of the process.
    #[must_use]
    pub fn key(&self) -> Option<Cow<'static, str>> {
        let key = match self {
            Self::Sent { limit, .. } | Self::Cut { limit, .. } => (*limit)?,
            Self::Again { because: WaitOf::Backoff, .. } => "retry.backoff.base",
            Self::Again { .. } | Self::Gone(_) | Self::Waited { line: Line::Pause, .. } => return None,
            Self::Replays { .. } | Self::Probes(Probe::Pause) => return None,
            Self::Probes(Probe::Breaker) => "breaker.half_open_probes",
            Self::Turned(turned) => match &**turned {
                Turned::Opened(breaker) => breaker.key()?,
                Turned::Closed => "breaker.half_open_probes",
            },
            Self::NoFallback { why: NoFallback::OptedOut | NoFallback::HungUp, .. } => return None,
            Self::Stopped(stopped) => stopped.key()?,
            Self::Paused { .. } => "throttle.max_pause",
            Self::Refused { by, .. } => return by.as_ref()?.key(),
            Self::Waited { line: Line::Slot, .. } => "rate_limit",
            Self::Waited { line: Line::Seat, .. } => "concurrency.max",
            Self::FellBack { number, .. } | Self::NoFallback { number, .. } => {
                return Some(Cow::Owned(format!("fallback[{number}]")));
            }
            Self::Kept { parked: Some("credential"), .. } => "dead_letter.credentials",
            Self::Kept { parked: Some("ambiguous"), .. } => "dead_letter.replay.ambiguous",
            Self::Kept { .. } => "dead_letter.mode",
            Self::NotKept { why: "body" } => "dead_letter.max_body",
            Self::NotKept { why: "memory" } => "server.buffer_memory",
            Self::NotKept { why: "full" } => "dead_letter.max_bytes",
            Self::NotKept { .. } => return None,
            Self::Failed { key, .. } => (*key)?,
            Self::Already { .. } => "dead_letter.mode",
        };
        Some(Cow::Borrowed(key))
    }
}

impl Stopped {
    const fn key(&self) -> Option<&'static str> {
        Some(match self.stop {
            _ if self.quota => "throttle.max_pause",
            Stop::Unlisted => "retry.on",
            Stop::Attempts => "retry.max_attempts",
            Stop::Unsafe => "idempotent",
            Stop::Body => "retry.max_body",
            Stop::Patience => "retry.retry_after",
            Stop::Deadline if self.clients_time => return None,
            Stop::Deadline => "timeout.total",
            Stop::Budget => "retry.budget.ratio",
            Stop::OptedOut => return None,
            Stop::Breaker => match &self.breaker {
                Some(breaker) => return breaker.key(),
                None => return None,
            },
        })
    }
}

impl By {
    fn key(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Breaker(breaker) => return breaker.key().map(Cow::Borrowed),
            Self::Bulkhead { full: true, .. } => "concurrency.queue",
            Self::Bulkhead { full: false, .. } => "concurrency.queue_timeout",
            Self::RateLimit { number, .. } => {
                return Some(Cow::Owned(format!("rate_limit[{number}].requests")));
            }
            Self::Pause { key, .. } => key,
            Self::Level { .. } => "shed_at",
            Self::Store => "dead_letter.mode",
        }))
    }
}

impl BreakerSays {
    const fn key(&self) -> Option<&'static str> {
        if matches!(self.refused.state, State::Closed) {
            return Some("breaker.ramp");
        }
        let Some(tripped) = self.refused.tripped else { return None };
        Some(match tripped.why {
            Why::FailureRate => "breaker.failure_rate",
            Why::Consecutive => "breaker.consecutive_failures",
            Why::SlowRate => "breaker.slow_rate",
            Why::ProbeFailed => "breaker.open_for",
            Why::ProbeLost => "breaker.half_open_timeout",
            Why::HealthDown => "health.unhealthy_after",
            Why::ProbesSucceeded | Why::OpenEnded | Why::HealthUp | Why::Operator => return None,
        })
    }
}
