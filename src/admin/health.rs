//! What needs no token: metrics, probes, summaries.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::breakers::Breakers;
use super::call::{Call, Rule};
use super::letter_view::{self, LetterFigures};
use super::problem::No;
use super::state::Admin;
use super::view::{Breaker, LEVELS, status};
use crate::clock;
use crate::deadletter::State as Standing;

pub(super) fn calls() -> Vec<Call> {
    let open = Rule::Open;
    let here = Rule::OpenHere;
    let probe = |call: Call| call.gives::<Probe>().fails(&[503]);
    vec![
        Call::get("/metrics", open, "All figures, for Prometheus", metrics)
            .gives_other("text/plain", "Prometheus's text format, version 0.0.4"),
        probe(Call::get("/health/live", open, "503 only if a worker is stuck", live)),
        probe(Call::get(
            "/health/ready",
            open,
            "503 while starting or draining, whatever the upstreams do",
            ready,
        )),
        probe(Call::get("/health/startup", open, "503 while starting", startup)),
        Call::get("/health", here, "A summary without any secret", summary).gives::<Summary>(),
        Call::get("/health/breakers", here, "Each breaker's state and figures", breakers).gives::<Breakers>(),
        Call::get("/health/dead-letters", here, "The dead-letter log in figures", dead_letters)
            .gives::<LetterFigures>(),
    ]
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Result<Response, No> {
    let text = admin.metrics.render(&admin.live()).map_err(|error| {
        No::Because(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}"))
    })?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn live(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.alive(), "live", "a worker is stuck")
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.ready(), "ready", if admin.started_up() { "draining" } else { "starting" })
}

async fn startup(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.started_up(), "started", "starting")
}

/// What a probe is told.
#[derive(Debug, Serialize, JsonSchema)]
struct Probe {
    status: &'static str,
}

fn probe(fine: bool, yes: &'static str, no: &'static str) -> Response {
    let code = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Probe { status: if fine { yes } else { no } })).into_response()
}

/// All at a glance.
#[derive(Debug, Serialize, JsonSchema)]
struct Summary {
    #[schemars(extend("enum" = ["healthy", "degraded", "unhealthy"]))]
    status: &'static str,
    #[schemars(extend("enum" = LEVELS))]
    level: &'static str,
    /// Letters that wait, or are being sent.
    pending_letters: u64,
    /// By name: `healthy`, or `unhealthy` while a breaker is open or the check is down.
    upstreams: BTreeMap<String, &'static str>,
    at: String,
}

async fn summary(State(admin): State<Arc<Admin>>) -> Json<Summary> {
    let table = admin.table.load();
    let level = admin.degradation.level();
    let upstreams = table.upstreams().iter().map(|upstream| {
        (upstream.name().to_owned(), if upstream.policies().sick() { "unhealthy" } else { "healthy" })
    });
    Json(Summary {
        status: status(&admin, level),
        level: level.as_str(),
        pending_letters: admin.letters.as_ref().map_or(0, |store| {
            let figures = store.figures();
            figures.total(Standing::Pending) + figures.total(Standing::Sending)
        }),
        upstreams: upstreams.collect(),
        at: clock::rfc3339(clock::unix_ms()),
    })
}

async fn breakers(State(admin): State<Arc<Admin>>) -> Json<Breakers> {
    let now = clock::now();
    let table = admin.table.load();
    let breakers = table.upstreams().iter().flat_map(|upstream| Breaker::all(upstream, now));
    Json(Breakers { breakers: breakers.collect() })
}

/// Figures alone; `{"enabled":false}` where no upstream's writes are kept.
async fn dead_letters(State(admin): State<Arc<Admin>>) -> Json<LetterFigures> {
    Json(match &admin.letters {
        Some(store) => letter_view::figures(&store.figures(), None),
        None => LetterFigures::default(),
    })
}
