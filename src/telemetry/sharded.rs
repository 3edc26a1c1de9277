//! Metrics of the hot path: each thread writes its own part, a scrape sums them.
//!
//! A counter that all workers write moves its cache line from core to core with every request; these do not.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

/// So many parts: one for each core's worker, one for the rest. Threads beyond share.
static SHARDS: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from) + 1);

/// The calling thread's part.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % *SHARDS);
    SHARD.with(|shard| *shard)
}

/// A part on cache lines of its own (two: they are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

fn parts<T: Default>() -> Box<[Line<T>]> {
    std::iter::repeat_with(Line::default).take(*SHARDS).collect()
}

/// A figure that can be written as one metric.
pub(super) trait Figure: Send + Sync + fmt::Debug {
    const KIND: MetricType;

    /// `bounds`: a distribution's buckets, see [`SPANS`].
    fn new(bounds: &'static [u64]) -> Self;

    fn write(&self, metric: &mut Metric);
}

/// A count that only grows.
#[derive(Debug)]
pub struct Count(Box<[Line<AtomicU64>]>);

impl Count {
    /// One more.
    pub fn inc(&self) {
        if let Some(Line(part)) = self.0.get(shard()) {
            part.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many so far.
    pub(super) fn value(&self) -> u64 {
        self.0.iter().map(|Line(part)| part.load(Ordering::Relaxed)).sum()
    }
}

impl Figure for Count {
    const KIND: MetricType = MetricType::COUNTER;

    fn new(_bounds: &'static [u64]) -> Self {
        Self(parts())
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn write(&self, metric: &mut Metric) {
        let mut counter = proto::Counter::default();
        counter.set_value(self.value() as f64);
        metric.set_counter(counter);
    }
}

/// How many there are of something that comes and goes.
#[derive(Debug)]
pub struct Level(Box<[Line<AtomicI64>]>);

impl Level {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// One less; whichever thread it came by.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// How many there are.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.iter().map(|Line(part)| part.load(Ordering::Relaxed)).sum()
    }

    fn add(&self, by: i64) {
        if let Some(Line(part)) = self.0.get(shard()) {
            part.fetch_add(by, Ordering::Relaxed);
        }
    }
}

impl Figure for Level {
    const KIND: MetricType = MetricType::GAUGE;

    fn new(_bounds: &'static [u64]) -> Self {
        Self(parts())
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn write(&self, metric: &mut Metric) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(self.value() as f64);
        metric.set_gauge(gauge);
    }
}

/// From a cache's answer to the longest completion, in microseconds; what is longer counts in the last bucket. Each bound is a
/// line of every scrape for every upstream: ten upstreams are to fit into 64 KiB.
pub(super) const SPANS: &[u64] =
    &[10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000, 60_000_000];

/// For what is seldom asked for.
pub(super) const ROUGH: &[u64] = &[100_000, 1_000_000, 10_000_000, 60_000_000, 300_000_000];

/// So many counts has the longest of the scales: one more than its bounds.
pub(super) const BUCKETS: usize = SPANS.len() + 1;

/// The distribution of spans of time.
#[derive(Debug)]
pub struct Spans {
    bounds: &'static [u64],
    parts: Box<[Line<Part>]>,
}

#[derive(Debug, Default)]
struct Part {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Spans {
    /// One more, of this length.
    pub fn observe(&self, span: Duration) {
        let Some(Line(part)) = self.parts.get(shard()) else { return };
        let bucket = self.bounds.partition_point(|bound| Duration::from_micros(*bound) < span);
        if let Some(bucket) = part.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        part.nanoseconds.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many there were of each bucket so far, and how long all of them were together.
    pub(super) fn counts(&self) -> ([u64; BUCKETS], Duration) {
        let mut counts = [0; BUCKETS];
        let mut sum = Duration::ZERO;
        for Line(part) in &self.parts {
            for (count, bucket) in counts.iter_mut().zip(&part.buckets) {
                *count += bucket.load(Ordering::Relaxed);
            }
            sum = sum.saturating_add(Duration::from_nanos(part.nanoseconds.load(Ordering::Relaxed)));
        }
        (counts, sum)
    }
}

impl Figure for Spans {
    const KIND: MetricType = MetricType::HISTOGRAM;

    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, parts: parts() }
    }

    fn write(&self, metric: &mut Metric) {
        let (counts, sum) = self.counts();
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, own) in self.bounds.iter().zip(counts) {
            count += own;
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(count);
            bucket.set_upper_bound(Duration::from_micros(*bound).as_secs_f64());
            buckets.push(bucket);
        }
        count += counts.get(self.bounds.len()).copied().unwrap_or(0);
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum.as_secs_f64());
        metric.set_histogram(histogram);
    }
}

/// Figures of one name, told apart by labels. Its clones are the same.
#[derive(Debug)]
pub(super) struct Family<F>(Arc<Inner<F>>);

#[derive(Debug)]
struct Inner<F> {
    desc: Desc,
    bounds: &'static [u64],
    figures: Mutex<HashMap<Vec<String>, Arc<F>>>,
}

impl<F> Clone for Family<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Figure> Family<F> {
    pub(super) fn new(
        (name, help): (&str, &str),
        labels: &[&str],
        bounds: &'static [u64],
    ) -> Result<Self, prometheus::Error> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?;
        Ok(Self(Arc::new(Inner { desc, bounds, figures: Mutex::default() })))
    }

    /// The figure of these labels' values, in the order of the labels; there from now on.
    pub(super) fn of(&self, values: &[&str]) -> Arc<F> {
        let key = values.iter().map(|value| (*value).to_owned()).collect();
        let mut figures = self.0.figures.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(figures.entry(key).or_insert_with(|| Arc::new(F::new(self.0.bounds))))
    }

    /// Every figure, with its labels' values.
    pub(super) fn each(&self, mut tell: impl FnMut(&[String], &F)) {
        let figures = self.0.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.iter().for_each(|(values, figure)| tell(values, figure));
    }
}

impl<F: Figure> Collector for Family<F> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let figures = self.0.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = figures.iter().map(|(values, figure)| {
            let mut pairs: Vec<LabelPair> = self
                .0
                .desc
                .variable_labels
                .iter()
                .zip(values)
                .map(|(name, value)| pair(name, value))
                .collect();
            pairs.sort_by(|one, other| one.name().cmp(other.name()));
            let mut metric = Metric::from_label(pairs);
            figure.write(&mut metric);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(F::KIND);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
