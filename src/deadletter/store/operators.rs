//! The store's handle, as operators and retention use it.

use super::file::Place;
use super::operator;
use super::recover::{self, Check};
use super::rows;
use super::space::Limits;
use super::trouble::Trouble;
use super::{Store, capture, find};
use crate::deadletter::codec;
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Because, Letter, State};
use crate::deadletter::line;
use crate::deadletter::query::{
    Act, BulkResult, Cursor, Exported, Filter, Imported, Page, Report, Retained, Stats, StoreError,
};

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

impl Store {
    /// A page of letters with their trails, newest first; `limit` is 1 to 1,000.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, filter: Filter, limit: u32, cursor: Option<Cursor>) -> Result<Page, StoreError> {
        let rare = filter.state.is_some_and(|state| self.figures().total(state) <= RARE);
        self.inner.slow.ask(move |conn| find::page(conn, &filter, limit, cursor, rare)).await
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
        let look = move |conn: &rusqlite::Connection| {
            let mut file = recover::problems(conn, Check::All, 100)?;
            let aside = place.damaged()?;
            file.extend(aside.iter().map(|path| format!("{} was set aside as damaged", path.display())));
            Ok(file)
        };
        let mut report = Report { file: self.inner.slow.ask(look).await?, ..Report::default() };
        let mut after = None;
        loop {
            let chunk = self.inner.slow.ask(move |conn| {
                let letters = find::from_oldest(conn, &Filter::default(), after, CHUNK)?;
                let (mut damaged, mut last) = (Vec::new(), None);
                for (n, letter) in &letters {
                    last = Some(letter.id);
                    match rows::content(conn, *n, letter) {
                        Ok(_) => {}
                        Err(Trouble::Said(StoreError::Damaged(id))) => damaged.push(id),
                        Err(trouble) => return Err(trouble),
                    }
                }
                Ok((letters.len(), damaged, last))
            });
            let (read, damaged, last) = chunk.await?;
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
        self.inner.slow.ask(move |conn| find::stats(conn, &filter)).await
    }

    /// Some letters as lines, in the order of their capture, from after `after` on; a page is some hundred lines, or a few
    /// MiB. What changes meanwhile is told as it is when its page is read.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn export(&self, filter: Filter, after: Option<LetterId>) -> Result<Exported, StoreError> {
        let read = move |conn: &rusqlite::Connection| {
            let letters = find::from_oldest(conn, &filter, after, CHUNK)?;
            let mut more = u32::try_from(letters.len()).is_ok_and(|found| found == CHUNK);
            let (mut lines, mut last, mut bytes) = (Vec::new(), None, 0);
            for (n, mut letter) in letters {
                if bytes >= EXPORT_BYTES {
                    more = true;
                    break;
                }
                letter.attempts = rows::trail(conn, n)?;
                let content = match rows::content(conn, n, &letter) {
                    Ok(content) => Some(content),
                    Err(Trouble::Said(StoreError::Damaged(_))) => None,
                    Err(trouble) => return Err(trouble),
                };
                bytes += letter.body_bytes;
                lines.push(line::write(&letter, &rows::body_sum(conn, n)?, content.as_ref())?);
                last = Some(letter.id);
            }
            Ok(Exported { lines, next: last.filter(|_| more) })
        };
        self.inner.slow.ask(read).await
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
        let content = content.map(|content| (codec::encode(&content.headers), content.body));
        let bytes = content.as_ref().map_or(0, |(headers, body)| headers.len() + body.len()) + text.len() / 4;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take_in = move |work: &mut super::Work<'_>| {
            let id = letter.id;
            if capture::exists(work.conn, id)? {
                return Ok(Imported::Already(id));
            }
            capture::make_room(work, bytes)?;
            let content = content.as_ref().map(|(headers, body)| (headers.clone(), body.as_ref()));
            recover::place(work.conn, &letter, &body_sum, content)?;
            if letter.state == State::Sending {
                let (n, letter) = rows::find(work.conn, id)?;
                let to = recover::judged(&letter, work.now_ms);
                super::turns::put(work.conn, n, &letter, to, letter.attempts_made, work.now_ms)?;
            }
            *work.last_id = (*work.last_id).max(Some(id));
            work.unsure.made.push(id);
            Ok(Imported::New(id))
        };
        self.wanted(bytes, take_in).await
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
