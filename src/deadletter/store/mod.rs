//! The store's handle: what it is asked goes to one thread that writes, or to one of two that read.

mod capture;
mod file;
mod find;
mod fresh;
mod held;
mod insist;
mod job;
mod operator;
mod operators;
mod reader;
mod recover;
mod rows;
mod schema;
mod space;
mod trouble;
mod turns;
mod wal;
mod writer;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};

use self::capture::Prepared;
use self::file::Place;
use self::job::{Asked, Task, Work};
use self::operator::Retention;
use self::reader::Reader;
use self::recover::Opener;
use self::space::Limits;
use self::trouble::Trouble;
use self::turns::To;
use self::writer::{Shared, Writer};
use super::id::LetterId;
use super::letter::{Attempt, Because, Content, Draft, Due, Letter, Settled, State};
use super::query::{Captured, Figures, OpenError, Opened, StoreError};
use crate::config::model::DeadLetter;

/// The dead-letter store; a handle that is cheap to clone.
///
/// What waits for the writer is bounded (16 MiB of bodies, a thousand questions): beyond it who asks waits. Every answer
/// to a write comes after its commit is on disk, as durably as `dead_letter.sync` says. A future that is dropped does not
/// undo what it asked for, except a capture that the writer had not reached.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: SyncSender<Asked>,
    /// Places in the writer's queue, one for each KiB.
    places: Arc<Semaphore>,
    /// For what replays ask, in traffic.
    hot: Reader,
    /// For what operators ask, which may take long.
    slow: Reader,
    shared: Arc<Shared>,
    retention: Retention,
    /// Where the database lies.
    path: PathBuf,
    /// All that the files may occupy.
    max_bytes: u64,
    /// Told when an operator replays.
    by_hand: Notify,
}

/// What the writer's queue holds, in KiB of bodies.
const QUEUE_KIB: u32 = 16 << 10;

/// What the smallest question counts.
const LEAST_KIB: u32 = 16;

/// Larger bodies are summed on another thread than the one that carries traffic.
const SUMMED_AT_ONCE: usize = 128 << 10;

impl Store {
    /// Opens, or creates, the file that the settings name. Takes milliseconds, whatever the backlog; blocks.
    ///
    /// Only for the owner. What a crash left in `sending` is judged by contract 5.6. A file that is no database, or a damaged
    /// one, is set aside, and what can be read of it taken over.
    ///
    /// # Errors
    /// [`OpenError`]: another process has the file, a newer Fender or another program wrote it, or it cannot be opened.
    pub fn open(settings: &DeadLetter) -> Result<(Self, Opened), OpenError> {
        Self::open_observed(settings, |_| {})
    }

    /// Like [`Self::open`]; `on_commit` hears how long each commit took, on the writer's thread.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_observed(
        settings: &DeadLetter,
        on_commit: impl Fn(Duration) + Send + 'static,
    ) -> Result<(Self, Opened), OpenError> {
        let (store, opened) = Self::open_or_wait(settings, on_commit)?;
        Ok((store, opened?))
    }

    /// Like [`Self::open_observed`], but a file that cannot be opened now (it is another's or a newer Fender's, the disk fails,
    /// its folder is not there) is tried again each second; until then the store takes nothing.
    ///
    /// # Errors
    /// The outer one: the threads cannot be had. The inner one: why it waits.
    pub fn open_or_wait(
        settings: &DeadLetter,
        on_commit: impl Fn(Duration) + Send + 'static,
    ) -> Result<(Self, Result<Opened, OpenError>), OpenError> {
        let place = Place::new(&settings.path);
        let limits = Limits::of(settings.max_bytes);
        let opener =
            Opener { place: place.clone(), sync: settings.sync, limits, unreadable: Cell::default() };
        let shared = Arc::new(Shared::default());
        let queue = usize::try_from(QUEUE_KIB / LEAST_KIB).unwrap_or(1);
        // One more than there are places: a close finds room behind a full queue.
        let (asked, asks) = sync_channel(queue + 1);
        let mut writer = Writer::new(
            opener,
            "it is not open yet".to_owned(),
            Arc::clone(&shared),
            asks,
            Box::new(on_commit),
        );
        let opened = writer.first();
        let reader = |name| {
            Reader::start(name, settings.path.clone(), Arc::clone(&shared))
                .map_err(|error| place.failed(error))
        };
        let inner = Inner {
            writer: asked,
            places: Arc::new(Semaphore::new(usize::try_from(QUEUE_KIB).unwrap_or(1))),
            hot: reader("letters-read")?,
            slow: reader("letters-list")?,
            shared,
            retention: Retention { delivered: settings.retain_delivered, parked: settings.retain_parked },
            path: settings.path.clone(),
            max_bytes: settings.max_bytes,
            by_hand: Notify::new(),
        };
        let started = thread::Builder::new().name("letters-write".to_owned()).spawn(move || writer.run());
        started.map_err(|error| place.failed(error))?;
        Ok((Self { inner: Arc::new(inner) }, opened))
    }

    /// Stores a write; answers after it is on disk. Under contract 5.10 it may be stored already.
    ///
    /// # Errors
    /// `Full`: nothing was stored. `Unavailable`: it will not be replayed by itself.
    pub async fn capture(&self, draft: Draft) -> Result<Captured, StoreError> {
        let prepared = if draft.body.len() > SUMMED_AT_ONCE {
            let summed = tokio::task::spawn_blocking(move || Prepared::new(draft)).await;
            summed.map_err(|error| StoreError::Unavailable(error.to_string()))?
        } else {
            Prepared::new(draft)
        };
        self.wanted(prepared.bytes(), move |work| prepared.store(work)).await
    }

    /// The letters of `upstream` that may be replayed now, highest priority first, then oldest; of each order key only the
    /// first, and none while one of its key is being sent. `hold`: a parked letter blocks what came after it under its key.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn due(
        &self,
        upstream: &str,
        hold: bool,
        now_ms: u64,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        if self.none(upstream, &[State::Pending]) {
            return Ok(Vec::new());
        }
        let upstream = upstream.to_owned();
        self.inner.hot.ask(move |conn| turns::due(conn, &upstream, hold, now_ms, limit)).await
    }

    /// When the next letter of `upstream` comes due, in milliseconds since 1970, as far as time decides (a parked one may hold
    /// it); `None` if none waits for its time.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn next_due(&self, upstream: &str) -> Result<Option<u64>, StoreError> {
        if self.none(upstream, &[State::Pending]) {
            return Ok(None);
        }
        let upstream = upstream.to_owned();
        self.inner.hot.ask(move |conn| turns::next_due(conn, &upstream)).await
    }

    /// Whether a letter of this key is pending or sending, or, with `hold`, parked. Free while the upstream has none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn waiting(&self, upstream: &str, order_key: &str, hold: bool) -> Result<bool, StoreError> {
        let states: &[State] = if hold {
            &[State::Pending, State::Sending, State::Parked]
        } else {
            &[State::Pending, State::Sending]
        };
        if self.none(upstream, states) {
            return Ok(false);
        }
        let (upstream, key) = (upstream.to_owned(), order_key.to_owned());
        self.inner.hot.ask(move |conn| turns::waiting(conn, &upstream, &key, hold)).await
    }

    /// Pending -> sending, on disk; `None` if it is not pending any more, or not its key's turn. The future must be awaited to
    /// its end: a letter that is sending and is not settled stays so until the next start.
    ///
    /// # Errors
    /// `Damaged`: the letter is parked now. `Unavailable`, `Full`: it is pending.
    pub async fn begin(&self, id: LetterId, now_ms: u64) -> Result<Option<(Letter, Content)>, StoreError> {
        let Some(letter) = self.write(0, move |work| turns::begin(work, id, now_ms)).await? else {
            return Ok(None);
        };
        let error = match self.content_surely(id).await {
            Ok(content) => return Ok(Some((letter, content))),
            Err(error) => error,
        };
        let to = match error {
            StoreError::Damaged(_) => To::Parked(Because::Damaged),
            _ => To::Pending { next_attempt_at_ms: now_ms },
        };
        self.withdraw(id, to).await?;
        Err(error)
    }

    /// Signs of life of letters that are being sent.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn heartbeat(&self, ids: &[LetterId], now_ms: u64) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        self.write(0, move |work| turns::heartbeat(work, &ids, now_ms)).await
    }

    /// The end of a replay: sending -> delivered, pending or parked; one more in its trail and its count. Where space is short
    /// the trail does not grow: its oldest attempt gives way, and the new one is told without its words.
    ///
    /// # Errors
    /// `Unavailable`, `Full`: whether it is on disk is not known; ask again until it answers. `Standing` says then that it was.
    pub async fn settle(
        &self,
        id: LetterId,
        attempt: Attempt,
        settled: Settled,
    ) -> Result<Letter, StoreError> {
        self.write(0, move |work| turns::settle(work, id, &attempt, settled)).await
    }

    /// Sending -> pending, without an attempt counted: the breaker refused, or a pause is on. Waits for a store that ails.
    ///
    /// # Errors
    /// `Standing`, `NotFound`: it was not being sent. `Closed`.
    pub async fn postpone(&self, id: LetterId, next_attempt_at_ms: u64) -> Result<(), StoreError> {
        self.withdraw(id, To::Pending { next_attempt_at_ms }).await
    }

    /// The upstream is well again: letters that wait only for their own backoff come due, at most `limit`; how many there
    /// were.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn hasten(&self, upstream: &str, limit: u32) -> Result<u64, StoreError> {
        let upstream = upstream.to_owned();
        self.write(0, move |work| turns::hasten(work, &upstream, limit)).await
    }

    /// One letter, with its trail.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn letter(&self, id: LetterId) -> Result<Letter, StoreError> {
        self.inner.hot.ask(move |conn| rows::load(conn, id)).await
    }

    /// One letter's headers and body.
    ///
    /// # Errors
    /// `Damaged` if they are not what was stored; `NotFound`, `Unavailable`.
    pub async fn content(&self, id: LetterId) -> Result<Content, StoreError> {
        let read = move |conn: &rusqlite::Connection| {
            let (n, letter) = rows::find(conn, id)?;
            rows::content(conn, n, &letter)
        };
        self.inner.hot.ask(read).await
    }

    /// Whether letters are taken, as far as is known: the file can be written, and has room for what was refused last.
    #[must_use]
    pub fn takes_letters(&self) -> bool {
        let figures = self.inner.shared.figures.load();
        figures.healthy && !figures.full
    }

    /// All that the files may occupy: `dead_letter.max_bytes`.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.inner.max_bytes
    }

    /// Waits until an operator has sent letters on their way again.
    pub async fn replayed_by_hand(&self) {
        self.inner.by_hand.notified().await;
    }

    /// What is known without looking into the file.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        self.inner.shared.figures.load_full()
    }

    /// Waits until all that was asked for is on disk, and lets go of the file. What is asked after it answers `Closed`.
    pub async fn close(&self) {
        let Inner { writer, places, hot, slow, .. } = &*self.inner;
        places.close();
        hot.close().await;
        slow.close().await;
        let (reply, closed) = oneshot::channel();
        if writer.try_send(Asked::Close(reply)).is_ok() {
            // A writer that is gone has closed.
            drop(closed.await);
        }
    }

    fn none(&self, upstream: &str, states: &[State]) -> bool {
        let figures = self.inner.shared.figures.load();
        states.iter().all(|state| figures.count(upstream, *state) == 0)
    }

    /// Asks the writer for what must be done even if nobody waits for the answer.
    async fn write<T: Send + 'static>(
        &self,
        bytes: u64,
        run: impl FnMut(&mut Work<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(bytes, false, run).await
    }

    /// Asks the writer for what must not be done if nobody waits for the answer.
    async fn wanted<T: Send + 'static>(
        &self,
        bytes: u64,
        run: impl FnMut(&mut Work<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(bytes, true, run).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        bytes: u64,
        wanted: bool,
        run: impl FnMut(&mut Work<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let places = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(LEAST_KIB, QUEUE_KIB);
        let permit = Arc::clone(&self.inner.places).acquire_many_owned(places).await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { run, wanted, result: None, reply });
        self.inner.writer.try_send(Asked::Job { job, bytes, permit }).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
