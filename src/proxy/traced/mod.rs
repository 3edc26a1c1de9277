//! One request's spans: made at its end from the notes that its story is made from, and from when its attempts began.
//!
//! Few requests are traced, and in most processes none: what is called for those alone is `cold`, so that the others run past one
//! branch, and not around what was inlined.

mod spans;

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::client::Client;
use super::exchange::Exchange;
use super::id::RequestId;
use crate::deadletter::Letter;
use crate::dialect::{Form, Listener, Place};
use crate::policy::reason::Reason;
use crate::route::Plan;
use crate::telemetry::trace::{Context, Sampling, Tracer};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// In which of its fields a letter remembers the span of its capture, if that was traced: nobody but Fender writes those of such names.
const CAPTURED: &str = "fender-trace";

/// What a traced request notes beside its story.
#[derive(Debug)]
pub struct Trace {
    tracer: Arc<Tracer>,
    /// Of the request's own span.
    context: Context,
    /// What the client says that it is a part of.
    parent: Option<Context>,
    asked: Asked,
    sends: Vec<Send>,
    /// Hears the answer that goes to the client.
    listener: Option<Listener>,
    /// The last attempt's answer is passed on, or read to its end: the attempt ends with it.
    relayed: bool,
    /// What is wrong with the answer to a letter behind its head.
    broke: Option<Broke>,
}

/// How the request came.
#[derive(Debug)]
enum Asked {
    Client {
        host: Option<String>,
        secure: bool,
        version: &'static str,
    },
    /// A letter's turn; the span that its write was captured in.
    Letter {
        id: String,
        captured: Context,
    },
}

/// How an answer to a letter is no good behind its head.
#[derive(Debug, Clone, Copy)]
pub(super) enum Broke {
    /// It broke off. The write had been taken by then.
    Off(Reason),
    /// It came whole, and says that it failed.
    Failed,
    /// Nobody has read it to its end.
    Unread,
}

/// One attempt. What came of it is in the story, at the same place in the list.
#[derive(Debug)]
struct Send {
    plan: Arc<Plan>,
    /// In the place of one before it, over a connection that had gone stale.
    again: bool,
    span: u64,
    began: Instant,
    ended: Option<Instant>,
    endpoint: Option<usize>,
    version: Option<&'static str>,
    call: Option<Call>,
}

/// A call of a model.
#[derive(Debug)]
pub(super) struct Call {
    provider: String,
    operation: String,
    model: Option<String>,
}

impl Trace {
    /// Of a client's request, if it is traced: a client that is believed decides that for its own traces, else chance does.
    pub(super) fn of_request(
        sampling: &Sampling,
        headers: &HeaderMap,
        (version, host): (Version, Option<&str>),
        (client, trusted): (&Client, bool),
        id: &RequestId,
    ) -> Option<Box<Self>> {
        let parent = parent(headers);
        let sampled = match parent {
            Some(parent) if trusted => parent.is_sampled(),
            // By our own dice: who is not believed could choose an id that is always taken.
            _ => sampling.takes(id.context()?.trace),
        };
        if !sampled {
            return None;
        }
        let context = match parent {
            Some(parent) => parent.sampled(fastrand::u64(1..)),
            None => id.context()?.sampled(id.context()?.span),
        };
        let host = host.or_else(|| headers.get(HOST)?.to_str().ok()).map(str::to_owned);
        let asked = Asked::Client { host, secure: client.secure, version: version_of(version) };
        Some(Box::new(Self::new(sampling, context, parent, asked)))
    }

    /// Of a letter's turn, if its write was traced: a trace of its own, which goes back to the write's.
    pub(super) fn of_letter(
        sampling: &Sampling,
        headers: &HeaderMap,
        letter: &Letter,
        id: &RequestId,
    ) -> Option<Box<Self>> {
        let captured = headers.get(CAPTURED).and_then(|value| Context::parse(value.as_bytes()))?;
        let own = id.context()?;
        let asked = Asked::Letter { id: letter.id.to_string(), captured };
        Some(Box::new(Self::new(sampling, own.sampled(own.span), None, asked)))
    }

    fn new(sampling: &Sampling, context: Context, parent: Option<Context>, asked: Asked) -> Self {
        let tracer = Arc::clone(sampling.tracer());
        Self {
            tracer,
            context,
            parent,
            asked,
            sends: Vec::new(),
            listener: None,
            relayed: false,
            broke: None,
        }
    }

    /// An attempt begins; or goes on over another connection (`again`).
    #[cold]
    pub(super) fn sends(&mut self, plan: &Arc<Plan>, began: Instant, again: bool) {
        // A stale connection is replaced within its attempt.
        let began = self.sends.last().and_then(|last| last.ended).map_or(began, |last| last.max(began));
        let (plan, span) = (Arc::clone(plan), fastrand::u64(1..));
        let (endpoint, version, call) = (None, None, None);
        self.sends.push(Send { plan, again, span, began, ended: None, endpoint, version, call });
    }

    /// It has ended, `now`.
    pub(super) fn sent(
        &mut self,
        (endpoint, version): (Option<usize>, Option<Version>),
        call: Option<Call>,
        now: Instant,
    ) {
        if let Some(send) = self.sends.last_mut() {
            send.ended = Some(now);
            (send.endpoint, send.version, send.call) = (endpoint, version.map(version_of), call);
        }
    }

    /// Puts the attempt that is under way where the upstream looks for its parent, unless the config has something else there.
    #[cold]
    pub(super) fn mark(&self, headers: &mut HeaderMap, plan: &Plan) {
        let own = |name: &HeaderName| plan.set().iter().any(|(set, _)| set == name);
        if let Some(send) = self.sends.last()
            && headers.contains_key(TRACEPARENT)
            && !own(&TRACEPARENT)
            && let Ok(value) = HeaderValue::try_from(self.context.sampled(send.span).to_string())
        {
            headers.insert(TRACEPARENT, value);
            if self.parent.is_none() && !own(&TRACESTATE) {
                headers.remove(TRACESTATE); // It was of another trace.
            }
        }
    }

    /// What a letter remembers of the request's fields, beside its others: its span, also as the parent of what goes up, unless
    /// the config has something else there (`own`).
    #[cold]
    pub(super) fn remember(&self, headers: &mut Vec<(String, Vec<u8>)>, own: bool) {
        let span = self.context.to_string().into_bytes();
        if !own {
            let stays = |name: &str| name != TRACEPARENT && (self.parent.is_some() || name != TRACESTATE);
            headers.retain(|(name, _)| stays(name));
            headers.push((TRACEPARENT.as_str().to_owned(), span.clone()));
        }
        headers.push((CAPTURED.to_owned(), span));
    }

    /// The last attempt's answer goes to the client, or is read to its end.
    #[cold]
    pub(super) fn relays(&mut self, headers: &HeaderMap) {
        self.relayed = true;
        self.broke = matches!(self.asked, Asked::Letter { .. }).then_some(Broke::Unread);
        let Some(send) = self.sends.last().filter(|send| send.call.is_some()) else { return };
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        if plain && (Form::of(kind).is_some() || kind.starts_with(b"application/json")) {
            self.listener = Some(send.plan.upstream().dialect().listener());
        }
    }

    /// A piece of it does.
    #[cold]
    pub(super) fn hear(&mut self, piece: &[u8]) {
        if let Some(listener) = &mut self.listener {
            listener.hear(piece);
        }
    }

    /// The answer to a letter has been read to its end, which was well unless it `broke`.
    pub(super) const fn read(&mut self, broke: Option<Broke>) {
        self.broke = broke;
    }
}

/// What a request says that it is a part of: nothing, if it says so twice or not well.
pub(super) fn parent(headers: &HeaderMap) -> Option<Context> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let one = all.next()?;
    all.next().is_none().then(|| Context::parse(one.as_bytes())).flatten()
}

/// The call of a model that the last attempt was, as far as its dialect and the request tell.
pub(super) fn call(exchange: &Exchange) -> Option<Call> {
    let dialect = exchange.plan.upstream().dialect();
    let (provider, operation) =
        dialect.gen_ai(exchange.target.path()).filter(|_| exchange.method == Method::POST)?;
    let own = exchange.turned.as_ref().and_then(|turned| turned.body.clone());
    let body = own.or_else(|| exchange.upload.as_ref()?.kept()).unwrap_or_default();
    let model = dialect.find(Place::Model, &exchange.asked(&body));
    Some(Call { provider: provider.to_owned(), operation: operation.to_owned(), model })
}

fn version_of(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
