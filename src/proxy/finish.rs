//! A request's end, however it comes: counted and logged once, when the last of it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admit::Holding;
use super::body::Cut;
use super::id::RequestId;
use super::wire::Wire;
use crate::clock;
use crate::drain::InFlight;
use crate::policy::judge::Meaning;
use crate::policy::reason::Reason;
use crate::route::Plan;
use crate::telemetry::access::{self, AccessLine, AttemptLine};
use crate::telemetry::events::{ResponseCut, emit};
use crate::telemetry::metrics::Source;
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
    record: Option<Box<Record>>,
    wire: Option<Arc<Wire>>,
    /// A replay is no request of a client's.
    counted: bool,
    holding: Option<Holding>,
    _in_flight: InFlight,
}

/// What only the access log wants to know.
#[derive(Debug)]
pub struct Record {
    pub method: String,
    pub path: String,
    pub attempts: Vec<AttemptLine>,
    pub upload: Option<Upload>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    source: Source,
    reason: Option<Reason>,
    at: Instant,
}

impl Finish {
    /// A request that has just begun. `record`: if there is an access log.
    #[must_use]
    pub fn new(
        id: RequestId,
        plan: Arc<Plan>,
        started: Instant,
        record: Option<Box<Record>>,
        in_flight: InFlight,
    ) -> Self {
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
            record,
            wire: None,
            counted: true,
            holding: None,
            _in_flight: in_flight,
        }
    }

    /// A replay that has just begun: it is in flight, but no request of a client's.
    #[must_use]
    pub fn uncounted(id: RequestId, plan: Arc<Plan>, started: Instant, in_flight: InFlight) -> Self {
        let mut finish = Self::new(id, plan, started, None, in_flight);
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

    /// The record for the access log, if there is one.
    pub fn record(&mut self) -> Option<&mut Record> {
        self.record.as_deref_mut()
    }

    /// The answer's head goes to the client: `at` this moment.
    pub fn answered(&mut self, status: u16, source: Source, reason: Option<Reason>, at: Instant) {
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
                if let Some(holding) = self.holding.take() {
                    match end {
                        End::Failed(meaning) => holding.failed(meaning, now),
                        _ => holding.completed(now),
                    }
                }
                if let Some(wire) = self.wire.take() {
                    wire.reset_at_end(false);
                }
            }
            End::Cut(why) => {
                if let Some((holding, reason)) = self.holding.take().zip(why.upstreams_fault()) {
                    holding.cut(reason, now);
                }
                let error =
                    self.fault.clone().map_or_else(|| why.to_string(), |fault| format!("{why}: {fault}"));
                emit(&ResponseCut {
                    request_id: self.id.as_str(),
                    upstream: self.plan.upstream_name(),
                    error: &error,
                });
                self.fault = Some(error);
            }
        }
    }

    fn write_record(&self, record: &Record, now: Instant) {
        let answer = self.answer.unwrap_or(Answer {
            status: 499,
            source: Source::Fender,
            reason: Some(Reason::Cancelled),
            at: now,
        });
        access::write(&AccessLine {
            message: "request",
            at_ms: clock::unix_ms(),
            request_id: self.id.as_str(),
            upstream: self.plan.upstream_name(),
            route: self.plan.name(),
            method: &record.method,
            path: &record.path,
            status: answer.status,
            source: answer.source.as_str(),
            reason: answer.reason.map(Reason::as_str),
            end: match self.end {
                Some(End::Complete) => "complete",
                Some(End::Failed(_)) => "failed",
                Some(End::Cut(_)) => "cut",
                None => "cancelled",
            },
            error: self.fault.as_deref(),
            duration_ms: milliseconds(now.saturating_duration_since(self.started)),
            request_bytes: record.upload.as_ref().map_or(0, Upload::received),
            response_bytes: self.response_bytes,
            attempts: &record.attempts,
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
        if let Some(record) = self.record.take() {
            self.write_record(&record, now);
        }
    }
}

/// The access log's line of what was refused before it was routed.
pub(super) fn log_refused(id: &RequestId, reason: Reason, status: u16, method: &str, path: &str) {
    access::write(&AccessLine {
        message: "request",
        at_ms: clock::unix_ms(),
        request_id: id.as_str(),
        upstream: "",
        route: "",
        method,
        path,
        status,
        source: Source::Fender.as_str(),
        reason: Some(reason.as_str()),
        end: "complete",
        error: None,
        duration_ms: 0.0,
        request_bytes: 0,
        response_bytes: 0,
        attempts: &[],
    });
}

/// With microseconds behind the point.
#[must_use]
pub fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
