//! From a config to a table: upstreams that stay what they were stay as they are.

use std::sync::Arc;

use crate::clock;
use crate::config::{self, Config};
use crate::inbound::tls::Acceptor;
use crate::memory::Memory;
use crate::route::{Plan, Table};
use crate::telemetry::feed::Feed;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::upstream::policies::Policies;

/// Compiles `config`. An upstream of `previous` whose settings did not change is kept with all its state; only its
/// certificate files are read again.
///
/// # Errors
/// A text that names the file or header that cannot be used. Nothing has changed then.
pub fn table(
    config: &Config,
    metrics: &Metrics,
    workers: usize,
    feed: &Arc<Feed>,
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
                // What its policies have counted outlives its settings.
                let former =
                    previous.and_then(|table| table.upstreams().iter().find(|one| one.name() == name));
                let policies = former.map_or_else(
                    || Policies::new(name, settings, metrics, feed),
                    |former| Arc::clone(former.policies()),
                );
                let figures = metrics.upstream(name);
                let built = Upstream::new(name, Arc::new(settings.clone()), workers, figures, policies);
                Arc::new(built.map_err(|error| format!("upstream.{name}: {error}"))?)
            }
        });
    }
    let mut plans = Vec::with_capacity(config.route.len());
    for route in &config.route {
        let upstream = upstreams.iter().find(|upstream| upstream.name() == route.upstream);
        let upstream = upstream
            .ok_or_else(|| format!("route {:?}: there is no upstream {:?}", route.name, route.upstream))?;
        plans.push(
            plan(route.clone(), upstream, metrics)
                .map_err(|error| format!("route {:?}: {error}", route.name))?,
        );
    }
    let mut own_plans = Vec::with_capacity(upstreams.len());
    for upstream in &upstreams {
        let route = config::Route::direct(upstream.name(), upstream.settings());
        own_plans.push(
            plan(route, upstream, metrics)
                .map_err(|error| format!("upstream.{}: {error}", upstream.name()))?,
        );
    }
    // Nothing fails from here on.
    for (upstream, certificates) in renewals {
        upstream.renew(certificates);
    }
    retune(&upstreams, &plans);
    Ok(Table::new(plans, upstreams, own_plans, metrics.route("", ""), config.access_log.enabled))
}

fn plan(route: config::Route, upstream: &Arc<Upstream>, metrics: &Metrics) -> Result<Plan, String> {
    let policies = upstream.policies();
    let breaker = if route.plan.own_breaker {
        policies.breaker_of(&route.name, &route.plan, metrics)
    } else {
        Arc::clone(policies.breaker())
    };
    let limits = if route.plan.own_limits {
        policies.limits_of(&route.name, &route.plan.rate_limit)
    } else {
        Arc::clone(policies.limits())
    };
    let figures = if route.name.is_empty() {
        metrics.route("", "")
    } else {
        metrics.route(&route.upstream, &route.name)
    };
    for fallback in &route.plan.fallback {
        policies.metrics().falls_back(fallback.action.kind());
    }
    if route.plan.dead_letter.keeps() {
        upstream.metrics().letters.kept();
    }
    Plan::new(route, Arc::clone(upstream), figures, (breaker, limits))
}

/// Puts the settings in force for what outlived the last config.
fn retune(upstreams: &[Arc<Upstream>], plans: &[Plan]) {
    for upstream in upstreams {
        let own: Vec<&Plan> = plans.iter().filter(|plan| plan.upstream_name() == upstream.name()).collect();
        let policies = upstream.policies();
        policies.retune(upstream.settings());
        policies.keep_routes(&own.iter().map(|plan| plan.name()).collect::<Vec<_>>());
        for plan in own {
            let settings = plan.settings();
            if settings.own_breaker {
                plan.breaker().retune(&settings.breaker, clock::now());
            }
            if settings.own_limits {
                plan.limits().retune(&settings.rate_limit);
            }
        }
    }
}

/// Tries what only building shows: whether the certificates, keys and headers that `config` names can be used.
///
/// # Errors
/// A text that names the file or header that cannot be used.
pub fn verify(config: &Config) -> Result<(), String> {
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    table(config, &metrics, 1, &Feed::new(&Memory::new(0)), None)?;
    for tls in [&config.server.tls, &config.admin.tls].into_iter().flatten() {
        Acceptor::new(tls, &[])?;
    }
    Ok(())
}
