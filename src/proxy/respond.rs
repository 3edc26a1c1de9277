//! Outcomes to responses: the upstream's, or Fender's own words (RFC 9457).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::attempts::{Answered, Kept, Spent};
use super::body::Body;
use super::exchange::Exchange;
use super::failure::Failure;
use super::fallback::{By, Delivered};
use super::headers::downward;
use super::heard::{Heard, Held};
use super::id::RequestId;
use super::pipeline::Proxy;
use super::relay::{Clocks, Ending, Relay};
use super::respond_letters::with_letter;
use super::stale::Again;
use super::tunnel;
use crate::dialect::{Refusal, Spoken};
use crate::policy::reason::Reason;
use crate::route::How;
use crate::telemetry::metrics::Source;
use crate::telemetry::story::Fact;

const REQUEST_ID: HeaderName = HeaderName::from_static("fender-request-id");
const ATTEMPTS: HeaderName = HeaderName::from_static("fender-attempts");
const REASON: HeaderName = HeaderName::from_static("fender-reason");
const FALLBACK: HeaderName = HeaderName::from_static("fender-fallback");

/// What is said of an answer that is passed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub source: Source,
    pub reason: Option<Reason>,
    /// Which fallback answered.
    pub fallback: Option<&'a str>,
}

const AS_IT_CAME: Told<'_> = Told { source: Source::Upstream, reason: None, fallback: None };

/// The answer that was found.
pub(super) fn delivered(proxy: &Proxy, exchange: Box<Exchange>, delivered: Delivered) -> Response<Body> {
    let (reason, by) = match delivered {
        Delivered::Upstream(answered) => return relay(proxy, exchange, answered, AS_IT_CAME),
        Delivered::Fallback { reason, by } => (reason, by),
    };
    let told = |fallback| Told { source: Source::Fallback, reason: Some(reason), fallback: Some(fallback) };
    match by {
        By::Upstream { name, answered } => relay(proxy, exchange, *answered, told(&name)),
        By::Stale(Again { headers, body }) => whole(exchange, StatusCode::OK, headers, body, told("stale")),
        By::Response { plan, number, letter } => {
            match plan.fallbacks().get(number).map(|fallback| &fallback.how) {
                Some(How::Response { status, headers, body }) => {
                    let answer = whole(exchange, *status, headers.clone(), body.clone(), told("response"));
                    with_letter(answer, letter)
                }
                _ => failed(exchange, &Failure::NoRoute), // It was there when it was chosen, in the same plan.
            }
        }
    }
}

/// There is none: the upstream's last answer, or Fender's own.
pub(super) fn spent(proxy: &Proxy, exchange: Box<Exchange>, spent: Spent) -> Response<Body> {
    let reason = spent.reason();
    spent_as(proxy, exchange, spent, reason)
}

/// The same, for a `reason` that says more.
pub(super) fn spent_as(
    proxy: &Proxy,
    exchange: Box<Exchange>,
    spent: Spent,
    reason: Reason,
) -> Response<Body> {
    let told = Told { reason: Some(reason), ..AS_IT_CAME };
    let given_up = exchange.given_up().then(|| exchange.dialect().given_up()).flatten();
    match spent.kept {
        Some(Kept::Live(mut answered)) => {
            answered.heard.reply.response.headers_mut().extend(given_up);
            relay(proxy, exchange, *answered, told)
        }
        Some(Kept::Held(held)) => {
            let Held { mut parts, body, .. } = held;
            downward(&mut parts.headers, parts.status, parts.version);
            parts.headers.extend(given_up);
            whole(exchange, parts.status, parts.headers, body, told)
        }
        None => {
            let status = status_of(&spent.failure);
            failed_as(exchange, &spent.failure, reason, status)
        }
    }
}

/// An upstream's response, as it comes.
fn relay(proxy: &Proxy, mut exchange: Box<Exchange>, answered: Answered, told: Told<'_>) -> Response<Body> {
    let Answered { heard: Heard { reply, ahead }, holding } = answered;
    let (mut parts, incoming) = reply.response.into_parts();
    downward(&mut parts.headers, parts.status, parts.version);
    let home = exchange.finish.plan();
    let copying = match home.stale() {
        Some(_) if told.reason.is_none() => proxy.stale.copy(&exchange, parts.status, &parts.headers),
        _ => None,
    };
    sign(&mut parts.headers, &exchange, told);
    exchange.finish.answered(parts.status.as_u16(), told.source, told.reason, exchange.decided);
    exchange.finish.relays(reply.loan.endpoint());
    if let Some(trace) = &mut exchange.finish.trace {
        trace.relays(&parts.headers);
    }
    let timeout = &exchange.plan.settings().timeout;
    let switched = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(client) = exchange.switch.take()
        && switched
        && let Some(upstream) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>()
    {
        if let Some(wire) = &exchange.client.wire {
            wire.becomes_tunnel();
        }
        let (holding, turned) = holding.switched(exchange.decided);
        exchange.note_of(&exchange.plan, turned.map(Fact::Turned));
        exchange.finish.holds(holding);
        tokio::spawn(tunnel::run(client, upstream, timeout.idle, reply.loan, exchange.finish));
        return response(parts.status, parts.headers, Body::own(Bytes::new()));
    }
    exchange.finish.holds(holding);
    let stream = timeout.stream.map(|limit| Box::pin(tokio::time::sleep(limit)));
    let ending = ahead.as_ref().and_then(|ahead| ahead.stream.as_ref()).map(|_| Ending::of(&proxy.drain));
    let clocks = Clocks { idle: timeout.idle, spare: exchange.client.download_timer.clone(), stream, ending };
    let over_http2 = exchange.client.wire.is_none();
    let idle = clocks.idle;
    if ahead.as_ref().is_some_and(|ahead| ahead.stream.is_some()) {
        parts.headers.remove(CONTENT_LENGTH); // An error event may have to stand behind what comes.
    }
    let body = Relay::body(incoming, ahead, reply.loan, clocks, copying, exchange.finish);
    response(parts.status, parts.headers, if over_http2 { body.watched(idle) } else { body })
}

/// An answer that is there whole.
pub(super) fn whole(
    mut exchange: Box<Exchange>,
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
    told: Told<'_>,
) -> Response<Body> {
    for name in [REQUEST_ID, ATTEMPTS, REASON, FALLBACK] {
        headers.remove(name);
    }
    sign(&mut headers, &exchange, told);
    exchange.finish.answered(status.as_u16(), told.source, told.reason, exchange.decided);
    response(status, headers, Body::own(body).finishing(exchange.finish))
}

/// Fender's own fields; others of these names are not there any more.
fn sign(headers: &mut HeaderMap, exchange: &Exchange, told: Told<'_>) {
    headers.append(REQUEST_ID, exchange.id.header().clone());
    headers.append(ATTEMPTS, attempts(exchange.attempts));
    if let Some(reason) = told.reason {
        headers.append(REASON, HeaderValue::from_static(reason.as_str()));
    }
    if let Some(fallback) = told.fallback.and_then(|fallback| HeaderValue::try_from(fallback).ok()) {
        headers.append(FALLBACK, fallback);
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Mostly one: written without an allocation.
fn attempts(count: u32) -> HeaderValue {
    if count == 1 { HeaderValue::from_static("1") } else { count.into() }
}

/// Fender's own answer to a request that was routed.
pub(super) fn failed(exchange: Box<Exchange>, failure: &Failure) -> Response<Body> {
    let (reason, status) = (failure.reason(), status_of(failure));
    failed_as(exchange, failure, reason, status)
}

/// The same, under another reason and status.
pub(super) fn failed_as(
    mut exchange: Box<Exchange>,
    failure: &Failure,
    reason: Reason,
    status: StatusCode,
) -> Response<Body> {
    if let Failure::Client(_) | Failure::NoRoute | Failure::Overload(_) = failure {
        exchange.note_failed(failure); // Whatever else it may be was noted when it was decided.
    }
    let home = exchange.finish.plan();
    let spoken = exchange.dialect().refusal(&Refusal {
        reason,
        status,
        detail: &failure.detail(),
        upstream: home.upstream_name(),
        request_id: exchange.id.as_str(),
        retry_after: failure.retry_after(),
        given_up: exchange.given_up(),
    });
    let mut answer = match spoken {
        Some(spoken) => in_its_words(&exchange.id, failure, reason, spoken),
        None => problem(&exchange.id, failure, Some(exchange.plan.upstream_name()), reason, status),
    };
    let status = answer.status();
    answer.headers_mut().insert(ATTEMPTS, attempts(exchange.attempts));
    exchange.finish.answered(status.as_u16(), Source::Fender, Some(reason), exchange.decided);
    let (parts, body) = answer.into_parts();
    Response::from_parts(parts, body.finishing(exchange.finish))
}

/// Fender's own answer, as the API would put it.
fn in_its_words(id: &RequestId, failure: &Failure, reason: Reason, spoken: Spoken) -> Response<Body> {
    let mut answer = response(spoken.status, spoken.headers, Body::own(spoken.body));
    own_fields(answer.headers_mut(), id, failure, reason);
    answer
}

/// Fender's own answer.
pub(super) fn refused(id: &RequestId, failure: &Failure, upstream: Option<&str>) -> Response<Body> {
    problem(id, failure, upstream, failure.reason(), status_of(failure))
}

/// The status of Fender's own answer to a failure.
pub(super) fn status_of(failure: &Failure) -> StatusCode {
    let reason = failure.reason();
    // 499: nobody hears it; the metrics show it.
    let status = reason.status().or((reason == Reason::Cancelled).then_some(499));
    status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn problem(
    id: &RequestId,
    failure: &Failure,
    upstream: Option<&str>,
    reason: Reason,
    status: StatusCode,
) -> Response<Body> {
    let problem = Problem {
        kind: format!("urn:fender:problem:{reason}"),
        title: reason.title(),
        status: status.as_u16(),
        detail: &failure.detail(),
        upstream,
        reason: reason.as_str(),
    };
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    let mut answer = response(status, HeaderMap::new(), Body::own(Bytes::from(text)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(wait) = failure.retry_after() {
        headers.insert(RETRY_AFTER, seconds(wait).into());
    }
    own_fields(headers, id, failure, reason);
    answer
}

fn own_fields(headers: &mut HeaderMap, id: &RequestId, failure: &Failure, reason: Reason) {
    headers.insert(REQUEST_ID, id.header().clone());
    headers.insert(REASON, HeaderValue::from_static(reason.as_str()));
    if matches!(failure, Failure::Client(_)) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Whole seconds, never too early and never none (RFC 9110 section 10.2.3).
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[derive(Debug, Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    upstream: Option<&'a str>,
    reason: &'a str,
}
