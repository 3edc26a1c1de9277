//! What the threads of the store are asked to do.

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::sealing::Seals;
use super::space::Room;
use super::trouble::{Reach, Trouble};
use crate::config::model::Sync;
use crate::deadletter::id::LetterId;
use crate::deadletter::query::StoreError;

/// What a job of the writer works with: an open transaction, and what the batch knows.
pub(super) struct Work<'a> {
    pub(super) conn: &'a Connection,
    pub(super) now_ms: u64,
    pub(super) sync: Sync,
    pub(super) seals: &'a Seals,
    pub(super) room: &'a mut Room,
    pub(super) last_id: &'a mut Option<LetterId>,
    /// Letters that this batch makes, and those whose sending it begins: what must be undone if its end is unknown.
    pub(super) unsure: &'a mut Unsure,
}

/// What a batch of unknown end may have left in the file, though those who asked were told that it failed.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    pub(super) made: Vec<LetterId>,
    pub(super) begun: Vec<LetterId>,
}

/// A job as the writer sees it. It may run more than once; only the last run counts.
pub(super) trait Job: Send {
    /// Does it. An error reaches beyond this job and ends the batch; what concerns it alone is kept for its answer, and
    /// `false` says that nothing of it may stay.
    fn run(&mut self, work: &mut Work<'_>) -> Result<bool, Trouble>;

    /// Tells the outcome to who asked; `error` is what befell the whole batch.
    fn answer(self: Box<Self>, error: Option<StoreError>);
}

/// A function, and who waits for its result.
pub(super) struct Task<T, F> {
    pub(super) run: F,
    /// Not done if nobody waits for the answer any more.
    pub(super) wanted: bool,
    pub(super) result: Option<Result<T, StoreError>>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Work<'_>) -> Result<T, Trouble> + Send,
{
    fn run(&mut self, work: &mut Work<'_>) -> Result<bool, Trouble> {
        if self.wanted && self.reply.is_closed() {
            // Nobody waits for the receipt any more, so nobody would ever say that Fender owns this write.
            self.result = Some(Err(StoreError::Closed));
            return Ok(false);
        }
        match (self.run)(work) {
            Ok(done) => {
                self.result = Some(Ok(done));
                Ok(true)
            }
            Err(trouble) if trouble.reach() == Reach::One => {
                self.result = Some(Err(trouble.into_answer()));
                Ok(false)
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn answer(self: Box<Self>, error: Option<StoreError>) {
        let result = match (error, self.result) {
            // What was refused, or failed by itself, is not made unknown by its batch.
            (Some(_), Some(Err(own))) => Err(own),
            (Some(error), _) => Err(error),
            (None, Some(result)) => result,
            (None, None) => Err(StoreError::Closed),
        };
        // Who no longer waits does not want to know.
        drop(self.reply.send(result));
    }
}

/// What the writer takes from its queue.
pub(super) enum Asked {
    /// Do this.
    Job {
        job: Box<dyn Job>,
        bytes: u64,
        /// Its place in the queue; free again when it is answered.
        permit: OwnedSemaphorePermit,
    },
    /// Look whether there are other keys; no more.
    Wake,
    /// Bring the WAL home and cut it off; whether that was done.
    Scrub(oneshot::Sender<bool>),
    /// Do what is queued, then let go of the file.
    Close(oneshot::Sender<()>),
}

/// A read, with who waits for it inside.
pub(super) type Read = Box<dyn FnOnce(Result<&Connection, &Trouble>) -> Option<Reach> + Send>;
