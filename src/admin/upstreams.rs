//! `/api/v1/overview` and `/api/v1/upstreams`: how things stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::auth::Caller;
use super::call::{Call, Rule};
use super::problem::No;
use super::state::Admin;
use super::view::{Breaker, Glance, Overview, rounded};
use crate::clock;
use crate::telemetry::history::STEP;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint;

pub(super) fn calls() -> Vec<Call> {
    vec![
        Call::get("/api/v1/overview", Rule::Viewer, "All at a glance", overview).gives::<Overview>(),
        Call::get("/api/v1/upstreams", Rule::Viewer, "The upstreams that the token sees", list)
            .gives::<Upstreams>(),
        Call::get(
            "/api/v1/upstreams/{name}",
            Rule::Viewer,
            "One upstream: policies in force, live figures, endpoints",
            one,
        )
        .gives::<UpstreamTold>()
        .fails(&[404]),
        Call::get("/health/detailed", Rule::OpenHere, "All at a glance, without any secret", open)
            .gives::<Overview>(),
    ]
}

/// Upstreams.
#[derive(Debug, Serialize, JsonSchema)]
struct Upstreams {
    upstreams: Vec<Charted>,
}

/// An upstream at a glance, with its last minutes.
#[derive(Debug, Serialize, JsonSchema)]
struct Charted {
    #[serde(flatten)]
    glance: Glance,
    history: History,
}

/// The last ten minutes of an upstream, a value a step, the newest last; shorter after a start.
#[derive(Debug, Serialize, JsonSchema)]
struct History {
    step_seconds: u64,
    requests_per_second: Vec<f64>,
    /// Answered 429 or 5xx, whoever said so.
    failed_per_second: Vec<f64>,
    /// Of attempts, read from the histogram's buckets. Null without an attempt.
    latency_p95_ms: Vec<Option<f64>>,
}

impl Charted {
    fn of(admin: &Admin, upstream: &Upstream, now: Instant) -> Self {
        let all = |values: Vec<f64>| values.into_iter().map(rounded).collect();
        let chart = admin.history.chart(upstream.name());
        let latencies = chart.latency_p95_ms.into_iter();
        Self {
            glance: Glance::of(admin, upstream, now),
            history: History {
                step_seconds: STEP.as_secs(),
                requests_per_second: all(chart.requests_per_second),
                failed_per_second: all(chart.failed_per_second),
                latency_p95_ms: latencies.map(|value| value.map(rounded)).collect(),
            },
        }
    }
}

/// All of one upstream.
#[derive(Debug, Serialize, JsonSchema)]
struct UpstreamTold {
    #[serde(flatten)]
    glance: Glance,
    endpoints: Vec<Place>,
    connections: Connections,
    /// Attempts ended since the start, by outcome.
    attempts: BTreeMap<&'static str, u64>,
    breakers: Vec<Breaker>,
    /// What the config says of it, defaults and presets included, as its keys are written there.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    policies: Box<RawValue>,
    /// Its routes, with what they say otherwise.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    routes: Box<RawValue>,
}

/// An endpoint.
#[derive(Debug, Serialize, JsonSchema)]
struct Place {
    /// Its base path is hidden: it may bear a secret.
    url: String,
    /// As last resolved; none: its name has not been found yet.
    addresses: Vec<String>,
    in_flight: usize,
    /// No connection could be opened lately: others take its place.
    resting: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Connections {
    active: usize,
    idle: usize,
}

async fn overview(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>) -> Json<Overview> {
    Json(Overview::of(&admin, Some(&caller)))
}

async fn open(State(admin): State<Arc<Admin>>) -> Json<Overview> {
    Json(Overview::of(&admin, None))
}

async fn list(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>) -> Json<Upstreams> {
    let now = clock::now();
    let table = admin.table.load();
    let seen = table.upstreams().iter().filter(|upstream| caller.reaches(upstream.name()));
    Json(Upstreams { upstreams: seen.map(|upstream| Charted::of(&admin, upstream, now)).collect() })
}

async fn one(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<UpstreamTold>, No> {
    let upstream = admin.upstream(&caller, &name)?;
    let now = clock::now();
    let connections = upstream.snapshot();
    let in_force = admin.config.load();
    let (policies, routes) =
        in_force.shown.upstream(&name).ok_or_else(|| No::missing("there is no such upstream"))?;
    Ok(Json(UpstreamTold {
        glance: Glance::of(&admin, &upstream, now),
        endpoints: upstream.endpoints().iter().map(|endpoint| Place::of(endpoint, now)).collect(),
        connections: Connections {
            active: connections.open.saturating_sub(connections.idle),
            idle: connections.idle,
        },
        attempts: upstream.metrics().attempts().map(|(outcome, count)| (outcome.as_str(), count)).collect(),
        breakers: Breaker::all(&upstream, now),
        policies,
        routes,
    }))
}

impl Place {
    fn of(endpoint: &Endpoint, now: Instant) -> Self {
        Self {
            url: endpoint.url.to_string(),
            addresses: endpoint.known().iter().map(ToString::to_string).collect(),
            in_flight: endpoint.in_flight(),
            resting: endpoint.rests(now),
        }
    }
}
