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

/// All at a glance, without any secret. No breaker and no health check is built yet by which an upstream could be sick, and
/// no store by which letters could pend.
pub(super) async fn summary(State(admin): State<Arc<Admin>>) -> Response {
    let table = admin.table.load();
    let upstreams = table.upstreams().iter().map(|upstream| (upstream.name().to_owned(), "healthy"));
    let summary = Summary {
        status: if admin.alive() { "healthy" } else { "unhealthy" },
        level: "normal",
        pending_letters: 0,
        upstreams: upstreams.collect(),
        at: clock::rfc3339(clock::unix_ms()),
    };
    ([(CACHE_CONTROL, "no-store")], Json(summary)).into_response()
}
