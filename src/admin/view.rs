//! What the admin side tells of the process and its upstreams, as JSON: the one place where these forms are made.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Caller;
use super::letter_view::{self, LetterFigures};
use super::state::Admin;
use crate::clock;
use crate::deadletter::{State as Standing, Store};
use crate::drain::Phase;
use crate::policy::breaker::State;
use crate::policy::degradation::Level;
use crate::ready::Pulse;
use crate::telemetry::history;
use crate::telemetry::trace::Figures;
use crate::telemetry::webhooks::{Webhook, WebhookFigures};
use crate::upstream::Upstream;
use crate::upstream::breaker::BreakerCell;

/// A breaker.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Breaker {
    /// Whose.
    upstream: String,
    /// "" for the upstream's own.
    route: String,
    /// The worst of its keys', if it has keys.
    #[schemars(extend("enum" = STATES))]
    state: &'static str,
    /// False: it is switched off.
    enabled: bool,
    /// It decides and reports, and refuses nothing.
    observe: bool,
    /// Calls in its window…
    calls: u32,
    /// …those of them that failed…
    failures: u32,
    /// …and those that were slow.
    slow: u32,
    /// 0 to 1; 0 without a call.
    failure_rate: f64,
    /// Failures in a row, until now.
    consecutive_failures: u32,
    /// How many times it has opened again without having been well for a while.
    reopenings: u32,
    /// Of a half-open one: probes that are on their way. With none the next request is one.
    probes: usize,
    /// Until it lets a probe through.
    retry_in_ms: Option<u64>,
    /// Of one with keys: how many keys have a breaker now, by its state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    keys: BTreeMap<&'static str, usize>,
}

/// A breaker's states, as they are told.
const STATES: [&str; 5] = ["closed", "open", "half_open", "forced_open", "forced_closed"];

impl Breaker {
    pub(super) fn of(upstream: &Upstream, cell: &BreakerCell, now: Instant) -> Self {
        let figures = cell.figures(now);
        let (enabled, observe) = cell.modes();
        Self {
            upstream: upstream.name().to_owned(),
            route: cell.route().to_owned(),
            state: figures.state.as_str(),
            enabled,
            observe,
            calls: figures.tally.calls,
            failures: figures.tally.failures,
            slow: figures.tally.slow,
            failure_rate: figures.failure_rate,
            consecutive_failures: figures.consecutive,
            reopenings: figures.reopenings,
            probes: figures.probes,
            retry_in_ms: figures.retry_at.map(|at| millis(at.saturating_duration_since(now))),
            keys: cell.keys(now),
        }
    }

    /// All of an upstream's: its own, then those of its routes that have one.
    pub(super) fn all(upstream: &Upstream, now: Instant) -> Vec<Self> {
        let cells = upstream.policies().breakers();
        cells.iter().map(|cell| Self::of(upstream, cell, now)).collect()
    }
}

/// An upstream at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Glance {
    pub(super) name: String,
    /// Unhealthy while a breaker of its is open or its check is down.
    #[schemars(extend("enum" = ["healthy", "unhealthy"]))]
    pub(super) status: &'static str,
    #[schemars(extend("enum" = ["low", "normal", "high"]))]
    criticality: &'static str,
    dialect: String,
    /// The worst of its breakers.
    #[schemars(extend("enum" = STATES))]
    breaker: &'static str,
    /// What its active check says; null without one.
    #[schemars(extend("enum" = ["up", "down", null]))]
    check: Option<&'static str>,
    in_flight: i64,
    /// Requests that wait for a seat.
    queued: usize,
    /// Requests that the bulkhead lets in at once.
    concurrency_limit: u32,
    /// Retries that the budget would grant now.
    retry_budget_available: f64,
    /// Scopes that are paused at the upstream's word…
    paused_scopes: usize,
    /// …and how long the longest of these pauses still is.
    paused_for_ms: u64,
    /// Whether its requests are shed at the degradation level in force.
    shed: bool,
    /// Letters that wait, or are being sent.
    pending_letters: u64,
    /// Letters that wait for an operator.
    parked_letters: u64,
    /// How it has fared in the last half minute.
    lately: Lately,
}

/// What happened lately, from the counters.
#[derive(Debug, Serialize, JsonSchema)]
struct Lately {
    /// Over so long; 0 in the first seconds of the process.
    seconds: f64,
    /// Requests answered…
    requests_per_second: f64,
    /// …and those of them that were answered 429 or 5xx, whoever said so.
    failed_per_second: f64,
    retries_per_second: f64,
    /// From an attempt's start to its response's head. Null without an attempt.
    latency_avg_ms: Option<f64>,
    /// That below which 95 of 100 attempts were, read from the histogram's buckets. Null without an attempt.
    latency_p95_ms: Option<f64>,
}

impl From<history::Rates> for Lately {
    #[expect(clippy::cast_precision_loss, reason = "counts of half a minute")]
    fn from(rates: history::Rates) -> Self {
        let seconds = rates.over.as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 };
        let ms = |span: Duration| rounded(span.as_secs_f64() * 1000.0);
        Self {
            seconds,
            requests_per_second: per_second(rates.requests),
            failed_per_second: per_second(rates.failed),
            retries_per_second: per_second(rates.retries),
            latency_avg_ms: rates.latency_average.map(ms),
            latency_p95_ms: rates.latency_p95.map(ms),
        }
    }
}

impl Glance {
    pub(super) fn of(admin: &Admin, upstream: &Upstream, now: Instant) -> Self {
        let (policies, settings) = (upstream.policies(), upstream.settings());
        let worst = policies.breakers().into_iter().map(|cell| cell.worst());
        let worst = worst.max_by_key(|state| state.badness()).unwrap_or(State::Closed);
        let (paused_scopes, paused_for) = policies.pauses().standing(now);
        let figures = admin.letters.as_ref().map(Store::figures);
        let letters = |state| figures.as_ref().map_or(0, |figures| figures.count(upstream.name(), state));
        Self {
            name: upstream.name().to_owned(),
            status: if policies.sick() { "unhealthy" } else { "healthy" },
            criticality: settings.criticality.as_str(),
            dialect: upstream.dialect().name().to_owned(),
            breaker: worst.as_str(),
            check: settings.health.path.as_ref().map(|_| if policies.check().down() { "down" } else { "up" }),
            in_flight: upstream.metrics().in_flight.value(),
            queued: policies.bulkhead().queued(),
            concurrency_limit: policies.bulkhead().limit(),
            retry_budget_available: policies.budget_available(now),
            paused_scopes,
            paused_for_ms: millis(paused_for),
            shed: settings.shed_at.sheds(admin.degradation.level()),
            pending_letters: letters(Standing::Pending) + letters(Standing::Sending),
            parked_letters: letters(Standing::Parked),
            lately: admin.history.rates(upstream.name()).into(),
        }
    }
}

/// All at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Overview {
    #[schemars(extend("enum" = ["healthy", "degraded", "unhealthy"]))]
    status: &'static str,
    #[schemars(extend("enum" = LEVELS))]
    level: &'static str,
    at: String,
    version: &'static str,
    started_at: String,
    uptime_seconds: f64,
    #[schemars(extend("enum" = ["starting", "serving", "draining"]))]
    phase: &'static str,
    workers: Workers,
    /// Client connections.
    connections: usize,
    /// Requests in flight.
    in_flight: u64,
    buffer: Buffer,
    config: Config,
    /// Lines lost to a reader of the log that did not keep up.
    log_lines_dropped: u64,
    traces: Traces,
    /// Null where no upstream's writes are kept.
    dead_letters: Option<LetterFigures>,
    /// Null to a token that does not see all upstreams.
    webhooks: Option<Vec<WebhookView>>,
    /// Events that were lost with webhooks that a reload has taken out, since the start. Null as `webhooks` is.
    webhook_events_lost: Option<u64>,
    /// Those that the token sees.
    upstreams: Vec<Glance>,
    /// Whose token it is; null without one.
    caller: Option<Myself>,
}

/// Who asks.
#[derive(Debug, Serialize, JsonSchema)]
struct Myself {
    /// The token's name.
    name: String,
    #[schemars(extend("enum" = ["viewer", "operator"]))]
    role: &'static str,
    /// What it is bounded to; null: nothing.
    upstreams: Option<Vec<String>>,
}

/// How a webhook fares, in events.
#[derive(Debug, Serialize, JsonSchema)]
struct WebhookView {
    /// Who is told; the path may be a secret.
    host: String,
    /// Not told yet.
    queued: u64,
    /// Told.
    delivered: u64,
    /// Given up: the receiver refused them, or could not be reached for an hour.
    failed: u64,
    /// Never sent, since too many waited.
    dropped: u64,
    /// Why the last try failed; null if it did not.
    last_error: Option<String>,
}

impl WebhookView {
    fn of(webhook: &Webhook) -> Self {
        let WebhookFigures { host, queued, delivered, refused: failed, dropped, error: last_error } =
            webhook.figures();
        Self { host, queued, delivered, failed, dropped, last_error }
    }
}

/// The degradation levels, as they are told.
pub(super) const LEVELS: [&str; 5] = ["normal", "minor", "moderate", "severe", "critical"];

#[derive(Debug, Serialize, JsonSchema)]
struct Workers {
    count: usize,
    /// Those that have not answered for a while: a defect.
    stuck: usize,
    /// What they have in hand, a second ago: requests, connections, and a few that are always there.
    tasks: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Buffer {
    /// Bytes retained in memory…
    used_bytes: u64,
    /// …of `server.buffer_memory`.
    limit_bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Traces {
    /// Whether there is a collector.
    on: bool,
    /// Spans that wait to be sent…
    waiting: usize,
    /// …that the collector has taken, and that were lost, since the start: no room, or a collector that did not take them.
    sent: u64,
    dropped: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Config {
    /// When the one in force was read.
    loaded_at: String,
    /// Why the newest one was not taken; null if it was.
    refused: Option<&'static str>,
}

impl Traces {
    const fn of(figures: Figures, on: bool) -> Self {
        let Figures { waiting, sent, dropped } = figures;
        Self { on, waiting, sent, dropped }
    }
}

impl Overview {
    /// As `caller` may see it; all of it where there is none.
    pub(super) fn of(admin: &Admin, caller: Option<&Caller>) -> Self {
        let now = clock::now();
        let table = admin.table.load();
        let seen = table
            .upstreams()
            .iter()
            .filter(|upstream| caller.is_none_or(|caller| caller.reaches(upstream.name())));
        let level = admin.degradation.level();
        let in_force = admin.config.load();
        Self {
            status: status(admin, level),
            level: level.as_str(),
            at: clock::rfc3339(clock::unix_ms()),
            version: env!("CARGO_PKG_VERSION"),
            started_at: clock::rfc3339(admin.own.started_unix_ms),
            uptime_seconds: admin.since_start().as_secs_f64(),
            phase: match admin.drain.phase() {
                _ if !admin.started_up() => "starting",
                Phase::Serving => "serving",
                Phase::Draining | Phase::Storing | Phase::Cut => "draining",
            },
            workers: Workers {
                count: admin.pulses.len(),
                stuck: admin.stuck(),
                tasks: admin.pulses.iter().map(Pulse::tasks).sum(),
            },
            connections: admin.connections.load(Ordering::Relaxed),
            in_flight: admin.drain.in_flight(),
            buffer: Buffer { used_bytes: admin.memory.used(), limit_bytes: admin.memory.limit() },
            config: Config {
                loaded_at: clock::rfc3339(in_force.loaded_unix_ms),
                refused: admin
                    .config_refused
                    .load(Ordering::Relaxed)
                    .then_some("see the log, or POST /api/v1/config/reload"),
            },
            log_lines_dropped: admin.log_lines_dropped(),
            traces: Traces::of(admin.tracer.figures(), table.sampling().is_some()),
            dead_letters: admin.letters.as_ref().map(|store| letter_view::figures(&store.figures(), caller)),
            webhooks: caller
                .filter(|caller| caller.views_all())
                .map(|_| admin.own.webhooks.load().iter().map(|webhook| WebhookView::of(webhook)).collect()),
            webhook_events_lost: caller
                .filter(|caller| caller.views_all())
                .map(|_| admin.own.webhook_events_lost.load().load(Ordering::Relaxed)),
            upstreams: seen.map(|upstream| Glance::of(admin, upstream, now)).collect(),
            caller: caller.map(|caller| Myself {
                name: caller.name().to_owned(),
                role: if caller.operates() { "operator" } else { "viewer" },
                upstreams: caller.upstreams().map(<[String]>::to_vec),
            }),
        }
    }
}

/// How the whole is.
pub(super) fn status(admin: &Admin, level: Level) -> &'static str {
    match level {
        _ if !admin.alive() => "unhealthy",
        Level::Normal => "healthy",
        Level::Critical => "unhealthy",
        Level::Minor | Level::Moderate | Level::Severe => "degraded",
    }
}

/// Nobody reads more digits of a rate.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
