//! What each upstream's counters stand at: read from the metrics themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::Metric;

use super::figures::Figures;
use crate::policy::outcome::Outcome;
use crate::telemetry::metrics::{Metrics, Source};
use crate::telemetry::sharded::BUCKETS;

/// One upstream's counters since the process began.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    answered: [u64; 4],
    failed: u64,
    cancelled: u64,
    attempts: u64,
    attempts_failed: u64,
    retries: u64,
    /// By route.
    open_ms: BTreeMap<String, u64>,
    opened: u64,
    captured: u64,
    refused: u64,
    delivered: u64,
    latency: Latency,
}

/// How long attempts took: how many in each bucket of the scale, and all of them together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Latency {
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum: Duration,
}

impl Totals {
    /// What they grew by since `before`; `None`: since the process began.
    pub(super) fn since(&self, before: Option<&Self>) -> Figures {
        let none = Self::default();
        let before = before.unwrap_or(&none);
        let [a, b, c, d] = self.answered;
        let [e, f, g, h] = before.answered;
        let open = self
            .open_ms
            .iter()
            .map(|(route, ms)| grown(*ms, before.open_ms.get(route).copied().unwrap_or(0)));
        Figures {
            answered: [grown(a, e), grown(b, f), grown(c, g), grown(d, h)],
            failed: grown(self.failed, before.failed),
            cancelled: grown(self.cancelled, before.cancelled),
            attempts: grown(self.attempts, before.attempts),
            attempts_failed: grown(self.attempts_failed, before.attempts_failed),
            retries: grown(self.retries, before.retries),
            open_ms: open.max().unwrap_or(0),
            opened: grown(self.opened, before.opened),
            captured: grown(self.captured, before.captured),
            refused: grown(self.refused, before.refused),
            delivered: grown(self.delivered, before.delivered),
        }
    }

    /// What the scale of latencies grew by.
    pub(super) fn latency_since(&self, before: Option<&Self>) -> Latency {
        let before = before.map(|before| before.latency).unwrap_or_default();
        let mut since = self.latency;
        for (own, before) in since.buckets.iter_mut().zip(before.buckets) {
            *own = own.saturating_sub(before);
        }
        since.sum = since.sum.saturating_sub(before.sum);
        since
    }
}

/// A counter only grows; one that stands lower has begun anew.
fn grown(now: u64, before: u64) -> u32 {
    let since = if now >= before { now - before } else { now };
    u32::try_from(since).unwrap_or(u32::MAX)
}

impl Metrics {
    /// What the counters of each upstream stand at.
    pub(super) fn totals(&self) -> BTreeMap<String, Totals> {
        let mut all: BTreeMap<String, Totals> = BTreeMap::new();
        self.requests.each(|labels, count| {
            let [upstream, _, code, source] = labels else { return };
            let Some(total) = named(&mut all, upstream) else { return };
            let value = count.value();
            if code == "499" {
                total.cancelled += value;
                return;
            }
            let at = Source::ALL.iter().position(|each| each.as_str() == source);
            if let Some(cell) = at.and_then(|at| total.answered.get_mut(at)) {
                *cell += value;
            }
            if code == "429" || code.starts_with('5') {
                total.failed += value;
            }
        });
        self.attempts.each(|labels, count| {
            let [upstream, outcome] = labels else { return };
            let Some(total) = named(&mut all, upstream) else { return };
            let value = count.value();
            total.attempts += if outcome == Outcome::Cancelled.as_str() { 0 } else { value };
            let failed = [Outcome::Transient, Outcome::Throttled, Outcome::Quota];
            if failed.iter().any(|each| each.as_str() == outcome) {
                total.attempts_failed += value;
            }
        });
        self.attempt_seconds.each(|labels, spans| {
            let [upstream] = labels else { return };
            if let Some(total) = named(&mut all, upstream) {
                (total.latency.buckets, total.latency.sum) = spans.counts();
            }
        });
        self.rest(&mut all);
        all
    }

    fn rest(&self, all: &mut BTreeMap<String, Totals>) {
        let policies = &self.policies;
        each(&policies.retries, all, |total, metric| total.retries += count(metric));
        each(&policies.breaker_transitions, all, |total, metric| {
            if ["open", "forced_open"].contains(&label(metric, "to")) {
                total.opened += count(metric);
            }
        });
        each(&policies.breaker_open, all, |total, metric| {
            let open = Duration::try_from_secs_f64(metric.get_counter().get_value()).unwrap_or_default();
            let ms = u64::try_from(open.as_millis()).unwrap_or(u64::MAX);
            total.open_ms.insert(label(metric, "route").to_owned(), ms);
        });
        each(&self.letters.captured, all, |total, metric| total.captured += count(metric));
        each(&self.letters.refused, all, |total, metric| total.refused += count(metric));
        each(&self.letters.replays, all, |total, metric| {
            if label(metric, "outcome") == Outcome::Success.as_str() {
                total.delivered += count(metric);
            }
        });
    }
}

/// The empty name is nobody's: requests that no route took.
fn named<'a>(all: &'a mut BTreeMap<String, Totals>, upstream: &str) -> Option<&'a mut Totals> {
    if upstream.is_empty() {
        return None;
    }
    if !all.contains_key(upstream) {
        all.insert(upstream.to_owned(), Totals::default());
    }
    all.get_mut(upstream)
}

fn each(
    vector: &impl Collector,
    all: &mut BTreeMap<String, Totals>,
    mut add: impl FnMut(&mut Totals, &Metric),
) {
    for family in vector.collect() {
        for metric in family.get_metric() {
            if let Some(total) = named(all, label(metric, "upstream")) {
                add(total, metric);
            }
        }
    }
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, exact up to 2^53")]
fn count(metric: &Metric) -> u64 {
    metric.get_counter().get_value() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::breaker::State;

    #[test]
    fn every_counter_is_found_where_it_is() {
        let metrics = Metrics::new().unwrap();
        let (own, route, breaker) =
            (metrics.upstream("api"), metrics.route("api", "/"), metrics.breaker("api", ""));
        let of_route = metrics.breaker("api", "/");
        let before = metrics.totals();
        assert_eq!(before.get("api").unwrap().since(None), Figures::default());
        let took = Duration::from_millis(20);
        for (status, source) in [
            (200, Source::Upstream),
            (404, Source::Upstream),
            (429, Source::Upstream),
            (503, Source::Fender),
            (200, Source::Fallback),
            (202, Source::DeadLetter),
            (499, Source::Fender),
        ] {
            route.answered(status, source, took);
        }
        for outcome in Outcome::ALL {
            own.attempt_ended(outcome);
            own.attempt_took(took);
        }
        own.policies.retried("timeout");
        own.policies.retried("connect");
        breaker.turned(State::Closed, State::Open);
        breaker.turned(State::Open, State::HalfOpen);
        breaker.stood_open(Duration::from_secs(3));
        of_route.stood_open(Duration::from_secs(2));
        own.letters.captured("timeout");
        own.letters.captured("connect");
        own.letters.refused("full");
        own.letters.replayed(Outcome::Success);
        own.letters.replayed(Outcome::Transient);
        // What no route took is nobody's.
        metrics.route("", "").answered(404, Source::Fender, took);
        let after = metrics.totals();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["api"]);
        let (before, after) = (before.get("api"), after.get("api").unwrap());
        let wanted = Figures {
            answered: [3, 1, 1, 1],
            failed: 2,
            cancelled: 1,
            attempts: 5,
            attempts_failed: 3,
            retries: 2,
            open_ms: 3000,
            opened: 1,
            captured: 2,
            refused: 1,
            delivered: 1,
        };
        assert_eq!(after.since(before), wanted);
        assert_eq!(after.since(Some(after)), Figures::default());
        let latency = after.latency_since(before);
        assert_eq!((latency.buckets.iter().sum::<u64>(), latency.sum), (6, 6 * took));
    }

    #[test]
    fn a_counter_that_begins_anew_is_not_below_zero() {
        assert_eq!((grown(7, 5), grown(2, 5), grown(u64::MAX, 0)), (2, 2, u32::MAX));
    }
}
