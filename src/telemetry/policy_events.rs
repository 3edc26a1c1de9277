//! What the policies decide, and what comes of it.

use std::time::Duration;

use serde_json::json;

use super::events::Event;
use super::feed::Told;
use super::story::{By, Fact, brief};
use crate::policy::breaker::{State, Transition};
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;

/// An attempt failed, and what was decided then.
#[derive(Debug)]
pub struct AttemptFailed<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    /// Which attempt of the request it was.
    pub attempt: u32,
    pub reason: &'static str,
    pub status: Option<u16>,
    pub verdict: &'static str,
    pub error: &'a str,
    /// The wait that the upstream told.
    pub told_ms: Option<f64>,
    /// Whether it is tried again, and why: [`Fact::Again`] or [`Fact::Stopped`].
    pub then: Fact,
}

impl Event for AttemptFailed<'_> {
    fn log(&self) {
        let (retry_in_ms, not_retried) = match &self.then {
            Fact::Again { wait, .. } => (Some(wait.as_secs_f64() * 1000.0), None),
            Fact::Stopped(stopped) => (None, Some(stopped.word())),
            _ => (None, None),
        };
        tracing::warn!(
            request_id = self.request_id,
            upstream = self.upstream,
            attempt = self.attempt,
            reason = self.reason,
            status = self.status,
            verdict = self.verdict,
            error = self.error,
            told_ms = self.told_ms,
            retry_in_ms,
            not_retried,
            "attempt failed"
        );
    }

    fn fact(&self) -> Option<Fact> {
        Some(self.then.clone())
    }
}

/// A policy refused an attempt: nothing was sent. Under an outage that is every request, so it is no more than a debug line.
#[derive(Debug)]
pub struct Refused<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub reason: Reason,
    pub detail: &'a str,
    pub retry_after: Duration,
    /// Who refused, with its figures.
    pub by: Option<&'a By>,
}

impl Event for Refused<'_> {
    fn log(&self) {
        tracing::debug!(
            request_id = self.request_id,
            upstream = self.upstream,
            reason = self.reason.as_str(),
            detail = self.detail,
            retry_after_ms = self.retry_after.as_secs_f64() * 1000.0,
            "refused"
        );
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::Refused {
            reason: self.reason,
            detail: brief(self.detail),
            retry_after: self.retry_after,
            by: self.by.cloned().map(Box::new),
        })
    }
}

/// A breaker changed its state.
#[derive(Debug)]
pub struct BreakerChanged<'a> {
    pub upstream: &'a str,
    /// "" for the upstream's own.
    pub route: &'a str,
    pub transition: &'a Transition,
}

impl Event for BreakerChanged<'_> {
    fn log(&self) {
        let Transition { from, to, why, tally, open_for } = self.transition;
        tracing::warn!(
            upstream = self.upstream,
            route = self.route,
            from = from.as_str(),
            to = to.as_str(),
            why = why.as_str(),
            calls = tally.calls,
            failures = tally.failures,
            slow = tally.slow,
            open_for_s = open_for.map(|time| time.as_secs_f64()),
            "breaker changed"
        );
    }

    fn tell(&self) -> Option<Told> {
        let Transition { from, to, why, tally, open_for } = self.transition;
        let kind = match to {
            State::Open | State::ForcedOpen => "breaker.opened",
            State::HalfOpen => "breaker.half_open",
            State::Closed | State::ForcedClosed => "breaker.closed",
        };
        let about = json!({
            "route": self.route,
            "from": from.as_str(),
            "to": to.as_str(),
            "why": why.as_str(),
            "calls": tally.calls,
            "failures": tally.failures,
            "slow": tally.slow,
            "open_for_ms": open_for.map(millis),
        });
        Some(Told { kind, upstream: Some(self.upstream.to_owned()), about })
    }
}

/// The upstream told to wait: traffic of that scope is paused.
#[derive(Debug)]
pub struct Paused<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub outcome: Outcome,
    pub told: Option<Duration>,
    /// For so much longer than it was.
    pub longer: Duration,
}

impl Event for Paused<'_> {
    fn log(&self) {
        tracing::warn!(
            request_id = self.request_id,
            upstream = self.upstream,
            outcome = self.outcome.as_str(),
            told_ms = self.told.map(millis),
            seconds = self.longer.as_secs_f64(),
            "paused at the upstream's word"
        );
    }

    fn fact(&self) -> Option<Fact> {
        let quota = self.outcome == Outcome::Quota;
        Some(Fact::Paused { longer: self.longer, told: self.told, quota })
    }

    /// A quota that is used up is for an operator; a pause ends by itself.
    fn tell(&self) -> Option<Told> {
        let about = json!({ "paused_ms": millis(self.longer) });
        let told = Told { kind: "quota.spent", upstream: Some(self.upstream.to_owned()), about };
        (self.outcome == Outcome::Quota).then_some(told)
    }
}

/// A fallback answered.
#[derive(Debug)]
pub struct FellBack<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    /// `upstream`, `response` or `stale`.
    pub kind: &'static str,
    pub to: &'a str,
    /// Its number in the config's list.
    pub number: usize,
    pub reason: Reason,
}

impl Event for FellBack<'_> {
    fn log(&self) {
        tracing::info!(
            request_id = self.request_id,
            upstream = self.upstream,
            kind = self.kind,
            to = self.to,
            reason = self.reason.as_str(),
            "fell back"
        );
    }

    fn fact(&self) -> Option<Fact> {
        let to = (!self.to.is_empty()).then(|| brief(self.to));
        Some(Fact::FellBack { kind: self.kind, to, number: self.number, reason: self.reason })
    }
}

/// The active check turned.
#[derive(Debug)]
pub struct HealthChanged<'a> {
    pub upstream: &'a str,
    pub up: bool,
    pub error: Option<&'a str>,
}

impl Event for HealthChanged<'_> {
    fn log(&self) {
        tracing::warn!(upstream = self.upstream, up = self.up, error = self.error, "health check turned");
    }

    fn tell(&self) -> Option<Told> {
        let kind = if self.up { "health.up" } else { "health.down" };
        let about = json!({ "error": self.error });
        Some(Told { kind, upstream: Some(self.upstream.to_owned()), about })
    }
}

/// The degradation level in force changed.
#[derive(Debug)]
pub struct DegradationChanged<'a> {
    pub from: &'static str,
    pub to: &'static str,
    /// Who set it by hand, and why; `None`: it came about by itself.
    pub by_hand: Option<(&'a str, &'a str)>,
}

impl Event for DegradationChanged<'_> {
    fn log(&self) {
        let (who, reason) = self.by_hand.unzip();
        tracing::warn!(from = self.from, to = self.to, who, reason, "degradation changed");
    }

    fn tell(&self) -> Option<Told> {
        let (who, reason) = self.by_hand.unzip();
        let about = json!({ "from": self.from, "to": self.to, "by_hand": self.by_hand.is_some(), "who": who, "reason": reason });
        Some(Told { kind: "degradation.changed", upstream: None, about })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
