//! Writes whose upstream keeps letters: stored first where the config says so, and stored when they fail.

use std::time::Duration;

use http::Response;

use super::attempts::Spent;
use super::body::Body;
use super::capture::{self, Cause, Ownership};
use super::exchange::Exchange;
use super::failure::{Failure, Refusal};
use super::fallback::Delivered;
use super::pipeline::Proxy;
use super::{respond, respond_letters as letters};
use crate::clock;
use crate::config::Mode;
use crate::deadletter::LetterId;
use crate::drain::Phase;
use crate::policy::blame::ClientFault;
use crate::policy::reason::Reason;
use crate::telemetry::story::{By, Fact, brief};

/// The answer to such a write.
pub(super) async fn answer(proxy: &Proxy, mut exchange: Box<Exchange>, tried_before: bool) -> Response<Body> {
    let outbox = exchange.plan.settings().dead_letter.mode == Mode::Outbox;
    if outbox || capture::must_queue(proxy, &exchange).await {
        let first = Cause { reason: None, wait: Duration::ZERO };
        match capture::keep(proxy, &exchange, first).await {
            Ownership::Fenders { letter, reason, durable } => {
                return letters::accepted(exchange, letter, reason, durable);
            }
            Ownership::Contradicts => return letters::contradicts(exchange),
            Ownership::Unavailable => {
                let refusal = unavailable();
                exchange.note(Fact::Refused {
                    reason: refusal.reason,
                    detail: brief(&refusal.detail),
                    retry_after: refusal.retry_after,
                    by: Some(Box::new(By::Store)),
                });
                return respond::failed(exchange, &Failure::Refused(refusal));
            }
            Ownership::TooLarge if outbox => {
                return respond::failed(exchange, &Failure::Client(ClientFault::BodyTooLarge));
            }
            // Stored, and nobody there any more to send it for: sent now, it would be stored, and perhaps done, once more.
            Ownership::Copied { .. } if exchange.hung_up() => {
                return respond::failed(exchange, &Failure::Refused(Refusal::gone()));
            }
            // It cannot be Fender's: it is sent at once instead, and stays the client's.
            Ownership::Copied { .. } | Ownership::Clients | Ownership::TooLarge => {}
        }
    }
    let delivered = deliver(proxy, &mut exchange, tried_before).await;
    let spent = match delivered {
        Ok(delivered) => {
            exchange.commit();
            return respond::delivered(proxy, exchange, delivered);
        }
        Err(spent) => spent,
    };
    settle(proxy, exchange, *spent).await
}

async fn settle(proxy: &Proxy, mut exchange: Box<Exchange>, spent: Spent) -> Response<Body> {
    if matches!(spent.failure, Failure::Client(_)) {
        return respond::spent(proxy, exchange, spent);
    }
    let cause = Cause { reason: Some(spent.reason()), wait: spent.wait(&exchange) };
    let owner = match exchange.owned.take() {
        Some(owner) => owner, // It was to be stored before fixed words, and could not be accepted.
        None => capture::keep(proxy, &exchange, cause).await,
    };
    exchange.commit();
    match owner {
        Ownership::Fenders { letter, reason, durable } => {
            letters::accepted(exchange, letter, reason, durable)
        }
        Ownership::Copied { letter, reason } => letters::copied(proxy, exchange, spent, letter, reason),
        Ownership::Contradicts => letters::contradicts(exchange),
        Ownership::Clients | Ownership::TooLarge | Ownership::Unavailable => {
            respond::spent(proxy, exchange, spent)
        }
    }
}

/// Stores a write before fixed words answer it: the letter, if it is Fender's now. Only for the upstream that the request was
/// meant for: what another one's fallback says is no word about this write.
pub(super) async fn stored_first(proxy: &Proxy, exchange: &mut Exchange, spent: &Spent) -> Option<LetterId> {
    if exchange.turned.is_some() || exchange.owned.is_some() {
        return None;
    }
    let cause = Cause { reason: Some(spent.reason()), wait: spent.wait(exchange) };
    if !capture::would_accept(exchange, cause) {
        return None; // A copy is made once nobody else answers: of a write that another upstream takes, none may stay.
    }
    match capture::keep(proxy, exchange, cause).await {
        Ownership::Fenders { letter, .. } => Some(letter),
        other => {
            exchange.owned = Some(other);
            None
        }
    }
}

/// The attempts; broken off where the process ends before they do, so that the write can still be stored.
async fn deliver(
    proxy: &Proxy,
    exchange: &mut Exchange,
    tried_before: bool,
) -> Result<Delivered, Box<Spent>> {
    let mut phase = proxy.drain.watch();
    let delivered = tokio::select! {
        biased;
        delivered = proxy.deliver(exchange, tried_before) => Some(delivered),
        _ = phase.wait_for(|phase| *phase >= Phase::Storing) => None,
    };
    if let Some(delivered) = delivered {
        return delivered;
    }
    if let Some(took) = exchange.finish.broken_off(clock::now()) {
        exchange.broken_off(took);
    }
    let refusal = Refusal::new(Reason::Overload, Duration::from_secs(1), "the proxy is shutting down");
    exchange.note(Fact::Refused {
        reason: refusal.reason,
        detail: brief(&refusal.detail),
        retry_after: refusal.retry_after,
        by: None,
    });
    Err(Box::new(Spent { failure: Failure::Refused(refusal), kept: None }))
}

fn unavailable() -> Refusal {
    let detail = "the write is stored before it is sent, and the store cannot take it";
    Refusal::new(Reason::StoreUnavailable, Duration::from_secs(1), detail)
}
