//! One figure, read back: for the demo's summary, and for tests.

use prometheus::proto::{Metric, MetricFamily};

use super::metrics::Metrics;

impl Metrics {
    /// The sum over the counters and gauges of this name that bear these labels.
    #[must_use]
    pub fn total(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let series =
            families.iter().filter(|family| family.name() == name).flat_map(MetricFamily::get_metric);
        let bears = |metric: &&Metric| {
            labels.iter().all(|(name, value)| {
                metric.get_label().iter().any(|pair| pair.name() == *name && pair.value() == *value)
            })
        };
        let value = |metric: &Metric| metric.get_counter().get_value() + metric.get_gauge().get_value();
        series.filter(bears).map(value).fold(0.0, |sum, one| sum + one) // The sum of none is -0.
    }
}
