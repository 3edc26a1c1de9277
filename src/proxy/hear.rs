//! Reads so much of an answer as it takes to know what it means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use super::body::Cut;
use super::exchange::{Exchange, Origin};
use super::heard::{Ahead, Ended, Heard};
use super::stream::{QUIET, Stream};
use crate::clock;
use crate::config::Commit;
use crate::dialect::{Form, Head, Meaning, Ruling, Scope};
use crate::memory::Memory;
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::telemetry::streams::StreamEnd;
use crate::upstream::{Fault, Reply};

/// The body of a failure is waited for no longer than this: what the head says has to do then.
const FAILURE_WITHIN: Duration = Duration::from_secs(2);

/// An answer of which more than the head has to be looked at.
pub(super) struct Beginning {
    reply: Box<Reply>,
    ruling: Ruling,
    form: Option<Form>,
}

/// Judges an answer by its head, which came `now`. Most answers need no more.
///
/// # Errors
/// More of it has to be read: that is for [`hear`].
pub(super) fn hear_head(
    exchange: &Exchange,
    reply: Box<Reply>,
    now: Instant,
) -> Result<(Heard, Judged), Beginning> {
    let settings = exchange.plan.settings();
    let dialect = exchange.plan.upstream().dialect();
    let status = reply.response.status();
    let form = if exchange.method == Method::HEAD { None } else { form_of(&reply) };
    let ruling = with_head(&reply, now, |head| dialect.of_head(head));
    if let Ruling::Known(meaning) = ruling {
        let bears_events = form.is_some() && meaning.outcome == Outcome::Success;
        if !bears_events && !holds_whole(exchange, &reply, meaning) {
            let listed = [&settings.retry.on[..], &settings.breaker.failures[..]];
            return Ok((Heard { reply, ahead: None }, Judged::answer(status.as_u16(), meaning, &listed)));
        }
    }
    Err(Beginning { reply, ruling, form })
}

/// Reads so much of the answer to the attempt that `begun` then as its dialect needs to judge it; of an event stream, what
/// `stream.commit` asks for.
pub(super) async fn hear(
    exchange: &Exchange,
    memory: &Arc<Memory>,
    head: Beginning,
    begun: Instant,
    deadline: Instant,
) -> (Result<Heard, Fault>, Judged) {
    let Beginning { reply, ruling, form } = head;
    match ruling {
        Ruling::Known(meaning) => {
            let mut ahead = Ahead::new(memory.lease());
            let credential = exchange.keys.scope(exchange, Scope::Credential).unwrap_or_default();
            ahead.stream = form
                .filter(|_| meaning.outcome == Outcome::Success)
                .map(|form| Stream::new(&exchange.plan, form, begun, credential, memory.lease()));
            begin(exchange, reply, ahead, (meaning, deadline)).await
        }
        Ruling::Read { max } => read(exchange, memory, reply, max, deadline).await,
    }
}

/// Whether an answer that is no stream is held to its end all the same: where the config says so of streams, the caller's
/// choice to have the same answer in one piece changes nothing.
fn holds_whole(exchange: &Exchange, reply: &Reply, meaning: Meaning) -> bool {
    let json = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
    meaning.outcome == Outcome::Success
        && exchange.plan.settings().stream.commit == Commit::Complete
        && exchange.plan.upstream().dialect().reads_bodies()
        && reply.response.headers().get(CONTENT_TYPE).is_some_and(json)
}

/// The form of the answer's events, if it is a stream that can be read.
fn form_of(reply: &Reply) -> Option<Form> {
    if !reply.response.status().is_success() {
        return None;
    }
    let form = Form::of(reply.response.headers().get(CONTENT_TYPE)?.as_bytes())?;
    (!is_coded(reply)).then_some(form)
}

/// Whether the body is compressed: it was asked not to be, and is not unpacked here.
fn is_coded(reply: &Reply) -> bool {
    reply.response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
}

fn with_head<T>(reply: &Reply, now: Instant, ask: impl FnOnce(&Head<'_>) -> T) -> T {
    let headers = reply.response.headers();
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = reply.response.status().as_u16();
    ask(&Head { status, field: &field, unix_now: Duration::from_millis(clock::unix_ms_at(now)) })
}

/// Reads the body until the dialect knows what it means.
async fn read(
    exchange: &Exchange,
    memory: &Arc<Memory>,
    mut reply: Box<Reply>,
    max: usize,
    deadline: Instant,
) -> (Result<Heard, Fault>, Judged) {
    let settings = exchange.plan.settings();
    let listed = [&settings.retry.on[..], &settings.breaker.failures[..]];
    let dialect = exchange.plan.upstream().dialect();
    let status = reply.response.status().as_u16();
    let good = reply.response.status().is_success();
    let until = if good { deadline } else { deadline.min(clock::now() + FAILURE_WITHIN) };
    let coded = is_coded(&reply);
    if coded && good && exchange.origin == Origin::Replay {
        // Nobody else reads it: what cannot be read is no delivery.
        return broken(late(Reason::Protocol));
    }
    let mut ahead = Ahead::new(memory.lease());
    let mut body = BytesMut::new();
    let meaning = loop {
        let whole = coded || ahead.ended.is_some() || body.len() >= max;
        if let Some(meaning) = with_head(&reply, clock::now(), |head| dialect.of_body(head, &body, whole)) {
            break meaning;
        }
        if whole {
            break with_head(&reply, clock::now(), Meaning::generic);
        }
        match timeout_at(until.into(), reply.response.body_mut().frame()).await {
            Ok(None) => ahead.ended = Some(Ended::Whole(None)),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    // What it means has to be known also where memory is short: so little is read in any case.
                    let _counted = ahead.lease.grow(data.len() as u64);
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
                break with_head(&reply, clock::now(), |head| dialect.of_body(head, &body, true))
                    .unwrap_or_else(|| with_head(&reply, clock::now(), Meaning::generic));
            }
        }
    };
    (Ok(Heard { reply, ahead: Some(Box::new(ahead)) }), Judged::answer(status, meaning, &listed))
}

fn broken(fault: Fault) -> (Result<Heard, Fault>, Judged) {
    let judged = Judged::fault(fault.reason, fault.verdict);
    (Err(fault), judged)
}

/// Which bound on the beginning of a body is the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Attempt,
    Idle,
    FirstContent,
    Quiet,
}

/// Reads an answer until it counts as begun. What ends before that is a failed attempt.
async fn begin(
    exchange: &Exchange,
    mut reply: Box<Reply>,
    mut ahead: Ahead,
    (meaning, deadline): (Meaning, Instant),
) -> (Result<Heard, Fault>, Judged) {
    let settings = exchange.plan.settings();
    let listed = [&settings.retry.on[..], &settings.breaker.failures[..]];
    let status = reply.response.status().as_u16();
    if let Err(fault) = read_beginning(exchange, &mut reply, &mut ahead, deadline).await {
        return broken(fault);
    }
    let failed = ahead.stream.as_ref().and_then(Stream::error);
    let judged = Judged::answer(status, failed.unwrap_or(meaning), &listed);
    (Ok(Heard { reply, ahead: Some(Box::new(ahead)) }), judged)
}

async fn read_beginning(
    exchange: &Exchange,
    reply: &mut Reply,
    ahead: &mut Ahead,
    deadline: Instant,
) -> Result<(), Fault> {
    let settings = exchange.plan.settings();
    let commit = settings.stream.commit;
    let knows_events = exchange.plan.upstream().dialect().reads_bodies();
    let quiet = (!knows_events && commit != Commit::Complete).then(|| clock::now() + QUIET);
    let mut held = 0;
    while ahead.ended.is_none() && !ahead.is_begun(commit) && held <= settings.stream.hold_max {
        let content_by = ahead.stream.as_ref().and_then(Stream::first_content_by);
        let (until, limit) = [
            (quiet, Limit::Quiet),
            (content_by, Limit::FirstContent),
            (Some(clock::now() + settings.timeout.idle), Limit::Idle),
        ]
        .into_iter()
        .filter_map(|(at, limit)| Some((at?, limit)))
        .fold((deadline, Limit::Attempt), |least, one| if one.0 < least.0 { one } else { least });
        let next = match timeout_at(until.into(), reply.response.body_mut().frame()).await {
            Err(_) if limit == Limit::Quiet => return Ok(()),
            Err(_) => return Err(too_late(ahead, limit)),
            Ok(next) => next,
        };
        let frame = next.transpose().map_err(|error| {
            ahead.breaks(StreamEnd::Reset);
            Fault::of_body(&error)
        })?;
        let bytes = frame.as_ref().and_then(|frame| frame.data_ref()).map_or(0, |data| data.len() as u64);
        held += bytes;
        let room = ahead.lease.grow(bytes);
        ahead.reads(frame).map_err(|cut| cut_short(ahead, cut))?;
        if !room {
            return Ok(());
        }
    }
    Ok(())
}

fn too_late(ahead: &mut Ahead, limit: Limit) -> Fault {
    let (end, reason) = match limit {
        Limit::FirstContent => (StreamEnd::FirstContent, Reason::FirstContent),
        Limit::Idle => (StreamEnd::Idle, Reason::Timeout),
        Limit::Attempt | Limit::Quiet => (StreamEnd::Timeout, Reason::Timeout),
    };
    ahead.breaks(end);
    late(reason)
}

fn cut_short(ahead: &mut Ahead, cut: Cut) -> Fault {
    ahead.breaks(cut.end());
    let reason = cut.upstreams_fault().unwrap_or(Reason::Reset);
    Fault::new(reason, Verdict::Ambiguous, cut.to_string())
}

fn late(reason: Reason) -> Fault {
    let detail = match reason {
        Reason::FirstContent => "no event with content came in time",
        Reason::Protocol => {
            "the answer's body is compressed, though it was asked not to be, and cannot be judged"
        }
        _ => "the answer's body did not come in time",
    };
    Fault::new(reason, Verdict::Ambiguous, detail)
}
