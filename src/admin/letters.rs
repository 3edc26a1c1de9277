//! `/api/v1/letters`: the dead-letter log for operators. Every call is bounded by the token's upstreams.

use std::sync::Arc;

use axum::body::{Body as Stream, Bytes};
use axum::extract::{Extension, Path, State as Shared};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::auth::Caller;
use super::call::{self, Call, Format, Rule};
use super::given::{Body, MaybeBody, Query, object};
use super::letter_view::{
    self, Asked, Done, Letters, NotDone, NotTakenIn, Purged, StatsTold, TakenIn, Verified, Whole,
};
use super::problem::No;
use crate::deadletter::{Act, Filter, Imported, Letter, LetterId, State, Store, StoreError, Told};
use crate::telemetry::feed::{Feed, Told as FeedTold};

/// Letters on a page, unless the call says otherwise, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// Letters that one bulk call acts on at most.
const BULK_MAX: u32 = 10_000;

/// What the calls work on.
#[derive(Clone)]
pub(crate) struct Desk {
    /// `None`: no upstream's writes are kept.
    store: Option<Store>,
    /// Who is told of what an operator does, if the process has a feed.
    feed: Option<Arc<Feed>>,
}

/// The calls on the dead-letter log, for whoever has the file itself: each finds its [`Caller`] in the request's extensions.
pub(crate) fn router(store: &Store) -> Router {
    call::routed(
        calls().into_iter().map(|call| call.on(Desk { store: Some(store.clone()), feed: None })).collect(),
    )
}

/// The calls on this log.
pub(super) fn calls_on(store: Option<Store>, feed: Option<Arc<Feed>>) -> Vec<Call> {
    let desk = Desk { store, feed };
    calls().into_iter().map(|call| call.on(desk.clone())).collect()
}

#[expect(clippy::too_many_lines, reason = "a table, one entry a call")]
fn calls() -> Vec<Call<Desk>> {
    let (viewer, operator) = (Rule::Viewer, Rule::Operator);
    vec![
        Call::get("/api/v1/letters", viewer, "Letters, newest first, by pages", list)
            .asks::<Asked>()
            .gives::<Letters>()
            .fails(&[404]),
        Call::get("/api/v1/letters/stats", viewer, "The log in figures", stats)
            .asks::<Asked>()
            .gives::<StatsTold>()
            .fails(&[404]),
        Call::get(
            "/api/v1/letters/export",
            operator,
            "All of it, a line a letter, oldest first, bodies included",
            export,
        )
        .asks::<Asked>()
        .gives_other("application/jsonl", "A letter a line, with `headers` and `body_base64`")
        .fails(&[404]),
        Call::post(
            "/api/v1/letters/import",
            operator,
            "Takes lines of an export in; importing twice is importing once",
            import,
        )
        .takes_other(Format::Other("text/plain", "Lines of an export"), IMPORT_MAX)
        .gives::<TakenIn>()
        .fails(&[404])
        .one_at_a_time(),
        Call::post("/api/v1/letters/replay", operator, "Sends many again, soon", replay_many)
            .may_take::<Bulk>()
            .gives::<Done>()
            .fails(&[404]),
        Call::post("/api/v1/letters/discard", operator, "Gives many up", discard_many)
            .takes::<BulkDiscard>()
            .gives::<Done>()
            .fails(&[404]),
        Call::post("/api/v1/letters/purge", operator, "Removes delivered and discarded ones", purge)
            .may_take::<Bulk>()
            .gives::<Purged>()
            .fails(&[404, 409]),
        Call::post(
            "/api/v1/letters/verify",
            Rule::OperatorOfAll,
            "Reads all of it and says what is damaged",
            verify,
        )
        .gives::<Verified>()
        .fails(&[404])
        .one_at_a_time(),
        Call::get("/api/v1/letters/{id}", viewer, "One letter with its trail of attempts", one)
            .gives::<Told>()
            .tagged()
            .fails(&[404, 422]),
        Call::get("/api/v1/letters/{id}/body", operator, "Its body, as it was sent", body)
            .gives_other("application/octet-stream", "The body")
            .fails(&[404, 409, 422]),
        Call::post(
            "/api/v1/letters/{id}/replay",
            operator,
            "Sends it again, soon; its attempts are counted anew",
            replay,
        )
        .gives::<Told>()
        .tagged()
        .fails(&[404, 409, 412, 422, 507]),
        Call::post("/api/v1/letters/{id}/discard", operator, "Gives it up", discard)
            .gives::<Told>()
            .tagged()
            .fails(&[404, 409, 412, 422, 507]),
    ]
}

/// So many lines that cannot be taken in are told one by one; whoever sends more sends no export.
const FAILED_MAX: usize = 1_000;

/// An import takes a few hundred letters at a time.
const IMPORT_MAX: usize = 16 * 1024 * 1024;

type Called = (Shared<Desk>, Extension<Caller>);

type Outcome<T> = Result<Json<T>, No>;

async fn list((Shared(desk), Extension(caller)): Called, Query(asked): Query<Asked>) -> Outcome<Letters> {
    let (filter, limit, cursor) = asked.read(&caller).map_err(No::bad)?;
    let page = desk.store()?.list(filter, limit.unwrap_or(PAGE).clamp(1, PAGE_MAX), cursor).await?;
    let letters = page.letters.iter().map(|letter| told(&caller, letter)).collect();
    Ok(Json(Letters { letters, next: page.next.map(|next| next.to_string()) }))
}

async fn one((Shared(desk), Extension(caller)): Called, Path(id): Path<String>) -> Result<Response, No> {
    let (_, letter) = desk.letter(&caller, &id).await?;
    Ok(shown(&caller, &letter))
}

async fn body((Shared(desk), Extension(caller)): Called, Path(id): Path<String>) -> Result<Response, No> {
    let (store, letter) = desk.letter(&caller, &id).await?;
    let content = store.content(letter.id).await?;
    caller.audit("letters.body", &letter.id.to_string(), true);
    // What it was sent as is data, whatever it says it is: a browser must not run it.
    Ok(([(CONTENT_TYPE, "application/octet-stream")], content.body).into_response())
}

async fn replay(called: Called, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, No> {
    act(called, &id, &headers, Act::Replay).await
}

async fn discard(called: Called, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, No> {
    act(called, &id, &headers, Act::Discard).await
}

async fn act(
    (Shared(desk), Extension(caller)): Called,
    id: &str,
    headers: &HeaderMap,
    act: Act,
) -> Result<Response, No> {
    let (store, letter) = desk.letter(&caller, id).await?;
    let if_match = if_match(headers)?;
    let done = match act {
        Act::Replay => store.replay(letter.id, if_match).await,
        Act::Discard => store.discard(letter.id, if_match).await,
    };
    let id = letter.id.to_string();
    caller.audit(word(act), &id, done.is_ok());
    let done = done?;
    desk.tell(&caller, act, &id, &letter.upstream);
    Ok(shown(&caller, &done))
}

/// A guard that cannot be read must not be taken for none.
fn if_match(headers: &HeaderMap) -> Result<Option<&str>, No> {
    let Some(etag) = headers.get(IF_MATCH) else { return Ok(None) };
    let etag = etag.to_str().map_err(|_| No::bad("If-Match cannot be read"))?;
    Ok(Some(etag).filter(|etag| *etag != "*"))
}

/// Which letters a bulk call means: all that the filter names, up to `limit`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bulk {
    #[serde(default, deserialize_with = "object")]
    filter: Asked<Whole>,
    /// At most so many; 10,000 in any case.
    #[schemars(extend("maximum" = u32::MAX))]
    limit: Option<Whole>,
}

async fn replay_many(called: Called, asked: MaybeBody<Bulk>) -> Outcome<Done> {
    many(called, asked, Act::Replay).await
}

/// As [`Bulk`], but it must say which: nobody gives all up by saying nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BulkDiscard {
    #[serde(deserialize_with = "object")]
    filter: Asked<Whole>,
    /// At most so many; 10,000 in any case.
    #[schemars(extend("maximum" = u32::MAX))]
    limit: Option<Whole>,
}

async fn discard_many(called: Called, Body(asked): Body<BulkDiscard>) -> Outcome<Done> {
    many(called, MaybeBody(Bulk { filter: asked.filter, limit: asked.limit }), Act::Discard).await
}

async fn many((Shared(desk), Extension(caller)): Called, asked: MaybeBody<Bulk>, act: Act) -> Outcome<Done> {
    let (store, filter, limit) = desk.bulk(&caller, asked)?;
    let upstream = filter.upstream.clone();
    let result = store.bulk(filter, limit, act).await?;
    caller.audit(word(act), &format!("{} letters", result.done.len()), true);
    if !result.done.is_empty() {
        desk.tell_many(&caller, act, upstream.as_deref(), result.done.len());
    }
    let failed = result.failed.iter();
    let failed = failed.map(|(id, error)| NotDone { id: id.to_string(), error: error.to_string() });
    Ok(Json(Done { done: result.done.iter().map(LetterId::to_string).collect(), failed: failed.collect() }))
}

async fn purge((Shared(desk), Extension(caller)): Called, asked: MaybeBody<Bulk>) -> Outcome<Purged> {
    let (store, filter, _) = desk.bulk(&caller, asked)?;
    if filter.state.is_some_and(|state| !matches!(state, State::Delivered | State::Discarded)) {
        return Err(No::conflict(
            "only delivered and discarded letters can be purged: discard the others first",
        ));
    }
    let purged = store.purge(filter).await?;
    caller.audit("letters.purge", &format!("{purged} letters"), true);
    Ok(Json(Purged { purged }))
}

async fn verify((Shared(desk), Extension(caller)): Called) -> Outcome<Verified> {
    let report = desk.store()?.verify().await?;
    caller.audit("letters.verify", &format!("{} letters", report.letters), true);
    let damaged = report.damaged.iter().map(LetterId::to_string).collect();
    let locked = report.locked.iter().map(|(key, letters)| (key.to_string(), *letters)).collect();
    Ok(Json(Verified { letters: report.letters, damaged, file: report.file, locked }))
}

async fn stats((Shared(desk), Extension(caller)): Called, Query(asked): Query<Asked>) -> Outcome<StatsTold> {
    let (filter, _, _) = asked.read(&caller).map_err(No::bad)?;
    let stats = desk.store()?.stats(filter).await?;
    Ok(Json(letter_view::stats(&stats)))
}

async fn export(
    (Shared(desk), Extension(caller)): Called,
    Query(asked): Query<Asked>,
) -> Result<Response, No> {
    let store = desk.store()?;
    let (filter, _, _) = asked.read(&caller).map_err(No::bad)?;
    caller.audit("letters.export", "", true);
    Ok(([(CONTENT_TYPE, "application/jsonl")], Stream::new(letter_view::lines(store, filter)))
        .into_response())
}

/// What is looked at of a line before it is taken in.
#[derive(Debug, Deserialize)]
struct Line {
    upstream: String,
}

async fn import((Shared(desk), Extension(caller)): Called, body: Bytes) -> Outcome<TakenIn> {
    let store = desk.store()?;
    if body.is_empty() {
        return Err(No::bad("the body is missing: lines of an export"));
    }
    let text = std::str::from_utf8(&body).map_err(|_| No::bad("the body is not UTF-8"))?;
    let mut taken = TakenIn { done: Vec::new(), already: 0, failed: Vec::new() };
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let failed = taken.failed.len();
        let mut fail = |error: String| taken.failed.push(NotTakenIn { line: number + 1, error });
        if failed == FAILED_MAX {
            fail("so many lines failed that nothing from here on was read".to_owned());
            break;
        }
        // A line whose upstream is in doubt is nobody's.
        let own = |Line { upstream }| caller.reaches(&upstream);
        if caller.upstreams().is_some() && !serde_json::from_str(line).is_ok_and(own) {
            fail("beyond the token's upstreams".to_owned());
            continue;
        }
        match store.import(line).await {
            Ok(Imported::New(id)) => taken.done.push(id.to_string()),
            Ok(Imported::Already(_)) => taken.already += 1,
            Err(error) => fail(error.to_string()),
        }
    }
    caller.audit("letters.import", &format!("{} letters", taken.done.len()), taken.failed.is_empty());
    Ok(Json(taken))
}

impl Desk {
    fn store(&self) -> Result<Store, No> {
        let none = "no upstream's writes are kept: there is no dead-letter log";
        self.store.clone().ok_or_else(|| No::missing(none))
    }

    /// The letter of this id, if the token reaches it.
    async fn letter(&self, caller: &Caller, id: &str) -> Result<(Store, Letter), No> {
        let store = self.store()?;
        let id: LetterId = id.parse().map_err(|_| No::missing("there is no such letter"))?;
        let letter = store.letter(id).await?;
        if caller.reaches(&letter.upstream) { Ok((store, letter)) } else { Err(No::Beyond) }
    }

    fn bulk(&self, caller: &Caller, MaybeBody(asked): MaybeBody<Bulk>) -> Result<(Store, Filter, u32), No> {
        let store = self.store()?;
        let limit = asked.limit.or(asked.filter.limit).map_or(BULK_MAX, u32::from).min(BULK_MAX);
        let (filter, _, _) = asked.filter.read(caller).map_err(No::bad)?;
        Ok((store, filter, limit))
    }

    fn tell(&self, caller: &Caller, act: Act, letter: &str, upstream: &str) {
        let about = json!({ "letter": letter, "who": caller.name() });
        self.push(act, Some(upstream), about);
    }

    /// One event for all: it would push everything else out of the feed.
    fn tell_many(&self, caller: &Caller, act: Act, upstream: Option<&str>, count: usize) {
        self.push(act, upstream, json!({ "count": count, "who": caller.name() }));
    }

    fn push(&self, act: Act, upstream: Option<&str>, about: serde_json::Value) {
        let kind = match act {
            Act::Replay => "letter.replayed",
            Act::Discard => "letter.discarded",
        };
        if let Some(feed) = &self.feed {
            feed.push(FeedTold { kind, upstream: upstream.map(str::to_owned), about });
        }
    }
}

fn shown(caller: &Caller, letter: &Letter) -> Response {
    ([(ETAG, letter.etag())], Json(told(caller, letter))).into_response()
}

/// A letter as this caller may see it.
fn told(caller: &Caller, letter: &Letter) -> Told {
    let told = Told::from(letter);
    if caller.operates() { told } else { told.without_answers() }
}

impl From<StoreError> for No {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            StoreError::Changed { .. } => StatusCode::PRECONDITION_FAILED,
            StoreError::Standing(_) | StoreError::Locked { .. } => StatusCode::CONFLICT,
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
