//! The registry and every metric that there is. Names are fixed; label values come from the config alone.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Encoder, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

use prometheus::proto::{Counter, MetricFamily};

pub use super::policies::{BreakerMetrics, PolicyMetrics};

use super::letters::{LetterMetrics, LetterVectors, LiveStore};
use super::maker::Maker;
use super::policies::PolicyVectors;
use super::prune::Named;
use super::sharded::{Count, Family, Level, Spans};
use super::streams::{StreamMetrics, StreamVectors};
use crate::clock;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;

/// Whose answer the client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Upstream,
    Fallback,
    Fender,
    DeadLetter,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Upstream, Self::Fallback, Self::Fender, Self::DeadLetter];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Fallback => "fallback",
            Self::Fender => "fender",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    pub(super) registry: Registry,
    pub(super) requests: Family<Count>,
    request_seconds: Family<Spans>,
    stream_seconds: Family<Spans>,
    pub(super) attempts: Family<Count>,
    pub(super) attempt_seconds: Family<Spans>,
    stale: IntCounterVec,
    unretained: IntCounterVec,
    in_flight: Family<Level>,
    connections_upstream: IntGaugeVec,
    connects: IntCounterVec,
    connections: IntGauge,
    buffer_bytes: IntGauge,
    log_lines_dropped: IntGauge,
    reload_success: IntGauge,
    reload_timestamp: Gauge,
    pub(super) policies: PolicyVectors,
    streams: StreamVectors,
    pub(super) letters: LetterVectors,
}

/// What is measured by looking, at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Live {
    pub connections: usize,
    pub buffer_bytes: u64,
    pub log_lines_dropped: u64,
    pub upstreams: Vec<LiveUpstream>,
    /// 0 normal … 4 critical.
    pub degradation: u8,
    /// `None`: no upstream's writes are kept.
    pub store: Option<LiveStore>,
    /// Whose series are shown.
    pub named: Named,
}

/// One upstream's share of it.
#[derive(Debug, Default)]
pub struct LiveUpstream {
    pub name: String,
    /// Connections that are open, and those of them that rest.
    pub open: usize,
    pub idle: usize,
    /// Retries that the budget would grant now.
    pub budget: f64,
    /// Requests that wait for the bulkhead, and how many it lets in at once.
    pub queued: usize,
    pub limit: u32,
}

impl Metrics {
    /// The registry with every metric in it.
    ///
    /// # Errors
    /// Two metrics of one name: a defect that the first start shows.
    #[expect(clippy::too_many_lines, reason = "a list, one entry a metric")]
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let made = Maker { registry: &registry };
        let metrics = Self {
            requests: made.sharded(
                "fender_requests_total",
                "Requests answered, by who answered",
                &["upstream", "route", "code", "source"],
            )?,
            request_seconds: made.sharded(
                "fender_request_duration_seconds",
                "From a request's head to its answer's commit",
                &["upstream", "route"],
            )?,
            stream_seconds: made.rough(
                "fender_response_stream_seconds",
                "From a response's head to its end",
                &["upstream", "route"],
            )?,
            attempts: made.sharded(
                "fender_attempts_total",
                "Attempts ended, by outcome",
                &["upstream", "outcome"],
            )?,
            attempt_seconds: made.sharded(
                "fender_attempt_duration_seconds",
                "From an attempt's start to its response's head, or to an event stream's commit",
                &["upstream"],
            )?,
            stale: made.counters(
                "fender_stale_connections_total",
                "Requests sent once more because their pooled connection was stale",
                &["upstream"],
            )?,
            unretained: made.counters(
                "fender_bodies_unretained_total",
                "Request bodies too large to be kept for another attempt",
                &["upstream"],
            )?,
            in_flight: made.sharded("fender_in_flight", "Requests in flight", &["upstream"])?,
            connections_upstream: made.gauges(
                "fender_upstream_connections",
                "Connections to the upstream",
                &["upstream", "state"],
            )?,
            connects: made.counters(
                "fender_upstream_connects_total",
                "Connections opened, or not",
                &["upstream", "result"],
            )?,
            connections: made.gauge("fender_connections", "Client connections")?,
            buffer_bytes: made
                .gauge("fender_buffer_bytes", "Bytes retained in memory, of server.buffer_memory")?,
            log_lines_dropped: made
                .gauge("fender_log_lines_dropped", "Log lines lost to a reader that did not keep up")?,
            reload_success: made.gauge(
                "fender_config_reload_success",
                "1 if the config in force is the newest one, 0 if that was refused",
            )?,
            reload_timestamp: made.add(Gauge::new(
                "fender_config_reload_timestamp_seconds",
                "When the config in force was read",
            )?)?,
            policies: PolicyVectors::new(&made)?,
            streams: StreamVectors::new(&made)?,
            letters: LetterVectors::new(&made)?,
            registry: registry.clone(),
        };
        made.gauges("fender_build_info", "Always 1", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        metrics.reloaded(true);
        Ok(metrics)
    }

    /// The figures of one upstream, all of them there from now on.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            attempts: Outcome::ALL.map(|outcome| self.attempts.of(&[name, outcome.as_str()])),
            attempt_seconds: self.attempt_seconds.of(&[name]),
            connects: CONNECT_RESULTS.map(|result| self.connects.with_label_values(&[name, result])),
            stale: self.stale.with_label_values(&[name]),
            unretained: self.unretained.with_label_values(&[name]),
            in_flight: self.in_flight.of(&[name]),
            policies: self.policies.upstream(name),
            streams: self.streams.of(name),
            letters: self.letters.upstream(name),
        }
    }

    /// The figures of one breaker. `route`: "" for the upstream's own.
    #[must_use]
    pub fn breaker(&self, upstream: &str, route: &str) -> BreakerMetrics {
        self.policies.breaker(upstream, route)
    }

    /// The figures of one route.
    #[must_use]
    pub fn route(&self, upstream: &str, route: &str) -> RouteMetrics {
        let metrics = RouteMetrics {
            upstream: upstream.to_owned(),
            route: route.to_owned(),
            requests: self.requests.clone(),
            codes: Default::default(),
            request_seconds: self.request_seconds.of(&[upstream, route]),
            stream_seconds: self.stream_seconds.of(&[upstream, route]),
        };
        if !upstream.is_empty() {
            metrics.counter(200, Source::Upstream);
        }
        metrics
    }

    /// Takes the time of each durable commit of the store.
    pub fn commit_seconds(&self) -> impl Fn(Duration) + Send + Sync + 'static {
        let histogram = self.letters.commit_seconds();
        move |took| histogram.observe(took.as_secs_f64())
    }

    /// A reload took place, or was refused.
    pub fn reloaded(&self, succeeded: bool) {
        self.reload_success.set(i64::from(succeeded));
        if succeeded {
            self.reload_timestamp.set(Duration::from_millis(clock::unix_ms()).as_secs_f64());
        }
    }

    /// All of it in Prometheus's text format.
    ///
    /// # Errors
    /// A metric that cannot be written: a defect.
    pub fn render(&self, live: &Live) -> Result<String, prometheus::Error> {
        self.connections.set(as_gauge(live.connections));
        self.buffer_bytes.set(i64::try_from(live.buffer_bytes).unwrap_or(i64::MAX));
        self.log_lines_dropped.set(i64::try_from(live.log_lines_dropped).unwrap_or(i64::MAX));
        for upstream in &live.upstreams {
            let state = |state| self.connections_upstream.with_label_values(&[upstream.name.as_str(), state]);
            state("idle").set(as_gauge(upstream.idle));
            state("active").set(as_gauge(upstream.open.saturating_sub(upstream.idle)));
        }
        self.policies.look(live);
        if let Some(store) = &live.store {
            self.letters.look(store);
        }
        let mut text = Vec::with_capacity(16 * 1024);
        let mut families = self.registry.gather();
        live.named.prune(&mut families);
        precise(&mut families);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The library counts whole seconds of processor time, which makes stairs of every rate.
fn precise(families: &mut [MetricFamily]) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let spent = Duration::try_from(time).unwrap_or_default().as_secs_f64();
    for family in families.iter_mut().filter(|family| family.name() == "process_cpu_seconds_total") {
        for metric in family.mut_metric() {
            let mut counter = Counter::default();
            counter.set_value(spent);
            metric.set_counter(counter);
        }
    }
}

pub(super) fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The results of opening a connection.
const CONNECT_RESULTS: [&str; 3] = ["ok", "connect", "tls"];

/// One upstream's figures.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    attempts: [Arc<Count>; Outcome::ALL.len()],
    attempt_seconds: Arc<Spans>,
    connects: [IntCounter; CONNECT_RESULTS.len()],
    stale: IntCounter,
    unretained: IntCounter,
    /// Requests in flight.
    pub in_flight: Arc<Level>,
    /// What the policies decided.
    pub policies: PolicyMetrics,
    /// Event streams.
    pub streams: StreamMetrics,
    /// What was kept, and sent again later.
    pub letters: LetterMetrics,
}

impl UpstreamMetrics {
    /// An attempt's answer began, or it brought none, after so long.
    pub fn attempt_took(&self, took: Duration) {
        self.attempt_seconds.observe(took);
    }

    /// An attempt ended: with its answer's head, or an event stream's with its last event.
    pub fn attempt_ended(&self, outcome: Outcome) {
        if let Some(counter) =
            Outcome::ALL.iter().position(|each| *each == outcome).and_then(|at| self.attempts.get(at))
        {
            counter.inc();
        }
    }

    /// Attempts ended so far, by outcome.
    pub fn attempts(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().zip(&self.attempts).map(|(outcome, count)| (outcome, count.value()))
    }

    /// A connection was opened, or could not be.
    pub fn connected(&self, result: Result<(), Reason>) {
        let label = match result {
            Ok(()) => "ok",
            Err(Reason::Tls) => "tls",
            Err(_) => "connect",
        };
        if let Some(counter) =
            CONNECT_RESULTS.iter().position(|each| *each == label).and_then(|at| self.connects.get(at))
        {
            counter.inc();
        }
    }

    /// A request is sent once more because its pooled connection was stale.
    pub fn stale_connection(&self) {
        self.stale.inc();
    }

    /// A body was too large, or memory too short, to keep it for another attempt.
    pub fn body_unretained(&self) {
        self.unretained.inc();
    }
}

/// By the status's first digit, then by the rest: of the hundreds most are never answered.
type Codes = [OnceLock<Box<[OnceLock<Arc<Count>>]>>; 5];

/// One route's figures.
#[derive(Debug)]
pub struct RouteMetrics {
    upstream: String,
    route: String,
    requests: Family<Count>,
    /// By source, then by status: a counter is looked up by its labels once.
    codes: [Codes; 4],
    request_seconds: Arc<Spans>,
    stream_seconds: Arc<Spans>,
}

impl RouteMetrics {
    /// A request is answered.
    pub fn answered(&self, status: u16, source: Source, took: Duration) {
        if let Some(counter) = self.counter(status, source) {
            counter.inc();
        }
        self.request_seconds.observe(took);
    }

    /// A response ended.
    pub fn ended(&self, took: Duration) {
        self.stream_seconds.observe(took);
    }

    fn counter(&self, status: u16, source: Source) -> Option<&Arc<Count>> {
        let codes = self.codes.get(source as usize)?;
        let hundred = codes.get(usize::from(status / 100).checked_sub(1)?)?;
        let hundred = hundred.get_or_init(|| std::iter::repeat_with(OnceLock::new).take(100).collect());
        let cell = hundred.get(usize::from(status % 100))?;
        Some(cell.get_or_init(|| {
            let labels = [self.upstream.as_str(), self.route.as_str(), &status.to_string(), source.as_str()];
            self.requests.of(&labels)
        }))
    }
}
