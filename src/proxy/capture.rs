//! Captured writes: what could not be delivered is stored, and whoever owns it from then on is told so.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::exchange::Exchange;
use super::pipeline::Proxy;
use super::stored;
use crate::clock;
use crate::config::{Ambiguous, Mode, OrderWord, Respond};
use crate::deadletter::{Because, Begin, Captured, Draft, LetterId, State, Store, StoreError};
use crate::dialect::{Acceptance, Place, Spoken};
use crate::policy::conclude::{Facts, Fate, Why, conclude};
use crate::policy::key::Key;
use crate::policy::reason::Reason;
use crate::telemetry::events::{LetterCaptured, LetterKnown, LetterRefused};
use crate::telemetry::story::Fact;

/// Where writes are kept.
#[derive(Debug, Clone)]
pub struct Letters {
    /// The store.
    pub store: Store,
    /// What an acceptance says of it: `full` or `normal`.
    pub durable: &'static str,
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Ownership {
    /// Fender's: it will be replayed, and the client is told so.
    Fenders { letter: LetterId, reason: Option<Reason>, durable: &'static str },
    /// The client's; a copy is stored under this id, which waits for an operator or bears a key.
    Copied { letter: LetterId, reason: Reason },
    /// The client's alone.
    Clients,
    /// Its idempotency key is that of a letter with another body.
    Contradicts,
    /// It is larger than `max_body`.
    TooLarge,
    /// The store cannot take it.
    Unavailable,
}

/// What a capture is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause {
    /// `None`: nothing failed, the write is stored first (outbox, or behind others of its key).
    pub reason: Option<Reason>,
    /// Not before this.
    pub wait: Duration,
}

/// Whether the plan stores writes such as this one.
pub(super) fn keeps(exchange: &Exchange) -> bool {
    is_kept(exchange) && !exchange.opted.dead_letter
}

fn is_kept(exchange: &Exchange) -> bool {
    let rule = &exchange.plan.settings().dead_letter;
    rule.mode != Mode::Off && rule.methods.contains(&exchange.method)
}

/// Notes of a failed write that it would be stored, did its client not forbid it.
pub(super) fn note_unwanted(exchange: &Exchange) {
    if exchange.opted.dead_letter && is_kept(exchange) {
        exchange.note(Fact::NotKept { why: "opted_out" });
    }
}

/// Stores a write that brought no good answer, or that is to be stored first.
pub(super) async fn keep(proxy: &Proxy, exchange: &Exchange, cause: Cause) -> Ownership {
    let Some(Letters { store, durable }) = &proxy.letters else { return Ownership::Clients };
    let plan = &exchange.plan;
    let rule = &plan.settings().dead_letter;
    let refused = |why: &'static str| {
        plan.upstream_metrics().letters.refused(why);
        exchange.emit(&LetterRefused {
            request_id: exchange.id.as_str(),
            upstream: plan.upstream_name(),
            why,
        });
    };
    let body = match body(exchange, rule.max_body).await {
        Ok(body) => body,
        Err(why) => {
            refused(why);
            return match why {
                BODY => Ownership::TooLarge,
                MEMORY => Ownership::Unavailable,
                _ => Ownership::Clients,
            };
        }
    };
    let fate = fate(exchange, cause);
    if cause.reason.is_none() && fate != Fate::Accepted {
        return Ownership::Clients; // What cannot be accepted is sent at once instead: nothing has failed yet.
    }
    let draft = draft(exchange, cause, fate, body);
    let captured = match store.capture(draft).await {
        Ok(captured) => captured,
        Err(error) => {
            refused(if error == StoreError::Full { "full" } else { "unavailable" });
            return Ownership::Unavailable;
        }
    };
    let fate = match captured {
        Captured::New(receipt) if fate == Fate::Accepted && exchange.hung_up() => {
            disown(
                store,
                (receipt.id(), exchange.id.as_str()),
                plan.idempotency_key(&exchange.headers).is_some(),
            )
            .await
        }
        _ => fate,
    };
    told(exchange, cause, fate, captured, durable)
}

/// Whether Fender would own the write if it were stored now.
pub(super) fn would_accept(exchange: &Exchange, cause: Cause) -> bool {
    fate(exchange, cause) == Fate::Accepted
}

fn fate(exchange: &Exchange, cause: Cause) -> Fate {
    let rule = &exchange.plan.settings().dead_letter;
    conclude(Facts {
        hung_up: exchange.hung_up(),
        may_have_acted: exchange.may_have_acted,
        keyed: exchange.plan.idempotency_key(&exchange.headers).is_some(),
        credential_missing: stored::credential_missing(exchange),
        ambiguous_replays: rule.replay.ambiguous == Ambiguous::Replay,
        respond_error: rule.respond == Respond::Error && cause.reason.is_some(),
        never_replayed: !rule.replay.enabled || cause.wait >= rule.replay.expire_after,
    })
}

fn draft(exchange: &Exchange, cause: Cause, fate: Fate, body: Bytes) -> Draft {
    let plan = &exchange.plan;
    let rule = &plan.settings().dead_letter;
    let after =
        |wait: Duration| clock::unix_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Draft {
        upstream: plan.upstream_name().to_owned(),
        route: plan.name().to_owned(),
        method: exchange.method.to_string(),
        path: stored::path(exchange).into_owned(),
        headers: stored::headers(exchange),
        order_key: order_key(exchange, &body),
        body,
        credentials: stored::credentials(exchange),
        verdict: exchange.verdict(),
        reason: reason(cause, fate),
        begin: match fate {
            Fate::Accepted | Fate::Replayed => Begin::Pending { next_attempt_at_ms: after(cause.wait) },
            Fate::Parked(why) => Begin::Parked(because(why)),
        },
        key_header: key_header(exchange),
        idempotency_key: plan.idempotency_key(&exchange.headers).map(|(_, value)| value),
        repeatable: exchange.repeatable().is_repeatable() || plan.honoured_key().is_some(),
        priority: rule.priority,
        expires_at_ms: after(rule.replay.expire_after),
        attempts: exchange.trail.clone().unwrap_or_default(),
    }
}

/// The client hung up while its write was stored: it will not hear that it is Fender's, and may send it again.
async fn disown(store: &Store, (id, request_id): (LetterId, &str), keyed: bool) -> Fate {
    if keyed {
        return Fate::Replayed;
    }
    if let Err(error) = store.park(id, Because::Unanswered).await {
        tracing::warn!(request_id, letter = %id, %error, "a write whose client has gone may be sent again");
    }
    Fate::Parked(Why::Unanswered)
}

/// The key that every replay bears: the client's own, or one made now where the config says that the API honours it.
fn key_header(exchange: &Exchange) -> Option<(String, String)> {
    let own = exchange.plan.idempotency_key(&exchange.headers);
    let own = own.map(|(name, value)| (name.as_str().to_owned(), value));
    own.or_else(|| Some((exchange.plan.honoured_key()?.as_str().to_owned(), exchange.id.as_str().to_owned())))
}

fn told(
    exchange: &Exchange,
    cause: Cause,
    fate: Fate,
    captured: Captured,
    durable: &'static str,
) -> Ownership {
    let letter = match captured {
        Captured::New(receipt) => receipt.id(),
        Captured::Already { id, state } => return told_again(exchange, cause, (fate, id, state), durable),
        Captured::OtherBody { .. } => return Ownership::Contradicts,
    };
    let reason = reason(cause, fate);
    let metrics = &exchange.plan.upstream_metrics().letters;
    metrics.captured(reason.map_or("", Reason::as_str));
    let kept = LetterCaptured {
        request_id: exchange.id.as_str(),
        upstream: exchange.plan.upstream_name(),
        letter: &letter.to_string(),
        reason,
        accepted: fate == Fate::Accepted,
        parked: if let Fate::Parked(why) = fate { Some(because(why).as_str()) } else { None },
    };
    exchange.emit_told(&kept);
    owner(fate, letter, reason, durable)
}

fn owner(fate: Fate, letter: LetterId, reason: Option<Reason>, durable: &'static str) -> Ownership {
    match fate {
        Fate::Accepted => Ownership::Fenders { letter, reason, durable },
        Fate::Replayed | Fate::Parked(_) => {
            Ownership::Copied { letter, reason: reason.unwrap_or(Reason::Exhausted) }
        }
    }
}

/// Its idempotency key is that of a letter which was stored before: nothing new is.
fn told_again(
    exchange: &Exchange,
    cause: Cause,
    (fate, letter, state): (Fate, LetterId, State),
    durable: &'static str,
) -> Ownership {
    // One that waits for an operator is not on its way: to say that it is would be untrue.
    let parked = state == State::Parked;
    exchange.emit(&LetterKnown {
        request_id: exchange.id.as_str(),
        upstream: exchange.plan.upstream_name(),
        letter: &letter.to_string(),
        state: state.as_str(),
        accepted: fate == Fate::Accepted && !parked,
    });
    if parked {
        return Ownership::Copied { letter, reason: cause.reason.unwrap_or(Reason::Ambiguous) };
    }
    owner(fate, letter, reason(cause, fate), durable)
}

/// Why it was stored, in the word that its client hears.
const fn reason(cause: Cause, fate: Fate) -> Option<Reason> {
    match fate {
        Fate::Parked(Why::Ambiguous) => Some(Reason::Ambiguous),
        Fate::Parked(Why::Credential) => Some(Reason::Credential),
        _ => cause.reason,
    }
}

const fn because(why: Why) -> Because {
    match why {
        Why::Ambiguous => Because::Ambiguous,
        Why::Unanswered => Because::Unanswered,
        Why::Credential => Because::Credential,
    }
}

/// Whether letters of this write's key wait: it goes behind them then.
pub(super) async fn must_queue(proxy: &Proxy, exchange: &Exchange) -> bool {
    let rule = &exchange.plan.settings().dead_letter;
    let Some(Letters { store, .. }) = &proxy.letters else { return false };
    if rule.order_by == Key::Word(OrderWord::None) {
        return false;
    }
    let body = match rule.order_by {
        Key::Json(_) | Key::Word(OrderWord::Auto) => body(exchange, rule.max_body).await.unwrap_or_default(),
        Key::Word(OrderWord::None | OrderWord::Path) | Key::Header(_) => Bytes::new(),
    };
    match order_key(exchange, &body) {
        Some(key) => {
            // Behind a parked one it would wait for an operator. A store that cannot say it cannot take the write either.
            store.waiting(exchange.plan.upstream_name(), &key, false).await.unwrap_or(false)
        }
        None => false,
    }
}

const BODY: &str = "body";
const MEMORY: &str = "memory";

/// The request's body whole, or why it cannot be stored.
async fn body(exchange: &Exchange, max: u64) -> Result<Bytes, &'static str> {
    let Some(upload) = &exchange.upload else { return Ok(Bytes::new()) };
    match upload.whole().await {
        Ok(Some(body)) if body.len() as u64 <= max => Ok(body),
        Ok(None) if upload.received() <= max && upload.announced() <= max => Err(MEMORY),
        Ok(_) => Err(BODY),
        Err(_) => Err("client"),
    }
}

fn order_key(exchange: &Exchange, body: &Bytes) -> Option<String> {
    let dialect = exchange.plan.upstream().dialect();
    match &exchange.plan.settings().dead_letter.order_by {
        Key::Word(OrderWord::None) => None,
        Key::Word(OrderWord::Path) => Some(dialect.masked(exchange.target.path()).into_owned()),
        Key::Word(OrderWord::Auto) => dialect.find(Place::Order, &exchange.asked(body)),
        Key::Header(name) => Some(exchange.headers.get(name)?.to_str().ok()?.to_owned()),
        Key::Json(pointer) => match serde_json::from_slice::<Value>(body).ok()?.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        },
    }
}

/// The bodies of acceptances: RFC-like JSON of the contract, or the config's own words.
pub(super) fn acceptance(
    exchange: &Exchange,
    letter: LetterId,
    reason: Option<Reason>,
    durable: &str,
) -> (u16, HeaderMap, Bytes) {
    let accepted = &exchange.plan.settings().dead_letter.accepted;
    let mut headers = HeaderMap::new();
    let mut status = accepted.status;
    let spoken = (accepted.body == "auto").then(|| {
        exchange.dialect().acceptance(&Acceptance {
            letter: &letter.to_string(),
            upstream: exchange.plan.upstream_name(),
            reason,
            durable,
            path: exchange.target.path(),
        })
    });
    let body = if let Some(Spoken { status: its, headers: own, body }) = spoken.flatten() {
        if status == StatusCode::ACCEPTED.as_u16() {
            status = its.as_u16(); // Nobody has asked for another.
        }
        headers = own;
        body
    } else if accepted.body == "auto" {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let told = serde_json::json!({
            "status": if reason.is_some() { "queued_for_retry" } else { "accepted" },
            "letter": letter.to_string(),
            "upstream": exchange.plan.upstream_name(),
            "reason": reason.map(Reason::as_str),
            "durable": durable,
        });
        told.to_string().into()
    } else {
        accepted.body.replace("{letter}", &letter.to_string()).into()
    };
    for (name, value) in &accepted.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            headers.insert(name, value);
        }
    }
    (status, headers, body)
}
