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

use super::auth::{self, Caller, Refused};
use super::state::{Admin, ReloadRequest};
use crate::config::{Kind, Problem};

/// Lets only those in whose token is known, whether or not the path exists.
pub(super) async fn authenticate(
    State(admin): State<Arc<Admin>>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = auth::known(&admin.settings.load(), request.headers()).map(Caller::of);
    let Some(caller) = caller else { return refused(Refused::Unknown) };
    request.extensions_mut().insert(caller);
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

/// Why a call is not done.
#[derive(Debug)]
pub(super) enum No {
    /// The caller may not.
    Caller(Refused),
    /// The status, and one sentence.
    Because(StatusCode, String),
}

impl No {
    /// What was asked makes no sense.
    pub(super) const fn bad(why: String) -> Self {
        Self::Because(StatusCode::BAD_REQUEST, why)
    }
}

impl From<Refused> for No {
    fn from(why: Refused) -> Self {
        Self::Caller(why)
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        match self {
            Self::Caller(why) => refused(why),
            Self::Because(status, why) => problem(status, &why, &[]),
        }
    }
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
