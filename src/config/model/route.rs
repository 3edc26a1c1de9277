//! `[[route]]`: which requests go to which upstream, under which plan.

use std::borrow::Cow;

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::dead_letter::LetterRule;
use super::fallback::Fallback;
use super::upstream::{IdempotencyHeader, Idempotent, Stream, Upstream};
use super::values::Methods;
use crate::policy::degradation::ShedAt;
use crate::policy::limit::RateLimit;
use crate::policy::{breaker, deadline, retry};
use crate::units::TextOrNone;

/// Which requests go to which upstream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Entry")]
pub struct Route {
    /// The metric label: host and path, unless the config names it.
    pub name: String,
    /// The host that requests must name, in lower case; `None` = any.
    pub host: Option<String>,
    /// The prefix, in whole segments, without a slash at its end (but `/` itself).
    pub path: String,
    /// The methods; empty = all.
    pub methods: Vec<Method>,
    /// Where they go.
    pub upstream: String,
    /// Whether the prefix is taken off.
    pub strip_prefix: bool,
    /// The policies in force here.
    pub plan: Plan,
}

/// The policies that a route may set over its upstream's, each key in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How long anything may take.
    pub timeout: deadline::Settings,
    /// Event streams.
    pub stream: Stream,
    /// Whether a failed attempt is made again; its budget is the upstream's.
    pub retry: retry::Settings,
    /// When the upstream is left alone for a while.
    pub breaker: breaker::Settings,
    /// Our own limits.
    pub rate_limit: Vec<RateLimit>,
    /// What answers when the upstream cannot.
    pub fallback: Vec<Fallback>,
    /// Which failed writes are kept.
    pub dead_letter: LetterRule,
    /// Whether a request that is not idempotent by its method may be sent twice.
    pub idempotent: Idempotent,
    /// Which header makes a request safe to send twice.
    pub idempotency_header: IdempotencyHeader,
    /// From which degradation level on requests are shed.
    pub shed_at: ShedAt,
    /// The route says something of its breaker: it has its own.
    pub own_breaker: bool,
    /// The route lists rate limits: they stand instead of the upstream's.
    pub own_limits: bool,
}

/// Requests that go to one upstream, under its policies or the ones that stand here over them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
struct Entry {
    /// The metric label; default: host and path.
    #[serde(with = "TextOrNone")]
    name: Option<String>,
    /// The host that requests must name; "" = any.
    #[serde(with = "TextOrNone")]
    host: Option<String>,
    /// The prefix, in whole segments.
    path: String,
    /// The methods; empty = all.
    #[serde(with = "Methods")]
    methods: Vec<Method>,
    /// Where these requests go.
    upstream: String,
    /// Whether the prefix is taken off before a request goes on.
    strip_prefix: bool,
    /// How long anything may take, over the upstream's.
    timeout: deadline::Settings,
    /// Event streams, over the upstream's.
    stream: Stream,
    /// Whether a failed attempt is made again, over the upstream's; the budget stays the upstream's.
    retry: retry::Settings,
    /// A breaker of this route's own.
    breaker: breaker::Settings,
    /// Our own limits, instead of the upstream's.
    rate_limit: Vec<RateLimit>,
    /// What answers when the upstream cannot, instead of the upstream's.
    fallback: Vec<Fallback>,
    /// Which failed writes are kept, over the upstream's.
    dead_letter: LetterRule,
    /// Whether a request that is not idempotent by its method may be sent twice.
    idempotent: Idempotent,
    /// A request bearing this header may be sent twice.
    idempotency_header: IdempotencyHeader,
    /// From this degradation level on requests are shed.
    shed_at: ShedAt,
}

impl JsonSchema for Route {
    fn schema_name() -> Cow<'static, str> {
        Entry::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Entry::json_schema(generator)
    }
}

impl Route {
    /// What leads to `upstream` under its own policies alone.
    #[must_use]
    pub fn direct(name: &str, upstream: &Upstream) -> Self {
        Self {
            name: String::new(),
            host: None,
            path: "/".to_owned(),
            methods: Vec::new(),
            upstream: name.to_owned(),
            strip_prefix: true,
            plan: Plan {
                timeout: upstream.timeout.clone(),
                stream: upstream.stream.clone(),
                retry: upstream.retry.clone(),
                breaker: upstream.breaker.clone(),
                rate_limit: upstream.rate_limit.clone(),
                fallback: upstream.fallback.clone(),
                dead_letter: upstream.dead_letter.clone(),
                idempotent: upstream.idempotent,
                idempotency_header: upstream.idempotency_header.clone(),
                shed_at: upstream.shed_at,
                own_breaker: false,
                own_limits: false,
            },
        }
    }
}

impl From<Entry> for Route {
    fn from(entry: Entry) -> Self {
        let host = entry.host.map(|host| host.to_ascii_lowercase());
        let path = match entry.path.trim_end_matches('/') {
            "" => "/".to_owned(),
            trimmed => trimmed.to_owned(),
        };
        let by_default = || format!("{}{path}", host.as_deref().unwrap_or_default());
        Self {
            name: entry.name.unwrap_or_else(by_default),
            host,
            path,
            methods: entry.methods,
            upstream: entry.upstream,
            strip_prefix: entry.strip_prefix,
            plan: Plan {
                timeout: entry.timeout,
                stream: entry.stream,
                retry: entry.retry,
                breaker: entry.breaker,
                rate_limit: entry.rate_limit,
                fallback: entry.fallback,
                dead_letter: entry.dead_letter,
                idempotent: entry.idempotent,
                idempotency_header: entry.idempotency_header,
                shed_at: entry.shed_at,
                own_breaker: false, // Who said it is known to the tree alone: set once it is read.
                own_limits: false,
            },
        }
    }
}
