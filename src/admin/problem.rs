//! What goes wrong, as RFC 9457 says it: for every answer that is no answer, whoever in the house made it.

use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// Why a call is not done.
#[derive(Debug)]
pub(super) enum No {
    /// 401: no token, or none that is known.
    Unknown,
    /// 403: the token's role or scope does not reach so far.
    Beyond,
    /// 429: too many wrong tokens from there; after so many seconds the next one.
    Enough(u64),
    /// The status, and one sentence.
    Because(StatusCode, String),
}

impl No {
    /// What was asked makes no sense.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::Because(StatusCode::BAD_REQUEST, why.into())
    }

    /// There is no such thing.
    pub(super) fn missing(why: impl Into<String>) -> Self {
        Self::Because(StatusCode::NOT_FOUND, why.into())
    }

    /// Things stand otherwise.
    pub(super) fn conflict(why: impl Into<String>) -> Self {
        Self::Because(StatusCode::CONFLICT, why.into())
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => {
                let mut response =
                    problem(StatusCode::UNAUTHORIZED, "a bearer token of [[admin.token]] is required", None);
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            Self::Beyond => {
                problem(StatusCode::FORBIDDEN, "the token's role or its upstreams do not reach so far", None)
            }
            Self::Enough(seconds) => {
                let why = "too many wrong tokens came from this address: wait before the next one";
                let mut response = problem(StatusCode::TOO_MANY_REQUESTS, why, None);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                response
            }
            Self::Because(status, why) => problem(status, &why, None),
        }
    }
}

/// A problem of `application/problem+json` (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status tells what kind of problem it is.
    r#type: &'static str,
    /// What the status means.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong here.
    detail: String,
    /// Of a config that was refused: everything that is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Value>,
}

/// The answer for it.
pub(super) fn problem(status: StatusCode, detail: &str, problems: Option<Value>) -> Response {
    let title = status.canonical_reason().unwrap_or("Unknown");
    let told = Problem {
        r#type: "about:blank",
        title,
        status: status.as_u16(),
        detail: detail.to_owned(),
        problems,
    };
    let text = serde_json::to_string(&told).unwrap_or_default();
    (status, [(CONTENT_TYPE, "application/problem+json")], text).into_response()
}

/// What the router, its layers and its extractors refuse, in the same form.
pub(super) async fn in_one_form(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let told = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        kind.to_str().is_ok_and(|kind| kind.starts_with("application/") || kind.starts_with("text/event"))
    });
    if !(status.is_client_error() || status.is_server_error()) || told {
        return response;
    }
    let detail = match status {
        StatusCode::NOT_FOUND => "no such path",
        StatusCode::METHOD_NOT_ALLOWED => "the path does not know this method: see the Allow header",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too large for this call",
        StatusCode::SERVICE_UNAVAILABLE => "it took too long",
        StatusCode::INTERNAL_SERVER_ERROR => "a defect of Fender's: please report it",
        _ => "the call cannot be read",
    };
    let (mut parts, _) = response.into_parts();
    let (own, body) = problem(status, detail, None).into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.extend(own.headers);
    Response::from_parts(parts, body)
}
