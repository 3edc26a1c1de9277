//! Requests that never came to their upstream: refused heads, no route, one connection too many.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response};

use super::body::Body;
use super::failure::Failure;
use super::id::RequestId;
use super::pipeline::Proxy;
use super::respond;
use super::traced::Trace;
use crate::clock;
use crate::config;
use crate::policy::reason::Reason;
use crate::route::Plan;
use crate::telemetry::access::{self, AccessLine};
use crate::telemetry::metrics::Source;
use crate::telemetry::story::{Ended, Fact, Story, TEXT_MAX, brief};

/// A request that is turned away by its head.
#[derive(Debug)]
pub(super) struct TurnedAway(Box<(Failure, Asked)>);

/// What it asked for, as far as that is known.
#[derive(Debug, Default)]
pub(super) struct Asked {
    method: String,
    path: String,
    plan: Option<Arc<Plan>>,
}

impl TurnedAway {
    pub(super) fn new(failure: Failure, method: &Method, path: &str, plan: Option<&Arc<Plan>>) -> Self {
        let asked = Asked { method: method.to_string(), path: path.to_owned(), plan: plan.cloned() };
        Self(Box::new((failure, asked)))
    }

    pub(super) fn answer(&self, proxy: &Proxy, id: &RequestId, trace: Option<Box<Trace>>) -> Response<Body> {
        let (failure, asked) = &*self.0;
        answer(proxy, id, failure, asked, trace)
    }
}

/// The answer to it, once it is told.
pub(super) fn answer(
    proxy: &Proxy,
    id: &RequestId,
    failure: &Failure,
    asked: &Asked,
    trace: Option<Box<Trace>>,
) -> Response<Body> {
    let answer = respond::refused(id, failure, None);
    let (status, reason) = (answer.status().as_u16(), failure.reason());
    let Asked { method, path, plan } = asked;
    let log = proxy.table.load().access_log();
    let path = match plan {
        Some(plan) => plan.upstream().dialect().masked(path).into_owned(),
        // Most processes use few dialects: the others are read when somebody asks for this story.
        None if !log && trace.is_none() && path.len() <= TEXT_MAX => in_use(proxy, path.clone()),
        None => config::without_secrets(&in_use(proxy, path.clone())),
    };
    let (upstream, route) = plan.as_ref().map_or(("", ""), |plan| (plan.upstream_name(), plan.name()));
    if log {
        write((id, reason, status), (upstream, route), (method, &path));
    }
    let mut story = Story::new(id.as_str(), clock::unix_ms(), (upstream, route), (method, &path));
    story.note(
        Duration::ZERO,
        None,
        Fact::Failed { reason, detail: brief(&failure.detail()), key: key(failure) },
    );
    let ended = Ended {
        status,
        source: Source::Fender.as_str(),
        reason: Some(reason),
        how: "complete",
        took: Duration::ZERO,
    };
    if let Some(trace) = trace {
        let now = clock::now();
        let route = plan.as_ref().map_or("", |plan| plan.route().path.as_str());
        trace.end(&story, &ended, route, (now, now));
    }
    story.ended = Some(ended);
    proxy.feed.stories().push(story);
    proxy.table.load().unrouted().answered(status, Source::Fender, Duration::ZERO);
    answer
}

/// The key of the config that bounds it, if one does.
fn key(failure: &Failure) -> Option<&'static str> {
    match failure.reason() {
        Reason::BodyTooLarge => Some("server.max_request_body"),
        Reason::HeadersTooLarge => Some("server.max_header_bytes"),
        Reason::HeaderTimeout => Some("server.header_timeout"),
        Reason::Overload if failure.detail().contains("max_connections") => Some("server.max_connections"),
        _ => None,
    }
}

/// A path that led nowhere, without what any dialect in use takes for a secret.
fn in_use(proxy: &Proxy, path: String) -> String {
    let table = proxy.table.load();
    let dialects = table.upstreams().iter().map(|upstream| upstream.dialect());
    dialects.fold(path, |path, dialect| match dialect.masked(&path) {
        Cow::Owned(masked) => masked,
        Cow::Borrowed(_) => path,
    })
}

/// The access log's line.
fn write(
    (id, reason, status): (&RequestId, Reason, u16),
    (upstream, route): (&str, &str),
    (method, path): (&str, &str),
) {
    access::write(&AccessLine {
        message: "request",
        at_ms: clock::unix_ms(),
        request_id: id.as_str(),
        upstream,
        route,
        method,
        path,
        status,
        source: Source::Fender.as_str(),
        reason: Some(reason.as_str()),
        end: "complete",
        error: None,
        duration_ms: 0.0,
        request_bytes: 0,
        response_bytes: 0,
        attempts: &[],
    });
}
