//! The one thread that writes: takes what is queued together into one commit, answers after it.

mod mend;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::find;
use super::held::Held;
use super::job::{Asked, Job, Unsure, Work};
use super::recover::Opener;
use super::sealing::Seals;
use super::space::{self, Room};
use super::trouble::{Reach, Trouble};
use crate::clock;
use crate::deadletter::id::LetterId;
use crate::deadletter::query::{Figures, StoreError};
use crate::deadletter::seal::Keys;

/// What the writer tells to all who hold the store.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) figures: ArcSwap<Figures>,
    /// Rises whenever the file was opened anew: readers follow.
    pub(super) epoch: AtomicU64,
    /// The file is this process's: readers may open it.
    pub(super) held: AtomicBool,
    /// Connections that read.
    pub(super) reading: AtomicUsize,
    /// Nothing is written for keys: they open what is there.
    pub(super) looks: bool,
    /// The keys that are configured.
    pub(super) keys: ArcSwap<Keys>,
    /// Those that are in force in the file.
    pub(super) seals: ArcSwap<Seals>,
}

/// Called with the time that each commit took.
pub(super) type OnCommit = Box<dyn Fn(Duration) + Send>;

pub(super) struct Writer {
    opener: Opener,
    shared: Arc<Shared>,
    asked: Receiver<Asked>,
    on_commit: OnCommit,
    /// `None`: the file has never been opened yet, or is not what it was; both are tried again.
    held: Option<Held>,
    /// The connection, or why there is none.
    db: Result<Connection, String>,
    /// Pages in the WAL, as SQLite tells after each commit.
    wal_pages: Arc<AtomicU64>,
    /// The disk is full, and the reserve is spent or was not to be had.
    starved: bool,
    /// Captures from so many bytes on are refused for want of quota.
    spent: Option<u64>,
    last_id: Option<LetterId>,
    unsure: Unsure,
    /// Something worse than a lock befell the file: it is checked before it is used again.
    suspect: bool,
    mended: Instant,
    /// When the last flush began.
    flushed: Instant,
}

/// Flushes begin so far apart, unless so many letters wait for one: each costs the traffic beside it a quarter of a
/// millisecond of a processor, however little it carries. A letter that comes alone is flushed at once.
const APART: Duration = Duration::from_millis(4);
const ENOUGH: usize = 16;

/// How often an ailing store is tried again.
const MEND_EVERY: Duration = Duration::from_secs(1);

/// How often the files of a store that nobody asks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Queued = (Box<dyn Job>, OwnedSemaphorePermit);

impl Writer {
    /// Without a file yet, for this reason: see [`Self::first`].
    pub(super) fn new(
        opener: Opener,
        why: String,
        shared: Arc<Shared>,
        asked: Receiver<Asked>,
        on_commit: OnCommit,
    ) -> Self {
        let writer = Self {
            starved: false,
            opener,
            shared,
            asked,
            on_commit,
            held: None,
            db: Err(why),
            wal_pages: Arc::default(),
            spent: None,
            last_id: None,
            unsure: Unsure::default(),
            suspect: false,
            mended: clock::now(),
            flushed: clock::now(),
        };
        writer.publish();
        writer
    }

    /// Works until the store is closed, or its last handle is gone.
    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let ails = self.starved || self.db.is_err();
            if ails && clock::now().duration_since(self.mended) >= MEND_EVERY {
                self.mend();
            }
            match self.asked.recv_timeout(if ails { MEND_EVERY } else { LOOK_EVERY }) {
                Ok(first) => closing = self.batch(first),
                Err(RecvTimeoutError::Timeout) => drop(self.look()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let Self { db, held, asked, .. } = self;
        // The last connection to close brings the WAL home.
        drop((db, asked));
        drop(held);
        if let Some(closing) = closing {
            // Who closed the store and went does not want to know.
            closing.send(()).ok();
        }
    }

    /// Does what is queued, as far as it goes into one commit; gives who wants the store closed.
    fn batch(&mut self, first: Asked) -> Option<oneshot::Sender<()>> {
        let due = self.flushed + APART;
        let (count, most) = (self.opener.limits.batch_count(), self.opener.limits.batch_bytes());
        let mut jobs: Vec<Queued> = Vec::new();
        let (mut next, mut sum, mut closing) = (Some(first), 0, None);
        while let Some(asked) = next {
            match asked {
                Asked::Job { job, bytes, permit } => {
                    sum += bytes;
                    jobs.push((job, permit));
                }
                Asked::Close(reply) => {
                    closing = Some(reply);
                    break;
                }
                Asked::Wake => {}
                Asked::Scrub(reply) => {
                    // Who asked and went asks again.
                    reply.send(self.scrub()).ok();
                }
            }
            next = if jobs.len() < count && sum < most { self.next(jobs.len(), due) } else { None };
        }
        self.flushed = clock::now();
        let error = self.perform(&mut jobs).err();
        for (job, permit) in jobs {
            job.answer(error.clone());
            drop(permit);
        }
        self.checkpoint();
        closing
    }

    /// What is queued next; while few are together, it is waited for until the flush is due.
    fn next(&self, jobs: usize, due: Instant) -> Option<Asked> {
        let queued = self.asked.try_recv().ok();
        let left = due.saturating_duration_since(clock::now());
        if queued.is_some() || jobs >= ENOUGH || left.is_zero() {
            queued
        } else {
            self.asked.recv_timeout(left).ok()
        }
    }

    fn perform(&mut self, jobs: &mut [Queued]) -> Result<(), StoreError> {
        self.look()?;
        self.rekey(false);
        let mut done = self.transact(jobs);
        if done.as_ref().is_err_and(|trouble| trouble.reach() == Reach::Space) {
            // What delivers or deletes goes on with what the reserve gives; what adds is refused.
            self.starve();
            done = self.transact(jobs);
        }
        match done {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.reach() == Reach::File => {
                self.broken(&trouble);
                Err(trouble.into_answer())
            }
            Err(trouble) => Err(trouble.into_answer()),
        }
    }

    /// One transaction, committed.
    fn transact(&mut self, jobs: &mut [Queued]) -> Result<(), Trouble> {
        let conn = self.db.as_ref().map_err(|why| Trouble::from(why.clone()))?;
        let mut unsure = Unsure::default();
        let done = self.attempt(conn, jobs, &mut unsure);
        match done {
            Ok((last_id, spent)) => {
                (self.last_id, self.spent) = (last_id, spent);
                self.publish();
                Ok(())
            }
            Err(trouble) => {
                let undone = conn.is_autocommit() || conn.execute_batch("ROLLBACK").is_ok();
                if undone && trouble.reach() != Reach::File {
                    return Err(trouble);
                }
                self.unsure.made.append(&mut unsure.made);
                self.unsure.begun.append(&mut unsure.begun);
                Err(if trouble.reach() == Reach::File { trouble } else { Trouble::unknown_end() })
            }
        }
    }

    fn attempt(
        &self,
        conn: &Connection,
        jobs: &mut [Queued],
        unsure: &mut Unsure,
    ) -> Result<(Option<LetterId>, Option<u64>), Trouble> {
        let say = |sql: &str| -> Result<(), Trouble> {
            conn.prepare_cached(sql)?.execute([])?;
            Ok(())
        };
        let Opener { place, limits, sync, .. } = &self.opener;
        let seals = self.shared.seals.load();
        let mut last_id = self.last_id;
        say("BEGIN IMMEDIATE")?;
        let mut room =
            Room::measure(place, *limits, self.wal_pages.load(Ordering::Relaxed), self.starved, conn)?;
        let few = jobs.len() < ENOUGH;
        for (job, _) in jobs {
            if few {
                std::thread::yield_now(); // Traffic that waits for this processor goes first.
            }
            say("SAVEPOINT job")?;
            let mut work = Work {
                conn,
                now_ms: clock::unix_ms(),
                sync: *sync,
                seals: &seals,
                room: &mut room,
                last_id: &mut last_id,
                unsure,
            };
            if !job.run(&mut work)? {
                say("ROLLBACK TO job")?;
            }
            say("RELEASE job")?;
        }
        let refused = [self.spent, room.refused].into_iter().flatten().min();
        let spent = refused.filter(|bytes| !room.holds(*bytes));
        if few {
            std::thread::yield_now();
        }
        let start = clock::now();
        say("COMMIT")?;
        (self.on_commit)(clock::now().duration_since(start));
        Ok((last_id, spent))
    }

    /// After the answers, so that nobody waits for it. Passive: it never waits for a reader, and never shortens the WAL, whose
    /// length is what deletes need on a full disk.
    fn checkpoint(&mut self) {
        if self.wal_pages.load(Ordering::Relaxed) >= self.opener.limits.checkpoint_pages() {
            self.bring_home();
            self.publish();
        }
    }

    fn bring_home(&mut self) {
        let Ok(conn) = &self.db else { return };
        match conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE).map_err(Trouble::from) {
            Ok((all, done)) if all == done => self.wal_pages.store(0, Ordering::Relaxed),
            Ok(_) => {}
            Err(trouble) if trouble.reach() == Reach::Space => {
                if !self.starved {
                    self.starve();
                }
            }
            Err(trouble) => self.broken(&trouble),
        }
    }

    /// Gives the reserve up, and refuses captures until it is back.
    fn starve(&mut self) {
        self.starved = true;
        // Without the reserve there is nothing more to give.
        drop(space::release(&self.opener.place));
        // The WAL begins anew at its old length: what delivers and deletes needs no more.
        self.bring_home();
        self.publish();
    }

    /// Lets go of a file that failed, and tries it again at once.
    fn broken(&mut self, trouble: &Trouble) {
        self.suspect |= !trouble.is_lock();
        self.let_go(trouble.to_string());
        self.mend();
    }

    fn let_go(&mut self, why: String) {
        self.db = Err(why);
        if let Some(held) = &mut self.held {
            held.disconnected();
        }
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.publish();
    }

    /// Tells the figures anew; where they cannot be read the last ones stay.
    fn publish(&self) {
        let last = self.shared.figures.load();
        let read = self.db.as_ref().ok().and_then(|conn| {
            let letters = find::counts(conn).ok()?;
            Some((letters, find::oldest_pending(conn).ok()?))
        });
        let (letters, oldest_pending_ms) =
            read.unwrap_or_else(|| (last.letters.clone(), last.oldest_pending_ms.clone()));
        self.shared.figures.store(Arc::new(Figures {
            letters,
            oldest_pending_ms,
            bytes: self.opener.place.sizes().sum(),
            healthy: self.db.is_ok(),
            full: self.starved || self.spent.is_some(),
        }));
    }
}
