//! `/api/v1/letters`: the dead-letter log for operators. Every call is bounded by the token's upstreams.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State as Shared};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_http::limit::RequestBodyLimitLayer;

use super::api::No;
use super::auth::{Caller, Refused};
use super::letter_view::{self, Asked};
use super::state::Admin;
use crate::deadletter::{Act, Filter, Imported, Letter, LetterId, Store, StoreError, Told};

/// Letters on a page, unless the call says otherwise, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// Letters that one bulk call acts on at most.
const BULK_MAX: u32 = 10_000;

/// The calls on the dead-letter log. Each finds its [`Caller`] in the request's extensions.
pub(crate) fn router(store: Option<Store>) -> Router {
    let calls = Router::new()
        .route("/", get(list))
        .route("/stats", get(stats))
        .route("/export", get(export))
        .route("/replay", post(replay_many))
        .route("/discard", post(discard_many))
        .route("/purge", post(purge))
        .route("/verify", post(verify))
        .route("/{id}", get(one))
        .route("/{id}/body", get(body))
        .route("/{id}/replay", post(replay))
        .route("/{id}/discard", post(discard))
        .layer(RequestBodyLimitLayer::new(BODY_MAX));
    let import = Router::new()
        .route("/import", post(import))
        .layer(DefaultBodyLimit::max(IMPORT_MAX))
        .layer(RequestBodyLimitLayer::new(IMPORT_MAX));
    calls.merge(import).with_state(store)
}

/// No call needs a larger body…
const BODY_MAX: usize = 64 * 1024;

/// …but an import: a few hundred letters at a time.
const IMPORT_MAX: usize = 16 * 1024 * 1024;

type Called = (Shared<Option<Store>>, Extension<Caller>);

type Answer = Result<Response, No>;

/// Newest first, by pages.
async fn list((Shared(store), Extension(caller)): Called, Query(asked): Query<Asked>) -> Answer {
    let (filter, limit, cursor) = asked.read(&caller).map_err(No::bad)?;
    let page = there(store)?.list(filter, limit.unwrap_or(PAGE).clamp(1, PAGE_MAX), cursor).await?;
    let letters: Vec<Told> = page.letters.iter().map(|letter| told(&caller, letter)).collect();
    Ok(Json(json!({ "letters": letters, "next": page.next.map(|next| next.to_string()) })).into_response())
}

/// One letter with its trail.
async fn one((Shared(store), Extension(caller)): Called, Path(id): Path<String>) -> Answer {
    let (_, letter) = found(store, &caller, &id).await?;
    Ok(shown(&caller, &letter))
}

/// Its body, as it was sent. For operators.
async fn body((Shared(store), Extension(caller)): Called, Path(id): Path<String>) -> Answer {
    caller.operates()?;
    let (store, letter) = found(store, &caller, &id).await?;
    let content = store.content(letter.id).await?;
    // What it was sent as is data, whatever it says it is: a browser must not run it.
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, content.body).into_response())
}

/// Sends a letter again, soon.
async fn replay(called: Called, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    act(called, &id, &headers, Act::Replay).await
}

/// Gives a letter up.
async fn discard(called: Called, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    act(called, &id, &headers, Act::Discard).await
}

async fn act((Shared(store), Extension(caller)): Called, id: &str, headers: &HeaderMap, act: Act) -> Answer {
    caller.operates()?;
    let (store, letter) = found(store, &caller, id).await?;
    let if_match = headers.get(IF_MATCH).and_then(|value| value.to_str().ok()).filter(|etag| *etag != "*");
    let done = match act {
        Act::Replay => store.replay(letter.id, if_match).await,
        Act::Discard => store.discard(letter.id, if_match).await,
    };
    caller.audit(word(act), &letter.id.to_string(), done.is_ok());
    Ok(shown(&caller, &done?))
}

/// Which letters a bulk call means.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bulk {
    filter: Asked,
    limit: Option<u32>,
}

/// Sends many again.
async fn replay_many(called: Called, body: Bytes) -> Answer {
    many(called, &body, Act::Replay).await
}

/// Gives many up.
async fn discard_many(called: Called, body: Bytes) -> Answer {
    many(called, &body, Act::Discard).await
}

async fn many((Shared(store), Extension(caller)): Called, body: &Bytes, act: Act) -> Answer {
    let (store, filter, limit) = bulk(store, &caller, body)?;
    let result = store.bulk(filter, limit, act).await?;
    caller.audit(word(act), &format!("{} letters", result.done.len()), true);
    let done: Vec<String> = result.done.iter().map(LetterId::to_string).collect();
    let failures = result.failed.iter();
    let failed: Vec<Value> =
        failures.map(|(id, error)| json!({ "id": id.to_string(), "error": error.to_string() })).collect();
    Ok(Json(json!({ "done": done, "failed": failed })).into_response())
}

/// Removes delivered and discarded ones.
async fn purge((Shared(store), Extension(caller)): Called, body: Bytes) -> Answer {
    let (store, filter, _) = bulk(store, &caller, &body)?;
    let purged = store.purge(filter).await?;
    caller.audit("letters.purge", &format!("{purged} letters"), true);
    Ok(Json(json!({ "purged": purged })).into_response())
}

/// Reads all of it and says what is damaged.
async fn verify((Shared(store), Extension(caller)): Called) -> Answer {
    caller.operates_all()?;
    let report = there(store)?.verify().await?;
    caller.audit("letters.verify", &format!("{} letters", report.letters), true);
    let damaged: Vec<String> = report.damaged.iter().map(LetterId::to_string).collect();
    Ok(Json(json!({ "letters": report.letters, "damaged": damaged, "file": report.file })).into_response())
}

/// The log in figures.
async fn stats((Shared(store), Extension(caller)): Called, Query(asked): Query<Asked>) -> Answer {
    let (filter, _, _) = asked.read(&caller).map_err(No::bad)?;
    let stats = there(store)?.stats(filter).await?;
    Ok(Json(letter_view::stats(&stats)).into_response())
}

/// All of it, a line a letter, oldest first. For operators: the bodies are in it.
async fn export((Shared(store), Extension(caller)): Called, Query(asked): Query<Asked>) -> Answer {
    caller.operates()?;
    let store = there(store)?;
    let (filter, _, _) = asked.read(&caller).map_err(No::bad)?;
    caller.audit("letters.export", "", true);
    Ok(([(CONTENT_TYPE, "application/jsonl")], Body::new(letter_view::lines(store, filter))).into_response())
}

/// What is looked at of a line before it is taken in.
#[derive(Debug, Deserialize)]
struct Line {
    upstream: String,
}

/// Takes lines of an export in.
async fn import((Shared(store), Extension(caller)): Called, body: Bytes) -> Answer {
    caller.operates()?;
    let store = there(store)?;
    let text = std::str::from_utf8(&body).map_err(|_| No::bad("the body is not UTF-8".to_owned()))?;
    let (mut done, mut already, mut wrong) = (Vec::new(), 0_u64, Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let upstream = serde_json::from_str(line).map(|Line { upstream }| upstream);
        if upstream.is_ok_and(|upstream| !caller.reaches(&upstream)) {
            wrong.push(json!({ "line": number + 1, "error": "beyond the token's upstreams" }));
            continue;
        }
        match store.import(line).await {
            Ok(Imported::New(id)) => done.push(id.to_string()),
            Ok(Imported::Already(_)) => already += 1,
            Err(error) => wrong.push(json!({ "line": number + 1, "error": error.to_string() })),
        }
    }
    caller.audit("letters.import", &format!("{} letters", done.len()), wrong.is_empty());
    Ok(Json(json!({ "done": done, "already": already, "failed": wrong })).into_response())
}

/// The summary that needs no token: figures alone.
pub(super) async fn health(Shared(admin): Shared<Arc<Admin>>) -> Response {
    let Some(store) = &admin.letters else {
        return Json(json!({ "enabled": false })).into_response();
    };
    Json(letter_view::figures(&store.figures())).into_response()
}

fn bulk(store: Option<Store>, caller: &Caller, body: &Bytes) -> Result<(Store, Filter, u32), No> {
    caller.operates()?;
    let store = there(store)?;
    let asked: Bulk = if body.is_empty() {
        Bulk::default()
    } else {
        serde_json::from_slice(body).map_err(|error| No::bad(format!("the body cannot be read: {error}")))?
    };
    let limit = asked.limit.or(asked.filter.limit).unwrap_or(BULK_MAX).min(BULK_MAX);
    let (filter, _, _) = asked.filter.read(caller).map_err(No::bad)?;
    Ok((store, filter, limit))
}

fn there(store: Option<Store>) -> Result<Store, No> {
    let none = "no upstream's writes are kept: there is no dead-letter log";
    store.ok_or_else(|| No::Because(StatusCode::NOT_FOUND, none.to_owned()))
}

/// The letter of this id, if the token reaches it.
async fn found(store: Option<Store>, caller: &Caller, id: &str) -> Result<(Store, Letter), No> {
    let store = there(store)?;
    let missing = || No::Because(StatusCode::NOT_FOUND, "there is no such letter".to_owned());
    let id: LetterId = id.parse().map_err(|_| missing())?;
    let letter = store.letter(id).await?;
    if caller.reaches(&letter.upstream) { Ok((store, letter)) } else { Err(No::Caller(Refused::Beyond)) }
}

fn shown(caller: &Caller, letter: &Letter) -> Response {
    ([(ETAG, letter.etag())], Json(told(caller, letter))).into_response()
}

/// A letter as this caller may see it.
fn told(caller: &Caller, letter: &Letter) -> Told {
    let told = Told::from(letter);
    if caller.operates().is_ok() { told } else { told.without_answers() }
}

impl From<StoreError> for No {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            StoreError::Changed { .. } => StatusCode::PRECONDITION_FAILED,
            StoreError::Standing(_) => StatusCode::CONFLICT,
            StoreError::Invalid(_) => StatusCode::BAD_REQUEST,
            StoreError::Damaged(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Full => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Unavailable(_) | StoreError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::Because(status, error.to_string())
    }
}

const fn word(act: Act) -> &'static str {
    match act {
        Act::Replay => "letters.replay",
        Act::Discard => "letters.discard",
    }
}
