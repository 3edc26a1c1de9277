//! `/api/v1/events`: what happens, as server-sent events that can be resumed.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::auth::Caller;
use super::call::{Call, Rule};
use super::degradation::concerns;
use super::given::Query;
use super::line::Line;
use super::problem::No;
use super::state::Admin;
use crate::drain::Phase;
use crate::policy::degradation::Level;
use crate::telemetry::feed::{Entry, Feed};

pub(super) fn calls() -> Vec<Call> {
    vec![
        Call::get("/api/v1/events", Rule::Viewer, "What happens, as it happens; Last-Event-ID resumes", events)
            .asks::<Asked>()
            .gives_other(
                "text/event-stream",
                "Events named breaker.*, letter.*, degradation.*, config.*, health.*, store.*, quota.* and drain.*, \
                 with an object of JSON each; events.missed tells how many are gone",
            )
            .fails(&[503]),
    ]
}

/// Readers at once.
pub(super) const READERS_MAX: usize = 16;

/// A comment goes out after so long without an event: whoever reads, and all between, know that it lives.
const PING: Duration = Duration::from_secs(15);

/// So many events are taken from the feed at a time.
const BATCH: usize = 64;

/// How long a reader waits before it comes again, in milliseconds.
const RETRY_MS: u32 = 1000;

/// Which events are asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Only those of these kinds, with commas: `breaker,letter.parked`. All of them when left out.
    #[schemars(length(max = TYPES_MAX), regex(pattern = r"^[a-z_.,]*$"))]
    types: Option<String>,
    /// Only those of this upstream, and the process's own.
    upstream: Option<String>,
    /// As the header of this name: for a reader that cannot set headers.
    #[serde(rename = "last-event-id")]
    last_event_id: Option<String>,
}

const TYPES_MAX: usize = 512;

async fn events(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    line: Option<Extension<Line>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, No> {
    let wanted = Wanted::read(caller, &asked)?;
    let Ok(place) = Arc::clone(&admin.own.event_readers).try_acquire_owned() else {
        let why = format!("{READERS_MAX} readers follow the events already");
        return Err(No::Because(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let resumed = headers
        .get("last-event-id")
        .map(|id| id.to_str().unwrap_or("unreadable"))
        .or(asked.last_event_id.as_deref());
    let resumed = resumed.filter(|id| !id.is_empty());
    let known = resumed.and_then(|id| admin.feed.number(id));
    // An id of another life of the process: what happened between is not known, what there is is told.
    let torn = resumed.is_some() && known.is_none();
    let seen = if torn { 0 } else { known.unwrap_or_else(|| admin.feed.newest()) };
    if let Some(Extension(line)) = line {
        line.has_no_end();
    }
    let reader = Reader {
        admin: Arc::clone(&admin),
        feed: Arc::clone(&admin.feed),
        news: admin.feed.watch(),
        phase: admin.drain.watch(),
        wanted,
        seen,
        hello: Some(torn),
        _place: place,
    };
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(Stream { reading: Some(Box::pin(reader.next())) })).into_response())
}

/// What a reader may see, and wants to.
struct Wanted {
    caller: Caller,
    types: Vec<String>,
    upstream: Option<String>,
}

impl Wanted {
    fn read(caller: Caller, asked: &Asked) -> Result<Self, No> {
        let types = asked.types.as_deref().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_lowercase() || b"_.,".contains(&byte);
        if types.len() > TYPES_MAX || !types.bytes().all(plain) {
            return Err(No::bad("types: words such as breaker or letter.parked, with commas between them"));
        }
        if asked.upstream.as_ref().is_some_and(|upstream| !caller.reaches(upstream)) {
            return Err(No::Beyond);
        }
        let types = types.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok(Self { caller, types, upstream: asked.upstream.clone() })
    }

    fn wants(&self, entry: &Entry) -> bool {
        let of_kind = |word: &String| {
            let rest = entry.kind.strip_prefix(word.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let upstream = entry.upstream.as_ref();
        (self.types.is_empty() || self.types.iter().any(of_kind))
            && upstream.is_none_or(|name| self.caller.reaches(name))
            && upstream.is_none_or(|name| self.upstream.as_ref().is_none_or(|wanted| wanted == name))
    }
}

/// One reader of the feed.
struct Reader {
    admin: Arc<Admin>,
    feed: Arc<Feed>,
    news: watch::Receiver<u64>,
    phase: watch::Receiver<Phase>,
    wanted: Wanted,
    seen: u64,
    /// It has heard nothing yet; whether what it has seen last is of another life of the process.
    hello: Option<bool>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// The next piece of the stream; `None` at the end of the process, or of the token.
    async fn next(mut self) -> Option<(Self, Bytes)> {
        if let Some(torn) = self.hello.take() {
            let mut hello = format!("retry: {RETRY_MS}\n: events of fender\n\n");
            if torn {
                hello.push_str(&missed("null"));
            }
            return Some((self, hello.into()));
        }
        loop {
            self.news.borrow_and_update();
            // A reload is an event itself: whose token it has taken hears no more.
            if !self.wanted.caller.is_still_known(&self.admin.settings.load()) {
                return None;
            }
            let text = self.take();
            if !text.is_empty() {
                return Some((self, text.into()));
            }
            if self.feed.newest() > self.seen {
                continue; // There was more than one batch, none of it wanted.
            }
            let quiet = tokio::select! {
                changed = self.news.changed() => changed.map(|()| false).ok()?,
                _ = self.phase.wait_for(|phase| *phase >= Phase::Storing) => return None,
                () = tokio::time::sleep(PING) => true,
            };
            if quiet {
                return Some((self, Bytes::from_static(b": ping\n\n")));
            }
        }
    }

    /// As the caller may hear it: who set a level by hand, and why, is not for every token.
    fn told<'a>(&self, entry: &'a Entry) -> Cow<'a, str> {
        let whole = Cow::Borrowed(entry.text.as_str());
        if entry.kind != "degradation.changed" || self.wanted.caller.views_all() {
            return whole;
        }
        // Our own words.
        let Ok(Value::Object(mut event)) = serde_json::from_str(&entry.text) else { return whole };
        let to = event.get("to").and_then(Value::as_str);
        let to = Level::ALL.into_iter().find(|level| Some(level.as_str()) == to);
        if to.is_some_and(|to| concerns(&self.admin, &self.wanted.caller, to)) {
            return whole;
        }
        event.insert("who".to_owned(), Value::Null);
        event.insert("reason".to_owned(), Value::Null);
        Cow::Owned(Value::Object(event).to_string())
    }

    fn take(&mut self) -> String {
        let news = self.feed.after(self.seen, BATCH);
        let mut text = String::new();
        if news.missed > 0 {
            self.seen += news.missed;
            let id = self.feed.id(self.seen);
            text = format!("id: {id}\n{}", missed(&news.missed.to_string()));
        }
        for entry in news.entries {
            self.seen = entry.number;
            if self.wanted.wants(&entry) {
                let id = self.feed.id(entry.number);
                let told = self.told(&entry);
                text.push_str(&format!("id: {id}\nevent: {}\ndata: {told}\n\n", entry.kind));
            }
        }
        text
    }
}

/// So many events are gone; `null`: nobody knows how many.
fn missed(count: &str) -> String {
    format!("event: events.missed\ndata: {{\"event\":\"events.missed\",\"missed\":{count}}}\n\n")
}

type Reading = Pin<Box<dyn Future<Output = Option<(Reader, Bytes)>> + Send>>;

/// What a reader reads, on its way out: the next piece is made when the last one has been taken.
struct Stream {
    reading: Option<Reading>,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
        let read = ready!(reading.as_mut().poll(cx));
        this.reading = None;
        let Some((reader, piece)) = read else { return Poll::Ready(None) };
        this.reading = Some(Box::pin(reader.next()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
