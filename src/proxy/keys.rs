//! Which breaker, bucket or pause a request belongs to. A key is a hash: what it was made of (a credential, perhaps) is
//! never kept.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::exchange::Exchange;
use crate::dialect::Place;
use crate::policy::breaker::BreakerWord;
use crate::policy::key::Key;
use crate::policy::limit::RateLimitWord;
use crate::policy::throttle::{Scope, ThrottleWord};
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
    /// One for each rate limit; what is missing is 0.
    pub limits: Vec<u64>,
    /// The body, where some key is in it.
    json: Option<Value>,
    /// What the dialect tells apart below the credential, once somebody has asked.
    narrow: OnceLock<Narrow>,
}

/// Scopes below the credential's.
#[derive(Debug, Clone, Copy)]
struct Narrow {
    recipient: Option<u64>,
    model: Option<u64>,
}

impl Keys {
    /// `body`: whole, if the plan asks for it and it could be had.
    pub(super) fn new(exchange: &Exchange, plan: &Plan, body: Option<&Bytes>) -> Self {
        let json = body.and_then(|body| serde_json::from_slice(body).ok());
        let mut keys = Self { json, ..Self::default() };
        keys.breaker = match &plan.settings().breaker.key {
            Key::Word(BreakerWord::Upstream) => None,
            Key::Header(name) => Some(header(exchange, plan, name)),
            Key::Json(pointer) => Some(keys.field(pointer)),
        };
        let limits = &plan.settings().rate_limit;
        if limits.iter().all(|limit| matches!(limit.key, Key::Word(RateLimitWord::Upstream))) {
            return keys; // A key that is missing counts as the one that all requests share.
        }
        keys.limits = limits
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

    /// The scope of a wait that concerns so many; `None`: it is not known whom.
    pub(super) fn scope(&self, exchange: &Exchange, scope: Scope) -> Option<u64> {
        let plan = &exchange.plan;
        let narrow = || self.narrow.get();
        match &plan.upstream().settings().throttle.scope {
            Key::Word(ThrottleWord::Upstream) => Some(0),
            Key::Word(ThrottleWord::Auto) => match scope {
                Scope::Credential => Some(credential(exchange, plan)),
                Scope::Recipient => narrow()?.recipient,
                Scope::Model => narrow()?.model,
            },
            Key::Word(ThrottleWord::Credential) => Some(credential(exchange, plan)),
            Key::Header(name) => Some(header(exchange, plan, name)),
            Key::Json(pointer) => Some(self.field(pointer)),
        }
    }

    /// All scopes that the request belongs to, the widest first.
    pub(super) fn scopes(&self, exchange: &Exchange) -> impl Iterator<Item = u64> {
        let whole = self.scope(exchange, Scope::Credential);
        let narrow = self.narrow.get().copied();
        let below = narrow.map(|narrow| [narrow.recipient, narrow.model]).into_iter().flatten();
        std::iter::once(whole).chain(below).flatten()
    }

    fn field(&self, pointer: &str) -> u64 {
        match self.json.as_ref().and_then(|json| json.pointer(pointer)) {
            Some(Value::String(text)) => hash(text),
            Some(other) => hash(other.to_string()),
            None => 0,
        }
    }
}

/// Looks into the request for the scopes that its dialect tells apart, so that [`Keys::scope`] knows them.
pub(super) async fn look_closer(exchange: &Exchange) {
    let plan = &exchange.plan;
    let dialect = plan.upstream().dialect();
    let auto = plan.upstream().settings().throttle.scope == Key::Word(ThrottleWord::Auto);
    if !auto || exchange.keys.narrow.get().is_some() {
        return;
    }
    let in_body = [Place::Recipient, Place::Model].iter().any(|place| dialect.finds_in_body(*place));
    // A client that is still sending is not waited for: its answer would be.
    let mut body = Bytes::new();
    if in_body {
        match tokio::time::timeout(BODY_WITHIN, exchange.whole_body()).await {
            Ok(whole) => body = whole.unwrap_or_default(),
            Err(_) => return,
        }
    }
    let asked = exchange.asked(&body);
    let under = |place, name: &str| {
        let value = dialect.find(place, &asked)?;
        Some(hash((credential(exchange, plan), name, value)))
    };
    let narrow =
        Narrow { recipient: under(Place::Recipient, "recipient"), model: under(Place::Model, "model") };
    exchange.keys.narrow.get_or_init(|| narrow);
}

/// The body is waited for no longer than this.
const BODY_WITHIN: std::time::Duration = std::time::Duration::from_millis(100);

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
    let dialect = plan.upstream().dialect();
    let standard = CREDENTIALS;
    let fields = standard.iter().chain(dialect.secret_headers());
    let values: Vec<(&str, &[u8])> =
        fields.filter_map(|name| Some((name.as_str(), value(exchange, plan, name)?.as_bytes()))).collect();
    let in_path = dialect.secrets_in(exchange.target.as_str());
    if values.is_empty() && in_path.is_empty() { 0 } else { hash((values, in_path)) }
}

fn header(exchange: &Exchange, plan: &Plan, name: &str) -> u64 {
    let name = HeaderName::try_from(name).ok();
    name.and_then(|name| value(exchange, plan, &name).map(|value| hash(value.as_bytes()))).unwrap_or(0)
}

fn value<'e>(exchange: &'e Exchange, plan: &'e Plan, name: &HeaderName) -> Option<&'e HeaderValue> {
    let set = plan.set().iter().find(|(set, _)| set == name).map(|(_, value)| value);
    set.or_else(|| exchange.client_header(name))
}
