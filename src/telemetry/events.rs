//! One struct per operational event; [`emit`] is its log line and its metric in one place.

use std::net::SocketAddr;

pub use super::letter_events::{LetterCaptured, LetterDelivered, LetterParked, LetterRefused, StoreOpened};
use super::metrics::Metrics;
use crate::policy::breaker::Transition;

/// Something that an operator may want to know.
pub trait Event {
    /// Writes the log line.
    fn log(&self);

    /// Counts it. Most events have no metric of their own.
    fn count(&self, _metrics: &Metrics) {}
}

/// Logs an event that no metric counts.
pub fn emit(event: &impl Event) {
    event.log();
}

/// Logs and counts an event.
pub fn emit_counted(event: &impl Event, metrics: &Metrics) {
    event.log();
    event.count(metrics);
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

/// An attempt failed, and what was decided then.
#[derive(Debug)]
pub struct AttemptFailed<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    /// Which attempt of the request it was.
    pub attempt: u32,
    pub reason: &'static str,
    pub status: Option<u16>,
    pub verdict: &'static str,
    pub error: &'a str,
    /// The wait that the upstream told.
    pub told_ms: Option<f64>,
    /// When it is tried again…
    pub retry_in_ms: Option<f64>,
    /// …or why it is not.
    pub not_retried: Option<&'static str>,
}

impl Event for AttemptFailed<'_> {
    fn log(&self) {
        tracing::warn!(
            request_id = self.request_id,
            upstream = self.upstream,
            attempt = self.attempt,
            reason = self.reason,
            status = self.status,
            verdict = self.verdict,
            error = self.error,
            told_ms = self.told_ms,
            retry_in_ms = self.retry_in_ms,
            not_retried = self.not_retried,
            "attempt failed"
        );
    }
}

/// A policy refused an attempt: nothing was sent. Under an outage that is every request, so it is no more than a debug line.
#[derive(Debug)]
pub struct Refused<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub reason: &'static str,
    pub detail: &'a str,
    pub retry_after_ms: f64,
}

impl Event for Refused<'_> {
    fn log(&self) {
        tracing::debug!(
            request_id = self.request_id,
            upstream = self.upstream,
            reason = self.reason,
            detail = self.detail,
            retry_after_ms = self.retry_after_ms,
            "refused"
        );
    }
}

/// A breaker changed its state.
#[derive(Debug)]
pub struct BreakerChanged<'a> {
    pub upstream: &'a str,
    /// "" for the upstream's own.
    pub route: &'a str,
    pub transition: &'a Transition,
}

impl Event for BreakerChanged<'_> {
    fn log(&self) {
        let Transition { from, to, why, tally, open_for } = self.transition;
        tracing::warn!(
            upstream = self.upstream,
            route = self.route,
            from = from.as_str(),
            to = to.as_str(),
            why = why.as_str(),
            calls = tally.calls,
            failures = tally.failures,
            slow = tally.slow,
            open_for_s = open_for.map(|time| time.as_secs_f64()),
            "breaker changed"
        );
    }
}

/// The upstream told to wait: traffic of that scope is paused.
#[derive(Debug)]
pub struct Paused<'a> {
    pub upstream: &'a str,
    pub outcome: &'static str,
    pub told_ms: Option<u64>,
    /// For so much longer than it was.
    pub seconds: f64,
}

impl Event for Paused<'_> {
    fn log(&self) {
        tracing::warn!(
            upstream = self.upstream,
            outcome = self.outcome,
            told_ms = self.told_ms,
            seconds = self.seconds,
            "paused at the upstream's word"
        );
    }
}

/// A fallback answered.
#[derive(Debug)]
pub struct FellBack<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    /// `upstream`, `response` or `stale`.
    pub kind: &'static str,
    pub to: &'a str,
    pub reason: &'static str,
}

impl Event for FellBack<'_> {
    fn log(&self) {
        tracing::info!(
            request_id = self.request_id,
            upstream = self.upstream,
            kind = self.kind,
            to = self.to,
            reason = self.reason,
            "fell back"
        );
    }
}

/// The active check turned.
#[derive(Debug)]
pub struct HealthChanged<'a> {
    pub upstream: &'a str,
    pub up: bool,
    pub error: Option<&'a str>,
}

impl Event for HealthChanged<'_> {
    fn log(&self) {
        tracing::warn!(upstream = self.upstream, up = self.up, error = self.error, "health check turned");
    }
}

/// The degradation level changed.
#[derive(Debug)]
pub struct DegradationChanged {
    pub from: &'static str,
    pub to: &'static str,
}

impl Event for DegradationChanged {
    fn log(&self) {
        tracing::warn!(from = self.from, to = self.to, "degradation changed");
    }
}

/// A response was cut after its head had gone to the client.
#[derive(Debug)]
pub struct ResponseCut<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub error: &'a str,
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
}

impl Event for Panicked<'_> {
    fn log(&self) {
        tracing::error!(what = self.what, "panic: please report it");
    }
}
