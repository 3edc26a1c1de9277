//! The access log: one JSON line a request, on standard output. It bears no query, no header and no body, where secrets
//! live; those that an API keeps in its paths are masked once its dialect is known.

use std::sync::OnceLock;

use serde::Serialize;

use super::sink::Sink;
use crate::policy::outcome::Outcome;

/// One request's line.
#[derive(Debug, Serialize)]
pub struct AccessLine<'a> {
    pub message: &'static str,
    /// Wall clock, milliseconds since 1970.
    pub at_ms: u64,
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub route: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    /// 499 where the client hung up before its answer began.
    pub status: u16,
    pub source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// `complete`, `cut` or `cancelled`.
    pub end: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    pub duration_ms: f64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub attempts: &'a [AttemptLine],
}

/// One attempt in a request's line.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptLine {
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub duration_ms: f64,
    /// The request was sent once more because a pooled connection was stale.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale_connection: bool,
    /// Which of the upstream's endpoints it was sent to, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl AttemptLine {
    /// Of an attempt of which nothing more was noted when it ended well.
    #[must_use]
    pub fn good(status: u16, duration_ms: f64) -> Self {
        Self {
            outcome: Outcome::Success.as_str(),
            status: Some(status),
            reason: None,
            verdict: None,
            error: None,
            duration_ms,
            stale_connection: false,
            endpoint: None,
        }
    }
}

fn sink() -> &'static Sink {
    static SINK: OnceLock<Sink> = OnceLock::new();
    SINK.get_or_init(|| Sink::new("fender-access", std::io::stdout()))
}

/// Writes `line`.
pub fn write(line: &AccessLine<'_>) {
    if let Ok(mut bytes) = serde_json::to_vec(line) {
        bytes.push(b'\n');
        sink().line(bytes);
    }
}

/// Lines lost to a reader that did not keep up.
#[must_use]
pub fn dropped() -> u64 {
    sink().dropped()
}

/// Writes what is queued, at the end of the process.
pub fn close() {
    sink().close();
}
