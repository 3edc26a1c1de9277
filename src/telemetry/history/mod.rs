//! What was: each upstream's figures of the last minutes, for charts, and of the last month, for the report.
//!
//! Both are differences of the metrics' own counters, looked at every few seconds by the control thread: nothing is added to a
//! request's way, and neither can disagree with a scrape.

mod buckets;
mod figures;
mod file;
mod recent;
mod totals;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::buckets::Buckets;
pub use self::buckets::{Gap, Known, LONGEST, SHORTEST};
pub use self::figures::Figures;
use self::recent::Recent;
pub use self::recent::{Chart, Rates, STEP};
use self::totals::Totals;
use super::metrics::Metrics;

/// The figures of the process's past.
#[derive(Debug)]
pub struct History {
    recent: Mutex<Recent>,
    long: Mutex<Long>,
    /// One writes at a time.
    saving: Mutex<()>,
}

#[derive(Debug)]
struct Long {
    buckets: Buckets,
    /// What the counters stood at…
    seen: BTreeMap<String, Totals>,
    /// …when they were last looked at.
    at: Instant,
    file: Option<PathBuf>,
    /// The file has been read: it may be written.
    read: bool,
    /// A bucket has ended that is not written down yet.
    due: bool,
}

impl History {
    /// Nothing has happened until `now`. `file`: where the long past is kept; `None`: in memory alone.
    #[must_use]
    pub fn new(file: Option<PathBuf>, now: Instant) -> Arc<Self> {
        let (buckets, seen) = (Buckets::default(), BTreeMap::new());
        let long = Mutex::new(Long { buckets, seen, at: now, file, read: false, due: false });
        Arc::new(Self { recent: Mutex::default(), long, saving: Mutex::default() })
    }

    /// One more step of the last minutes: to be called every [`STEP`].
    pub fn step(&self, metrics: &Metrics, now: Instant) {
        let totals = metrics.totals();
        locked(&self.recent).step(totals, now);
    }

    /// Counts into the long past what has happened since the last time.
    pub fn count(&self, metrics: &Metrics, now: Instant, unix_ms: u64) {
        let totals = metrics.totals();
        let mut long = locked(&self.long);
        let passed = now.saturating_duration_since(long.at);
        // Whole milliseconds are counted: what is left of one belongs to the next time.
        let passed = Duration::from_millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        long.at += passed;
        let before = std::mem::take(&mut long.seen);
        let since = totals.iter().map(|(name, total)| (name.as_str(), total.since(before.get(name))));
        let ended = long.buckets.add(unix_ms, passed, since);
        long.due |= ended;
        long.seen = totals;
    }

    /// Whether a bucket has ended since this was asked last: [`History::save`] is worth it then.
    #[must_use]
    pub fn is_due(&self) -> bool {
        std::mem::take(&mut locked(&self.long).due)
    }

    /// How the upstream has fared lately.
    #[must_use]
    pub fn rates(&self, upstream: &str) -> Rates {
        locked(&self.recent).rates(upstream)
    }

    /// The upstream's last minutes, step by step.
    #[must_use]
    pub fn chart(&self, upstream: &str) -> Chart {
        locked(&self.recent).chart(upstream)
    }

    /// What is known of the last `window`.
    #[must_use]
    pub fn known(&self, window: Duration, unix_ms: u64) -> Known {
        locked(&self.long).buckets.known(window, unix_ms)
    }

    /// Whether it outlives the process.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        locked(&self.long).file.is_some()
    }

    /// Whether the file is still to be read.
    #[must_use]
    pub fn is_to_be_read(&self) -> bool {
        let long = locked(&self.long);
        long.file.is_some() && !long.read
    }

    /// Takes in what an earlier process has kept. Only for who holds the store beside which the file lies: two processes would
    /// overwrite each other's. A file that cannot be read stops nothing: it is set aside.
    pub fn load(&self) {
        let Some(path) = locked(&self.long).file.clone() else { return };
        let found = file::read(&path);
        let mut long = locked(&self.long);
        long.read = true;
        match found {
            Ok(kept) => long.buckets.merge(kept),
            Err(file::Unread::Absent) => {}
            Err(file::Unread::Broken(why)) => {
                drop(long);
                let aside = file::set_aside(&path);
                tracing::warn!(path = %path.display(), %why, aside, "the report's file cannot be read: it begins anew");
            }
            Err(file::Unread::Failed(error)) => {
                // Neither read nor lost: what is there must not be overwritten.
                long.file = None;
                drop(long);
                tracing::warn!(path = %path.display(), %error, "the report's file cannot be opened: the report lives in memory");
            }
        }
    }

    /// Writes it down, if it has a file that it has read.
    ///
    /// # Errors
    /// The file cannot be written. The old one stays.
    pub fn save(&self) -> std::io::Result<()> {
        // Who is at it already writes what was a moment ago: to wait for a disk that hangs would hold up the end.
        let Ok(_alone) = self.saving.try_lock() else { return Ok(()) };
        let (path, text) = {
            let long = locked(&self.long);
            let Some(path) = long.file.clone().filter(|_| long.read) else { return Ok(()) };
            (path, file::text(&long.buckets))
        };
        file::write(&path, &text)
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
