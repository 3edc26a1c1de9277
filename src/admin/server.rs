//! The admin side's routes, and its HTTP.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::counted::Counted;
use super::state::Admin;
use super::{api, health, letters};

/// No call needs a larger body.
const BODY_MAX: usize = 64 * 1024;

/// No call takes longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is asked to end after this long, and ends with the answer that is under way…
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// …for which it has another such span as often as its peer has taken so much in the last one.
const TAKEN_MIN: u64 = 64 * 1024;

/// No head takes longer; nor does a connection rest longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The open paths, and with `whole` all the others.
pub fn router(admin: Arc<Admin>, whole: bool) -> Router {
    let open = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health/startup", get(health::startup));
    let api = Router::new()
        .route("/config/reload", post(api::reload))
        .layer(RequestBodyLimitLayer::new(BODY_MAX))
        .nest_service("/letters", letters::router(admin.letters.clone()))
        .fallback(api::nothing)
        .layer(from_fn_with_state(Arc::clone(&admin), api::authenticate));
    let all = if whole {
        open.route("/health", get(health::summary))
            .route("/health/breakers", get(health::breakers))
            .route("/health/degradation", get(health::degradation))
            .route("/health/dead-letters", get(letters::health))
            .nest("/api/v1", api)
    } else {
        open
    };
    all.fallback(api::nothing)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, CALL_TIMEOUT))
        .layer(CatchPanicLayer::new())
        .with_state(admin)
}

/// Serves one connection to its end.
pub async fn serve<S>(router: Router, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let (stream, taken) = Counted::new(stream);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // There are few places here, and probes need one: a connection that takes no answers must not keep it. An export may take
    // minutes, and is taken all the while.
    let mut served = timeout(CONNECTION_MAX, serving.as_mut()).await;
    if served.is_err() {
        serving.as_mut().graceful_shutdown();
        let mut before = taken.load(Ordering::Relaxed);
        loop {
            served = timeout(CALL_TIMEOUT, serving.as_mut()).await;
            let now = taken.load(Ordering::Relaxed);
            if served.is_ok() || now - before < TAKEN_MIN {
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
