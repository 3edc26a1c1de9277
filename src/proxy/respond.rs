//! Outcomes to responses: the upstream's, or Fender's own words (RFC 9457).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::body::{Body, Clocks};
use super::exchange::Exchange;
use super::failure::Failure;
use super::headers::downward;
use super::id::RequestId;
use super::tunnel;
use crate::policy::reason::Reason;
use crate::telemetry::metrics::Source;
use crate::upstream::Reply;

const REQUEST_ID: HeaderName = HeaderName::from_static("fender-request-id");
const ATTEMPTS: HeaderName = HeaderName::from_static("fender-attempts");
const REASON: HeaderName = HeaderName::from_static("fender-reason");

/// When an overloaded proxy may be asked again, in seconds: nothing better is known than "soon".
const OVERLOAD_RETRY_AFTER: u32 = 1;

/// The upstream's response, as it comes.
pub(super) fn relay(mut exchange: Exchange<'_>, reply: Reply) -> Response<Body> {
    let (mut parts, incoming) = reply.response.into_parts();
    downward(&mut parts.headers, parts.status, parts.version);
    parts.headers.insert(REQUEST_ID, exchange.id.header().clone());
    parts.headers.insert(ATTEMPTS, attempts(exchange.attempts));
    exchange.finish.answered(parts.status.as_u16(), Source::Upstream, None, exchange.decided);
    let timeout = &exchange.plan.settings().timeout;
    let switched = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(client) = exchange.switch.take()
        && switched
        && let Some(upstream) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>()
    {
        if let Some(wire) = &exchange.client.wire {
            wire.becomes_tunnel();
        }
        tokio::spawn(tunnel::run(client, upstream, timeout.idle, reply.loan, exchange.finish));
        let mut answer = Response::new(Body::own(Bytes::new()));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = parts.headers;
        return answer;
    }
    let stream = timeout.stream.map(|limit| Box::pin(tokio::time::sleep(limit)));
    let clocks = Clocks { idle: timeout.idle, spare: exchange.client.download_timer.clone(), stream };
    let over_http2 = exchange.client.wire.is_none();
    let idle = clocks.idle;
    let body = Body::relay(incoming, reply.loan, clocks, exchange.finish);
    let mut answer = Response::new(if over_http2 { body.watched(idle) } else { body });
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    answer
}

/// Mostly one: written without an allocation.
fn attempts(count: u32) -> HeaderValue {
    if count == 1 { HeaderValue::from_static("1") } else { count.into() }
}

/// Fender's own answer to a request that was routed.
pub(super) fn failed(mut exchange: Exchange<'_>, failure: &Failure) -> Response<Body> {
    let mut answer = refused(&exchange.id, failure, Some(exchange.plan.upstream_name()));
    answer.headers_mut().insert(ATTEMPTS, attempts(exchange.attempts));
    let reason = failure.reason();
    exchange.finish.answered(answer.status().as_u16(), Source::Fender, Some(reason), exchange.decided);
    let (parts, body) = answer.into_parts();
    Response::from_parts(parts, body.finishing(exchange.finish))
}

/// Fender's own answer.
pub(super) fn refused(id: &RequestId, failure: &Failure, upstream: Option<&str>) -> Response<Body> {
    let reason = failure.reason();
    // 499: nobody hears it; the metrics show it.
    let status = reason
        .status()
        .or((reason == Reason::Cancelled).then_some(499))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    let problem = Problem {
        kind: format!("urn:fender:problem:{reason}"),
        title: reason.title(),
        status: status.as_u16(),
        detail: &failure.detail(),
        upstream,
        reason: reason.as_str(),
    };
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    let mut answer = Response::new(Body::own(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(REQUEST_ID, id.header().clone());
    headers.insert(REASON, HeaderValue::from_static(reason.as_str()));
    if reason == Reason::Overload {
        headers.insert(RETRY_AFTER, OVERLOAD_RETRY_AFTER.into());
    }
    if matches!(failure, Failure::Client(_)) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
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
