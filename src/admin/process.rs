//! The process as a whole: its config, its log, its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::Caller;
use super::call::{Call, Rule};
use super::given::Body;
use super::problem::{No, problem};
use super::state::{Admin, ReloadRequest};
use crate::config::{Kind, Problem};
use crate::drain::Phase;

pub(super) fn calls() -> Vec<Call> {
    const LOG: &str = "/api/v1/log-level";
    vec![
        Call::get("/api/v1/config", Rule::ViewerOfAll, "The config in force, secrets hidden", config)
            .gives::<serde_json::Map<String, Value>>(),
        Call::post("/api/v1/config/reload", Rule::OperatorOfAll, "Reads the config again", reload)
            .gives::<Said>()
            .fails(&[422]),
        Call::get(LOG, Rule::Viewer, "The level of the log", log_level).gives::<LogLevel>(),
        Call::put(
            LOG,
            Rule::OperatorOfAll,
            "Sets the level of the log, until the process ends",
            set_log_level,
        )
        .takes::<LogLevel>()
        .gives::<LogLevel>(),
        Call::post("/api/v1/quit", Rule::OperatorOfAll, "Drains and ends with exit code 0", quit)
            .gives_at::<Said>(StatusCode::ACCEPTED),
    ]
}

/// What comes of it.
#[derive(Debug, Serialize, JsonSchema)]
struct Said {
    status: &'static str,
}

/// The log's level.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; for some modules another one: `info,hyper=warn`.
    #[schemars(length(max = LEVEL_MAX), regex(pattern = r"^([a-z0-9_:]{1,64}=)?(off|error|warn|info|debug|trace)(,([a-z0-9_:]{1,64}=)?(off|error|warn|info|debug|trace)){0,15}$"))]
    level: String,
}

const LEVEL_MAX: usize = 1024;

async fn config(State(admin): State<Arc<Admin>>) -> Response {
    let in_force = admin.config.load();
    ([(CONTENT_TYPE, "application/json")], in_force.shown.whole().to_owned()).into_response()
}

async fn reload(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, No> {
    let (answer, answered) = oneshot::channel();
    let asked = admin.reload.send(ReloadRequest { answer }).await.is_ok();
    let reloaded = if asked { answered.await.ok() } else { None };
    caller.audit("config.reload", "", matches!(reloaded, Some(Ok(()))));
    match reloaded {
        Some(Ok(())) => Ok(Json(Said { status: "reloaded" }).into_response()),
        Some(Err(problems)) => {
            let problems = problems.iter().map(described).collect();
            let why = "the new config is refused, the old one stays";
            Ok(problem(StatusCode::UNPROCESSABLE_ENTITY, why, Some(problems)))
        }
        None => Err(No::Because(StatusCode::SERVICE_UNAVAILABLE, "the process is ending".to_owned())),
    }
}

fn described(problem: &Problem) -> Value {
    let kind = match problem.kind {
        Kind::Syntax => "syntax",
        Kind::UnknownKey => "unknown_key",
        Kind::Invalid => "invalid",
        Kind::NotBuilt => "not_built",
        Kind::NeedsRestart => "needs_restart",
    };
    json!({
        "kind": kind,
        "key": problem.key,
        "message": problem.message,
        "help": problem.help,
        "place": problem.place().map(ToString::to_string),
    })
}

async fn log_level(State(admin): State<Arc<Admin>>) -> Json<LogLevel> {
    Json(LogLevel { level: admin.logging.level() })
}

async fn set_log_level(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<LogLevel>,
) -> Result<Json<LogLevel>, No> {
    if !is_filter(&wanted.level) {
        let why =
            "level: off, error, warn, info, debug or trace; for some modules another one: info,hyper=warn";
        return Err(No::bad(why));
    }
    let set = admin.logging.set_level(&wanted.level);
    caller.audit("log.level", &wanted.level, set.is_ok());
    set.map_err(No::bad)?;
    Ok(Json(LogLevel { level: admin.logging.level() }))
}

/// What the library makes of a text goes further: any word is a module's name to it.
fn is_filter(text: &str) -> bool {
    let is_module = |name: &str| {
        (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_:".contains(&byte))
    };
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let mut parts = text.split(',');
    parts.clone().count() <= 16
        && parts.all(|part| match part.split_once('=') {
            Some((module, level)) => is_module(module) && is_level(level),
            None => is_level(part),
        })
}

async fn quit(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>) -> Response {
    caller.audit("quit", "", true);
    admin.drain.advance(Phase::Draining);
    (StatusCode::ACCEPTED, Json(Said { status: "draining" })).into_response()
}
