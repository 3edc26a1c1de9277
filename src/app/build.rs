//! From a config to a table: upstreams that stay what they were stay as they are.

use std::sync::Arc;

use crate::config::Config;
use crate::inbound::tls::Acceptor;
use crate::route::{Plan, Table};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;

/// Compiles `config`. An upstream of `previous` whose settings did not change is kept with all its state; only its
/// certificate files are read again.
///
/// # Errors
/// A text that names the file or header that cannot be used. Nothing has changed then.
pub fn table(
    config: &Config,
    metrics: &Metrics,
    workers: usize,
    previous: Option<&Table>,
) -> Result<Table, String> {
    let mut renewals = Vec::new();
    let mut upstreams = Vec::with_capacity(config.upstream.len());
    for (name, settings) in &config.upstream {
        let kept = previous.and_then(|table| {
            table
                .upstreams()
                .iter()
                .find(|upstream| upstream.name() == name && **upstream.settings() == *settings)
        });
        upstreams.push(match kept {
            Some(upstream) => {
                let read = upstream.read_certificates();
                let read = read.map_err(|error| format!("upstream.{name}.tls: {error}"))?;
                renewals.extend(read.map(|certificates| (Arc::clone(upstream), certificates)));
                Arc::clone(upstream)
            }
            None => {
                let built = Upstream::new(name, Arc::new(settings.clone()), workers, metrics.upstream(name));
                Arc::new(built.map_err(|error| format!("upstream.{name}.tls: {error}"))?)
            }
        });
    }
    let mut plans = Vec::with_capacity(config.route.len());
    for route in &config.route {
        let upstream = upstreams.iter().find(|upstream| upstream.name() == route.upstream);
        let upstream = upstream
            .ok_or_else(|| format!("route {:?}: there is no upstream {:?}", route.name, route.upstream))?;
        let figures = metrics.route(&route.upstream, &route.name);
        plans.push(
            Plan::new(route.clone(), Arc::clone(upstream), figures)
                .map_err(|error| format!("route {:?}: {error}", route.name))?,
        );
    }
    // Nothing fails from here on.
    for (upstream, certificates) in renewals {
        upstream.renew(certificates);
    }
    Ok(Table::new(plans, upstreams, metrics.route("", ""), config.access_log.enabled))
}

/// Tries what only building shows: whether the certificates, keys and headers that `config` names can be used.
///
/// # Errors
/// A text that names the file or header that cannot be used.
pub fn verify(config: &Config) -> Result<(), String> {
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    table(config, &metrics, 1, None)?;
    for tls in [&config.server.tls, &config.admin.tls].into_iter().flatten() {
        Acceptor::new(tls, &[])?;
    }
    Ok(())
}
