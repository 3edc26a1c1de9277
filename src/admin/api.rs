//! `/api/v1`: commands and views for operators.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::{self, Refused};
use super::state::{Admin, ReloadRequest};
use crate::config::{Kind, Problem};

/// Lets only those in whose token is known, whether or not the path exists.
pub(super) async fn authenticate(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if auth::known(&admin.settings.load(), request.headers()).is_none() {
        return refused(Refused::Unknown);
    }
    next.run(request).await
}

/// Reads the config again.
pub(super) async fn reload(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let settings = admin.settings.load_full();
    let token = match auth::operator_of_all(&settings, &headers) {
        Ok(token) => token,
        Err(why) => return refused(why),
    };
    let (answer, answered) = oneshot::channel();
    let asked = admin.reload.send(ReloadRequest { answer }).await.is_ok();
    let reloaded = if asked { answered.await.ok() } else { None };
    tracing::info!(
        who = token.name,
        what = "config.reload",
        done = matches!(reloaded, Some(Ok(()))),
        "audit"
    );
    match reloaded {
        Some(Ok(())) => Json(json!({ "status": "reloaded" })).into_response(),
        Some(Err(problems)) => {
            let problems: Vec<Value> = problems.iter().map(described).collect();
            let more = [("problems", Value::Array(problems))];
            problem(StatusCode::UNPROCESSABLE_ENTITY, "The new config is refused, the old one stays", &more)
        }
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "The process is ending", &[]),
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

/// What no path leads to.
pub(super) async fn nothing() -> Response {
    problem(StatusCode::NOT_FOUND, "No such path", &[])
}

fn refused(why: Refused) -> Response {
    match why {
        Refused::Beyond => {
            problem(StatusCode::FORBIDDEN, "The token's role or scope does not reach so far", &[])
        }
        Refused::Unknown => {
            let mut response =
                problem(StatusCode::UNAUTHORIZED, "A bearer token of [[admin.token]] is required", &[]);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

fn problem(status: StatusCode, title: &str, more: &[(&str, Value)]) -> Response {
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16() });
    for (name, value) in more {
        if let Some(members) = body.as_object_mut() {
            members.insert((*name).to_owned(), value.clone());
        }
    }
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
