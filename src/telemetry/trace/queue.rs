//! Where spans wait for their collector.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::span::Span;
use crate::memory::{Lease, Memory};

/// So many spans wait…
pub const QUEUE_MAX: usize = 2_048;

/// …of so many bytes together.
pub const QUEUE_BYTES_MAX: u64 = 8 << 20;

/// And so many go at once.
pub const BATCH_MAX: usize = 512;

/// The spans of all workers. What it keeps is counted in `server.buffer_memory`.
#[derive(Debug)]
pub struct Tracer {
    waiting: Mutex<Waiting>,
    /// Told when there is something, and when there is a whole batch.
    news: Notify,
    sent: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    spans: VecDeque<Span>,
    /// Taken, and not settled yet.
    under_way: usize,
    lease: Lease,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Spans that wait, those with them that are being sent.
    pub waiting: usize,
    /// Spans that the collector has taken.
    pub sent: u64,
    /// Spans that were lost: no room, or a collector that did not take them.
    pub dropped: u64,
}

/// Spans on their way; those that nobody settles go back.
#[derive(Debug)]
pub struct Batch {
    tracer: Arc<Tracer>,
    spans: Vec<Span>,
    count: usize,
    bytes: u64,
}

impl Tracer {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Waiting { spans: VecDeque::new(), under_way: 0, lease: memory.lease() }),
            news: Notify::new(),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    /// Takes one request's spans in, all or none: where there is no room they are lost, and counted.
    pub fn push(&self, spans: Vec<Span>) {
        let bytes: u64 = spans.iter().map(Span::bytes).sum();
        let count = spans.len();
        let mut waiting = self.waiting();
        let room =
            waiting.spans.len() + count <= QUEUE_MAX && waiting.lease.bytes() + bytes <= QUEUE_BYTES_MAX;
        if room && waiting.lease.grow(bytes) {
            let before = waiting.spans.len();
            waiting.spans.extend(spans);
            drop(waiting);
            if before == 0 || (before < BATCH_MAX && before + count >= BATCH_MAX) {
                self.news.notify_one();
            }
        } else {
            drop(waiting);
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Waits until there are some. For one reader.
    pub async fn some(&self) {
        self.holds(1).await;
    }

    /// Waits until there is a whole batch. For one reader.
    pub async fn a_batch(&self) {
        self.holds(BATCH_MAX).await;
    }

    async fn holds(&self, count: usize) {
        while self.waiting().spans.len() < count {
            self.news.notified().await;
        }
    }

    /// The oldest spans, a batch at most.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Batch {
        let mut waiting = self.waiting();
        let count = waiting.spans.len().min(BATCH_MAX);
        let spans: Vec<Span> = waiting.spans.drain(..count).collect();
        let bytes = spans.iter().map(Span::bytes).sum();
        if waiting.spans.is_empty() {
            waiting.spans.shrink_to_fit();
        }
        waiting.under_way += count;
        Batch { tracer: Arc::clone(self), spans, count, bytes }
    }

    /// How it stands.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let waiting = self.waiting();
        Figures {
            waiting: waiting.spans.len() + waiting.under_way,
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Its spans, the oldest first.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The collector has them, but for so many.
    pub fn sent(mut self, rejected: u64) {
        let count = self.spans.len() as u64;
        let rejected = rejected.min(count);
        self.tracer.sent.fetch_add(count - rejected, Ordering::Relaxed);
        self.tracer.dropped.fetch_add(rejected, Ordering::Relaxed);
        self.spans.clear();
    }

    /// They are lost.
    pub fn lost(mut self) {
        self.tracer.dropped.fetch_add(self.spans.len() as u64, Ordering::Relaxed);
        self.spans.clear();
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut waiting = self.tracer.waiting();
        waiting.under_way -= self.count;
        if self.spans.is_empty() {
            // To hold less always works.
            let rest = waiting.lease.bytes().saturating_sub(self.bytes);
            let _less = waiting.lease.resize(rest);
            return;
        }
        for span in self.spans.drain(..).rev() {
            waiting.spans.push_front(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::{Context, Kind};

    fn span(number: u64) -> Span {
        Span {
            context: Context { trace: 1, span: number, flags: 1 },
            parent: None,
            kind: Kind::Server,
            name: "GET /".to_owned(),
            began: 1,
            ended: 2,
            attributes: Vec::new(),
            events: Vec::new(),
            events_left_out: 0,
            link: None,
            error: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_is_not_settled_goes_back() {
        let memory = Memory::new(64 << 20);
        let tracer = Tracer::new(&memory);
        (1..=QUEUE_MAX as u64).for_each(|number| tracer.push(vec![span(number)]));
        tracer.push(vec![span(9_001), span(9_002)]);
        assert_eq!(tracer.figures(), Figures { waiting: QUEUE_MAX, sent: 0, dropped: 2 });
        let held = memory.used();
        assert_eq!(held, QUEUE_MAX as u64 * span(1).bytes());

        drop(tracer.take());
        let batch = tracer.take();
        assert_eq!(batch.spans().first().map(|span| span.context.span), Some(1));
        assert_eq!(memory.used(), held, "what is on its way is held too");
        assert_eq!(tracer.figures().waiting, QUEUE_MAX, "what is on its way waits too");
        batch.sent(2);
        tracer.take().lost();
        assert_eq!(tracer.figures(), Figures { waiting: 1_024, sent: 510, dropped: 516 });
        assert_eq!(memory.used(), held / 2);
    }

    #[test]
    fn few_spans_of_many_bytes_fill_it_too() {
        let memory = Memory::new(64 << 20);
        let tracer = Tracer::new(&memory);
        let large = |number| Span { name: "x".repeat(1 << 20), ..span(number) };
        (1..=9).for_each(|number| tracer.push(vec![large(number)]));
        assert_eq!(tracer.figures(), Figures { waiting: 7, sent: 0, dropped: 2 });
        assert!(memory.used() <= QUEUE_BYTES_MAX && memory.used() > 7 << 20, "{}", memory.used());
        // What is being sent takes its room until that has come to an end.
        let batch = tracer.take();
        tracer.push(vec![large(10)]);
        assert_eq!(tracer.figures().dropped, 3);
        batch.sent(0);
        tracer.push(vec![large(11)]);
        assert_eq!(tracer.figures(), Figures { waiting: 1, sent: 7, dropped: 3 });
        assert_eq!(memory.used(), large(11).bytes());
    }

    #[test]
    fn where_memory_is_short_none_is_kept() {
        let tracer = Tracer::new(&Memory::new(span(1).bytes()));
        tracer.push(vec![span(1), span(2)]);
        assert_eq!(tracer.figures(), Figures { waiting: 0, sent: 0, dropped: 2 });
        tracer.push(vec![span(1)]);
        assert_eq!(tracer.figures().waiting, 1);
    }
}
