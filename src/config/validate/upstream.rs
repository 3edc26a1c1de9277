//! `[upstream.NAME]`.

use std::time::Duration;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::{Check, below, tls};
use crate::config::model::{Scheme, Upstream};
use crate::config::tree::{Step, steps};
use crate::policy::backoff::{self, Strategy};
use crate::policy::{breaker, deadline, retry};

pub(super) fn check(name: &str, upstream: &Upstream, check: &mut Check<'_>) {
    let at = steps!["upstream", name];
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.len() > 64
        || !name.bytes().all(good)
        || !name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
    {
        check.wrong(
           &at,
            "an upstream's name must be one to 64 letters, digits, '-', '_' or '.', and start with a letter or digit",
            "it is a metric label",
        );
    }
    urls(upstream, &at, check);
    headers(upstream, &at, check);
    tls::of_upstream(&upstream.tls, &below(&at, "tls"), check);
    let all_in_clear =
        !upstream.urls.is_empty() && upstream.urls.iter().all(|url| url.scheme() == Scheme::Http);
    let says_tls = check.is_users(&below(&at, "tls"));
    if all_in_clear && says_tls {
        check.warn(&below(&at, "tls"), "is never used: the URL is http", "write https in the URL");
    }
    timeouts(&upstream.timeout, &below(&at, "timeout"), check);
    retries(&upstream.retry, &below(&at, "retry"), check);
    breaker(&upstream.breaker, &below(&at, "breaker"), check);
    waits(
        &upstream.dead_letter.replay.backoff,
        &steps!["upstream", name, "dead_letter", "replay", "backoff"],
        check,
    );
    if upstream.health.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        check.wrong(&steps!["upstream", name, "health", "path"], "must start with a slash", "");
    }
}

/// Settings that a route may override, checked wherever they stand.
pub(super) fn timeouts(timeout: &deadline::Settings, at: &[Step], check: &mut Check<'_>) {
    longer(at, ("attempt", timeout.attempt), ("total", timeout.total), check);
    if let Some(name) = &timeout.propagate {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if belongs_to_fender(&header) => {
                check.wrong(
                    &below(at, "propagate"),
                    "is a header that Fender manages itself",
                    "choose another, such as \"x-time-left-ms\"",
                );
            }
            Ok(_) => {}
            Err(_) => {
                check.wrong(&below(at, "propagate"), "must be a header name, such as \"x-time-left-ms\"", "");
            }
        }
    }
}

/// As `timeouts`.
pub(super) fn retries(retry: &retry::Settings, at: &[Step], check: &mut Check<'_>) {
    waits(&retry.backoff, &below(at, "backoff"), check);
}

/// As `timeouts`.
pub(super) fn breaker(breaker: &breaker::Settings, at: &[Step], check: &mut Check<'_>) {
    longer(at, ("open_for", breaker.open_for), ("max_open_for", breaker.max_open_for), check);
    if breaker.window_requests.is_some() && check.both_written(at, "window_requests", "window") {
        check.contradiction(
            &below(at, "window_requests"),
            &below(at, "window"),
            "stands instead of window: set one of them",
        );
    }
    if breaker.window_requests.is_some_and(|window| window.get() < breaker.minimum_requests) {
        let message = "is less than minimum_requests: no rate would ever be judged";
        check.contradiction(&below(at, "window_requests"), &below(at, "minimum_requests"), message);
    }
}

fn waits(backoff: &backoff::Settings, at: &[Step], check: &mut Check<'_>) {
    longer(at, ("base", backoff.base), ("max", backoff.max), check);
    if backoff.factor < 1.0 {
        check.wrong(&below(at, "factor"), "must be at least 1: waits do not shrink", "");
    }
    if backoff.strategy == Strategy::Schedule && backoff.schedule.is_empty() {
        check.wrong(&below(at, "schedule"), "must list at least one wait", "");
    }
}

fn longer(
    at: &[Step],
    (key, value): (&str, Duration),
    (other, limit): (&str, Duration),
    check: &mut Check<'_>,
) {
    if value > limit && check.both_written(at, key, other) {
        check.contradiction(&below(at, key), &below(at, other), format!("must not be longer than {other}"));
    }
}

fn urls(upstream: &Upstream, at: &[Step], check: &mut Check<'_>) {
    let node = |key: &str| check.tree.at(&below(at, key)).is_some() || check.was_taken(&below(at, key));
    match (node("url"), node("urls")) {
        (true, true) => check.contradiction(
            &below(at, "url"),
            &below(at, "urls"),
            "url and urls cannot both be set: set one of them",
        ),
        (false, false) => check.wrong(at, "must have `url`", "url = \"https://host\", or urls for several"),
        (false, true)
            if upstream.urls.is_empty()
                && check.tree.at(&below(at, "urls")).is_some_and(|urls| urls.items().is_empty()) =>
        {
            check.wrong(&below(at, "urls"), "must list at least one URL", "");
        }
        _ => {}
    }
    for (number, url) in upstream.urls.iter().enumerate() {
        if upstream.urls.iter().take(number).any(|other| other == url) {
            let mut path = below(at, "urls");
            path.push(Step::from(number));
            check.wrong(&path, "is listed twice", "");
        }
    }
}

fn headers(upstream: &Upstream, at: &[Step], check: &mut Check<'_>) {
    let set = below(&below(at, "headers"), "set");
    for (name, value) in &upstream.headers.set {
        let here = below(&set, name);
        let header = HeaderName::from_bytes(name.as_bytes());
        match &header {
            Err(_) => check.wrong(&here, "is not a header name", ""),
            Ok(header) if belongs_to_fender(header) => {
                check.wrong(&here, "is a header that Fender manages itself", "take it out");
            }
            Ok(header) if upstream.headers.remove.contains(header) => {
                check.wrong(
                    &here,
                    "is also in headers.remove",
                    "headers.set replaces the client's own already",
                );
            }
            Ok(header) if *header == HOST && Authority::try_from(value.expose()).is_err() => {
                check.wrong(&here, "is no host", "write it as \"api.example.com\", with a port if need be");
            }
            Ok(_) => {}
        }
        if upstream.headers.set.keys().any(|other| other < name && other.eq_ignore_ascii_case(name)) {
            check.wrong(&here, "is set twice: header names have no case", "");
        }
        if HeaderValue::from_str(value.expose()).is_err() {
            check.wrong(
                &here,
                "cannot be a header's value: it holds a line break or another control character",
                "",
            );
        }
    }
}

fn belongs_to_fender(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("fender-") || MANAGED.contains(&name)
}

/// Framing and connection headers: setting one would desynchronise or break the exchange.
const MANAGED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
