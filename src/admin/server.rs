//! The admin side's routes, and its HTTP.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Request, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use super::call::{self, Call, Rule};
use super::counted::Counted;
use super::line::Line;
use super::state::Admin;
use super::{
    auth, breakers, dashboard, degradation, events, health, letters, openapi, problem, process, report,
    requests, upstreams,
};
use crate::deadletter::Store;
use crate::telemetry::feed::Feed;

/// No head is larger.
const HEAD_MAX: usize = 64 * 1024;

/// No call takes longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is asked to end after this long, and ends with the answer that is under way…
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// …for which it has another such span as often as its peer has taken so much in the last one.
const TAKEN_MIN: u64 = 64 * 1024;

/// No head takes longer; nor does a connection rest longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Every call that there is, on this log and with this feed.
pub(super) fn calls(letters: Option<Store>, feed: Option<Arc<Feed>>) -> Vec<Call> {
    let own =
        Call::get("/api/v1/openapi.json", Rule::Viewer, "The description of all calls", openapi::document)
            .gives::<serde_json::Map<String, serde_json::Value>>();
    let groups = [
        health::calls(),
        upstreams::calls(),
        breakers::calls(),
        degradation::calls(),
        letters::calls_on(letters, feed),
        requests::calls(),
        events::calls(),
        report::calls(),
        process::calls(),
        vec![own],
        dashboard::calls(),
    ];
    groups.into_iter().flatten().collect()
}

/// All calls; without `whole` only those that are open wherever they can be reached.
pub fn router(admin: Arc<Admin>, whole: bool) -> Router {
    let mut calls = calls(admin.letters.clone(), Some(Arc::clone(&admin.feed)));
    calls.retain(|call| whole || call.rule == Rule::Open);
    let unasked = SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let unsniffed =
        SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut routed = call::routed(calls).fallback(nothing);
    if whole {
        routed = routed.layer(from_fn_with_state(Arc::clone(&admin), auth::authenticate));
    }
    routed
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, CALL_TIMEOUT))
        .layer(CatchPanicLayer::new())
        .layer(from_fn(problem::in_one_form))
        .layer(unasked)
        .layer(unsniffed)
        .with_state(admin)
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Serves one connection from there to its end.
pub async fn serve<S>(router: Router, stream: S, line: Line)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    let (stream, taken) = Counted::new(stream);
    let own = line.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let busy = own.call();
        request.extensions_mut().insert(own.clone());
        let answered = router.clone().oneshot(request.map(Body::new));
        async move {
            let response = answered.await?;
            // The call lasts as long as its answer.
            Ok::<_, Infallible>(response.map(|body| {
                body.map_frame(move |frame| {
                    let _under_way = &busy;
                    frame
                })
            }))
        }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // There are few places here, and probes need one: a connection that takes no answers must not keep it. An export may take
    // minutes, and is taken all the while.
    let mut served = timeout(CONNECTION_MAX, serving.as_mut()).await;
    if served.is_err() {
        serving.as_mut().graceful_shutdown();
        let mut before = taken.bytes();
        loop {
            served = timeout(CALL_TIMEOUT, serving.as_mut()).await;
            let now = taken.bytes();
            // Who follows the events takes little, but all that there is.
            let follows = line.is_endless() && (now > before || !taken.waits());
            if served.is_ok() || (now - before < TAKEN_MIN && !follows) {
                break;
            }
            before = now;
        }
    }
    let served = served.unwrap_or(Ok(()));
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}
