//! The threads that read: a read-only connection each, opened when first needed, so that no reader waits for the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::job::Read;
use super::schema;
use super::trouble::{Reach, Trouble};
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
    /// Starts the thread; it ends with the handle. `epoch` rises when the file was replaced or reopened.
    pub(super) fn start(name: &str, path: PathBuf, epoch: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (queue, asked) = sync_channel(QUEUE);
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
            serve(&asked, &path, &epoch);
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
                Ok(conn) => read(conn),
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

/// Reading needs little: no recursion, and what is read lies on the heap.
const STACK: usize = 512 << 10;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(asked: &Receiver<Read>, path: &Path, epoch: &AtomicU64) {
    let mut open: Option<(Connection, u64)> = None;
    while let Ok(read) = asked.recv() {
        let now = epoch.load(Ordering::Acquire);
        if open.as_ref().is_some_and(|(_, seen)| *seen != now) {
            open = None;
        }
        let reach = match &open {
            Some((conn, _)) => read(Ok(conn)),
            None => match schema::reader(path) {
                Ok(conn) => {
                    let (conn, _) = open.insert((conn, now));
                    read(Ok(conn))
                }
                Err(trouble) => read(Err(&trouble)),
            },
        };
        if reach == Some(Reach::File) {
            open = None;
        }
    }
}
