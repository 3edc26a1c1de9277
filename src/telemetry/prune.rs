//! Which series a scrape is shown: those of what the config in force names. What a reload takes away goes; should it come
//! back, its counters go on from where they were.

use prometheus::proto::{Metric, MetricFamily};

/// Names that the config in force gives to upstreams and routes.
#[derive(Debug, Default)]
pub struct Named {
    pub upstreams: Vec<String>,
    /// With the upstream that each leads to.
    pub routes: Vec<(String, String)>,
}

impl Named {
    /// Takes out the series of what is not named. The empty name is nobody's: it stays.
    pub(super) fn prune(&self, families: &mut Vec<MetricFamily>) {
        for family in families.iter_mut() {
            let kept = family.take_metric().into_iter().filter(|metric| self.shows(metric)).collect();
            family.set_metric(kept);
        }
        families.retain(|family| !family.get_metric().is_empty());
    }

    fn shows(&self, metric: &Metric) -> bool {
        let label = |wanted: &str| {
            metric.get_label().iter().find(|pair| pair.name() == wanted).map_or("", |pair| pair.value())
        };
        let (upstream, route) = (label("upstream"), label("route"));
        (upstream.is_empty() || self.upstreams.iter().any(|name| name == upstream))
            && (route.is_empty() || self.routes.iter().any(|(to, name)| to == upstream && name == route))
    }
}
