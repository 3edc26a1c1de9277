//! The metrics of the policies' decisions. All but the breakers' hot counters are looked up by name: a decision against
//! plain passing is rare.

use std::time::Duration;

use prometheus::{Counter, CounterVec, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::maker::Maker;
use super::metrics::{Live, as_gauge};
use crate::policy::breaker::State;
use crate::policy::retry::Stop;

/// What a retry is usually made for: the faults' reasons and the answers' outcomes. Others are there once they were.
const RETRIED: [&str; 5] = ["connect", "reset", "timeout", "transient", "throttled"];

/// The turns that a breaker takes by itself.
const TURNS: [(State, State); 4] = [
    (State::Closed, State::Open),
    (State::Open, State::HalfOpen),
    (State::HalfOpen, State::Closed),
    (State::HalfOpen, State::Open),
];

/// The vectors themselves.
#[derive(Debug)]
pub(super) struct PolicyVectors {
    pub(super) retries: IntCounterVec,
    retries_refused: IntCounterVec,
    retry_success: IntCounterVec,
    client_retries: IntCounterVec,
    budget: GaugeVec,
    breaker_state: IntGaugeVec,
    pub(super) breaker_transitions: IntCounterVec,
    pub(super) breaker_open: CounterVec,
    breaker_refused: IntCounterVec,
    queue: IntGaugeVec,
    limit: IntGaugeVec,
    overloaded: IntCounterVec,
    rate_limited: IntCounterVec,
    throttled: CounterVec,
    obeyed: IntCounterVec,
    obeyed_seconds: CounterVec,
    fallback: IntCounterVec,
    shed: IntCounterVec,
    check_up: IntGaugeVec,
    checks: IntCounterVec,
    degradation: IntGauge,
}

impl PolicyVectors {
    #[expect(clippy::too_many_lines, reason = "a list, one entry a metric")]
    pub(super) fn new(made: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let upstream = &["upstream"];
        let breaker = &["upstream", "route"];
        Ok(Self {
            retries: made.counters(
                "fender_retries_total",
                "Retries made, by what the attempt before failed of",
                &["upstream", "reason"],
            )?,
            retries_refused: made.counters(
                "fender_retries_refused_total",
                "Retries not made, by what forbade them",
                &["upstream", "reason"],
            )?,
            retry_success: made.counters(
                "fender_retry_success_total",
                "Requests that a retry saved",
                upstream,
            )?,
            client_retries: made.counters(
                "fender_client_retries_total",
                "Requests that the client's SDK had tried before",
                upstream,
            )?,
            budget: made.floats(
                "fender_retry_budget_available",
                "Retries that the budget would grant now",
                upstream,
            )?,
            breaker_state: made.gauges(
                "fender_breaker_state",
                "1 for the state in force; route \"\" is the upstream's own",
                &["upstream", "route", "state"],
            )?,
            breaker_transitions: made.counters(
                "fender_breaker_transitions_total",
                "Changes of a breaker's state",
                &["upstream", "route", "from", "to"],
            )?,
            breaker_open: made.sums(
                "fender_breaker_open_seconds_total",
                "Time in which a breaker refused",
                breaker,
            )?,
            breaker_refused: made.counters(
                "fender_breaker_refused_total",
                "Requests that a breaker refused",
                breaker,
            )?,
            queue: made.gauges("fender_queue_depth", "Requests that wait for the bulkhead", upstream)?,
            limit: made.gauges(
                "fender_concurrency_limit",
                "Requests that the bulkhead lets in at once",
                upstream,
            )?,
            overloaded: made.counters(
                "fender_overload_total",
                "Requests that the bulkhead refused",
                upstream,
            )?,
            rate_limited: made.counters(
                "fender_rate_limited_total",
                "Requests that a rate limit of our own refused",
                upstream,
            )?,
            throttled: made.sums(
                "fender_throttled_seconds_total",
                "Time for which the upstream told to wait",
                upstream,
            )?,
            obeyed: made.counters(
                "fender_waits_obeyed_total",
                "Waits that the upstream told and a request sat out",
                upstream,
            )?,
            obeyed_seconds: made.sums("fender_waits_obeyed_seconds_total", "Time so waited", upstream)?,
            fallback: made.counters(
                "fender_fallback_total",
                "Requests that a fallback answered",
                &["upstream", "kind"],
            )?,
            shed: made.counters("fender_shed_total", "Requests shed at a degradation level", upstream)?,
            check_up: made.gauges(
                "fender_health_check_up",
                "1 while the active check finds the upstream healthy",
                upstream,
            )?,
            checks: made.counters(
                "fender_health_checks_total",
                "Active checks made",
                &["upstream", "result"],
            )?,
            degradation: made
                .gauge("fender_degradation_level", "0 normal, 1 minor, 2 moderate, 3 severe, 4 critical")?,
        })
    }

    /// All of one upstream's figures, there from now on.
    pub(super) fn upstream(&self, name: &str) -> PolicyMetrics {
        for word in RETRIED {
            self.retries.with_label_values(&[name, word]);
        }
        for stop in Stop::REFUSALS.into_iter().filter(|stop| !matches!(stop, Stop::Patience | Stop::OptedOut))
        {
            self.retries_refused.with_label_values(&[name, stop.as_str()]);
        }
        PolicyMetrics {
            name: name.to_owned(),
            retries: self.retries.clone(),
            retries_refused: self.retries_refused.clone(),
            fallback: self.fallback.clone(),
            check_up: self.check_up.clone(),
            checks: self.checks.clone(),
            retry_success: self.retry_success.with_label_values(&[name]),
            client_retries: self.client_retries.with_label_values(&[name]),
            overloaded: self.overloaded.with_label_values(&[name]),
            rate_limited: self.rate_limited.with_label_values(&[name]),
            throttled: self.throttled.with_label_values(&[name]),
            obeyed: self.obeyed.with_label_values(&[name]),
            obeyed_seconds: self.obeyed_seconds.with_label_values(&[name]),
            shed: self.shed.with_label_values(&[name]),
        }
    }

    pub(super) fn breaker(&self, upstream: &str, route: &str) -> BreakerMetrics {
        let metrics = BreakerMetrics {
            upstream: upstream.to_owned(),
            route: route.to_owned(),
            states: State::ALL
                .map(|state| self.breaker_state.with_label_values(&[upstream, route, state.as_str()])),
            transitions: self.breaker_transitions.clone(),
            open: self.breaker_open.with_label_values(&[upstream, route]),
            refused: self.breaker_refused.with_label_values(&[upstream, route]),
        };
        for (from, to) in TURNS {
            self.breaker_transitions.with_label_values(&[upstream, route, from.as_str(), to.as_str()]);
        }
        metrics
    }

    /// What is measured by looking.
    pub(super) fn look(&self, live: &Live) {
        for upstream in &live.upstreams {
            let name = &[upstream.name.as_str()];
            self.budget.with_label_values(name).set(upstream.budget);
            self.queue.with_label_values(name).set(as_gauge(upstream.queued));
            self.limit.with_label_values(name).set(i64::from(upstream.limit));
        }
        self.degradation.set(i64::from(live.degradation));
    }
}

/// One upstream's policies in figures.
#[derive(Debug, Clone)]
pub struct PolicyMetrics {
    name: String,
    retries: IntCounterVec,
    retries_refused: IntCounterVec,
    fallback: IntCounterVec,
    check_up: IntGaugeVec,
    checks: IntCounterVec,
    retry_success: IntCounter,
    client_retries: IntCounter,
    overloaded: IntCounter,
    rate_limited: IntCounter,
    throttled: Counter,
    obeyed: IntCounter,
    obeyed_seconds: Counter,
    shed: IntCounter,
}

impl PolicyMetrics {
    /// A retry is made because the attempt before ended so.
    pub fn retried(&self, word: &str) {
        self.retries.with_label_values(&[self.name.as_str(), word]).inc();
    }

    /// A retry that `retry.on` asks for is not made.
    pub fn retry_refused(&self, stop: Stop) {
        if Stop::REFUSALS.contains(&stop) {
            self.retries_refused.with_label_values(&[self.name.as_str(), stop.as_str()]).inc();
        }
    }

    /// A retry brought the answer.
    pub fn retry_succeeded(&self) {
        self.retry_success.inc();
    }

    /// The request is a retry of the client's SDK.
    pub fn client_retry(&self) {
        self.client_retries.inc();
    }

    /// The bulkhead and its queue were full.
    pub fn overloaded(&self) {
        self.overloaded.inc();
    }

    /// A rate limit of our own refused.
    pub fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    /// The upstream told to wait so much longer.
    pub fn throttled(&self, longer: Duration) {
        self.throttled.inc_by(longer.as_secs_f64());
    }

    /// A wait that it told was sat out.
    pub fn obeyed(&self, wait: Duration) {
        self.obeyed.inc();
        self.obeyed_seconds.inc_by(wait.as_secs_f64());
    }

    /// Shed at a degradation level.
    pub fn shed(&self) {
        self.shed.inc();
    }

    /// A fallback of this kind is there.
    pub fn falls_back(&self, kind: &str) {
        self.fallback.with_label_values(&[self.name.as_str(), kind]);
    }

    /// A fallback answered: `upstream`, `response` or `stale`.
    pub fn fell_back(&self, kind: &str) {
        self.fallback.with_label_values(&[self.name.as_str(), kind]).inc();
    }

    /// There is an active check.
    pub fn checked_actively(&self) {
        self.check_up.with_label_values(&[self.name.as_str()]).set(1);
        for result in ["ok", "failed"] {
            self.checks.with_label_values(&[self.name.as_str(), result]);
        }
    }

    /// There is no active check any more: what it found last is not shown for ever.
    pub fn not_checked(&self) {
        // Nothing to take away is as good.
        drop(self.check_up.remove_label_values(&[self.name.as_str()]));
    }

    /// An active check ended; the upstream counts as `up` now.
    pub fn checked(&self, ok: bool, up: bool) {
        self.checks.with_label_values(&[self.name.as_str(), if ok { "ok" } else { "failed" }]).inc();
        self.check_up.with_label_values(&[self.name.as_str()]).set(i64::from(up));
    }
}

/// One breaker in figures.
#[derive(Debug, Clone)]
pub struct BreakerMetrics {
    upstream: String,
    route: String,
    states: [IntGauge; State::ALL.len()],
    transitions: IntCounterVec,
    open: Counter,
    refused: IntCounter,
}

impl BreakerMetrics {
    /// The state in force: one gauge at 1, all others at 0.
    pub fn state(&self, now: State) {
        for (state, gauge) in State::ALL.iter().zip(&self.states) {
            gauge.set(i64::from(*state == now));
        }
    }

    /// It changed.
    pub fn turned(&self, from: State, to: State) {
        let labels = [self.upstream.as_str(), self.route.as_str(), from.as_str(), to.as_str()];
        self.transitions.with_label_values(&labels).inc();
    }

    /// It stood open for so much longer.
    pub fn stood_open(&self, longer: Duration) {
        self.open.inc_by(longer.as_secs_f64());
    }

    /// It refused a request.
    pub fn refused(&self) {
        self.refused.inc();
    }
}
