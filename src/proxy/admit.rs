//! Admission: what an attempt must be granted before it may be sent, in this order: no pause is on, a slot in each rate
//! limit, a seat in the bulkhead, the breaker's leave. A breaker that would refuse anyway is asked first, so that nobody
//! waits for nothing; and who stood in line for a slot or a seat looks again whether a pause has begun.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Origin};
use super::failure::Refusal;
use super::holding::Holding;
use super::keys::look_closer;
use crate::clock;
use crate::policy::judge::Judged;
use crate::policy::limit::{RateLimit, Slot};
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::throttle::{Gate, ProbeEnd, ProbePermit};
use crate::route::Plan;
use crate::telemetry::events::Paused;
use crate::telemetry::story::{self, By, Fact, Line};
use crate::upstream::bulkhead::Full;
use crate::upstream::policies::{LimitsCell, Policies};
use crate::upstream::{Leave, Seat};

/// The proof that an attempt may be sent. It is spent by [`Admission::settle`]; dropped, the attempt was abandoned.
#[derive(Debug)]
#[must_use]
pub(super) struct Admission {
    plan: Arc<Plan>,
    probes: Vec<Probe>,
    leave: Option<Leave>,
    seat: Seat,
    began: Instant,
}

/// Asks everyone whose leave the attempt that is to begin `now` needs, and waits where that is allowed.
///
/// # Errors
/// Who refused, and when to ask again.
pub(super) async fn admit(exchange: &Exchange, now: Instant) -> Result<Admission, Refusal> {
    let plan = Arc::clone(&exchange.plan);
    let key = exchange.keys.breaker;
    let refused = |refused| Refusal::breaker(refused, &plan.settings().breaker);
    if plan.breaker().would_refuse(key, now) {
        drop(plan.breaker().ask(key, now).map_err(refused)?);
    }
    let Turn { probes, slot, seat, waited } = turn(exchange, now).await?;
    let began = if waited { clock::now() } else { now };
    let leave = plan.breaker().ask(key, began).map_err(refused)?;
    if leave.is_probe() {
        exchange.note(Fact::Probes(story::Probe::Breaker));
    }
    if !probes.is_empty() {
        exchange.note(Fact::Probes(story::Probe::Pause));
    }
    if let Some(slot) = slot {
        slot.used();
    }
    Ok(Admission { plan, probes, leave: Some(leave), seat, began })
}

/// An attempt's turn: no pause is on, and it has a slot of each rate limit and a seat.
struct Turn<'p> {
    probes: Vec<Probe>,
    slot: Option<Taken<'p>>,
    seat: Seat,
    /// Whether time may have passed.
    waited: bool,
}

async fn turn(exchange: &Exchange, mut now: Instant) -> Result<Turn<'_>, Refusal> {
    let plan = &exchange.plan;
    let policies = plan.upstream().policies();
    let pausing = || policies.pauses().any() && plan.upstream().settings().throttle.adapt;
    loop {
        let paused = pausing();
        let probes = if paused { Box::pin(wait_for_pauses(exchange, policies)).await? } else { Vec::new() };
        let slot = match plan.limits() {
            limits if limits.none() => None,
            limits => Some(slot(exchange, limits, if paused { clock::now() } else { now })?),
        };
        if let Some(wait) = slot.as_ref().and_then(Taken::wait) {
            let since = clock::now();
            tokio::time::sleep(wait).await;
            exchange.waited(Line::Slot, since);
        }
        let (seat, queued) = match policies.bulkhead().try_enter() {
            Some(seat) => (seat, false),
            None if exchange.origin == Origin::Replay => {
                return Err(Refusal::new(Reason::Overload, SOON, "live requests go first"));
            }
            None => (Box::pin(wait_for_seat(exchange, policies)).await?, true),
        };
        let stood = queued || slot.as_ref().is_some_and(|slot| slot.wait().is_some());
        if !stood || !pausing() {
            let waited = stood || paused;
            return Ok(Turn { probes, slot, seat, waited });
        }
        // While it stood in line the upstream may have asked to wait: that holds for those in line too.
        drop(probes);
        if let Some(probes) = Box::pin(free_of_pauses(exchange, policies)).await {
            return Ok(Turn { probes, slot, seat, waited: true });
        }
        now = clock::now(); // Slot and seat go back.
    }
}

/// Leave of each scope that the request belongs to, as it stands now; `None`: one of them is paused.
async fn free_of_pauses(exchange: &Exchange, policies: &Arc<Policies>) -> Option<Vec<Probe>> {
    look_closer(exchange).await;
    let mut probes = Vec::new();
    for scope in exchange.keys.scopes(exchange) {
        match policies.pauses().ask(scope, clock::now()) {
            Gate::Free => {}
            Gate::Probe(permit) => probes.push(Probe::new(policies, scope, permit)),
            Gate::Paused { .. } => return None,
        }
    }
    Some(probes)
}

/// The same, and each is waited for. While one is, another may begin: they are asked until none is on.
async fn wait_for_pauses(exchange: &Exchange, policies: &Arc<Policies>) -> Result<Vec<Probe>, Refusal> {
    look_closer(exchange).await;
    let begun = clock::now();
    loop {
        let mut probes = Vec::new();
        let mut waited = false;
        for scope in exchange.keys.scopes(exchange) {
            let (probe, stood) = wait_for_pause(exchange, policies, scope, begun).await?;
            probes.extend(probe);
            waited |= stood;
        }
        if !waited {
            return Ok(probes);
        }
    }
}

async fn wait_for_seat(exchange: &Exchange, policies: &Policies) -> Result<Seat, Refusal> {
    let since = clock::now();
    let seat = policies.bulkhead().enter(exchange.deadline).await.map_err(|full| {
        policies.metrics().overloaded();
        let limit = policies.bulkhead().limit();
        let rule = &exchange.plan.upstream().settings().concurrency;
        let (queue, patience) = (rule.queue, rule.queue_timeout);
        let by = By::Bulkhead { full: full == Full::Queue, limit, queue, patience };
        Refusal::new(Reason::Overload, SOON, full.to_string()).by(by)
    })?;
    exchange.waited(Line::Seat, since);
    Ok(seat)
}

/// When to ask a full bulkhead again: nothing better is known than "soon".
const SOON: Duration = Duration::from_secs(1);

/// Leave of one scope, and whether it was waited for.
async fn wait_for_pause(
    exchange: &Exchange,
    policies: &Arc<Policies>,
    scope: u64,
    begun: Instant,
) -> Result<(Option<Probe>, bool), Refusal> {
    let settings = exchange.plan.settings();
    let throttle = &exchange.plan.upstream().settings().throttle;
    // A retry sits out a told wait as long as its own patience goes.
    let patience = match exchange.origin {
        Origin::Replay => Duration::ZERO,
        Origin::Client if exchange.leg_attempts > 0 => settings.retry.retry_after,
        Origin::Client => throttle.max_wait,
    };
    let mut stood = false;
    loop {
        let now = clock::now();
        let (wait, spent) = match policies.pauses().ask(scope, now) {
            Gate::Free => return Ok((None, stood)),
            Gate::Probe(permit) => return Ok((Some(Probe::new(policies, scope, permit)), stood)),
            Gate::Paused { wait, spent } => (wait, spent),
        };
        let waited = now.saturating_duration_since(begun);
        if waited + wait > patience || now + wait >= exchange.deadline {
            let detail =
                if spent { "a quota of the upstream's is used up" } else { "the upstream has asked to wait" };
            let key = match exchange.leg_attempts {
                _ if spent => "throttle.max_pause",
                0 => "throttle.max_wait",
                _ => "retry.retry_after",
            };
            let by = By::Pause { spent, waited, patience, key };
            return Err(Refusal { quota: spent, ..Refusal::new(Reason::Throttled, wait, detail).by(by) });
        }
        tokio::time::sleep(wait).await;
        exchange.waited(Line::Pause, now);
        policies.metrics().obeyed(wait);
        stood = true;
    }
}

/// A slot, for which there may be a wait.
fn slot<'p>(exchange: &'p Exchange, limits: &'p Arc<LimitsCell>, now: Instant) -> Result<Taken<'p>, Refusal> {
    let keys = &exchange.keys.limits;
    let slot = limits.ask(keys, now).map_err(|refused| {
        exchange.plan.upstream_metrics().policies.rate_limited();
        let detail = "a rate limit of the config is reached";
        of_limit(
            exchange,
            refused.limit,
            false,
            Refusal::new(Reason::RateLimited, refused.retry_after, detail),
        )
    })?;
    let wait = slot.wait;
    let taken = Taken { limits, keys, slot: Some(slot) };
    if now + wait >= exchange.deadline || (exchange.origin == Origin::Replay && !wait.is_zero()) {
        exchange.plan.upstream_metrics().policies.rate_limited();
        let detail = "no slot of the rate limit within the request's time";
        return Err(of_limit(exchange, 0, true, Refusal::new(Reason::RateLimited, wait, detail)));
    }
    Ok(taken)
}

/// With what the limit of this number grants.
fn of_limit(exchange: &Exchange, number: usize, too_late: bool, refusal: Refusal) -> Refusal {
    let Some(limit) = exchange.plan.settings().rate_limit.get(number) else { return refusal };
    let RateLimit { requests, per, max_wait: patience, .. } = *limit;
    refusal.by(By::RateLimit { number, requests, per, patience, too_late })
}

/// A slot; given back if the attempt is not sent.
struct Taken<'p> {
    limits: &'p LimitsCell,
    keys: &'p [u64],
    slot: Option<Slot>,
}

impl Taken<'_> {
    /// How long it is to be waited for, if it is.
    fn wait(&self) -> Option<Duration> {
        self.slot.as_ref().map(|slot| slot.wait).filter(|wait| !wait.is_zero())
    }

    fn used(mut self) {
        self.slot = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.limits.give_back(slot, self.keys);
        }
    }
}

/// The one request that is let through at the end of a long pause.
#[derive(Debug)]
struct Probe {
    policies: Arc<Policies>,
    scope: u64,
    permit: Option<ProbePermit>,
}

impl Probe {
    fn new(policies: &Arc<Policies>, scope: u64, permit: ProbePermit) -> Self {
        Self { policies: Arc::clone(policies), scope, permit: Some(permit) }
    }

    fn ended(mut self, how: ProbeEnd, now: Instant) {
        if let Some(permit) = self.permit.take() {
            self.policies.pauses().ended(self.scope, permit, how, now);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.policies.pauses().ended(self.scope, permit, ProbeEnd::Abandoned, clock::now());
        }
    }
}

impl Admission {
    /// When the attempt may begin, and does.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// The attempt's head has ended so. All who granted it are told; only a good answer's verdict waits for its last byte,
    /// and what it holds comes back.
    pub(super) fn settle(mut self, exchange: &Exchange, ended: &Judged, now: Instant) -> Holding {
        self.tell_pauses(exchange, ended, now);
        let lost = matches!(ended.outcome, Outcome::Throttled)
            || ended.status == Some(503)
            || ended.reason == Some(Reason::Timeout);
        let policies = self.plan.upstream().policies();
        if ended.outcome != Outcome::Cancelled {
            policies.bulkhead().ended(self.began, lost, now);
        }
        let breaker = &self.plan.settings().breaker;
        let slow = breaker.slow_call.is_some_and(|limit| now.saturating_duration_since(self.began) > limit);
        let mut leave = self.leave.take();
        match ended.outcome {
            Outcome::Success => {}
            Outcome::Cancelled => drop(leave.take()),
            _ if ended.reason.is_some() && ended.outcome == Outcome::Permanent => drop(leave.take()), // The client's.
            _ => {
                let told = leave.take().and_then(|leave| match ended.is_named_by(&breaker.failures) {
                    true => leave.failed(slow, ended.told, now),
                    false => leave.succeeded(slow, now), // It answered: that is all that the breaker asks.
                });
                if let Some(turned) = told {
                    exchange.note(Fact::Turned(turned));
                }
            }
        }
        Holding::new(self.plan, leave, slow, self.seat)
    }

    fn tell_pauses(&mut self, exchange: &Exchange, ended: &Judged, now: Instant) {
        let policies = self.plan.upstream().policies();
        let throttle = &self.plan.upstream().settings().throttle;
        let probes = std::mem::take(&mut self.probes);
        if !throttle.adapt {
            return;
        }
        let pauses = policies.pauses();
        let longer = match (ended.outcome, ended.told) {
            (Outcome::Quota, _) => exchange
                .keys
                .scope(exchange, ended.scope)
                .and_then(|scope| pauses.spent(scope, throttle.max_pause, now)),
            (Outcome::Throttled | Outcome::Transient, Some(wait)) => exchange
                .keys
                .scope(exchange, ended.scope)
                .and_then(|scope| pauses.told(scope, wait, throttle.max_pause, now)),
            _ => None,
        };
        if let Some(longer) = longer {
            policies.metrics().throttled(longer);
            exchange.emit_told(&Paused {
                request_id: exchange.id.as_str(),
                upstream: self.plan.upstream_name(),
                outcome: ended.outcome,
                told: ended.told,
                longer,
            });
        }
        for probe in probes {
            let how = match ended.outcome {
                Outcome::Cancelled => ProbeEnd::Abandoned,
                Outcome::Success | Outcome::Permanent => ProbeEnd::Passed,
                Outcome::Transient | Outcome::Throttled | Outcome::Quota => {
                    ProbeEnd::Failed { told: ended.told, max_pause: throttle.max_pause }
                }
            };
            probe.ended(how, now);
        }
    }
}
