//! All that applies to the requests of one route.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use crate::config;
use crate::policy::verdict::Repeatable;
use crate::telemetry::metrics::{RouteMetrics, UpstreamMetrics};
use crate::upstream::Upstream;

/// Where the generic dialect looks for the key under which an API acts once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One route: what it matches, where it leads, and the settings in force for it.
#[derive(Debug)]
pub struct Plan {
    route: config::Route,
    upstream: Arc<Upstream>,
    metrics: RouteMetrics,
    idempotency_header: Option<HeaderName>,
    propagate: Option<HeaderName>,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
}

impl Plan {
    /// Compiles `route`, which leads to `upstream`.
    ///
    /// # Errors
    /// A text that names the header which is none. The config's own validation tells it first, with its place.
    pub fn new(route: config::Route, upstream: Arc<Upstream>, metrics: RouteMetrics) -> Result<Self, String> {
        let header =
            |name: &str| HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"));
        let headers = &upstream.settings().headers;
        let remove = headers.remove.clone();
        let mut set = Vec::new();
        for (name, secret) in &headers.set {
            let mut value = HeaderValue::try_from(secret.expose())
                .map_err(|_| format!("headers.set.{name} is no header value"))?;
            value.set_sensitive(true);
            set.push((header(name)?, value));
        }
        let idempotency_header = match &route.plan.idempotency_header {
            config::IdempotencyHeader::Auto => Some(IDEMPOTENCY_KEY),
            config::IdempotencyHeader::None => None,
            config::IdempotencyHeader::Named(name) => Some(name.clone()),
        };
        let propagate = route.plan.timeout.propagate.as_deref().map(header).transpose()?;
        Ok(Self { route, upstream, metrics, idempotency_header, propagate, remove, set })
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
    pub const fn metrics(&self) -> &RouteMetrics {
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

    /// Whether a request may be sent twice without harm, and why.
    #[must_use]
    pub fn repeatable(&self, method: &Method, headers: &HeaderMap) -> Repeatable {
        let bears_key = || self.idempotency_header.as_ref().is_some_and(|name| headers.contains_key(name));
        // "auto" asks the dialect; the generic one lists no method and no path beyond the standard's.
        Repeatable::of(method.as_str(), bears_key, self.settings().idempotent == config::Idempotent::Yes)
    }

    pub(super) fn matches(&self, host: Option<&str>, path: &str, method: &Method) -> bool {
        let route = &self.route;
        let host_fits = route
            .host
            .as_deref()
            .is_none_or(|wanted| host.is_some_and(|host| host.eq_ignore_ascii_case(wanted)));
        host_fits && covers(&route.path, path) && (route.methods.is_empty() || route.methods.contains(method))
    }
}

/// Whether `path` lies at or below `prefix`, by whole segments.
fn covers(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
