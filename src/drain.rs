//! How the process ends: serving, draining (unready, still serving), cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;

/// How often it is looked whether anything is still in flight.
const LOOK: Duration = Duration::from_millis(10);

/// Where the process stands on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Unready, still serving.
    Draining,
    /// The time is up: writes in flight that may be stored are stored now.
    Storing,
    Cut,
}

/// Tells all parts in which phase the process is, and counts what is in flight.
#[derive(Debug, Clone)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    counts: Arc<[Count]>,
}

/// One worker's count, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count {
    started: AtomicU64,
    ended: AtomicU64,
}

/// How long a drain may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// At most.
    pub timeout: Duration,
    /// Nothing must have been in flight for this long.
    pub quiet: Duration,
    /// At least.
    pub min: Duration,
}

impl Drain {
    /// A process that serves, with `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let counts = std::iter::repeat_with(Count::default).take(workers.max(1)).collect();
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), counts }
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// To be told of the next phases.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let forward = *now < phase;
            if forward {
                *now = phase;
            }
            forward
        });
    }

    /// Counts a request on `worker` until the guard is dropped.
    #[must_use]
    pub fn enter(&self, worker: usize) -> InFlight {
        let at = worker % self.counts.len();
        if let Some(count) = self.counts.get(at) {
            count.started.fetch_add(1, Ordering::Relaxed);
        }
        InFlight { counts: Arc::clone(&self.counts), at }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let (started, ended) = self.totals();
        started.saturating_sub(ended)
    }

    /// Waits until nothing has been in flight for `quiet`, or for `timeout`, or until the phase is [`Phase::Cut`]; returns
    /// what is still in flight.
    pub async fn quiet(&self, times: Times) -> u64 {
        let begun = Instant::from_std(clock::now());
        let mut phase = self.watch();
        let (mut busy_at, mut seen) = (begun, self.totals());
        loop {
            let now = Instant::from_std(clock::now());
            let totals = self.totals();
            if totals.0 != totals.1 || totals != seen {
                (busy_at, seen) = (now, totals);
            }
            let rested = totals.0 == totals.1 && now - busy_at >= times.quiet && now - begun >= times.min;
            if rested || now - begun >= times.timeout {
                return self.in_flight();
            }
            tokio::select! {
                _ = phase.wait_for(|phase| *phase == Phase::Cut) => return self.in_flight(),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn totals(&self) -> (u64, u64) {
        // Ends first: a request that starts and ends between the two reads must not make the difference negative.
        let ended = self.counts.iter().map(|count| count.ended.load(Ordering::Acquire)).sum();
        let started = self.counts.iter().map(|count| count.started.load(Ordering::Acquire)).sum();
        (started, ended)
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight {
    counts: Arc<[Count]>,
    at: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(count) = self.counts.get(self.at) {
            count.ended.fetch_add(1, Ordering::Release);
        }
    }
}
