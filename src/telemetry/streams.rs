//! The metrics of event streams.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};

use super::maker::Maker;
use super::sharded::{Family, Spans};

/// How an event stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Whole.
    Complete,
    /// With the upstream's own error event.
    Error,
    /// The upstream's connection broke.
    Reset,
    /// It stopped without its end mark.
    Unfinished,
    /// Something stood in it that is not what the dialect writes.
    Malformed,
    /// No event with content came in time.
    FirstContent,
    /// It paused for too long.
    Idle,
    /// It took longer than it may as a whole, or than its attempt.
    Timeout,
    /// The client took nothing more, or hung up.
    Client,
    /// Fender itself ended while it ran.
    Drain,
}

impl StreamEnd {
    /// All of them, in the order in which metrics list them.
    const ALL: [Self; 10] = [
        Self::Complete,
        Self::Error,
        Self::Reset,
        Self::Unfinished,
        Self::Malformed,
        Self::FirstContent,
        Self::Idle,
        Self::Timeout,
        Self::Client,
        Self::Drain,
    ];

    /// The word of the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Reset => "reset",
            Self::Unfinished => "unfinished",
            Self::Malformed => "malformed",
            Self::FirstContent => "first_content",
            Self::Idle => "idle",
            Self::Timeout => "timeout",
            Self::Client => "client",
            Self::Drain => "drain",
        }
    }
}

/// The vectors themselves.
#[derive(Debug, Clone)]
pub(super) struct StreamVectors {
    ends: IntCounterVec,
    first_content: Family<Spans>,
    between_content: Family<Spans>,
}

impl StreamVectors {
    pub(super) fn new(made: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            ends: made.counters(
                "fender_stream_ends_total",
                "Event streams ended, by how",
                &["upstream", "end"],
            )?,
            first_content: made.sharded(
                "fender_stream_first_content_seconds",
                "From an attempt's start to its stream's first event with content",
                &["upstream"],
            )?,
            between_content: made.sharded(
                "fender_stream_between_content_seconds",
                "Between two events with content",
                &["upstream"],
            )?,
        })
    }

    /// One upstream's figures. They are there once it is known to stream: most APIs never do, and each has forty lines.
    pub(super) fn of(&self, name: &str) -> StreamMetrics {
        StreamMetrics(Arc::new(Lazy { vectors: self.clone(), name: name.to_owned(), made: OnceLock::new() }))
    }
}

/// One upstream's streams in figures.
#[derive(Debug, Clone)]
pub struct StreamMetrics(Arc<Lazy>);

#[derive(Debug)]
struct Lazy {
    vectors: StreamVectors,
    name: String,
    made: OnceLock<Made>,
}

#[derive(Debug)]
struct Made {
    ends: [IntCounter; StreamEnd::ALL.len()],
    first_content: Arc<Spans>,
    between_content: Arc<Spans>,
}

impl StreamMetrics {
    /// The upstream streams: its figures are there from now on.
    pub fn expected(&self) {
        self.made();
    }

    /// A stream ended so.
    pub fn ended(&self, end: StreamEnd) {
        let at = StreamEnd::ALL.iter().position(|each| *each == end);
        if let Some(counter) = at.and_then(|at| self.made().ends.get(at)) {
            counter.inc();
        }
    }

    /// Its first event with content came so long after its attempt's start.
    pub fn first_content(&self, after: Duration) {
        self.made().first_content.observe(after);
    }

    /// A further one came so long after the one before.
    pub fn between_content(&self, gap: Duration) {
        self.made().between_content.observe(gap);
    }

    fn made(&self) -> &Made {
        let Lazy { vectors, name, made } = &*self.0;
        made.get_or_init(|| Made {
            ends: StreamEnd::ALL.map(|end| vectors.ends.with_label_values(&[name, end.as_str()])),
            first_content: vectors.first_content.of(&[name]),
            between_content: vectors.between_content.of(&[name]),
        })
    }
}
