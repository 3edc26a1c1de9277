//! An event stream from its first byte to its last: what its events say, and what of it may be passed on.
//!
//! Whole events are passed on, never a part of one, so that an error event of Fender's own can stand behind the last of
//! them. A dialect that knows no such event has its stream passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

use super::body::Cut;
use crate::clock;
use crate::config::Commit;
use crate::dialect::{Dialect, Event, Form, Kind, Reader, Refusal};
use crate::memory::Lease;
use crate::policy::judge::Meaning;
use crate::policy::outcome::Outcome;
use crate::policy::throttle::Scope;
use crate::policy::verdict::Verdict;
use crate::route::Plan;
use crate::telemetry::events::{Paused, emit_told};
use crate::telemetry::streams::StreamEnd;

/// Of an event that is not whole yet so much is kept back; a larger one is passed on in parts.
const PART_MAX: usize = 64 * 1024;

/// Follows one stream. Dropped before its end, it knows that nobody wanted the rest.
#[expect(clippy::struct_excessive_bools, reason = "independent properties of one stream")]
#[derive(Debug)]
pub struct Stream {
    plan: Arc<Plan>,
    form: Form,
    reader: Reader,
    began: Instant,
    credential: u64,
    wants_end: bool,
    /// Only whole events go on.
    whole_events: bool,
    seen: Seen,
    last_content: Option<Instant>,
    /// What was read of an event that is not whole yet.
    part: BytesMut,
    lease: Lease,
    /// A part of the event that is being read has gone on already.
    torn: bool,
    /// Where its first event with content is waited for.
    pub(super) content_timer: Option<Pin<Box<Sleep>>>,
    /// Its attempt ends with it: it counts as begun.
    attempt: bool,
    end: Option<StreamEnd>,
}

#[expect(clippy::struct_excessive_bools, reason = "each was seen or not")]
#[derive(Debug, Default)]
struct Seen {
    event: bool,
    content: bool,
    end: bool,
    malformed: bool,
    error: Option<Meaning>,
}

impl Stream {
    /// At the beginning of an answer whose attempt `began` then.
    /// `credential`: the scope of its request's credential; `lease`: of nothing yet.
    pub(super) fn new(plan: &Arc<Plan>, form: Form, began: Instant, credential: u64, lease: Lease) -> Self {
        let dialect = plan.upstream().dialect();
        Self {
            plan: Arc::clone(plan),
            form,
            reader: Reader::new(dialect, form),
            began,
            credential,
            wants_end: plan.settings().stream.end_mark && dialect.has_end_mark(form),
            whole_events: dialect.reads_bodies(),
            seen: Seen::default(),
            last_content: None,
            part: BytesMut::new(),
            lease,
            torn: false,
            content_timer: None,
            attempt: false,
            end: None,
        }
    }

    /// The next piece: what of it, and of those before, may be passed on now.
    ///
    /// # Errors
    /// What follows is not what the dialect writes; what came before it was said before.
    pub(super) fn read(&mut self, piece: &Bytes, now: Instant) -> (Bytes, Result<(), Cut>) {
        let mut whole = 0;
        let Self { reader, seen, plan, last_content, began, .. } = self;
        reader.read(piece, |event| {
            if seen.malformed || event.kind == Kind::Malformed {
                seen.malformed = true;
                return;
            }
            whole = event.end;
            note(&event, seen);
            if event.kind == Kind::Content {
                let metrics = &plan.upstream_metrics().streams;
                match last_content.replace(now) {
                    None => metrics.first_content(now.saturating_duration_since(*began)),
                    Some(last) => metrics.between_content(now.saturating_duration_since(last)),
                }
            }
        });
        let malformed = if self.seen.malformed { Err(Cut::Malformed) } else { Ok(()) };
        (self.passed(piece, whole, malformed.is_err()), malformed)
    }

    /// Of what has been read so much may go on: the event that ends at `whole`, and all before it.
    fn passed(&mut self, piece: &Bytes, whole: usize, broken: bool) -> Bytes {
        if !self.whole_events {
            return piece.clone();
        }
        let (head, rest) = (piece.slice(..whole), piece.slice(whole..));
        let out = if self.part.is_empty() || whole == 0 {
            head
        } else {
            self.part.extend_from_slice(&head);
            self.part.split().freeze()
        };
        if whole > 0 {
            self.torn = false;
        }
        if broken {
            self.part.clear();
            return out;
        }
        if self.torn {
            return rest; // Its beginning has gone on: `whole` is 0 here.
        }
        self.part.extend_from_slice(&rest);
        // The reader keeps as much of it as is kept here.
        let counted = self.lease.resize(2 * self.part.len() as u64);
        if self.part.len() > PART_MAX || !counted {
            self.torn = true;
            let part = self.part.split().freeze();
            return if out.is_empty() { part } else { [out, part].concat().into() };
        }
        out
    }

    /// The body has ended by itself: what was kept back.
    ///
    /// # Errors
    /// It ended before its end mark.
    pub(super) fn finish(&mut self) -> Result<Bytes, Cut> {
        if let Some(event) = self.reader.finish() {
            if event.kind == Kind::Malformed {
                return Err(Cut::Malformed);
            }
            note(&event, &mut self.seen);
        }
        if self.wants_end && !self.seen.end && self.seen.error.is_none() {
            return Err(Cut::Unfinished);
        }
        Ok(self.part.split().freeze())
    }

    /// Whether so much of it has come that it counts as begun.
    pub(super) fn is_begun(&self, commit: Commit) -> bool {
        match commit {
            Commit::FirstByte => true,
            Commit::FirstEvent => self.seen.event,
            Commit::FirstContent => self.seen.content || self.seen.end,
            Commit::Complete => false,
        }
    }

    /// It goes on to the client: how its attempt ends is known at its end.
    pub(super) const fn is_the_attempt(&mut self) {
        self.attempt = true;
    }

    /// What its error event means, if there was one.
    pub(super) const fn error(&self) -> Option<Meaning> {
        self.seen.error
    }

    /// Until when its first event with content has to come; `None`: it has, or need not.
    pub(super) fn first_content_by(&self) -> Option<Instant> {
        let limit = self.plan.settings().stream.first_content?;
        (!self.seen.content && !self.seen.end && self.seen.error.is_none()).then(|| self.began + limit)
    }

    /// Its dialect's word for a failure, where the client can still read one.
    pub(super) fn error_event(&self, cut: Cut, request_id: &str) -> Option<Bytes> {
        let reason = cut.said()?;
        if self.torn || self.seen.end || self.seen.error.is_some() {
            return None;
        }
        let refusal = Refusal {
            reason,
            status: reason.status().and_then(|status| http::StatusCode::from_u16(status).ok())?,
            detail: &cut.to_string(),
            upstream: self.plan.upstream_name(),
            request_id,
            retry_after: None,
            given_up: true,
        };
        self.dialect().error_event(self.form, &refusal)
    }

    fn dialect(&self) -> &Arc<Dialect> {
        self.plan.upstream().dialect()
    }

    /// Its end mark has come, and no error: whatever becomes of the connection, the answer is whole.
    pub(super) const fn is_whole(&self) -> bool {
        self.seen.end && self.seen.error.is_none()
    }

    /// It has come to its end: what its error event means, if that was it.
    pub(super) fn completed(&mut self, request_id: &str) -> Option<Meaning> {
        self.ended(if self.seen.error.is_some() { StreamEnd::Error } else { StreamEnd::Complete });
        if self.seen.error.is_some_and(|error| error.outcome == Outcome::Quota) {
            // The head has been judged long ago: the scope hears of it now.
            let throttle = &self.plan.upstream().settings().throttle;
            let policies = self.plan.upstream().policies();
            let pause = || policies.pauses().spent(self.credential, throttle.max_pause, clock::now());
            if let Some(longer) = throttle.adapt.then(pause).flatten() {
                policies.metrics().throttled(longer);
                let (upstream, outcome) = (self.plan.upstream_name(), Outcome::Quota);
                let paused = Paused { request_id, upstream, outcome, told: None, longer };
                emit_told(&paused, policies.feed());
            }
        }
        self.seen.error
    }

    /// It ended so. Only the first word counts.
    pub(super) fn ended(&mut self, end: StreamEnd) {
        if self.end.is_some() {
            return;
        }
        let end = if self.is_whole() { StreamEnd::Complete } else { end };
        self.end = Some(end);
        let metrics = self.plan.upstream_metrics();
        metrics.streams.ended(end);
        if !self.attempt {
            return;
        }
        metrics.attempt_ended(match (end, self.seen.error) {
            (StreamEnd::Complete, _) => Outcome::Success,
            (StreamEnd::Client | StreamEnd::Drain, _) => Outcome::Cancelled,
            (StreamEnd::Error, Some(meaning)) => meaning.outcome,
            _ => Outcome::Transient,
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ended(StreamEnd::Client);
    }
}

/// What an event says of the whole.
fn note(event: &Event, seen: &mut Seen) {
    seen.event |= event.kind != Kind::KeepAlive;
    match event.kind {
        Kind::Content => seen.content = true,
        Kind::End => seen.end = true,
        Kind::Error => seen.error = seen.error.or(event.meaning).or(Some(UNNAMED)),
        Kind::KeepAlive | Kind::Other | Kind::Malformed => {}
    }
}

/// An error event that says nothing more.
const UNNAMED: Meaning = Meaning {
    outcome: Outcome::Transient,
    verdict: Verdict::Ambiguous,
    told: None,
    scope: Scope::Credential,
};

/// How long a stream whose dialect knows no events is waited for before it counts as begun: there is no error event to wait
/// for, and a quiet one is not to be taken for a dead one.
pub(super) const QUIET: Duration = Duration::from_secs(1);
