//! One upstream as it lives: its settings, endpoints, connections and figures. A reload keeps it while its settings stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};

use super::endpoint::Endpoint;
use super::fault::Fault;
use super::policies::Policies;
use super::pool::Pool;
use super::tls;
use crate::config;
use crate::dialect::{Dialect, Form};
use crate::policy::reason::Reason;
use crate::telemetry::metrics::UpstreamMetrics;

/// A named external service with its policies.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    settings: Arc<config::Upstream>,
    endpoints: Vec<Arc<Endpoint>>,
    pools: Box<[Pool]>,
    open: Arc<AtomicI64>,
    /// Built when it is first needed: reading the system's roots takes milliseconds that a start does not have.
    tls: ArcSwapOption<tls::Client>,
    metrics: UpstreamMetrics,
    policies: Arc<Policies>,
    own_headers: Vec<(HeaderName, HeaderValue)>,
}

/// An upstream's connections at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections that are open.
    pub open: usize,
    /// Those of them that rest.
    pub idle: usize,
}

impl Upstream {
    /// An upstream with nothing open yet. `policies`: fresh ones, or those of its former self.
    ///
    /// # Errors
    /// A text that names the certificate file or the header that cannot be used.
    pub fn new(
        name: &str,
        settings: Arc<config::Upstream>,
        workers: usize,
        metrics: UpstreamMetrics,
        policies: Arc<Policies>,
    ) -> Result<Self, String> {
        let own_headers = own_headers(&settings)?;
        let endpoints: Vec<_> =
            settings.urls.iter().map(|url| Arc::new(Endpoint::new(url.clone()))).collect();
        let pools = std::iter::repeat_with(|| Pool::new(endpoints.len())).take(workers).collect();
        if [Form::Sse, Form::NdJson].into_iter().any(|form| settings.spoken().has_end_mark(form)) {
            metrics.streams.expected();
        }
        let upstream = Self {
            name: name.to_owned(),
            settings,
            endpoints,
            pools,
            open: Arc::default(),
            tls: ArcSwapOption::empty(),
            metrics,
            policies,
            own_headers,
        };
        if let Some(certificates) = upstream.read_certificates()? {
            upstream.renew(certificates);
        }
        Ok(upstream)
    }

    /// Reads the files of its own that `tls` names; `None` if it names none. Nothing changes until [`Upstream::renew`].
    ///
    /// # Errors
    /// A text that names the file that cannot be used.
    pub fn read_certificates(&self) -> Result<Option<tls::Client>, String> {
        let tls = &self.settings.tls;
        let own = tls.ca_file.is_some() || tls.client_cert_file.is_some() || tls.server_name.is_some();
        own.then(|| tls::Client::new(tls)).transpose()
    }

    /// Puts certificates in force for the connections to come.
    pub fn renew(&self, certificates: tls::Client) {
        self.tls.store(Some(Arc::new(certificates)));
    }

    /// The name that the config gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the config says of it.
    #[must_use]
    pub fn settings(&self) -> &Arc<config::Upstream> {
        &self.settings
    }

    /// Its URLs.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Its figures.
    #[must_use]
    pub const fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// What all of its traffic shares.
    #[must_use]
    pub const fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// How it speaks.
    #[must_use]
    pub fn dialect(&self) -> &Arc<Dialect> {
        self.settings.spoken()
    }

    /// The header fields that Fender sets.
    #[must_use]
    pub fn own_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.own_headers
    }

    /// Reads the system's roots ahead of the first connection.
    pub fn warm_up(&self) {
        for endpoint in &self.endpoints {
            if let Err(fault) = self.tls(endpoint) {
                tracing::error!(upstream = self.name, error = %fault, "TLS");
            }
        }
    }

    /// Closes on `worker` what has rested too long, and what rests at an address that is no longer its endpoint's.
    pub fn sweep(&self, worker: usize) {
        if let Some(pool) = self.pool(worker) {
            pool.sweep(&self.endpoints, self.settings.pool.idle_timeout);
        }
    }

    /// Its connections now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let open = usize::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(0);
        let idle = self.pools.iter().map(Pool::idle).sum::<usize>().min(open);
        Snapshot { open, idle }
    }

    pub(super) fn pool(&self, worker: usize) -> Option<&Pool> {
        self.pools.get(worker)
    }

    pub(super) const fn open_connections(&self) -> &Arc<AtomicI64> {
        &self.open
    }

    /// Whether one more connection may rest. The other workers are asked only when this one's share is used up.
    pub(super) fn has_room(&self, worker: usize) -> bool {
        let max = self.settings.pool.max_idle;
        let own = self.pool(worker).map_or(0, Pool::idle);
        own < max / self.pools.len().max(1) || self.pools.iter().map(Pool::idle).sum::<usize>() < max
    }

    /// How to speak TLS with `endpoint`; `None` where it is plain.
    pub(super) fn tls(&self, endpoint: &Endpoint) -> Result<Option<Arc<tls::Client>>, Fault> {
        if !endpoint.is_https() {
            return Ok(None);
        }
        if let Some(known) = self.tls.load_full() {
            return Ok(Some(known));
        }
        let built =
            tls::Client::new(&self.settings.tls).map_err(|error| Fault::never_sent(Reason::Tls, error))?;
        self.tls.store(Some(Arc::new(built)));
        Ok(self.tls.load_full())
    }
}

fn own_headers(settings: &config::Upstream) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let set = settings.headers.set.iter().map(|(name, secret)| {
        let header =
            HeaderName::try_from(name).map_err(|_| format!("headers.set: {name:?} is no header name"))?;
        let mut value = HeaderValue::try_from(secret.expose())
            .map_err(|_| format!("headers.set.{name} is no header value"))?;
        value.set_sensitive(true);
        Ok((header, value))
    });
    set.collect()
}
