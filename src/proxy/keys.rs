//! Which breaker, bucket or pause a request belongs to. A key is a hash: what it was made of (a credential, perhaps) is
//! never kept.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::exchange::Exchange;
use crate::policy::breaker::BreakerWord;
use crate::policy::key::Key;
use crate::policy::limit::RateLimitWord;
use crate::policy::throttle::ThrottleWord;
use crate::route::Plan;

/// A hash that nobody outside can foresee: keys of different values meet by chance alone.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Fields that say on whose account a request goes.
pub(super) const CREDENTIALS: [HeaderName; 5] = [
    http::header::AUTHORIZATION,
    http::header::PROXY_AUTHORIZATION,
    http::header::COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// The keys under which one plan's policies look at a request.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// `None`: the upstream has one breaker.
    pub breaker: Option<u64>,
    /// One for each rate limit.
    pub limits: Vec<u64>,
    /// The body, where some key is in it.
    json: Option<Value>,
}

impl Keys {
    /// `body`: whole, if the plan asks for it and it could be had.
    pub(super) fn new(exchange: &Exchange, plan: &Plan, body: Option<&Bytes>) -> Self {
        let json = body.and_then(|body| serde_json::from_slice(body).ok());
        let mut keys = Self { breaker: None, limits: Vec::new(), json };
        keys.breaker = match &plan.settings().breaker.key {
            Key::Word(BreakerWord::Upstream) => None,
            Key::Header(name) => Some(header(exchange, plan, name)),
            Key::Json(pointer) => Some(keys.field(pointer)),
        };
        keys.limits = plan
            .settings()
            .rate_limit
            .iter()
            .map(|limit| match &limit.key {
                Key::Word(RateLimitWord::Upstream) => 0,
                Key::Word(RateLimitWord::Path) => hash(exchange.target.path()),
                Key::Header(name) => header(exchange, plan, name),
                Key::Json(pointer) => keys.field(pointer),
            })
            .collect();
        keys
    }

    /// The scope of a told wait.
    pub(super) fn scope(&self, exchange: &Exchange) -> u64 {
        let plan = &exchange.plan;
        match &plan.upstream().settings().throttle.scope {
            Key::Word(ThrottleWord::Upstream) => 0,
            Key::Word(ThrottleWord::Auto | ThrottleWord::Credential) => credential(exchange, plan),
            Key::Header(name) => header(exchange, plan, name),
            Key::Json(pointer) => self.field(pointer),
        }
    }

    fn field(&self, pointer: &str) -> u64 {
        match self.json.as_ref().and_then(|json| json.pointer(pointer)) {
            Some(Value::String(text)) => hash(text),
            Some(other) => hash(other.to_string()),
            None => 0,
        }
    }
}

/// Whether some key of the plan is in the request's body.
pub(super) fn in_body(plan: &Plan) -> bool {
    let settings = plan.settings();
    matches!(settings.breaker.key, Key::Json(_))
        || matches!(plan.upstream().settings().throttle.scope, Key::Json(_))
        || settings.rate_limit.iter().any(|limit| matches!(limit.key, Key::Json(_)))
}

/// All that a request says of itself and its caller: for what only the same caller may see again. An API may tell its
/// callers apart by any field, so all count but those that differ from request to request by their nature.
pub(super) fn caller(headers: &HeaderMap) -> u64 {
    let mut fields: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| !PASSING.contains(name))
        .collect();
    fields.sort_unstable();
    hash(fields)
}

/// Fields of one request, not of its caller.
const PASSING: [&str; 9] = [
    "date",
    "fender-timeout",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "amz-sdk-request",
];

pub(super) fn hash(of: impl Hash) -> u64 {
    HASHER.hash_one(of)
}

/// The credentials as they go up: what Fender sets stands before what the client says.
fn credential(exchange: &Exchange, plan: &Plan) -> u64 {
    let values = CREDENTIALS.map(|name| value(exchange, plan, &name).map(HeaderValue::as_bytes));
    if values.iter().all(Option::is_none) { 0 } else { hash(values) }
}

fn header(exchange: &Exchange, plan: &Plan, name: &str) -> u64 {
    let name = HeaderName::try_from(name).ok();
    name.and_then(|name| value(exchange, plan, &name).map(|value| hash(value.as_bytes()))).unwrap_or(0)
}

fn value<'e>(exchange: &'e Exchange, plan: &'e Plan, name: &HeaderName) -> Option<&'e HeaderValue> {
    let set = plan.set().iter().find(|(set, _)| set == name).map(|(_, value)| value);
    set.or_else(|| exchange.client_header(name))
}
