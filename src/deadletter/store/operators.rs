//! The store's handle, as operators and retention use it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::file::Place;
use super::job::Asked;
use super::known;
use super::operator;
use super::recover::{self, Check};
use super::rows;
use super::salvage::place;
use super::schema::VERSION;
use super::sealing::Seals;
use super::space::Limits;
use super::trail;
use super::trouble::Trouble;
use super::{Store, capture, contents, find, sealing};
use crate::deadletter::codec;
use crate::deadletter::id::LetterId;
use crate::deadletter::key_use::Tended;
use crate::deadletter::letter::{Because, Letter, State};
use crate::deadletter::line;
use crate::deadletter::query::{
    Act, BulkResult, Cursor, Exported, Filter, Imported, Page, Report, Retained, Stats, StoreError,
};
use crate::deadletter::seal::Keys;

/// So many letters at most at once in a bulk act, a purge, a verification: between two chunks others have their turn.
const CHUNK: u32 = 100;

/// A page of an export ends after so many bytes of bodies.
const EXPORT_BYTES: u64 = 2 << 20;

/// So many damaged letters are named in a report.
const NAMED: usize = 1000;

/// What may come in from elsewhere: a time of capture before the year 6429 leaves room for ids to rise.
const LATEST_ID_MS: u64 = 1 << 47;

/// A state with so few letters is sorted rather than looked for in the list of all.
const RARE: u64 = 1000;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// A page of letters with their trails, newest first; `limit` is 1 to 1,000.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, filter: Filter, limit: u32, cursor: Option<Cursor>) -> Result<Page, StoreError> {
        let rare = filter.state.is_some_and(|state| self.figures().total(state) <= RARE);
        let read =
            move |conn: &Connection, seals: &Seals| find::page(conn, &filter, (limit, cursor), rare, seals);
        self.read_slowly(read).await
    }

    /// An operator's replay: pending or parked -> pending, due now, attempts counted anew. `if_match` as the header says it.
    ///
    /// # Errors
    /// `NotFound`, `Changed`, `Standing`, `Unavailable`, `Full`.
    pub async fn replay(&self, id: LetterId, if_match: Option<&str>) -> Result<Letter, StoreError> {
        self.act(id, if_match, Act::Replay).await
    }

    /// An operator's discard: pending or parked -> discarded. `if_match` as the header says it.
    ///
    /// # Errors
    /// `NotFound`, `Changed`, `Standing`, `Unavailable`, `Full`.
    pub async fn discard(&self, id: LetterId, if_match: Option<&str>) -> Result<Letter, StoreError> {
        self.act(id, if_match, Act::Discard).await
    }

    /// Takes a letter out of the replays: pending -> parked; whether it was pending.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Full`.
    pub async fn park(&self, id: LetterId, because: Because) -> Result<bool, StoreError> {
        self.write(0, move |work| operator::park(work, id, because)).await
    }

    /// So many letters are changed in one commit: those of a small store must not let its WAL outgrow its quota.
    fn chunk(&self) -> u32 {
        let most = Limits::of(self.inner.max_bytes).batch_count();
        u32::try_from(most).unwrap_or(CHUNK).min(CHUNK)
    }

    async fn act(&self, id: LetterId, if_match: Option<&str>, act: Act) -> Result<Letter, StoreError> {
        let if_match = if_match.map(str::to_owned);
        let done = self.write(0, move |work| operator::act(work, id, if_match.as_deref(), act)).await;
        if act == Act::Replay && done.is_ok() {
            self.inner.by_hand.notify_one();
        }
        done
    }

    /// The same act on each letter that the filter meets, newest first, at most `limit`; up to a hundred in one commit. Without a
    /// state in the filter, on pending and parked ones.
    ///
    /// # Errors
    /// `Unavailable`, `Full`; what was done before stays done.
    pub async fn bulk(&self, filter: Filter, limit: u32, act: Act) -> Result<BulkResult, StoreError> {
        let states = filter.state.map_or_else(|| vec![State::Pending, State::Parked], |state| vec![state]);
        let mut result = BulkResult::default();
        for state in states {
            let (filter, mut cursor) = (Filter { state: Some(state), ..filter.clone() }, None);
            loop {
                let done = result.done.len() + result.failed.len();
                let left = limit.saturating_sub(u32::try_from(done).unwrap_or(u32::MAX)).min(self.chunk());
                if left == 0 {
                    return Ok(result);
                }
                let page = self.list(filter.clone(), left, cursor).await?;
                let ids: Vec<LetterId> = page.letters.iter().map(|letter| letter.id).collect();
                let acted = self.write(0, move |work| {
                    let each = |id: &LetterId| match operator::act(work, *id, None, act) {
                        Ok(_) => Ok((*id, None)),
                        Err(Trouble::Said(error)) => Ok((*id, Some(error))),
                        Err(trouble) => Err(trouble),
                    };
                    ids.iter().map(each).collect::<Result<Vec<_>, _>>()
                });
                let acted = acted.await?;
                if act == Act::Replay {
                    self.inner.by_hand.notify_one();
                }
                for (id, error) in acted {
                    match error {
                        None => result.done.push(id),
                        Some(error) => result.failed.push((id, error)),
                    }
                }
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(result)
    }

    /// Removes delivered and discarded letters that the filter meets; says how many.
    ///
    /// # Errors
    /// `Invalid` if the filter asks for another state; `Unavailable`, `Full`.
    pub async fn purge(&self, filter: Filter) -> Result<u64, StoreError> {
        let states = match filter.state {
            None => vec![State::Delivered, State::Discarded],
            Some(state @ (State::Delivered | State::Discarded)) => vec![state],
            Some(_) => {
                let what = "only delivered and discarded letters can be purged; discard the others first";
                return Err(StoreError::Invalid(what.to_owned()));
            }
        };
        let mut removed = 0;
        for state in states {
            let (filter, mut cursor) = (Filter { state: Some(state), ..filter.clone() }, None);
            loop {
                let page = self.list(filter.clone(), self.chunk(), cursor).await?;
                let ids: Vec<LetterId> = page.letters.iter().map(|letter| letter.id).collect();
                removed += self.write(0, move |work| operator::purge(work, &ids)).await?;
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// Reads everything and compares it with its checksums. Takes as long as the disk does; traffic goes on beside it.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn verify(&self) -> Result<Report, StoreError> {
        let place = Place::new(&self.inner.path);
        let look = move |conn: &Connection, _: &Seals| {
            let mut file = recover::problems(conn, Check::All, 100)?;
            file.extend(known::amiss(conn, VERSION)?);
            let aside = place.damaged()?;
            file.extend(aside.iter().map(|path| format!("{} was set aside as damaged", path.display())));
            Ok(file)
        };
        let mut report = Report { file: self.read_slowly(look).await?, ..Report::default() };
        let mut after = None;
        loop {
            let chunk = self.read_slowly(move |conn, seals| {
                let letters = find::from_oldest(conn, &Filter::default(), after, CHUNK, seals)?;
                let (mut damaged, mut locked, mut last) = (Vec::new(), Vec::new(), None);
                for found in &letters {
                    last = Some(found.letter.id);
                    match contents::read(conn, found, seals) {
                        Ok(_) => {}
                        Err(Trouble::Said(StoreError::Damaged(id))) => damaged.push(id),
                        Err(Trouble::Said(StoreError::Locked { key, .. })) => locked.push(key),
                        Err(trouble) => return Err(trouble),
                    }
                }
                Ok((letters.len(), damaged, locked, last))
            });
            let (read, damaged, locked, last) = chunk.await?;
            for key in locked {
                *report.locked.entry(key).or_default() += 1;
            }
            report.letters += u64::try_from(read).unwrap_or_default();
            let left = NAMED.saturating_sub(report.damaged.len());
            report.damaged.extend(damaged.iter().take(left));
            if !damaged.is_empty() {
                self.write(0, move |work| operator::park_damaged(work, &damaged)).await?;
            }
            if last.is_none() {
                return Ok(report);
            }
            after = last;
        }
    }

    /// The store in numbers, from its counters; of the filter only the upstreams count.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn stats(&self, filter: Filter) -> Result<Stats, StoreError> {
        self.read_slowly(move |conn, seals| find::stats(conn, &filter, seals)).await
    }

    /// Some letters as lines, in the order of their capture, from after `after` on; a page is some hundred lines, or a few
    /// MiB. What changes meanwhile is told as it is when its page is read.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn export(&self, filter: Filter, after: Option<LetterId>) -> Result<Exported, StoreError> {
        let read = move |conn: &Connection, seals: &Seals| {
            let letters = find::from_oldest(conn, &filter, after, CHUNK, seals)?;
            let mut more = u32::try_from(letters.len()).is_ok_and(|found| found == CHUNK);
            let (mut lines, mut last, mut bytes) = (Vec::new(), None, 0);
            for mut found in letters {
                if bytes >= EXPORT_BYTES {
                    more = true;
                    break;
                }
                found.letter.attempts = trail::read(conn, &found, seals)?;
                let content = match contents::read(conn, &found, seals) {
                    Ok(content) => Some(content),
                    Err(Trouble::Said(StoreError::Damaged(_) | StoreError::Locked { .. })) => None,
                    Err(trouble) => return Err(trouble),
                };
                bytes += found.letter.body_bytes;
                lines.push(line::write(&found.letter, &found.body_sum, content.as_ref())?);
                last = Some(found.letter.id);
            }
            Ok(Exported { lines, next: last.filter(|_| more) })
        };
        self.read_slowly(read).await
    }

    /// Takes an exported line in; a letter that is there stays as it is. One that was being sent is judged as after a crash.
    ///
    /// # Errors
    /// `Invalid`, `Full`, `Unavailable`.
    pub async fn import(&self, text: &str) -> Result<Imported, StoreError> {
        let line::Parsed { letter, body_sum, content } = line::read(text)?;
        if letter.id.created_ms() >= LATEST_ID_MS {
            return Err(StoreError::Invalid("not a letter: `id` is beyond all time".to_owned()));
        }
        let content = content.map(|content| (codec::encode(&content.headers), content));
        let size = content.as_ref().map_or(0, |(headers, content)| headers.len() + content.body.len());
        let bytes = size + text.len() / 4;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take_in = move |work: &mut super::Work<'_>| {
            let id = letter.id;
            if capture::exists(work.conn, id)? {
                return Ok(Imported::Already(id));
            }
            capture::make_room(work, bytes)?;
            let content = content.as_ref().map(|(headers, content)| (&headers[..], content));
            place(work.conn, &letter, &body_sum, content, work.seals)?;
            if letter.state == State::Sending {
                let found = rows::find(work.conn, id)?;
                let to = recover::judged(&letter, work.now_ms);
                super::turns::put(work.conn, &found, to, letter.attempts_made, work.now_ms)?;
            }
            *work.last_id = (*work.last_id).max(Some(id));
            work.unsure.made.push(id);
            Ok(Imported::New(id))
        };
        self.wanted(bytes, take_in).await
    }

    /// One step of what keys leave to be done: letters in the clear and under old keys are sealed with the current one, letters
    /// whose key is back join their lines. Call it each few seconds, soon again if there is `more`.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn tend(&self) -> Result<Tended, StoreError> {
        let walk = *held(&self.inner.walk);
        let step = move |work: &mut super::Work<'_>| {
            let mut walk = walk;
            Ok((sealing::tend(work, &mut walk)?, walk))
        };
        let (mut tended, walk) = self.write(0, step).await?;
        *held(&self.inner.walk) = walk;
        if tended.scrub {
            // The reply is lost with the writer, which has closed then.
            let (reply, done) = oneshot::channel();
            let asked = self.inner.writer.try_send(Asked::Scrub(reply)).is_ok();
            tended.scrub = asked && done.await.unwrap_or(false);
            if tended.scrub {
                self.write(0, |work| sealing::scrubbed(work)).await?;
            }
        }
        Ok(tended)
    }

    /// Other keys are in force from the next batch on; what they leave to be done [`Self::tend`] does.
    pub fn rekey(&self, keys: Keys) {
        self.inner.shared.keys.store(Arc::new(keys));
        // A queue that is full is a batch that comes.
        drop(self.inner.writer.try_send(Asked::Wake));
        self.inner.rekeyed.notify_one();
    }

    /// Waits until there are other keys.
    pub async fn rekeyed(&self) {
        self.inner.rekeyed.notified().await;
    }

    async fn read_slowly<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Seals) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.inner.shared);
        self.inner.slow.ask(move |conn| read(conn, &shared.seals.load())).await
    }

    /// One turn of retention: removes what was kept long enough, parks what expired, gives space back to the disk; a bounded
    /// piece of work. Call it each few seconds, at once if there is `more`.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn retain(&self, now_ms: u64) -> Result<Retained, StoreError> {
        let retention = self.inner.retention;
        self.write(0, move |work| operator::retain(work, retention, now_ms)).await
    }
}
