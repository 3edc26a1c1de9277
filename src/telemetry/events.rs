//! One struct per operational event; [`emit`] is its log line and its metric in one place.

use std::net::SocketAddr;

use serde_json::json;

use super::feed::{Feed, Told};
pub use super::letter_events::{
    LetterCaptured, LetterDelivered, LetterExpired, LetterKnown, LetterParked, LetterRefused, StoreChanged,
    StoreLocked, StoreLost, StoreOpened, StoreUnopened,
};
use super::metrics::Metrics;
pub use super::policy_events::{
    AttemptFailed, BreakerChanged, DegradationChanged, FellBack, HealthChanged, Paused, Refused,
};
use super::story::{Fact, brief};
pub use super::webhooks::{WebhookFailed, WebhookRefused, WebhookWorks};
use crate::policy::reason::Reason;

/// Something that an operator may want to know.
pub trait Event {
    /// Writes the log line.
    fn log(&self);

    /// Counts it. Most events have no metric of their own.
    fn count(&self, _metrics: &Metrics) {}

    /// What the story of its request tells of it. Most events are of no single request.
    fn fact(&self) -> Option<Fact> {
        None
    }

    /// What the feed tells of it. Most events are not for it: it tells what calls for an operator, or relieves one.
    fn tell(&self) -> Option<Told> {
        None
    }
}

/// Logs an event that no metric counts.
pub fn emit(event: &impl Event) {
    event.log();
}

/// Logs and counts an event, and tells it to whoever reads the feed.
pub fn emit_counted(event: &impl Event, metrics: &Metrics, feed: &Feed) {
    event.count(metrics);
    emit_told(event, feed);
}

/// Logs an event, and tells it to whoever reads the feed.
pub fn emit_told(event: &impl Event, feed: &Feed) {
    event.log();
    if let Some(told) = event.tell() {
        feed.push(told);
    }
}

/// A listener takes connections.
#[derive(Debug)]
pub struct Listening {
    /// `server`, `admin` or `public`.
    pub listener: &'static str,
    pub address: SocketAddr,
    pub tls: bool,
}

impl Event for Listening {
    fn log(&self) {
        tracing::info!(listener = self.listener, address = %self.address, tls = self.tls, "listening");
    }
}

/// Spans did not reach their collector.
#[derive(Debug)]
pub struct SpansLost<'a> {
    /// So many, since it was last said.
    pub spans: u64,
    /// What became of the last ones that were tried.
    pub because: &'a str,
}

impl Event for SpansLost<'_> {
    fn log(&self) {
        tracing::warn!(spans = self.spans, because = self.because, "spans lost");
    }
}

/// All parts run.
#[derive(Debug)]
pub struct Ready {
    pub version: &'static str,
    pub workers: usize,
    pub upstreams: usize,
    pub routes: usize,
}

impl Event for Ready {
    fn log(&self) {
        tracing::info!(
            version = self.version,
            workers = self.workers,
            upstreams = self.upstreams,
            routes = self.routes,
            "ready"
        );
    }
}

/// The config names something that should be known, but stops nothing.
#[derive(Debug)]
pub struct ConfigWarning<'a> {
    pub problem: &'a str,
}

impl Event for ConfigWarning<'_> {
    fn log(&self) {
        tracing::warn!(problem = self.problem, "config warning");
    }
}

/// A new config is in force, or was refused.
#[derive(Debug)]
pub struct Reloaded<'a> {
    /// `signal`, `api` or `file`.
    pub cause: &'static str,
    pub refused: Option<&'a str>,
}

impl Event for Reloaded<'_> {
    fn log(&self) {
        match self.refused {
            None => tracing::info!(cause = self.cause, "config reloaded"),
            Some(problems) => {
                tracing::error!(cause = self.cause, problems, "config refused, the old one stays");
            }
        }
    }

    fn count(&self, metrics: &Metrics) {
        metrics.reloaded(self.refused.is_none());
    }

    /// Not the problems: they name what not every token may see.
    fn tell(&self) -> Option<Told> {
        let kind = if self.refused.is_none() { "config.reloaded" } else { "config.refused" };
        Some(Told { kind, upstream: None, about: json!({ "cause": self.cause }) })
    }
}

/// An upstream's name does not resolve. What was known stays; connecting waits for the name.
#[derive(Debug)]
pub struct NameUnresolved<'a> {
    pub upstream: &'a str,
    pub host: &'a str,
    pub error: &'a str,
}

impl Event for NameUnresolved<'_> {
    fn log(&self) {
        tracing::warn!(
            upstream = self.upstream,
            host = self.host,
            error = self.error,
            "name does not resolve"
        );
    }
}

/// A response was cut after its head had gone to the client.
#[derive(Debug)]
pub struct ResponseCut<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub error: &'a str,
    /// What the breaker hears of it; `None`: the client's side was to blame.
    pub reason: Option<Reason>,
    /// The key of the config whose time ran out, if one did.
    pub limit: Option<&'static str>,
}

impl Event for ResponseCut<'_> {
    fn log(&self) {
        tracing::warn!(
            request_id = self.request_id,
            upstream = self.upstream,
            error = self.error,
            "response cut"
        );
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::Cut { reason: self.reason, error: brief(self.error), limit: self.limit })
    }
}

/// SIGTERM or its like: the end begins.
#[derive(Debug)]
pub struct DrainStarted {
    pub cause: &'static str,
    pub in_flight: u64,
}

impl Event for DrainStarted {
    fn log(&self) {
        tracing::info!(cause = self.cause, in_flight = self.in_flight, "draining: unready, still serving");
    }

    fn tell(&self) -> Option<Told> {
        let about = json!({ "cause": self.cause, "in_flight": self.in_flight });
        Some(Told { kind: "drain.started", upstream: None, about })
    }
}

/// The end.
#[derive(Debug)]
pub struct DrainEnded {
    /// Requests that were still running at `drain_timeout` and were cut.
    pub cut: u64,
    pub letters_pending: u64,
}

impl Event for DrainEnded {
    fn log(&self) {
        tracing::info!(cut = self.cut, letters_pending = self.letters_pending, "drained");
    }
}

/// A panic was caught: a defect of Fender's. The request was answered 500, the process goes on.
#[derive(Debug)]
pub struct Panicked<'a> {
    pub what: &'a str,
    /// Which request it ended, where that is known.
    pub request_id: Option<&'a str>,
}

impl Event for Panicked<'_> {
    fn log(&self) {
        tracing::error!(request_id = self.request_id, what = self.what, "panic: please report it");
    }
}
