//! The last minutes of each upstream, for charts and for what is called "now".

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::totals::{Latency, Totals};
use crate::telemetry::sharded::{BUCKETS, SPANS};

/// A step of the chart.
pub const STEP: Duration = Duration::from_secs(5);

/// Steps that are kept: ten minutes. A step is 24 bytes, so an upstream's are 2.8 KiB.
const STEPS: usize = 120;

/// "Now" is the last half minute: shorter, a quiet upstream would show nothing.
const NOW: usize = 6;

/// The last minutes of all upstreams.
#[derive(Debug, Default)]
pub(super) struct Recent {
    upstreams: BTreeMap<String, Upstream>,
    /// What the counters stood at…
    seen: BTreeMap<String, Totals>,
    /// …and when.
    at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Upstream {
    steps: VecDeque<Step>,
    /// The scale of the last of them, the newest last.
    latencies: VecDeque<Latency>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// What it lasted: a busy machine takes longer.
    took_ms: u32,
    requests: u32,
    failed: u32,
    retries: u32,
    /// Of its attempts, in microseconds; none without one.
    p95: Option<u32>,
}

/// How an upstream fares now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Over so long; zero before the first step.
    pub over: Duration,
    pub requests: u64,
    pub failed: u64,
    pub retries: u64,
    /// Of attempts; `None` without one.
    pub latency_average: Option<Duration>,
    pub latency_p95: Option<Duration>,
}

/// An upstream's last minutes: one value a step, the newest last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    pub requests_per_second: Vec<f64>,
    pub failed_per_second: Vec<f64>,
    /// In milliseconds; `None` without an attempt.
    pub latency_p95_ms: Vec<Option<f64>>,
}

impl Recent {
    pub(super) fn step(&mut self, totals: BTreeMap<String, Totals>, now: Instant) {
        let Some(before) = self.at.replace(now) else {
            // What had happened before the first look is in no step.
            self.seen = totals;
            return;
        };
        let took = now.saturating_duration_since(before);
        for (name, total) in &totals {
            let seen = self.seen.get(name);
            let (since, latency) = (total.since(seen), total.latency_since(seen));
            let step = Step {
                took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
                requests: u32::try_from(since.requests()).unwrap_or(u32::MAX),
                failed: since.failed,
                retries: since.retries,
                p95: quantile(&latency.buckets, 0.95).map(micros),
            };
            if !self.upstreams.contains_key(name) {
                self.upstreams.insert(name.clone(), Upstream::default());
            }
            if let Some(upstream) = self.upstreams.get_mut(name) {
                upstream.push(step, latency);
            }
        }
        self.seen = totals;
    }

    pub(super) fn rates(&self, upstream: &str) -> Rates {
        let Some(upstream) = self.upstreams.get(upstream) else { return Rates::default() };
        let mut rates = Rates::default();
        for step in upstream.steps.iter().rev().take(NOW) {
            rates.over += Duration::from_millis(step.took_ms.into());
            rates.requests += u64::from(step.requests);
            rates.failed += u64::from(step.failed);
            rates.retries += u64::from(step.retries);
        }
        let mut latency = Latency::default();
        for step in &upstream.latencies {
            latency.sum += step.sum;
            for (sum, count) in latency.buckets.iter_mut().zip(step.buckets) {
                *sum += count;
            }
        }
        let count = u32::try_from(latency.buckets.iter().sum::<u64>()).ok();
        rates.latency_average = count.and_then(|count| latency.sum.checked_div(count));
        rates.latency_p95 = quantile(&latency.buckets, 0.95);
        rates
    }

    pub(super) fn chart(&self, upstream: &str) -> Chart {
        let Some(upstream) = self.upstreams.get(upstream) else { return Chart::default() };
        let per_second = |count: u32, took_ms: u32| f64::from(count) * 1000.0 / f64::from(took_ms.max(1));
        Chart {
            requests_per_second: upstream
                .steps
                .iter()
                .map(|step| per_second(step.requests, step.took_ms))
                .collect(),
            failed_per_second: upstream
                .steps
                .iter()
                .map(|step| per_second(step.failed, step.took_ms))
                .collect(),
            latency_p95_ms: upstream
                .steps
                .iter()
                .map(|step| step.p95.map(|us| f64::from(us) / 1000.0))
                .collect(),
        }
    }
}

impl Upstream {
    fn push(&mut self, step: Step, latency: Latency) {
        if self.steps.len() >= STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
        if self.latencies.len() >= NOW {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// The quantile as Prometheus reads it from a histogram: evenly spread within its bucket; beyond the last bound, that bound.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
fn quantile(buckets: &[u64; BUCKETS], share: f64) -> Option<Duration> {
    let count: u64 = buckets.iter().sum();
    if count == 0 {
        return None;
    }
    let rank = share * count as f64;
    let (mut below, mut from) = (0.0, 0.0);
    for (count, bound) in buckets.iter().zip(SPANS) {
        let (count, to) = (*count as f64, *bound as f64);
        if below + count >= rank && count > 0.0 {
            let microseconds = from + (to - from) * (rank - below) / count;
            return Some(Duration::from_secs_f64(microseconds / 1e6));
        }
        below += count;
        from = to;
    }
    Some(Duration::from_secs_f64(from / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let mut buckets = [0; BUCKETS];
        assert_eq!(quantile(&buckets, 0.95), None);
        buckets[1] = 100; // 10 to 50 ms
        assert_eq!(quantile(&buckets, 0.95), Some(Duration::from_millis(48)));
        buckets[BUCKETS - 1] = 100; // beyond a minute
        assert_eq!(quantile(&buckets, 0.95), Some(Duration::from_secs(60)));
        assert_eq!(quantile(&buckets, 0.5), Some(Duration::from_millis(50)));
    }
}
