//! The store's handle: what it is asked goes to one thread that writes, or to one of two that read.

mod adopting;
mod capture;
mod cells;
mod contents;
mod file;
mod find;
mod fresh;
mod held;
mod insist;
mod job;
mod known;
mod operator;
mod operators;
mod reader;
mod recover;
mod replays;
mod rows;
mod salvage;
mod schema;
mod scrub;
mod sealing;
mod space;
mod trail;
mod trouble;
mod turns;
mod wal;
mod writer;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};

use self::capture::Prepared;
use self::file::Place;
use self::job::{Asked, Task, Work};
use self::operator::Retention;
use self::reader::Reader;
use self::recover::Opener;
use self::sealing::{Seals, Walk};
use self::space::Limits;
use self::trouble::Trouble;
use self::writer::{Shared, Writer};
use super::id::LetterId;
use super::letter::{Content, Draft, Letter, State};
use super::query::{Captured, Figures, OpenError, Opened, StoreError};
use super::seal::Keys;
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
    /// Told when there are other keys.
    rekeyed: Notify,
    /// How far the letters have been sealed anew.
    walk: Mutex<Walk>,
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

    /// Like [`Self::open`], for who reads and settles what is there: keys are used and not put into force, so that a wrong one
    /// leaves no trace. No letter is taken.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_to_look(settings: &DeadLetter) -> Result<(Self, Opened), OpenError> {
        let shared = Shared { looks: true, ..Shared::default() };
        let (store, opened) = Self::start(settings, |_| {}, shared)?;
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
        Self::start(settings, on_commit, Shared::default())
    }

    fn start(
        settings: &DeadLetter,
        on_commit: impl Fn(Duration) + Send + 'static,
        shared: Shared,
    ) -> Result<(Self, Result<Opened, OpenError>), OpenError> {
        let place = Place::new(&settings.path);
        let limits = Limits::of(settings.max_bytes);
        let opener =
            Opener { place: place.clone(), sync: settings.sync, limits, unreadable: Cell::default() };
        let shared = Arc::new(shared);
        shared.keys.store(Arc::new(Keys::of(settings)));
        let queue = usize::try_from(QUEUE_KIB / LEAST_KIB).unwrap_or(1);
        // Some more than there are places: a close finds room behind a full queue.
        let (asked, asks) = sync_channel(queue + 8);
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
            rekeyed: Notify::new(),
            walk: Mutex::default(),
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

    /// One letter, with its trail.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn letter(&self, id: LetterId) -> Result<Letter, StoreError> {
        self.read(move |conn, seals| rows::load(conn, id, seals)).await
    }

    /// One letter's headers and body.
    ///
    /// # Errors
    /// `Damaged` if they are not what was stored; `NotFound`, `Unavailable`.
    pub async fn content(&self, id: LetterId) -> Result<Content, StoreError> {
        self.read(move |conn, seals| contents::read(conn, &rows::find(conn, id)?.open(seals), seals)).await
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

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection, &Seals) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.inner.shared);
        self.inner.hot.ask(move |conn| read(conn, &shared.seals.load())).await
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
