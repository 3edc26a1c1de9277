//! The attempts of one leg: at one upstream, under one plan, until one brings an answer or no further one may be made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::admit::{Admission, admit};
use super::decide::{Failed, decide};
use super::exchange::Exchange;
use super::failure::{Failure, Refusal};
use super::hear::{hear, hear_head};
use super::heard::{Heard, Held};
use super::holding::Holding;
use super::keys::look_closer;
use super::notes::Tried;
use super::pipeline::Proxy;
use super::stream::Stream;
use super::traced;
use crate::clock;
use crate::deadletter::Attempt;
use crate::memory::Memory;
use crate::policy::blame::ClientFault;
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::retry::{Decision, Stop};
use crate::policy::throttle::Scope;
use crate::route::Plan;
use crate::telemetry::events::Refused;
use crate::telemetry::story::By;
use crate::upstream::Fault;
use crate::upstream::upload::Upload;

/// An answer that is as good as it gets: it goes to the client.
#[derive(Debug)]
pub(super) struct Answered {
    pub heard: Heard,
    pub holding: Holding,
}

/// A leg's end without one.
#[derive(Debug)]
pub(super) struct Spent {
    pub failure: Failure,
    /// The last answer, if there was one: it is what the client gets where nothing better is found.
    pub kept: Option<Kept>,
}

/// An answer that says no more than that the attempt failed.
#[derive(Debug)]
pub(super) enum Kept {
    /// As it comes.
    Live(Box<Answered>),
    /// Read, and its connection given back.
    Held(Held),
}

/// Of a failed answer so much is kept while there may be a better one.
const KEPT_MAX: u64 = 64 * 1024;

/// And its end is waited for no longer than this: nobody else's time is spent on it.
const KEPT_WITHIN: Duration = Duration::from_secs(1);

impl Spent {
    /// How long a letter that comes of it waits, at least.
    pub(super) fn wait(&self, exchange: &Exchange) -> Duration {
        let backoff = &exchange.plan.settings().dead_letter.replay.backoff;
        let told = exchange.home_told.unwrap_or_default();
        let refused = self.failure.retry_after().unwrap_or_default();
        backoff.wait(1, backoff.base, fastrand::f64()).max(told).max(refused)
    }
}

impl Kept {
    /// Its header fields.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Live(answered) => Some(answered.heard.reply.response.headers()),
            Self::Held(held) => Some(&held.parts.headers),
        }
    }

    /// Reads it, so that something else can be tried meanwhile; `None` if it cannot be kept.
    pub(super) async fn hold(self, memory: &Arc<Memory>, within: Duration) -> Option<Self> {
        match self {
            Self::Held(held) => Some(Self::Held(held)),
            Self::Live(answered) => {
                let until = clock::now() + within.min(KEPT_WITHIN);
                answered.heard.hold(KEPT_MAX, memory.lease(), until).await.map(Self::Held)
            }
        }
    }
}

/// Makes attempts under `exchange.plan`, unless the degradation level sheds its requests.
///
/// # Errors
/// Why there is no answer, with the last one that there was.
pub(super) async fn guarded(proxy: &Proxy, exchange: &mut Exchange) -> Result<Answered, Box<Spent>> {
    if exchange.plan.settings().shed_at.sheds(proxy.degradation.level()) {
        exchange.plan.upstream_metrics().policies.shed();
        let detail = "requests to this upstream are shed while the whole is degraded";
        let by = By::Level { level: proxy.degradation.level(), shed_at: exchange.plan.settings().shed_at };
        let refusal = Refusal::new(Reason::Degraded, LEVEL_HOLDS, detail).by(by);
        return Err(refused(exchange, refusal, None));
    }
    run(exchange, &proxy.memory).await
}

/// A level gets better after so long a health at the soonest.
const LEVEL_HOLDS: Duration = Duration::from_secs(5);

/// Makes attempts under `exchange.plan`.
///
/// # Errors
/// Why there is no answer, with the last one that there was.
async fn run(exchange: &mut Exchange, memory: &Arc<Memory>) -> Result<Answered, Box<Spent>> {
    let (mut kept, mut previous, mut again) = (None, Duration::ZERO, None);
    loop {
        let admission = match admitted(exchange, again).await {
            Ok(admission) => admission,
            Err(refusal) => return Err(refused(exchange, refusal, kept)),
        };
        let begun = admission.began();
        let (sent, ended, now) = attempt(exchange, memory, begun).await;
        exchange.decided = now;
        let holding = admission.settle(exchange, &ended, now);
        exchange.last = Some(ended);
        if exchange.turned.is_none() {
            exchange.home_told = ended.told;
        }
        if !ended.is_final() {
            exchange.may_have_acted |= !exchange.repeatable().permits_resend(ended.verdict);
        }
        let failure = match sent {
            Ok(heard) if ended.is_final() => {
                if exchange.leg_attempts > 1 && ended.outcome == Outcome::Success {
                    exchange.plan.upstream_metrics().policies.retry_succeeded();
                }
                return Ok(Answered { heard, holding });
            }
            Ok(heard) => {
                kept = Some(Kept::Live(Box::new(Answered { heard, holding })));
                None
            }
            Err(fault) => {
                drop(holding);
                if let Some(fault) = exchange.upload.as_ref().and_then(Upload::fault) {
                    return Err(Box::new(Spent { failure: Failure::Client(fault), kept: None }));
                }
                kept = None;
                Some(fault)
            }
        };
        let took = now.saturating_duration_since(begun);
        let (fault, answer) = (failure.as_ref(), kept.as_ref());
        let failed = Failed { ended: &ended, fault, kept: answer, took, previous, now };
        let Decision::Again { wait } = decide(exchange, &failed) else {
            let failure = failure.map_or_else(|| answered_badly(&ended), Failure::Upstream);
            return Err(Box::new(Spent { failure, kept }));
        };
        let due = now + wait;
        if let Some(answer) = kept.take() {
            kept = Box::pin(answer.hold(memory, wait.max(KEPT_AT_LEAST))).await;
        }
        let untaken = Untaken { plan: Arc::clone(&exchange.plan), armed: true };
        tokio::time::sleep_until(due.into()).await;
        if ended.told.is_some() {
            exchange.plan.upstream_metrics().policies.obeyed(wait);
        }
        untaken.sent();
        again = Some(ended.word());
        previous = wait;
    }
}

/// Leave for the next attempt, unless the client has hung up while it was waited for; `again`: what the one before failed of.
async fn admitted(exchange: &Exchange, again: Option<&str>) -> Result<Admission, Refusal> {
    // Where no body had to be read first, the first attempt begins as the request did.
    let first = exchange.attempts == 0 && !exchange.plan.keyed();
    let admission = admit(exchange, if first { exchange.started } else { clock::now() }).await?;
    if exchange.hung_up() {
        return Err(Refusal::gone());
    }
    if let Some(word) = again {
        exchange.plan.upstream_metrics().policies.retried(word);
    }
    Ok(admission)
}

/// Even without a wait an answer that has come whole is read.
const KEPT_AT_LEAST: Duration = Duration::from_millis(50);

/// A retry taken from the budget whose client hangs up during the wait is given back.
struct Untaken {
    plan: Arc<Plan>,
    armed: bool,
}

impl Untaken {
    fn sent(mut self) {
        self.armed = false;
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        if self.armed {
            self.plan.upstream().policies().give_back_retry(clock::now());
        }
    }
}

/// A policy refused: before the first attempt, or a retry that was granted before.
fn refused(exchange: &Exchange, refusal: Refusal, kept: Option<Kept>) -> Box<Spent> {
    if exchange.leg_attempts > 0 {
        exchange.plan.upstream().policies().give_back_retry(clock::now());
        if refusal.reason == Reason::BreakerOpen {
            exchange.plan.upstream_metrics().policies.retry_refused(Stop::Breaker);
        }
    }
    exchange.emit(&Refused {
        request_id: exchange.id.as_str(),
        upstream: exchange.plan.upstream_name(),
        reason: refusal.reason,
        detail: &refusal.detail,
        retry_after: refusal.retry_after,
        by: refusal.by.as_deref(),
    });
    Box::new(Spent { failure: Failure::Refused(refusal), kept })
}

/// For an answer that is kept: what its failure is called.
fn answered_badly(ended: &Judged) -> Failure {
    let reason = if ended.outcome == Outcome::Quota { Reason::Quota } else { Reason::Exhausted };
    Failure::Refused(Refusal::new(reason, Duration::ZERO, "the upstream's last answer was a failure"))
}

/// One attempt, and when its end was known; over a new connection once more if a pooled one proves to be stale.
pub(super) async fn attempt(
    exchange: &mut Exchange,
    memory: &Arc<Memory>,
    begun: Instant,
) -> (Result<Heard, Fault>, Judged, Instant) {
    exchange.attempts += 1;
    exchange.leg_attempts += 1;
    let (sent, ended, now) = send(exchange, memory, begun, false).await;
    let stale = sent.as_ref().is_err_and(|fault| fault.stale)
        && ended.outcome == Outcome::Transient
        && exchange.repeatable().permits_resend(ended.verdict)
        && exchange.replayable();
    if !stale {
        return (sent, ended, now);
    }
    exchange.plan.upstream_metrics().stale_connection();
    send(exchange, memory, now, true).await // A stale connection is replaced once, outside of all retries.
}

/// One send. `fresh`: not over a connection that has served before.
async fn send(
    exchange: &mut Exchange,
    memory: &Arc<Memory>,
    begun: Instant,
    fresh: bool,
) -> (Result<Heard, Fault>, Judged, Instant) {
    let plan = Arc::clone(&exchange.plan);
    let deadline = exchange.deadline.min(begun + plan.settings().timeout.attempt);
    let mut pending = PendingAttempt { plan: &plan, begun, settled: false };
    if let Some(trace) = &mut exchange.finish.trace {
        trace.sends(&plan, begun, fresh);
    }
    let outgoing = exchange.outgoing(begun);
    exchange.finish.sends(&plan, begun);
    let times = (begun, deadline.into());
    let sent = plan.upstream().send(exchange.client.worker, outgoing, fresh, times).await;
    let mut now = clock::now();
    let endpoint = match &sent {
        Ok(reply) => Some(reply.loan.endpoint()),
        Err(fault) => fault.endpoint,
    };
    let (mut sent, ended) = match sent {
        Ok(reply) => match hear_head(exchange, reply, now) {
            Ok((heard, ended)) => (Ok(heard), ended),
            Err(head) => {
                let heard = Box::pin(hear(exchange, memory, head, begun, deadline)).await;
                now = clock::now();
                heard
            }
        },
        Err(fault) => {
            let ended = unanswered(exchange, &fault);
            (Err(fault), ended)
        }
    };
    exchange.finish.sending = None;
    if ended.scope != Scope::Credential {
        Box::pin(look_closer(exchange)).await;
        now = clock::now();
    }
    // What becomes of a stream is known at its end.
    let stream = sent.as_mut().ok().and_then(Heard::stream).filter(|_| ended.outcome == Outcome::Success);
    let goes_on = stream.map(Stream::is_the_attempt).is_some();
    pending.settle((!goes_on).then_some(ended.outcome), now);
    if let Some(trail) = &mut exchange.trail {
        trail.push(Attempt {
            at_ms: clock::unix_ms(),
            outcome: ended.outcome,
            status: ended.status,
            error: sent.as_ref().err().map(|fault| fault.reason.as_str().to_owned()),
            duration_ms: u64::try_from(now.saturating_duration_since(begun).as_millis()).unwrap_or(u64::MAX),
            answer: None,
        });
    }
    exchange.tried(&Tried { ended: &ended, fault: sent.as_ref().err(), endpoint }, begun, now);
    if exchange.finish.trace.is_some() {
        traced(exchange, (endpoint, sent.as_ref().ok()), now);
    }
    (sent, ended, now)
}

/// Notes for the attempt's span what only the request and its answer tell.
#[cold]
fn traced(exchange: &mut Exchange, (endpoint, heard): (Option<usize>, Option<&Heard>), now: Instant) {
    let call = traced::call(exchange);
    if let Some(trace) = &mut exchange.finish.trace {
        trace.sent((endpoint, heard.map(|heard| heard.reply.response.version())), call, now);
    }
}

fn unanswered(exchange: &Exchange, fault: &Fault) -> Judged {
    match exchange.upload.as_ref().and_then(Upload::fault) {
        Some(client) => Judged::client(client == ClientFault::Gone, client.reason(), fault.verdict),
        None => Judged::fault(fault.reason, fault.verdict),
    }
}

/// An attempt whose end is counted, whatever it is: dropped unsettled, it was cancelled.
struct PendingAttempt<'a> {
    plan: &'a Plan,
    begun: Instant,
    settled: bool,
}

impl PendingAttempt<'_> {
    fn settle(&mut self, outcome: Option<Outcome>, now: Instant) {
        self.settled = true;
        let metrics = self.plan.upstream_metrics();
        metrics.attempt_took(now.saturating_duration_since(self.begun));
        if let Some(outcome) = outcome {
            metrics.attempt_ended(outcome);
        }
    }
}

impl Drop for PendingAttempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Some(Outcome::Cancelled), clock::now());
        }
    }
}
