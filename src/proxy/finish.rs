//! A request's end, however it comes: counted and logged once, when the last of it is gone.

mod late;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::body::Cut;
use super::holding::Holding;
use super::id::RequestId;
use super::notes::{Logged, Notes};
use super::traced::Trace;
use super::wire::Wire;
use crate::clock;
use crate::drain::InFlight;
use crate::policy::judge::{Judged, Meaning};
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::route::Plan;
use crate::telemetry::access::{self, AccessLine};
use crate::telemetry::events::{Event as _, ResponseCut, emit};
use crate::telemetry::metrics::Source;
use crate::telemetry::story::{self, Fact, Gone, Story};
use crate::upstream::upload::Upload;

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    /// Complete, but what it says at its end is that it failed.
    Failed(Meaning),
    Cut(Cut),
}

/// Follows one request from its head to the last byte of its answer. Dropped before it was told of an end, it knows that
/// the client hung up.
#[derive(Debug)]
pub struct Finish {
    id: RequestId,
    plan: Arc<Plan>,
    started: Instant,
    answer: Option<Answer>,
    end: Option<End>,
    ended_at: Option<Instant>,
    fault: Option<String>,
    response_bytes: u64,
    notes: Notes,
    /// An attempt is under way, since then.
    pub(super) sending: Option<Instant>,
    /// Under which plan the last attempt was made, where it was another than the request's own.
    turned: Option<Arc<Plan>>,
    /// Of a write that may be stored: when its client hung up while it ran on.
    hung_up: Option<Arc<OnceLock<Instant>>>,
    /// Which of the endpoints the answer comes from that is passed on.
    endpoint: Option<usize>,
    /// What its spans are made of, if it is traced.
    pub(super) trace: Option<Box<Trace>>,
    wire: Option<Arc<Wire>>,
    /// A replay is no request of a client's.
    counted: bool,
    holding: Option<Holding>,
    _in_flight: InFlight,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    source: Source,
    reason: Option<Reason>,
    at: Instant,
}

impl Finish {
    /// A request that has just begun.
    #[must_use]
    pub fn new(id: RequestId, plan: Arc<Plan>, started: Instant, notes: Notes, in_flight: InFlight) -> Self {
        plan.upstream_metrics().in_flight.inc();
        Self {
            id,
            plan,
            started,
            answer: None,
            end: None,
            ended_at: None,
            fault: None,
            response_bytes: 0,
            notes,
            sending: None,
            turned: None,
            hung_up: None,
            endpoint: None,
            trace: None,
            wire: None,
            counted: true,
            holding: None,
            _in_flight: in_flight,
        }
    }

    /// A replay that has just begun: it is in flight, but no request of a client's.
    #[must_use]
    pub fn uncounted(
        id: RequestId,
        plan: Arc<Plan>,
        started: Instant,
        notes: Notes,
        in_flight: InFlight,
    ) -> Self {
        let mut finish = Self::new(id, plan, started, notes, in_flight);
        finish.counted = false;
        finish
    }

    /// The request's id.
    #[must_use]
    pub(super) fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The plan that the request was routed to.
    #[must_use]
    pub(super) const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// That plan's route, by name.
    #[must_use]
    pub(super) fn route(&self) -> &str {
        self.plan.name()
    }

    /// Whether anything has been noted of it, or is to be in any case.
    pub(super) fn noted(&self) -> bool {
        self.trace.is_some() || self.notes.any()
    }

    /// Its story so far, which is begun if there is none.
    pub(super) fn story<T>(&self, with: impl FnOnce(&mut Story) -> T) -> T {
        self.notes.story((self.id.as_str(), &self.plan, self.started), with)
    }

    /// It runs on when its client hangs up, which is told there.
    pub(super) fn kept_on(&mut self, hung_up: Arc<OnceLock<Instant>>) {
        self.hung_up = Some(hung_up);
    }

    /// When the client hung up while it ran on, if it did.
    pub(super) fn hung_up(&self) -> Option<Instant> {
        self.hung_up.as_ref()?.get().copied()
    }

    /// The answer of this endpoint of its upstream's is passed on.
    pub(super) const fn relays(&mut self, endpoint: usize) {
        self.endpoint = Some(endpoint);
    }

    /// The answer's head goes to the client: `at` this moment. Nobody hears it where the client has hung up.
    pub fn answered(&mut self, status: u16, source: Source, reason: Option<Reason>, at: Instant) {
        if self.hung_up().is_some() {
            return;
        }
        self.plan.metrics().answered(status, source, at.saturating_duration_since(self.started));
        self.answer = Some(Answer { status, source, reason, at });
    }

    /// The upstream's answer is passed on: what it holds is held until its end.
    pub(super) fn holds(&mut self, holding: Holding) {
        self.holding = Some(holding);
    }

    /// The framing cannot show a cut (HTTP/1.0): until the response is complete the connection is to end with a reset.
    pub fn shows_cut_by_reset(&mut self, wire: &Arc<Wire>) {
        wire.reset_at_end(true);
        self.wire = Some(Arc::clone(wire));
    }

    /// Bytes of the response passed on.
    pub fn passed(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// A piece of the answer that is passed on.
    pub(super) fn relayed(&mut self, piece: &[u8]) {
        self.passed(piece.len());
        if let Some(trace) = &mut self.trace {
            trace.hear(piece);
        }
    }

    /// Why the upstream's body broke off.
    pub fn fault(&mut self, error: &hyper::Error) {
        self.fault = Some(crate::upstream::chain(error));
    }

    /// The response ended, `now`. Only the first word counts.
    pub fn ended(&mut self, end: End, now: Instant) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.ended_at = Some(now);
        match end {
            End::Complete | End::Failed(_) => {
                let turned = self.holding.take().and_then(|holding| match end {
                    End::Failed(meaning) => holding.failed(meaning, now),
                    _ => holding.completed(now),
                });
                self.note_turned(turned, now);
                if let Some(wire) = self.wire.take() {
                    wire.reset_at_end(false);
                }
            }
            End::Cut(why) => {
                let held = self.holding.take().zip(why.upstreams_fault());
                let turned = held.and_then(|(holding, reason)| holding.cut(reason, now));
                let error =
                    self.fault.clone().map_or_else(|| why.to_string(), |fault| format!("{why}: {fault}"));
                let cut = ResponseCut {
                    request_id: self.id.as_str(),
                    upstream: self.sent_by().upstream_name(),
                    error: &error,
                    reason: why.upstreams_fault(),
                    limit: why.limit(),
                };
                emit(&cut);
                self.note_late(cut.fact(), now);
                if let Some(reason) = why.upstreams_fault() {
                    self.ended_otherwise(&Judged::fault(reason, Verdict::Ambiguous));
                }
                self.note_turned(turned, now);
                self.fault = Some(error);
            }
        }
    }

    /// Keeps its story for those who will ask, unless there is nothing to tell.
    fn file(&self, mut story: Box<Story>, now: Instant) {
        story.ended = Some(self.ending(now));
        if !story.is_plain() {
            self.plan.upstream().policies().feed().stories().push(*story);
        }
    }

    fn ending(&self, now: Instant) -> story::Ended {
        let answer = self.answer_or_none(now);
        story::Ended {
            status: answer.status,
            source: answer.source.as_str(),
            reason: answer.reason,
            how: self.how(),
            took: now.saturating_duration_since(self.started),
        }
    }

    /// Its spans, if it is traced; there is a story then in any case.
    #[cold]
    fn end_trace(&mut self, now: Instant) {
        if let Some(trace) = self.trace.take() {
            let ended = self.ending(now);
            let route = self.plan.route().path.as_str();
            self.story(|story| trace.end(story, &ended, route, (self.started, now)));
        }
    }

    fn answer_or_none(&self, now: Instant) -> Answer {
        let none = Answer { status: 499, source: Source::Fender, reason: Some(Reason::Cancelled), at: now };
        self.answer.unwrap_or(none)
    }

    const fn how(&self) -> &'static str {
        match self.end {
            _ if self.answer.is_none() => "cancelled",
            Some(End::Complete) => "complete",
            Some(End::Failed(_)) => "failed",
            Some(End::Cut(_)) => "cut",
            None => "cancelled",
        }
    }

    fn write_record(&self, story: &Story, logged: &Logged, now: Instant) {
        let answer = self.answer_or_none(now);
        access::write(&AccessLine {
            message: "request",
            at_ms: clock::unix_ms(),
            request_id: self.id.as_str(),
            upstream: self.plan.upstream_name(),
            route: self.plan.name(),
            method: &story.method,
            path: &story.path,
            status: answer.status,
            source: answer.source.as_str(),
            reason: answer.reason.map(Reason::as_str),
            end: self.how(),
            error: self.fault.as_deref(),
            duration_ms: milliseconds(now.saturating_duration_since(self.started)),
            request_bytes: logged.upload.as_ref().map_or(0, Upload::received),
            response_bytes: self.response_bytes,
            attempts: &story.attempts,
        });
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let now = self.ended_at.unwrap_or_else(clock::now);
        match self.answer {
            Some(answer) => self.plan.metrics().ended(now.saturating_duration_since(answer.at)),
            None if !self.counted => {}
            None => {
                self.plan.metrics().answered(
                    499,
                    Source::Fender,
                    now.saturating_duration_since(self.started),
                );
            }
        }
        self.plan.upstream_metrics().in_flight.dec();
        if !self.counted {
            if self.trace.is_some() {
                self.end_trace(now);
            }
            if let Some(story) = self.notes.take().filter(|story| !story.is_plain()) {
                self.plan.upstream().policies().feed().stories().push(*story);
            }
            return;
        }
        match (self.answer, self.end) {
            (Some(_), Some(End::Complete | End::Cut(_))) => {}
            (Some(_), Some(End::Failed(meaning))) => {
                let error = "the stream said at its end that it had failed".into();
                self.note_late(Some(Fact::Cut { reason: None, error, limit: None }), now);
                self.ended_otherwise(&Judged::answer(200, meaning, &[]));
            }
            _ => {
                let (gone, at) = match self.hung_up() {
                    Some(at) => (Gone::Kept, at),
                    None if self.broken_off(now).is_some() => (Gone::Sending, now),
                    None => (Gone::Idle, now),
                };
                self.note_late(Some(Fact::Gone(gone)), at);
            }
        }
        if self.trace.is_some() {
            self.end_trace(now);
        }
        let Some(story) = self.notes.take() else { return };
        if let Some(logged) = self.notes.logged() {
            self.write_record(&story, logged, now);
        }
        self.file(story, now);
    }
}

/// With microseconds behind the point.
#[must_use]
pub fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
