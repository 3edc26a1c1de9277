//! The open paths: metrics and probes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::state::Admin;
use crate::clock;
use crate::deadletter::State as Standing;
use crate::policy::degradation::Level;

/// Prometheus's text format.
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match admin.metrics.render(&admin.live()) {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// 503 only if a worker is stuck.
pub(super) async fn live(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.alive(), "live", "a worker is stuck")
}

/// 503 while starting or draining, whatever the upstreams do.
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.ready(), "ready", if admin.started_up() { "draining" } else { "starting" })
}

/// 503 while starting.
pub(super) async fn startup(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.started_up(), "started", "starting")
}

fn probe(fine: bool, yes: &'static str, no: &'static str) -> Response {
    let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if fine { yes } else { no };
    (status, [(CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "status": text }))).into_response()
}

#[derive(Debug, Serialize)]
struct Summary {
    status: &'static str,
    level: &'static str,
    pending_letters: u64,
    upstreams: BTreeMap<String, &'static str>,
    at: String,
}

/// All at a glance, without any secret.
pub(super) async fn summary(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.table.load();
    let level = admin.degradation.level();
    let upstreams = table.upstreams().iter().map(|upstream| {
        (upstream.name().to_owned(), if upstream.policies().sick() { "unhealthy" } else { "healthy" })
    });
    let summary = Summary {
        status: match level {
            _ if !admin.alive() => "unhealthy",
            Level::Normal => "healthy",
            Level::Critical => "unhealthy",
            Level::Minor | Level::Moderate | Level::Severe => "degraded",
        },
        level: level.as_str(),
        pending_letters: admin.letters.as_ref().map_or(0, |store| {
            let figures = store.figures();
            figures.total(Standing::Pending) + figures.total(Standing::Sending)
        }),
        upstreams: upstreams.collect(),
        at: clock::rfc3339(clock::unix_ms()),
    };
    told(summary)
}

#[derive(Debug, Serialize)]
struct Breaker {
    upstream: String,
    /// "" for the upstream's own.
    route: String,
    state: &'static str,
    calls: u32,
    failures: u32,
    slow: u32,
    failure_rate: f64,
    consecutive_failures: u32,
    /// Until it lets a probe through.
    retry_in_ms: Option<u64>,
}

/// Each breaker's state and figures.
pub(super) async fn breakers(State(admin): State<Arc<Admin>>) -> Response {
    let now = clock::now();
    let table = admin.table.load();
    let breakers = table.upstreams().iter().flat_map(|upstream| {
        upstream.policies().breakers().into_iter().map(|cell| {
            let figures = cell.figures(now);
            Breaker {
                upstream: upstream.name().to_owned(),
                route: cell.route().to_owned(),
                state: figures.state.as_str(),
                calls: figures.tally.calls,
                failures: figures.tally.failures,
                slow: figures.tally.slow,
                failure_rate: figures.failure_rate,
                consecutive_failures: figures.consecutive,
                retry_in_ms: figures.retry_at.map(|at| {
                    u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
                }),
            }
        })
    });
    told(serde_json::json!({ "breakers": breakers.collect::<Vec<_>>() }))
}

/// The degradation level and who brings it about.
pub(super) async fn degradation(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.table.load();
    let upstreams = table.upstreams().iter().map(|upstream| {
        serde_json::json!({
            "upstream": upstream.name(),
            "criticality": upstream.settings().criticality.as_str(),
            "sick": upstream.policies().sick(),
        })
    });
    let level = admin.degradation.level();
    told(serde_json::json!({
        "level": level.as_str(),
        "number": level.number(),
        "upstreams": upstreams.collect::<Vec<_>>(),
    }))
}

fn told(body: impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
