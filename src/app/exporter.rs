//! Sends the spans that wait to their collector, off to the side: traffic never waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use crate::clock;
use crate::config::{self, Url};
use crate::memory::Memory;
use crate::telemetry::events::{SpansLost, emit};
use crate::telemetry::trace::{Batch, Resource, Sampling, Tracer, encode};
use crate::upstream::post::{Answered, Receiver};

/// No span waits longer for others to go with.
const BATCH_WITHIN: Duration = Duration::from_secs(5);

/// A collector gets so long to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A batch is sent so often at most; the pause before the next try doubles.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A collector that asks for more than this is asked again all the same.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// At the end of the process what waits gets so long.
pub(super) const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// That spans are lost is logged no more often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The path of OTLP over HTTP.
const PATH: &str = "/v1/traces";

/// Sends what waits to where the config in force says.
#[derive(Debug)]
pub(super) struct Exporter {
    tracer: Arc<Tracer>,
    resource: Resource,
    collector: watch::Sender<Option<Arc<Collector>>>,
    told: Mutex<LossesTold>,
}

/// Where spans go.
#[derive(Debug)]
pub(super) struct Collector {
    url: Url,
    receiver: Receiver,
    path: &'static str,
}

#[derive(Debug, Default)]
struct LossesTold {
    count: u64,
    at: Option<Instant>,
    /// Why the last of those were lost that are not told yet.
    why: Option<String>,
}

/// Why spans are lost that were never taken to be sent.
const NO_ROOM: &str = "more came than could be sent";

impl Exporter {
    /// One that leads nowhere yet.
    fn new(memory: &Arc<Memory>) -> Arc<Self> {
        let named = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
        let resource = [
            ("service.name", named.unwrap_or_else(|| "fender".to_owned())),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", instance(fastrand::u128(..))),
        ];
        Arc::new(Self {
            tracer: Tracer::new(memory),
            resource: Resource(resource.map(|(key, value)| (key.to_owned(), value)).into()),
            collector: watch::Sender::new(None),
            told: Mutex::default(),
        })
    }

    /// One that leads to where the config says.
    ///
    /// # Errors
    /// A text that says why that cannot be used.
    pub(super) fn leading(config: &config::Trace, memory: &Arc<Memory>) -> Result<Arc<Self>, String> {
        let exporter = Self::new(memory);
        exporter.leads_to(exporter.collector(config)?);
        Ok(exporter)
    }

    pub(super) const fn tracer(&self) -> &Arc<Tracer> {
        &self.tracer
    }

    /// Which requests are traced by this config.
    pub(super) fn sampling(&self, config: &config::Trace) -> Option<Sampling> {
        config.otlp_endpoint.as_ref().map(|_| Sampling::new(&self.tracer, config.sample))
    }

    /// Where the config has spans sent; the one in force, if it is the same.
    ///
    /// # Errors
    /// A text that says why it cannot be used.
    pub(super) fn collector(&self, config: &config::Trace) -> Result<Option<Arc<Collector>>, String> {
        let Some(url) = &config.otlp_endpoint else { return Ok(None) };
        let known = self.collector.borrow().clone().filter(|known| known.url == *url);
        known.map_or_else(|| Collector::new(url), Ok).map(Some)
    }

    /// From now on spans go there.
    pub(super) fn leads_to(&self, collector: Option<Arc<Collector>>) {
        self.collector.send_if_modified(|old| {
            let same = match (old.as_ref(), collector.as_ref()) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            *old = collector;
            !same
        });
    }

    /// Sends batch after batch, for as long as the process serves.
    pub(super) async fn run(self: Arc<Self>) {
        let mut moves = self.collector.subscribe();
        loop {
            self.tracer.some().await;
            // Late or full, it goes.
            drop(timeout(BATCH_WITHIN, self.tracer.a_batch()).await);
            let batch = self.tracer.take();
            let Some(collector) = moves.borrow_and_update().clone() else {
                batch.lost(); // There is no collector any more: what was under way has nowhere to go.
                continue;
            };
            tokio::select! {
                () = self.send(&collector, batch, TRIES) => {}
                _ = moves.changed() => {} // What was not taken goes back, and on to the other one.
            }
        }
    }

    /// Sends what waits, at the end of the process, no longer than until then.
    pub(super) fn flush(&self, until: Instant) {
        let Some(collector) = self.collector.borrow().clone() else { return };
        if self.tracer.figures().waiting > 0
            && let Ok(runtime) = Builder::new_current_thread().enable_all().build()
        {
            let all = async {
                while self.tracer.figures().waiting > 0 {
                    self.send(&collector, self.tracer.take(), 1).await;
                }
            };
            drop(runtime.block_on(async { timeout_at(until.into(), all).await }));
            runtime.shutdown_background();
        }
    }

    /// What still waits is lost, and that is told.
    pub(super) fn close(&self) {
        let before = self.told().why.clone();
        self.tell(before.as_deref().unwrap_or(NO_ROOM), true);
        while self.tracer.figures().waiting > 0 {
            self.tracer.take().lost();
        }
        self.tell("the process ends", true);
    }

    /// Sends a batch until it is taken, or will not be.
    async fn send(&self, collector: &Collector, batch: Batch, tries: u32) {
        let body = encode(&self.resource, batch.spans());
        let mut pause = PAUSE;
        for number in 1..=tries {
            let (why, again) = match collector.post(body.clone()).await {
                Ok((Answered { status, .. }, said)) if status.is_success() => {
                    let rejected = rejected(&said);
                    batch.sent(rejected.as_ref().map_or(0, |(count, _)| *count));
                    return self.tell(rejected.as_ref().map_or(NO_ROOM, |(_, why)| why), false);
                }
                Ok((Answered { status, wait }, _)) => (
                    format!("the collector answered {}", status.as_u16()),
                    is_passing(status).then_some(wait),
                ),
                Err(error) => (error, Some(None)),
            };
            let Some(wait) = again.filter(|_| number < tries) else {
                batch.lost();
                return self.tell(&why, false);
            };
            self.tell(&why, false);
            // Not all collectors are asked again at the same moment.
            let wait = wait.unwrap_or_else(|| pause.mul_f64(1.0 + fastrand::f64() / 4.0)).min(PAUSE_MAX);
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Says how many spans were lost since it was last said, now and then.
    fn tell(&self, because: &str, last: bool) {
        let dropped = self.tracer.figures().dropped;
        let now = clock::now();
        let mut told = self.told();
        let soon = told.at.is_some_and(|at| now.saturating_duration_since(at) < TOLD_EVERY);
        if dropped > told.count && (last || !soon) {
            emit(&SpansLost { spans: dropped - told.count, because });
            *told = LossesTold { count: dropped, at: Some(now), why: None };
        } else if dropped > told.count {
            told.why = Some(because.to_owned());
        }
    }

    fn told(&self) -> MutexGuard<'_, LossesTold> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector {
    fn new(url: &Url) -> Result<Arc<Self>, String> {
        let receiver = Receiver::new(url).map_err(|error| format!("trace.otlp_endpoint: {error}"))?;
        let path = if url.base_path().ends_with(PATH) { "" } else { PATH };
        Ok(Arc::new(Self { url: url.clone(), receiver, path }))
    }

    async fn post(&self, body: Bytes) -> Result<(Answered, Vec<u8>), String> {
        let fields = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        self.receiver.post_and_hear(self.path, &fields, body, ANSWER_WITHIN).await
    }
}

/// How many spans the collector has not taken though its answer is good, and why: they are not sent again.
fn rejected(said: &[u8]) -> Option<(u64, String)> {
    let told: Value = serde_json::from_slice(said).ok()?;
    let partial = told.get("partialSuccess")?;
    let count = partial.get("rejectedSpans")?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok()).filter(|count| *count > 0)?;
    let why = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    let why: String = why.chars().take(WHY_MAX).collect();
    Some((count, format!("the collector rejected them: {why}")))
}

/// So much of a collector's own words is told.
const WHY_MAX: usize = 200;

/// What OTLP has sent again.
const fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

/// Of random bits a UUID (RFC 9562, version 4).
fn instance(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!("{bits:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_answer_may_reject_some() {
        let of = |text: &str| rejected(text.as_bytes()).map(|(count, why)| format!("{count} {why}"));
        let told = |count: &str| {
            format!("{{\"partialSuccess\":{{\"rejectedSpans\":{count},\"errorMessage\":\"no\"}}}}")
        };
        let three = Some("3 the collector rejected them: no".to_owned());
        assert_eq!((of(&told("\"3\"")), of(&told("3"))), (three.clone(), three));
        for text in
            ["", "{}", "not JSON", "{\"partialSuccess\":{}}", &told("0"), &told("\"-1\""), &told("null")]
        {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn an_instance_is_named_by_a_uuid() {
        assert_eq!(instance(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(instance(0), "00000000-0000-4000-8000-000000000000");
    }
}
