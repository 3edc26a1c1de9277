//! An answer, as far as it has to be read before it is known what it means. What was read goes to the client first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use super::body::Cut;
use super::exchange::Exchange;
use super::stream::{QUIET, Stream};
use crate::clock;
use crate::config::Commit;
use crate::dialect::{Form, Head, Meaning, Ruling};
use crate::memory::{Lease, Memory};
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::trigger::Trigger;
use crate::policy::verdict::Verdict;
use crate::telemetry::streams::StreamEnd;
use crate::upstream::{Fault, Reply};

/// An answer of which it is known what it means.
#[derive(Debug)]
pub(super) struct Heard {
    pub reply: Reply,
    /// What of its body was read for that.
    pub ahead: Option<Box<Ahead>>,
}

/// The beginning of a body.
#[derive(Debug)]
pub(super) struct Ahead {
    pub pieces: VecDeque<Bytes>,
    /// How the body ended, if it has been read to its end.
    pub ended: Option<Ended>,
    /// The events that it bears.
    pub stream: Option<Stream>,
    lease: Lease,
}

impl Ahead {
    /// Whether it comes to nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.stream.is_none() && matches!(self.ended, Some(Ended::Whole(None)))
    }

    /// How many of the bytes that were read have still to go on; unknown for a stream, to which Fender may add.
    pub(super) fn left(&self) -> Option<u64> {
        self.stream.is_none().then(|| self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// How a body ended.
#[derive(Debug)]
pub(super) enum Ended {
    Whole(Option<HeaderMap>),
    Broken(hyper::Error),
}

/// A whole answer in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub parts: Parts,
    pub body: Bytes,
    _lease: Lease,
}

/// The body of a failure is waited for no longer than this: what the head says has to do then.
const FAILURE_WITHIN: Duration = Duration::from_secs(2);

/// Reads so much of the answer to the attempt that `begun` then as its dialect needs to judge it; of an event stream, what
/// `stream.commit` asks for.
pub(super) async fn hear(
    exchange: &Exchange,
    memory: &Arc<Memory>,
    reply: Reply,
    begun: Instant,
    deadline: Instant,
) -> (Result<Heard, Fault>, Judged) {
    let settings = exchange.plan.settings();
    let dialect = exchange.plan.upstream().dialect();
    let listed = [&settings.retry.on[..], &settings.breaker.failures[..]];
    let status = reply.response.status();
    let form = form_of(&reply);
    let ruling = with_head(&reply, |head| dialect.of_head(head));
    match ruling {
        Ruling::Known(meaning) => match form.filter(|_| meaning.outcome == Outcome::Success) {
            Some(form) => {
                let stream = Stream::new(&exchange.plan, form, begun);
                Box::pin(begin(exchange, memory, reply, stream, (meaning, deadline))).await
            }
            None => (Ok(Heard { reply, ahead: None }), Judged::answer(status.as_u16(), meaning, &listed)),
        },
        Ruling::Read { max } => Box::pin(read(exchange, memory, reply, max, deadline, &listed)).await,
    }
}

/// The form of the answer's events, if it is a stream that can be read.
fn form_of(reply: &Reply) -> Option<Form> {
    let headers = reply.response.headers();
    let form = Form::of(headers.get(CONTENT_TYPE)?.to_str().ok()?)?;
    (reply.response.status() == StatusCode::OK && !is_coded(reply)).then_some(form)
}

/// Whether the body is compressed: it was asked not to be, and is not unpacked here.
fn is_coded(reply: &Reply) -> bool {
    reply.response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
}

fn with_head<T>(reply: &Reply, ask: impl FnOnce(&Head<'_>) -> T) -> T {
    let headers = reply.response.headers();
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = reply.response.status();
    // Only a failure tells moments.
    let unix_now = if status.is_success() { Duration::ZERO } else { Duration::from_millis(clock::unix_ms()) };
    ask(&Head { status: status.as_u16(), field: &field, unix_now })
}

/// Reads the body until the dialect knows what it means.
async fn read(
    exchange: &Exchange,
    memory: &Arc<Memory>,
    mut reply: Reply,
    max: usize,
    deadline: Instant,
    listed: &[&[Trigger]],
) -> (Result<Heard, Fault>, Judged) {
    let dialect = exchange.plan.upstream().dialect();
    let status = reply.response.status().as_u16();
    let good = reply.response.status().is_success();
    let until = if good { deadline } else { deadline.min(clock::now() + FAILURE_WITHIN) };
    let coded = is_coded(&reply);
    let mut ahead = Ahead { pieces: VecDeque::new(), ended: None, stream: None, lease: memory.lease() };
    let mut body = BytesMut::new();
    let meaning = loop {
        let whole = coded || ahead.ended.is_some() || body.len() >= max;
        if let Some(meaning) = with_head(&reply, |head| dialect.of_body(head, &body, whole)) {
            break meaning;
        }
        if whole {
            break with_head(&reply, Meaning::generic);
        }
        match timeout_at(until.into(), reply.response.body_mut().frame()).await {
            Ok(None) => ahead.ended = Some(Ended::Whole(None)),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    if !ahead.lease.grow(data.len() as u64) {
                        ahead.pieces.push_back(data);
                        break with_head(&reply, Meaning::generic);
                    }
                    let room = max - body.len();
                    body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
                    ahead.pieces.push_back(data);
                }
                Err(frame) => ahead.ended = Some(Ended::Whole(frame.into_trailers().ok())),
            },
            // Of a good head whose body does not come nothing is known; a bad one has said enough.
            Ok(Some(Err(error))) if good => return broken(Fault::of_body(&error)),
            Ok(Some(Err(error))) => ahead.ended = Some(Ended::Broken(error)),
            Err(_) if good => return broken(late(Reason::Timeout)),
            Err(_) => {
                break with_head(&reply, |head| dialect.of_body(head, &body, true))
                    .unwrap_or_else(|| with_head(&reply, Meaning::generic));
            }
        }
    };
    (Ok(Heard { reply, ahead: Some(Box::new(ahead)) }), Judged::answer(status, meaning, listed))
}

fn broken(fault: Fault) -> (Result<Heard, Fault>, Judged) {
    let judged = Judged::fault(fault.reason, fault.verdict);
    (Err(fault), judged)
}

/// Reads an event stream until it counts as begun.
async fn begin(
    exchange: &Exchange,
    memory: &Arc<Memory>,
    mut reply: Reply,
    stream: Stream,
    (meaning, deadline): (Meaning, Instant),
) -> (Result<Heard, Fault>, Judged) {
    let plan = &exchange.plan;
    let settings = plan.settings();
    let listed = [&settings.retry.on[..], &settings.breaker.failures[..]];
    let status = reply.response.status().as_u16();
    let commit = settings.stream.commit;
    let knows_events = plan.upstream().dialect().reads_bodies();
    // Whoever may not be waited for any longer counts as begun.
    let patience = (!knows_events && commit != Commit::Complete).then(|| clock::now() + QUIET);
    let mut ahead = Ahead { pieces: VecDeque::new(), ended: None, stream: None, lease: memory.lease() };
    let mut stream = stream;
    let mut held = 0;
    let fault = loop {
        if let Some(error) = stream.error() {
            ahead.stream = Some(stream);
            let judged = Judged::answer(status, error, &listed);
            return (Ok(Heard { reply, ahead: Some(Box::new(ahead)) }), judged);
        }
        if ahead.ended.is_some() || stream.is_begun(commit) || held > settings.stream.hold_max {
            break None;
        }
        let content_by = stream.first_content_by();
        let limits = [Some(deadline), Some(clock::now() + settings.timeout.idle), content_by, patience];
        let until = limits.into_iter().flatten().min().unwrap_or(deadline);
        match timeout_at(until.into(), reply.response.body_mut().frame()).await {
            Err(_) if patience.is_some_and(|patience| patience <= until) => break None,
            Err(_) if content_by.is_some_and(|by| by <= until) => {
                stream.ended(StreamEnd::FirstContent);
                break Some(late(Reason::FirstContent));
            }
            Err(_) => {
                stream.ended(if until == deadline { StreamEnd::Timeout } else { StreamEnd::Idle });
                break Some(late(Reason::Timeout));
            }
            Ok(Some(Err(error))) => {
                stream.ended(StreamEnd::Reset);
                break Some(Fault::of_body(&error));
            }
            Ok(None) => match stream.finish() {
                Ok(rest) => {
                    push(&mut ahead, rest);
                    ahead.ended = Some(Ended::Whole(None));
                }
                Err(cut) => break Some(cut_short(&mut stream, cut)),
            },
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    held += data.len() as u64;
                    let room = ahead.lease.grow(data.len() as u64);
                    let (whole, readable) = stream.read(&data, clock::now());
                    push(&mut ahead, whole);
                    if let Err(cut) = readable {
                        break Some(cut_short(&mut stream, cut));
                    }
                    if !room {
                        break None;
                    }
                }
                Err(frame) => match stream.finish() {
                    Ok(rest) => {
                        push(&mut ahead, rest);
                        ahead.ended = Some(Ended::Whole(frame.into_trailers().ok()));
                    }
                    Err(cut) => break Some(cut_short(&mut stream, cut)),
                },
            },
        }
    };
    if let Some(fault) = fault {
        return broken(fault);
    }
    ahead.stream = Some(stream);
    (Ok(Heard { reply, ahead: Some(Box::new(ahead)) }), Judged::answer(status, meaning, &listed))
}

fn push(ahead: &mut Ahead, piece: Bytes) {
    if !piece.is_empty() {
        ahead.pieces.push_back(piece);
    }
}

fn cut_short(stream: &mut Stream, cut: Cut) -> Fault {
    stream.ended(cut.end());
    let reason = cut.upstreams_fault().unwrap_or(Reason::Reset);
    Fault { reason, verdict: Verdict::Ambiguous, stale: false, detail: cut.to_string() }
}

fn late(reason: Reason) -> Fault {
    let detail = match reason {
        Reason::FirstContent => "no event with content came in time",
        _ => "the answer's body did not come in time",
    };
    Fault { reason, verdict: Verdict::Ambiguous, stale: false, detail: detail.to_owned() }
}

async fn next(reply: &mut Reply) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        match reply.response.body_mut().frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

impl Heard {
    /// The events that are followed in it.
    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.ahead.as_mut()?.stream.as_mut()
    }

    /// The next piece of the body, also of what was read ahead; `None` at its end. What breaks off, and a stream that ends
    /// before its end mark, is an error.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, Reason>> {
        let Some(ahead) = &mut self.ahead else {
            return next(&mut self.reply)
                .await
                .map(|piece| piece.map_err(|error| Fault::of_body(&error).reason));
        };
        loop {
            if let Some(piece) = ahead.pieces.pop_front() {
                return Some(Ok(piece));
            }
            match &ahead.ended {
                Some(Ended::Whole(_)) => return None,
                Some(Ended::Broken(error)) => return Some(Err(Fault::of_body(error).reason)),
                None => {}
            }
            let cut = match (next(&mut self.reply).await, &mut ahead.stream) {
                (Some(Ok(piece)), None) => return Some(Ok(piece)),
                (Some(Ok(piece)), Some(stream)) => {
                    let (whole, readable) = stream.read(&piece, clock::now());
                    push(ahead, whole);
                    readable.err()
                }
                (Some(Err(error)), _) => {
                    ahead.ended = Some(Ended::Broken(error));
                    Some(Cut::Upstream)
                }
                (None, stream) => {
                    let rest = stream.as_mut().map_or(Ok(Bytes::new()), Stream::finish);
                    ahead.ended = Some(Ended::Whole(None));
                    match rest {
                        Ok(rest) => {
                            push(ahead, rest);
                            None
                        }
                        Err(cut) => Some(cut),
                    }
                }
            };
            if let Some(cut) = cut {
                if let Some(stream) = &mut ahead.stream {
                    stream.ended(cut.end());
                }
                return Some(Err(cut.upstreams_fault().unwrap_or(Reason::Reset)));
            }
        }
    }

    /// The body has been read to its end: the connection can serve others. What its error event means, if it ended so.
    pub(super) fn completed(self) -> Option<Meaning> {
        self.reply.loan.give_back();
        self.ahead?.stream?.completed()
    }

    /// Reads the body whole. `None` if it is longer than `max`, does not come by `until`, breaks off, or memory is short: the
    /// answer is gone then, and its connection with it.
    pub(super) async fn hold(mut self, max: u64, mut lease: Lease, until: Instant) -> Option<Held> {
        let mut body = BytesMut::new();
        let whole = async {
            while let Some(piece) = self.piece().await {
                let piece = piece.ok()?;
                if body.len() as u64 + piece.len() as u64 > max || !lease.grow(piece.len() as u64) {
                    return None;
                }
                body.extend_from_slice(&piece);
            }
            Some(())
        };
        timeout_at(until.into(), whole).await.ok().flatten()?;
        if let Some(stream) = self.ahead.as_mut().and_then(|ahead| ahead.stream.as_mut()) {
            stream.ended(StreamEnd::Error); // Only a failed stream is held.
        }
        let (parts, _) = self.reply.response.into_parts();
        self.reply.loan.give_back();
        Some(Held { parts, body: body.freeze(), _lease: lease })
    }
}
