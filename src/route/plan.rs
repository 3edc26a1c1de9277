//! All that applies to the requests of one route.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::config::{self, FallbackAction};
use crate::policy::cause::Cause;
use crate::policy::key::Key;
use crate::policy::limit::RateLimitWord;
use crate::policy::verdict::Repeatable;
use crate::telemetry::metrics::{RouteMetrics, UpstreamMetrics};
use crate::upstream::Upstream;
use crate::upstream::breaker::BreakerCell;
use crate::upstream::policies::LimitsCell;

/// One route: what it matches, where it leads, and the settings in force for it.
#[derive(Debug)]
pub struct Plan {
    route: config::Route,
    upstream: Arc<Upstream>,
    metrics: Arc<RouteMetrics>,
    idempotency_header: Option<HeaderName>,
    propagate: Option<HeaderName>,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    breaker: Arc<BreakerCell>,
    limits: Arc<LimitsCell>,
    fallbacks: Vec<Fallback>,
}

/// A fallback, ready to answer.
#[derive(Debug)]
pub struct Fallback {
    /// Which failures it answers.
    pub on: Vec<Cause>,
    /// How.
    pub how: How,
}

/// How a fallback answers.
#[derive(Debug)]
pub enum How {
    /// Another upstream of the same dialect.
    Upstream {
        /// Its name.
        name: String,
        /// The path there; `{rest}` is what follows the route's prefix.
        path: Option<String>,
        /// JSON fields of the body that are replaced, by pointer.
        json: Vec<(String, serde_json::Value)>,
        /// Whether it gets the client's credentials.
        pass_credentials: bool,
    },
    /// A fixed answer.
    Response { status: StatusCode, headers: HeaderMap, body: Bytes },
    /// The last good answer to the same request of the same caller, no older than this.
    Stale(Duration),
}

impl Plan {
    /// Compiles `route`, which leads to `upstream`.
    ///
    /// # Errors
    /// A text that names the header which is none. The config's own validation tells it first, with its place.
    pub fn new(
        route: config::Route,
        upstream: Arc<Upstream>,
        metrics: RouteMetrics,
        (breaker, limits): (Arc<BreakerCell>, Arc<LimitsCell>),
    ) -> Result<Self, String> {
        let remove = upstream.settings().headers.remove.clone();
        let set = upstream.own_headers().to_vec();
        let fallbacks = route.plan.fallback.iter().map(compile).collect::<Result<_, _>>()?;
        let idempotency_header = match &route.plan.idempotency_header {
            config::IdempotencyHeader::Auto => upstream.dialect().idempotency_header().cloned(),
            config::IdempotencyHeader::None => None,
            config::IdempotencyHeader::Named(name) => Some(name.clone()),
        };
        let propagate = route.plan.timeout.propagate.as_deref().map(header).transpose()?;
        let metrics = Arc::new(metrics);
        Ok(Self {
            route,
            upstream,
            metrics,
            idempotency_header,
            propagate,
            remove,
            set,
            breaker,
            limits,
            fallbacks,
        })
    }

    /// The breaker that judges its attempts: the route's own, or the upstream's.
    #[must_use]
    pub const fn breaker(&self) -> &Arc<BreakerCell> {
        &self.breaker
    }

    /// The rate limits that its attempts pass: the route's own, or the upstream's.
    #[must_use]
    pub const fn limits(&self) -> &Arc<LimitsCell> {
        &self.limits
    }

    /// Bodies up to this size are kept while a request is under way: for another attempt, or for a letter.
    #[must_use]
    pub fn retained_body_max(&self) -> u64 {
        let settings = self.settings();
        let letter =
            if settings.dead_letter.mode == config::Mode::Off { 0 } else { settings.dead_letter.max_body };
        settings.retry.max_body.max(letter)
    }

    /// Whether a request has to be told apart from others to be judged: by a key, or by a limit of its own.
    #[must_use]
    pub fn keyed(&self) -> bool {
        let settings = self.settings();
        !matches!(settings.breaker.key, Key::Word(_))
            || matches!(self.upstream.settings().throttle.scope, Key::Json(_))
            || settings.rate_limit.iter().any(|limit| limit.key != Key::Word(RateLimitWord::Upstream))
    }

    /// What answers when the upstream cannot, in order.
    #[must_use]
    pub fn fallbacks(&self) -> &[Fallback] {
        &self.fallbacks
    }

    /// For how long, at most, a good answer may serve as a fallback.
    #[must_use]
    pub fn stale(&self) -> Option<Duration> {
        self.fallbacks
            .iter()
            .filter_map(|fallback| if let How::Stale(age) = fallback.how { Some(age) } else { None })
            .max()
    }

    /// The metric label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.route.name
    }

    /// What it matches and where it leads, as configured.
    #[must_use]
    pub const fn route(&self) -> &config::Route {
        &self.route
    }

    /// The settings in force: the upstream's, and the route's own above them.
    #[must_use]
    pub const fn settings(&self) -> &config::Plan {
        &self.route.plan
    }

    /// Where it leads.
    #[must_use]
    pub const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The name of where it leads.
    #[must_use]
    pub fn upstream_name(&self) -> &str {
        self.upstream.name()
    }

    /// The route's figures.
    #[must_use]
    pub fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }

    /// The upstream's figures.
    #[must_use]
    pub fn upstream_metrics(&self) -> &UpstreamMetrics {
        self.upstream.metrics()
    }

    /// Header fields that are not sent on.
    #[must_use]
    pub fn remove(&self) -> &[HeaderName] {
        &self.remove
    }

    /// Header fields that Fender adds.
    #[must_use]
    pub fn set(&self) -> &[(HeaderName, HeaderValue)] {
        &self.set
    }

    /// The header by which the upstream is told how many milliseconds are left.
    #[must_use]
    pub const fn propagate(&self) -> Option<&HeaderName> {
        self.propagate.as_ref()
    }

    /// The key under which the API acts once, if the request bears one: its field and its value.
    #[must_use]
    pub fn idempotency_key(&self, headers: &HeaderMap) -> Option<(&HeaderName, String)> {
        let name = self.idempotency_header.as_ref().filter(|name| !self.remove.contains(name))?;
        Some((name, headers.get(name)?.to_str().ok()?.to_owned()))
    }

    /// The field of such a key, where the config says that the API honours it: one may be made for a letter then.
    #[must_use]
    pub fn honoured_key(&self) -> Option<&HeaderName> {
        let named = matches!(self.settings().idempotency_header, config::IdempotencyHeader::Named(_));
        self.idempotency_header.as_ref().filter(|_| named)
    }

    /// Whether a request may be sent twice without harm, and why.
    #[must_use]
    pub fn repeatable(&self, method: &Method, path: &str, headers: &HeaderMap) -> Repeatable {
        let bears_key = || self.idempotency_header.as_ref().is_some_and(|name| headers.contains_key(name));
        let said = || match self.settings().idempotent {
            config::Idempotent::No => false,
            config::Idempotent::Yes => true,
            config::Idempotent::Auto => self.upstream.dialect().repeats(method.as_str(), path),
        };
        Repeatable::of(method.as_str(), bears_key, said)
    }

    /// Whether its route is for requests of this method.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.route.methods.is_empty() || self.route.methods.contains(method)
    }
}

fn compile(fallback: &config::Fallback) -> Result<Fallback, String> {
    let how = match &fallback.action {
        FallbackAction::Upstream { name, path, json, pass_credentials } => How::Upstream {
            name: name.clone(),
            path: path.clone(),
            json: json.iter().map(|(pointer, value)| (pointer.clone(), value.clone())).collect(),
            pass_credentials: *pass_credentials,
        },
        FallbackAction::Response(answer) => respond(answer)?,
        FallbackAction::Stale(age) => How::Stale(*age),
    };
    Ok(Fallback { on: fallback.on.clone(), how })
}

fn respond(answer: &config::Answer) -> Result<How, String> {
    let status = StatusCode::from_u16(answer.status).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    for (name, secret) in &answer.headers {
        let value = HeaderValue::try_from(secret.expose())
            .map_err(|_| format!("fallback: {name} has a value that is no header value"))?;
        headers.insert(header(name)?, value);
    }
    let body = match (&answer.body, &answer.body_file) {
        (Some(body), _) => Bytes::copy_from_slice(body.expose().as_bytes()),
        (None, Some(file)) => {
            std::fs::read(file).map_err(|error| format!("fallback: {}: {error}", file.display()))?.into()
        }
        (None, None) => Bytes::new(),
    };
    Ok(How::Response { status, headers, body })
}

fn header(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))
}
