//! `[upstream.NAME]`.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::policies::{self, Overridable};
use super::{Check, below, tls};
use crate::config::model::{Scheme, Upstream};
use crate::config::tree::{Step, steps};

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
    let settings = Overridable {
        timeout: &upstream.timeout,
        retry: &upstream.retry,
        breaker: &upstream.breaker,
        limits: &upstream.rate_limit,
    };
    policies::check(&settings, &at, check);
    let replay = steps!["upstream", name, "dead_letter", "replay", "backoff"];
    policies::waits(&upstream.dead_letter.replay.backoff, &replay, check);
    policies::health(&upstream.health, &below(&at, "health"), check);
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

pub(super) fn belongs_to_fender(name: &HeaderName) -> bool {
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
