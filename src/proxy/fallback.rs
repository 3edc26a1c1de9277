//! What answers when an upstream cannot: another upstream, fixed words, or the last good answer. Tried in order.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderName;
use http::uri::PathAndQuery;

use super::attempts::{self, Answered, Spent};
use super::exchange::{Exchange, Turned};
use super::failure::Failure;
use super::keys::{CREDENTIALS, Keys};
use super::pipeline::Proxy;
use super::stale::Again;
use super::{json, kept};
use crate::clock;
use crate::deadletter::LetterId;
use crate::memory::Lease;
use crate::policy::cause::Cause;
use crate::policy::reason::Reason;
use crate::route::{How, Plan};
use crate::telemetry::events::{Event as _, FellBack, emit};
use crate::telemetry::story::{Fact, NoFallback, brief};

/// What goes to the client.
#[derive(Debug)]
pub(super) enum Delivered {
    /// The answer of the upstream that the route leads to.
    Upstream(Answered),
    /// Another's, because of `reason`.
    Fallback { reason: Reason, by: By },
}

/// Who answered instead.
#[derive(Debug)]
pub(super) enum By {
    Upstream { name: String, answered: Box<Answered> },
    Response { plan: Arc<Plan>, number: usize, letter: Option<LetterId> },
    Stale(Again),
}

/// A wait for the answer that is to be kept must not cost the fallback its time.
const KEEP_WITHIN: std::time::Duration = std::time::Duration::from_millis(200);

type Rescued<'f> = Pin<Box<dyn Future<Output = Result<Delivered, Box<Spent>>> + Send + 'f>>;

/// Looks for someone who answers instead. Without one the failure comes back as it was.
pub(super) fn rescue<'f>(proxy: &'f Proxy, exchange: &'f mut Exchange, spent: Box<Spent>) -> Rescued<'f> {
    Box::pin(async move {
        let mut spent = spent;
        let plan = Arc::clone(&exchange.plan);
        if matches!(spent.failure, Failure::Client(_)) {
            return Err(spent);
        }
        let last = exchange.last.filter(|_| exchange.leg_attempts > 0);
        let reason = spent.reason();
        for (number, fallback) in plan.fallbacks().iter().enumerate() {
            let of_quota = spent.failure.is_of_quota() && fallback.on.contains(&Cause::Quota);
            let named = |cause: &Cause| cause.names(Some(spent.failure.reason()), last.as_ref());
            if !of_quota && !fallback.on.iter().any(named) {
                continue;
            }
            if exchange.opted.fallback || exchange.hung_up() {
                let why = if exchange.opted.fallback { NoFallback::OptedOut } else { NoFallback::HungUp };
                note_none(exchange, &plan, (number, &fallback.how), why);
                return Err(spent);
            }
            let by = match &fallback.how {
                How::Response { .. } if exchange.trail.is_some() => {
                    // Fixed words for a write that is kept: only if the write is Fender's by then (contract 5.9).
                    match kept::stored_first(proxy, exchange, &spent).await {
                        Some(letter) => {
                            By::Response { plan: Arc::clone(&plan), number, letter: Some(letter) }
                        }
                        None => {
                            note_none(exchange, &plan, (number, &fallback.how), NoFallback::NotFenders);
                            continue;
                        }
                    }
                }
                How::Response { .. } => By::Response { plan: Arc::clone(&plan), number, letter: None },
                How::Stale(age) => match proxy.stale.find(exchange, *age, clock::now()) {
                    Some(again) => By::Stale(again),
                    None => {
                        note_none(exchange, &plan, (number, &fallback.how), NoFallback::NoneKept);
                        continue;
                    }
                },
                How::Upstream { name, .. } => {
                    if let Some(kept) = spent.kept.take() {
                        spent.kept = kept.hold(&proxy.memory, KEEP_WITHIN).await;
                    }
                    match turned(proxy, exchange, &plan, &fallback.how).await {
                        Ok(Delivered::Upstream(answered)) => {
                            By::Upstream { name: name.clone(), answered: Box::new(answered) }
                        }
                        Ok(other) => return Ok(other), // The other upstream's own fallback.
                        Err(why) => {
                            note_none(exchange, &plan, (number, &fallback.how), why);
                            continue;
                        }
                    }
                }
            };
            note(exchange, &plan, &by, (number, reason));
            return Ok(Delivered::Fallback { reason, by });
        }
        Err(spent)
    })
}

fn note(exchange: &Exchange, from: &Plan, by: &By, (number, reason): (usize, Reason)) {
    let (kind, to) = match by {
        By::Upstream { name, .. } => ("upstream", name.as_str()),
        By::Response { .. } => ("response", ""),
        By::Stale(_) => ("stale", ""),
    };
    let home = exchange.finish.plan();
    home.upstream_metrics().policies.fell_back(kind);
    let fell_back = FellBack {
        request_id: exchange.id.as_str(),
        upstream: home.upstream_name(),
        kind,
        to,
        number,
        reason,
    };
    emit(&fell_back);
    exchange.note_of(from, fell_back.fact());
}

/// Notes why the fallback of this number does not answer.
fn note_none(exchange: &Exchange, from: &Plan, (number, how): (usize, &How), why: NoFallback) {
    let (kind, to) = match how {
        How::Upstream { name, .. } => ("upstream", Some(brief(name))),
        How::Response { .. } => ("response", None),
        How::Stale(_) => ("stale", None),
    };
    exchange.note_of(from, Some(Fact::NoFallback { kind, to, number, why }));
}

/// The same request to another upstream, under that one's own policies. The request is put back as it was where that brings
/// no answer.
async fn turned(
    proxy: &Proxy,
    exchange: &mut Exchange,
    from: &Arc<Plan>,
    how: &How,
) -> Result<Delivered, NoFallback> {
    let How::Upstream { name, path, json, pass_credentials } = how else { return Err(NoFallback::Nowhere) };
    // An attempt that may have acted is not followed by one elsewhere, and half a body goes nowhere.
    if exchange.may_have_acted {
        return Err(NoFallback::Acted);
    }
    if !exchange.replayable() {
        return Err(NoFallback::Body);
    }
    let plan = Arc::clone(proxy.table.load().plan_of(name).ok_or(NoFallback::Nowhere)?);
    let target = match path {
        Some(path) => elsewhere(exchange, path).ok_or(NoFallback::Nowhere)?,
        None => exchange.target.clone(),
    };
    if !pass_credentials && matches!(from.upstream().dialect().masked(target.as_str()), Cow::Owned(_)) {
        return Err(NoFallback::Credential); // It is in path or query: it would go along.
    }
    let body = match json.is_empty() {
        true => None,
        false => Some(rewritten(proxy, exchange, json).await.ok_or(NoFallback::Rewrite)?),
    };
    let (body, lease) = body.unzip();
    let mut without = exchange.turned.as_ref().map(|turned| turned.without.clone()).unwrap_or_default();
    if !pass_credentials {
        without.extend(secrets(from));
    }
    let earlier = exchange.turned.as_mut().and_then(|turned| turned.body.clone());
    let turn = Turned { without, body: body.or(earlier), _lease: lease };
    let before = (exchange.target.clone(), exchange.deadline, exchange.leg_attempts, exchange.turned.take());
    exchange.turned = Some(turn);
    exchange.target = target;
    exchange.leg_attempts = 0;
    let until = clock::now() + plan.settings().timeout.total;
    exchange.deadline = exchange.patience.map_or(until, |patience| patience.min(until));
    exchange.plan = plan;
    exchange.keys = keys(exchange).await;
    match leg(proxy, exchange).await {
        Ok(delivered) => Ok(delivered),
        Err(_) => {
            exchange.plan = Arc::clone(from);
            (exchange.target, exchange.deadline, exchange.leg_attempts, exchange.turned) = before;
            Err(NoFallback::Failed)
        }
    }
}

/// The fields that bear credentials for this plan's upstream, whoever sets them.
fn secrets(plan: &Plan) -> impl Iterator<Item = HeaderName> {
    let redacted = plan.settings().dead_letter.redact.iter().cloned();
    let set = plan.set().iter().map(|(name, _)| name.clone());
    let own = plan.upstream().dialect().secret_headers().iter().cloned();
    CREDENTIALS.into_iter().chain(own).chain(redacted).chain(set)
}

async fn leg(proxy: &Proxy, exchange: &mut Exchange) -> Result<Delivered, Box<Spent>> {
    let spent = match attempts::guarded(proxy, exchange).await {
        Ok(answered) => return Ok(Delivered::Upstream(answered)),
        Err(spent) => spent,
    };
    rescue(proxy, exchange, spent).await
}

/// The keys of the request under the plan in force.
pub(super) async fn keys(exchange: &Exchange) -> Keys {
    let plan = &exchange.plan;
    let body = if super::keys::in_body(plan) { Box::pin(exchange.whole_body()).await } else { None };
    Keys::new(exchange, plan, body.as_ref())
}

async fn rewritten(
    proxy: &Proxy,
    exchange: &Exchange,
    fields: &[(String, serde_json::Value)],
) -> Option<(Bytes, Lease)> {
    let body = exchange.whole_body().await?;
    let mut text = std::str::from_utf8(&body).ok()?.to_owned();
    for (pointer, value) in fields {
        text = json::replace(&text, pointer, value)?;
    }
    let mut lease = proxy.memory.lease();
    lease.grow(text.len() as u64).then(|| (Bytes::from(text), lease))
}

/// `path` with `{rest}` filled in; the query stays.
fn elsewhere(exchange: &Exchange, path: &str) -> Option<PathAndQuery> {
    let route = exchange.finish.plan().route();
    let whole = exchange.target.path();
    let rest =
        if route.strip_prefix { whole } else { whole.strip_prefix(route.path.as_str()).unwrap_or(whole) };
    let mut target = path.replace("{rest}", rest.trim_start_matches('/'));
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    if let Some(query) = exchange.target.query().filter(|_| !target.contains('?')) {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::try_from(target).ok()
}

impl Spent {
    /// What the client is told of the failure.
    pub(super) const fn reason(&self) -> Reason {
        match (&self.kept, &self.failure) {
            (Some(_), failure) if !matches!(failure.reason(), Reason::Quota) => Reason::Exhausted,
            (_, failure) => failure.reason(),
        }
    }
}
