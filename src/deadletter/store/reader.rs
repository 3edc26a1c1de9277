//! The threads that read: a read-only connection each, opened when first needed, so that no reader waits for the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::job::Read;
use super::schema;
use super::trouble::{Reach, Trouble};
use super::writer::Shared;
use crate::deadletter::query::StoreError;

/// One reading thread's queue.
#[derive(Debug)]
pub(super) struct Reader {
    queue: Mutex<Option<SyncSender<Read>>>,
    places: Arc<Semaphore>,
    /// Resolves when the thread has let go of the file.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// So many reads wait at once; who comes later waits for a place.
const QUEUE: usize = 256;

impl Reader {
    /// Starts the thread; it ends with the handle.
    pub(super) fn start(name: &str, path: PathBuf, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (queue, asked) = sync_channel(QUEUE);
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
            serve(&asked, &path, &shared);
            drop(end);
        })?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            places: Arc::new(Semaphore::new(QUEUE)),
            ended: Mutex::new(Some(ended)),
        })
    }

    /// What `read` finds.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job: Read = Box::new(move |conn| {
            let result = match conn {
                Ok(conn) => at_once(conn, read),
                Err(trouble) => Err(Trouble::from(trouble.to_string())),
            };
            let reach = result.as_ref().err().map(Trouble::reach);
            drop(place);
            // Who no longer waits does not want to know.
            drop(reply.send(result.map_err(Trouble::into_answer)));
            reach
        });
        let queued = held(&self.queue).as_ref().is_some_and(|queue| queue.try_send(job).is_ok());
        if !queued {
            return Err(StoreError::Closed);
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Refuses what comes from now on, and waits for the end of what was asked before.
    pub(super) async fn close(&self) {
        self.places.close();
        drop(held(&self.queue).take());
        let ended = held(&self.ended).take();
        if let Some(ended) = ended {
            // The thread drops its end, which is all that is awaited.
            drop(ended.await);
        }
    }
}

/// All that one question reads is of one moment: a letter that is sealed anew meanwhile is no half of each.
fn at_once<T>(conn: &Connection, read: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
    let transaction = conn.unchecked_transaction()?;
    let result = read(conn);
    drop(transaction);
    if conn.is_autocommit() { result } else { Err(Trouble::unknown_end()) }
}

/// Reading needs little: no recursion, and what is read lies on the heap.
const STACK: usize = 512 << 10;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An idle reader looks so often whether the file that it has open is still the store's.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection, of which epoch, and that it counts among those that read. They go in this order.
struct Open<'a> {
    conn: Connection,
    seen: u64,
    _counted: Counted<'a>,
}

/// One that reads: the writer opens no other file while there are any.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(reading: &'a AtomicUsize) -> Self {
        reading.fetch_add(1, Ordering::SeqCst);
        Self(reading)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn connect<'a>(path: &Path, shared: &'a Shared) -> Result<Open<'a>, Trouble> {
    // Counted first, then looked: the writer lets go first, then counts.
    let counted = Counted::new(&shared.reading);
    let seen = shared.epoch.load(Ordering::SeqCst);
    if !shared.held.load(Ordering::SeqCst) {
        // What has that name now may be somebody else's.
        return Err(Trouble::from("its file is not open".to_owned()));
    }
    Ok(Open { conn: schema::reader(path)?, seen, _counted: counted })
}

fn serve(asked: &Receiver<Read>, path: &Path, shared: &Shared) {
    let mut open: Option<Open<'_>> = None;
    loop {
        let read = match &open {
            Some(_) => asked.recv_timeout(LOOK_EVERY),
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if open.as_ref().is_some_and(|open| open.seen != shared.epoch.load(Ordering::SeqCst)) {
            open = None;
        }
        let read = match read {
            Ok(read) => read,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let reach = match &open {
            Some(open) => read(Ok(&open.conn)),
            None => match connect(path, shared) {
                Ok(opened) => read(Ok(&open.insert(opened).conn)),
                Err(trouble) => read(Err(&trouble)),
            },
        };
        if reach == Some(Reach::File) {
            open = None;
        }
    }
}
