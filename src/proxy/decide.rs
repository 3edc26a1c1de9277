//! What follows a failed attempt: whether there is another one, told to the log, the metrics and the request's story.

use std::time::{Duration, Instant};

use http::HeaderMap;

use super::attempts::Kept;
use super::exchange::Exchange;
use crate::clock;
use crate::policy::budget::Left;
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::retry::{Asking, Decision, Stop};
use crate::policy::told;
use crate::telemetry::events::AttemptFailed;
use crate::telemetry::story::{BreakerSays, Fact, Stopped, WaitOf};
use crate::upstream::Fault;

/// A failed attempt, as it is looked at to decide.
pub(super) struct Failed<'a> {
    pub ended: &'a Judged,
    pub fault: Option<&'a Fault>,
    /// The answer, if one came.
    pub kept: Option<&'a Kept>,
    pub took: Duration,
    /// The wait before it.
    pub previous: Duration,
    pub now: Instant,
}

/// Decides, and tells.
pub(super) fn decide(exchange: &Exchange, failed: &Failed<'_>) -> Decision {
    let Failed { ended, took, previous, now, .. } = *failed;
    let plan = &exchange.plan;
    let policies = plan.upstream().policies();
    let retry = &plan.settings().retry;
    let time_left = exchange.deadline.saturating_duration_since(now);
    let mut left = None;
    let decision = if retry.max_attempts == 1 {
        Decision::Stop(Stop::Attempts) // Nothing else needs to be asked.
    } else {
        let asking = Asking {
            ended: *ended,
            attempts: exchange.leg_attempts,
            resend: !exchange.may_have_acted,
            replayable: exchange.replayable(),
            opted_out: exchange.opted.retry || exchange.hung_up(),
            took,
            left: time_left,
            previous,
            breaker_refuses: plan.breaker().would_refuse(exchange.keys.breaker, now),
        };
        retry.decide(&asking, fastrand::f64(), || {
            let taken = policies.take_retry(now);
            left = Some(taken.unwrap_or_else(|left| left));
            taken.is_ok()
        })
    };
    tell(exchange, failed, fact(exchange, failed, decision, (left, time_left)), decision);
    decision
}

fn fact(
    exchange: &Exchange,
    failed: &Failed<'_>,
    decision: Decision,
    (left, time_left): (Option<Left>, Duration),
) -> Fact {
    let retry = &exchange.plan.settings().retry;
    let (made, most) = (exchange.leg_attempts, retry.max_attempts);
    let told = failed.ended.told;
    let told_by =
        || failed.kept.and_then(Kept::headers).zip(told).and_then(|(headers, told)| field(headers, told));
    match decision {
        Decision::Again { wait } => {
            let because = if told.is_some_and(|told| !told.is_zero() && told >= wait) {
                WaitOf::Told(told_by())
            } else {
                WaitOf::Backoff
            };
            Fact::Again { wait, because, made, most, left }
        }
        Decision::Stop(stop) => {
            let rules = &exchange.plan.settings().breaker;
            let foretold = || exchange.plan.breaker().foretold(exchange.keys.breaker, failed.now);
            let breaker = if stop == Stop::Breaker { foretold() } else { None };
            Fact::Stopped(Box::new(Stopped {
                stop,
                gone: stop == Stop::OptedOut && !exchange.opted.retry,
                made,
                most,
                quota: failed.ended.outcome == Outcome::Quota,
                told,
                told_by: told_by(),
                patience: retry.retry_after,
                time_left,
                clients_time: exchange.patience == Some(exchange.deadline),
                left,
                breaker: breaker.map(|refused| BreakerSays::new(refused, rules)),
            }))
        }
    }
}

/// The field that told this wait, if one did: otherwise it stood in the body.
fn field(headers: &HeaderMap, wait: Duration) -> Option<&'static str> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let told = told::told(&value, Duration::from_millis(clock::unix_ms()))?;
    // A date is nearer by the time that has passed since.
    (told.wait.abs_diff(wait) < SAME).then_some(told.source)
}

/// Waits that differ by less are one.
const SAME: Duration = Duration::from_secs(1);

fn tell(exchange: &Exchange, failed: &Failed<'_>, then: Fact, decision: Decision) {
    let Failed { ended, fault, .. } = *failed;
    let metrics = &exchange.plan.upstream_metrics().policies;
    match decision {
        Decision::Again { .. } => {} // Counted when it is made.
        Decision::Stop(_) if matches!(&then, Fact::Stopped(stopped) if stopped.gone) => {}
        Decision::Stop(stop) => metrics.retry_refused(stop),
    }
    exchange.emit(&AttemptFailed {
        request_id: exchange.id.as_str(),
        upstream: exchange.plan.upstream_name(),
        attempt: exchange.attempts,
        reason: ended.word(),
        status: ended.status,
        verdict: ended.verdict.as_str(),
        error: fault.map_or("", |fault| &fault.detail),
        told_ms: ended.told.map(super::finish::milliseconds),
        then,
    });
}
