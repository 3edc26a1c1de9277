//! The table of all plans, most specific first.

use std::cmp::Reverse;
use std::sync::Arc;

use http::Method;

use super::index::{Asks, Index};
use super::plan::Plan;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::trace::Sampling;
use crate::upstream::Upstream;

/// All routes of one config.
#[derive(Debug)]
pub struct Table {
    plans: Vec<Arc<Plan>>,
    index: Index,
    upstreams: Vec<Arc<Upstream>>,
    /// Under an upstream's own settings, for those that fall back to it.
    own_plans: Vec<Arc<Plan>>,
    unrouted: RouteMetrics,
    access_log: bool,
    sampling: Option<Sampling>,
}

impl Table {
    /// `own_plans`: one for each upstream. Orders `plans`: host before none, then the longest path, then methods before none.
    #[must_use]
    pub fn new(
        plans: Vec<Plan>,
        upstreams: Vec<Arc<Upstream>>,
        own_plans: Vec<Plan>,
        unrouted: RouteMetrics,
        access_log: bool,
    ) -> Self {
        let mut plans: Vec<_> = plans.into_iter().map(Arc::new).collect();
        plans.sort_by_key(|plan| {
            let route = plan.route();
            (Reverse(route.host.is_some()), Reverse(route.path.len()), Reverse(!route.methods.is_empty()))
        });
        let own_plans = own_plans.into_iter().map(Arc::new).collect();
        let index = Index::new(plans.iter().map(|plan| {
            let route = plan.route();
            Asks { host: route.host.as_deref(), path: &route.path }
        }));
        Self { plans, index, upstreams, own_plans, unrouted, access_log, sampling: None }
    }

    /// The same, with these requests traced.
    #[must_use]
    pub fn traced(mut self, sampling: Option<Sampling>) -> Self {
        self.sampling = sampling;
        self
    }

    /// Which requests are traced; `None`: none, there is no collector.
    #[must_use]
    pub const fn sampling(&self) -> Option<&Sampling> {
        self.sampling.as_ref()
    }

    /// An upstream's own plan, without any route.
    #[must_use]
    pub fn plan_of(&self, upstream: &str) -> Option<&Arc<Plan>> {
        self.own_plans.iter().find(|plan| plan.upstream_name() == upstream)
    }

    /// The most specific plan for a request; `path` without dot segments, `host` without a port.
    #[must_use]
    pub fn plan_for(&self, host: Option<&str>, path: &str, method: &Method) -> Option<&Arc<Plan>> {
        let fits = |number: usize| self.plans.get(number).is_some_and(|plan| plan.takes(method));
        self.plans.get(self.index.first(host, path, fits)?)
    }

    /// All plans, most specific first.
    #[must_use]
    pub fn plans(&self) -> &[Arc<Plan>] {
        &self.plans
    }

    /// All upstreams, by name.
    #[must_use]
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The figures of requests that no route matches.
    #[must_use]
    pub const fn unrouted(&self) -> &RouteMetrics {
        &self.unrouted
    }

    /// Whether each request is to be logged.
    #[must_use]
    pub const fn access_log(&self) -> bool {
        self.access_log
    }
}
