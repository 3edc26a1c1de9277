//! `/`: a page that uses the API and nothing else. It holds no data, so it needs no token; whoever opens it does.

use std::sync::Arc;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::call::{Call, Rule};

/// What the page may do: run its own scripts, ask its own server, and nothing else. So even a text that was taken for markup would
/// run nothing, and send nothing anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    path: &'static str,
    about: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! script {
    ($name:literal, $about:literal) => {
        Asset {
            path: concat!("/dashboard/", $name),
            about: $about,
            media_type: JS,
            text: include_str!(concat!("dashboard/", $name)),
        }
    };
}

/// All of it.
static ASSETS: [Asset; 10] = [
    Asset {
        path: "/",
        about: "The dashboard: a page that uses this API and nothing else",
        media_type: HTML,
        text: include_str!("dashboard/page.html"),
    },
    Asset {
        path: "/dashboard/style.css",
        about: "The dashboard's looks",
        media_type: CSS,
        text: include_str!("dashboard/style.css"),
    },
    script!("main.js", "The dashboard's clockwork"),
    script!("api.js", "How the dashboard asks this API"),
    script!("dom.js", "How the dashboard makes what it shows"),
    script!("upstreams.js", "The dashboard's upstreams"),
    script!("letters.js", "The dashboard's letters"),
    script!("story.js", "What the dashboard tells of a request"),
    script!("events.js", "The dashboard's events"),
    script!("report.js", "The dashboard's report"),
];

pub(super) fn calls() -> Vec<Call> {
    ASSETS.iter().map(call).collect()
}

fn call(asset: &'static Asset) -> Call {
    let tag: Arc<str> = etag(asset.text).into();
    let handler = move |headers: HeaderMap| {
        let tag = Arc::clone(&tag);
        async move { serve(asset, &tag, &headers) }
    };
    let kind = asset.media_type.split(';').next().unwrap_or_default();
    Call::get(asset.path, Rule::OpenHere, asset.about, handler)
        .gives_other(kind, "A file of the dashboard")
        .tagged()
}

/// It changes with the text alone: a browser asks each time, and is told in a few bytes that nothing is new.
fn etag(text: &str) -> String {
    let sum = Sha256::digest(text.as_bytes());
    let short: String = sum.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{short}\"")
}

fn serve(asset: &'static Asset, tag: &str, headers: &HeaderMap) -> Response {
    let own = [
        (CONTENT_TYPE, asset.media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
        (ETAG, tag),
    ];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|tags| tags.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    if is_known { (StatusCode::NOT_MODIFIED, own).into_response() } else { (own, asset.text).into_response() }
}
