//! Answers to writes that are stored.

use http::header::HeaderName;
use http::{HeaderValue, Response, StatusCode};

use super::attempts::Spent;
use super::body::Body;
use super::capture;
use super::exchange::Exchange;
use super::failure::Failure;
use super::pipeline::Proxy;
use super::respond::{self, Told};
use crate::deadletter::LetterId;
use crate::policy::blame::ClientFault;
use crate::policy::reason::Reason;
use crate::telemetry::metrics::Source;

const LETTER: HeaderName = HeaderName::from_static("fender-letter");

/// The write is Fender's now: it will be replayed.
pub(super) fn accepted(
    exchange: Box<Exchange>,
    letter: LetterId,
    reason: Option<Reason>,
    durable: &str,
) -> Response<Body> {
    let (status, headers, body) = capture::acceptance(&exchange, letter, reason, durable);
    let told = Told { source: Source::DeadLetter, reason, fallback: None };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
    with_letter(respond::whole(exchange, status, headers, body, told), Some(letter))
}

/// The write stays the client's: it hears its own failure, and the id of the copy.
pub(super) fn copied(
    proxy: &Proxy,
    exchange: Box<Exchange>,
    spent: Spent,
    letter: LetterId,
    reason: Reason,
) -> Response<Body> {
    with_letter(respond::spent_as(proxy, exchange, spent, reason), Some(letter))
}

/// Its key is that of a letter that has another body.
pub(super) fn contradicts(exchange: Box<Exchange>) -> Response<Body> {
    let detail = "the idempotency key is that of a stored write with another body";
    respond::failed_as(
        exchange,
        &Failure::Client(ClientFault::Bad(detail)),
        Reason::BadRequest,
        StatusCode::UNPROCESSABLE_ENTITY,
    )
}

/// With the letter's id, if there is one.
pub(super) fn with_letter(mut answer: Response<Body>, letter: Option<LetterId>) -> Response<Body> {
    if let Some(id) = letter.and_then(|letter| HeaderValue::try_from(letter.to_string()).ok()) {
        answer.headers_mut().insert(LETTER, id);
    }
    answer
}
