//! The metrics of kept writes.

use prometheus::{Gauge, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::maker::Maker;
use super::metrics::as_gauge;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;

/// The store as a scrape finds it.
#[derive(Debug, Default)]
pub struct LiveStore {
    /// Upstream, state, how many.
    pub letters: Vec<(String, &'static str, u64)>,
    /// How long the oldest letter that is still to be delivered has waited, in seconds.
    pub oldest_seconds: f64,
    /// All that the store occupies.
    pub bytes: u64,
    /// All that it may occupy.
    pub max_bytes: u64,
    /// It takes letters.
    pub healthy: bool,
}

/// Why a write is not stored although the config asks for it: what the capture itself finds, and the store's words.
const REFUSED: [&str; 5] = ["body", "memory", "client", "full", "unavailable"];

/// What a write may be stored for.
const CAPTURED: [Reason; 16] = [
    Reason::FirstContent,
    Reason::BreakerOpen,
    Reason::Overload,
    Reason::RateLimited,
    Reason::Throttled,
    Reason::Timeout,
    Reason::Connect,
    Reason::Reset,
    Reason::Tls,
    Reason::Protocol,
    Reason::Degraded,
    Reason::Credential,
    Reason::Ambiguous,
    Reason::Quota,
    Reason::Cancelled,
    Reason::Exhausted,
];

/// 0 is for what is wrong: a store that is not there is not.
fn well(healthy: IntGauge) -> IntGauge {
    healthy.set(1);
    healthy
}

const STATES: [&str; 5] = ["pending", "sending", "delivered", "parked", "discarded"];

/// The vectors themselves.
#[derive(Debug)]
pub(super) struct LetterVectors {
    letters: IntGaugeVec,
    pub(super) captured: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) replays: IntCounterVec,
    oldest: Gauge,
    bytes: IntGauge,
    healthy: IntGauge,
    max_bytes: IntGauge,
    commit_seconds: HistogramVec,
}

impl LetterVectors {
    pub(super) fn new(made: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            letters: made.gauges("fender_dead_letters", "Letters in the store", &["upstream", "state"])?,
            captured: made.counters(
                "fender_dead_letters_captured_total",
                "Writes stored, by what they were stored for",
                &["upstream", "reason"],
            )?,
            refused: made.counters(
                "fender_dead_letters_refused_total",
                "Writes that were to be stored and were not",
                &["upstream", "reason"],
            )?,
            replays: made.counters(
                "fender_dead_letter_replays_total",
                "Attempts to deliver a letter, by outcome",
                &["upstream", "outcome"],
            )?,
            oldest: made.float(
                "fender_dead_letter_oldest_seconds",
                "How long the oldest letter that is still to be delivered has waited",
            )?,
            bytes: made.gauge("fender_dead_letter_store_bytes", "All that the store occupies")?,
            healthy: well(made.gauge(
                "fender_dead_letter_store_healthy",
                "1 while the store takes letters, and where there is none",
            )?),
            max_bytes: made.gauge("fender_dead_letter_store_max_bytes", "What the store may occupy")?,
            commit_seconds: made.seconds(
                "fender_dead_letter_commit_seconds",
                "One durable commit of the store",
                &[],
            )?,
        })
    }

    /// One upstream's figures.
    pub(super) fn upstream(&self, name: &str) -> LetterMetrics {
        LetterMetrics {
            name: name.to_owned(),
            captured: self.captured.clone(),
            refused: self.refused.clone(),
            replays: self.replays.clone(),
            letters: self.letters.clone(),
        }
    }

    /// What is measured by looking.
    pub(super) fn look(&self, store: &LiveStore) {
        for (upstream, state, count) in &store.letters {
            self.letters
                .with_label_values(&[upstream.as_str(), state])
                .set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.oldest.set(store.oldest_seconds);
        self.max_bytes.set(i64::try_from(store.max_bytes).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(store.bytes).unwrap_or(i64::MAX));
        self.healthy.set(as_gauge(usize::from(store.healthy)));
    }

    /// The histogram of commits, for the store's writer; there from now on.
    pub(super) fn commit_seconds(&self) -> Histogram {
        self.commit_seconds.with_label_values(&[] as &[&str])
    }
}

/// One upstream's kept writes in figures.
#[derive(Debug, Clone)]
pub struct LetterMetrics {
    name: String,
    captured: IntCounterVec,
    refused: IntCounterVec,
    replays: IntCounterVec,
    letters: IntGaugeVec,
}

impl LetterMetrics {
    /// Some writes of this upstream are kept: its series are there from now on.
    pub fn kept(&self) {
        for why in REFUSED {
            self.refused.with_label_values(&[self.name.as_str(), why]);
        }
        // An outbox stores what nothing has happened to yet.
        for reason in CAPTURED.iter().map(|reason| reason.as_str()).chain([""]) {
            self.captured.with_label_values(&[self.name.as_str(), reason]);
        }
        for outcome in Outcome::ALL {
            self.replays.with_label_values(&[self.name.as_str(), outcome.as_str()]);
        }
        for state in STATES {
            self.letters.with_label_values(&[self.name.as_str(), state]);
        }
    }

    /// A write was stored because of `reason`.
    pub fn captured(&self, reason: &str) {
        self.captured.with_label_values(&[self.name.as_str(), reason]).inc();
    }

    /// A write was to be stored and was not.
    pub fn refused(&self, why: &str) {
        self.refused.with_label_values(&[self.name.as_str(), why]).inc();
    }

    /// An attempt to deliver a letter ended.
    pub fn replayed(&self, outcome: Outcome) {
        self.replays.with_label_values(&[self.name.as_str(), outcome.as_str()]).inc();
    }
}
