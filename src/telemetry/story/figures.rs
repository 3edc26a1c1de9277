//! The figures of what came about, for machines.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{BreakerSays, By, Fact, Gone, Line, NoFallback, Probe, Stopped, Story, Turned, WaitOf};
use crate::policy::budget::Left;
use crate::policy::reason::Reason;

impl Fact {
    /// An object of figures and words.
    #[must_use]
    pub fn figures(&self, story: &Story) -> Map<String, Value> {
        let told = match self {
            Self::Sent { attempt, .. } => {
                story.attempts.get(*attempt).map_or(Value::Null, |line| json!(line))
            }
            Self::Again { wait, because, made, most, left } => json!({
                "wait_ms": ms(*wait),
                "source": match because {
                    WaitOf::Backoff => "backoff",
                    WaitOf::Told(Some(field)) => field,
                    WaitOf::Told(None) => "body",
                },
                "attempts": made,
                "max_attempts": most,
                "budget": left.map(budget),
            }),
            Self::Stopped(stopped) => stopped.figures(),
            Self::Refused { reason, retry_after, by, .. } => refused(*reason, *retry_after, by.as_deref()),
            Self::Paused { longer, told, quota } => {
                json!({ "paused_ms": ms(*longer), "told_ms": told.map(ms), "quota": quota })
            }
            Self::Waited { line, how_long } => json!({ "for": line.as_str(), "waited_ms": ms(*how_long) }),
            Self::Probes(probe) => json!({ "of": probe.as_str() }),
            Self::Turned(turned) => match &**turned {
                Turned::Opened(breaker) => breaker.figures(),
                Turned::Closed => json!({ "state": "closed" }),
            },
            Self::NoFallback { kind, to, number, why } => {
                json!({ "kind": kind, "to": to, "number": number, "why": why.as_str() })
            }
            Self::Replays { letter } => json!({ "letter": letter }),
            Self::FellBack { kind, to, number, reason } => {
                json!({ "kind": kind, "to": to, "number": number, "reason": reason.as_str() })
            }
            Self::Kept { letter, reason, accepted, parked } => json!({
                "letter": letter,
                "reason": reason.map(Reason::as_str),
                "accepted": accepted,
                "parked_because": parked,
            }),
            Self::NotKept { why } => json!({ "why": why }),
            Self::Already { letter, state, accepted } => {
                json!({ "letter": letter, "state": state, "accepted": accepted })
            }
            Self::Failed { reason, .. } => json!({ "reason": reason.as_str() }),
            Self::Cut { reason, .. } => {
                json!({ "reason": reason.map(Reason::as_str) })
            }
            Self::Gone(gone) => json!({ "sending": *gone == Gone::Sending, "finished": *gone == Gone::Kept }),
        };
        match told {
            Value::Object(mut figures) => {
                figures.retain(|_, value| !value.is_null());
                figures
            }
            _ => Map::new(),
        }
    }
}

fn refused(reason: Reason, retry_after: Duration, by: Option<&By>) -> Value {
    let mut figures = by.map_or_else(|| json!({}), By::figures);
    if let Value::Object(figures) = &mut figures {
        figures.insert("reason".to_owned(), json!(reason.as_str()));
        figures.insert("retry_after_ms".to_owned(), json!(ms(retry_after)));
    }
    figures
}

impl Probe {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Pause => "pause",
        }
    }
}

impl NoFallback {
    const fn as_str(self) -> &'static str {
        match self {
            Self::OptedOut => "opted_out",
            Self::HungUp => "hung_up",
            Self::Acted => "may_have_acted",
            Self::Body => "body",
            Self::Rewrite => "rewrite",
            Self::Credential => "credential",
            Self::Nowhere => "nowhere",
            Self::Failed => "failed",
            Self::NoneKept => "none_kept",
            Self::NotFenders => "not_fenders",
        }
    }
}

impl Line {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Slot => "rate_limit",
            Self::Seat => "concurrency",
        }
    }
}

impl Stopped {
    fn figures(&self) -> Value {
        json!({
            "why": self.word(),
            "attempts": self.made,
            "max_attempts": self.most,
            "told_ms": self.told.map(ms),
            "told_by": self.told_by,
            "retry_after_ms": ms(self.patience),
            "time_left_ms": ms(self.time_left),
            "budget": self.left.map(budget),
            "breaker": self.breaker.as_ref().map(BreakerSays::figures),
        })
    }
}

impl By {
    fn figures(&self) -> Value {
        match self {
            Self::Breaker(breaker) => breaker.figures(),
            Self::Bulkhead { full, limit, queue, patience } => {
                json!({ "queue_full": full, "limit": limit, "queue": queue, "queue_timeout_ms": ms(*patience) })
            }
            Self::RateLimit { number, requests, per, patience, .. } => json!({
                "rate_limit": number, "requests": requests, "per_ms": ms(*per), "max_wait_ms": ms(*patience),
            }),
            Self::Pause { spent, waited, patience, .. } => {
                json!({ "quota": spent, "waited_ms": ms(*waited), "max_wait_ms": ms(*patience) })
            }
            Self::Level { level, shed_at } => json!({ "level": level.as_str(), "shed_at": shed_at.as_str() }),
            Self::Store => json!({}),
        }
    }
}

impl BreakerSays {
    fn figures(&self) -> Value {
        let Self { refused, settings } = self;
        let tripped = refused.tripped.map(|tripped| {
            json!({
                "why": tripped.why.as_str(),
                "calls": tripped.tally.calls,
                "failures": tripped.tally.failures,
                "slow": tripped.tally.slow,
                "consecutive_failures": tripped.consecutive,
                "open_for_ms": ms(tripped.open_for),
            })
        });
        json!({
            "state": refused.state.as_str(),
            "opened": tripped,
            "observe": settings.observe,
            "window_ms": ms(settings.window),
            "window_requests": settings.window_requests,
            "failure_rate": settings.failure_rate,
            "max_consecutive_failures": settings.consecutive_failures,
            "slow_rate": settings.slow_rate,
        })
    }
}

fn budget(left: Left) -> Value {
    let Left { available, allowed, requests, retries, window } = left;
    let tenths = |number: f64| (number * 10.0).round() / 10.0;
    json!({
        "left": tenths(available),
        "allowed": tenths(allowed),
        "requests": requests,
        "retries": retries,
        "window_ms": ms(window),
    })
}

/// Milliseconds, with microseconds behind the point.
#[must_use]
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
