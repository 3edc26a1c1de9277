//! A write becomes a letter.

use rusqlite::{Connection, OptionalExtension, params};

use super::job::Work;
use super::operator::give_way;
use super::rows::{self, find};
use super::trouble::Trouble;
use super::turns;
use crate::deadletter::codec::{self, Sum};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Begin, Draft, Letter, State};
use crate::deadletter::query::{Captured, Receipt, StoreError};

/// A draft with what can be worked out before the writer's turn.
pub(super) struct Prepared {
    draft: Draft,
    headers: Vec<u8>,
    body_sum: Sum,
}

impl Prepared {
    pub(super) fn new(draft: Draft) -> Self {
        Self { headers: codec::encode(&draft.headers), body_sum: codec::sum_of_body(&draft.body), draft }
    }

    /// Bytes that it brings.
    pub(super) fn bytes(&self) -> u64 {
        let Draft { path, body, attempts, .. } = &self.draft;
        let answers =
            attempts.iter().filter_map(|attempt| attempt.answer.as_ref().map(String::len)).sum::<usize>();
        u64::try_from(self.headers.len() + body.len() + path.len() + answers + 512).unwrap_or(u64::MAX)
    }

    /// Stores it, unless it is stored already (contract 5.10).
    pub(super) fn store(&self, work: &mut Work<'_>) -> Result<Captured, Trouble> {
        if let Some(key) = &self.draft.idempotency_key
            && let Some(known) = self.known(work.conn, key)?
        {
            if let (Captured::Already { id, state: State::Pending }, Begin::Pending { next_attempt_at_ms }) =
                (known, self.draft.begin)
            {
                // What its upstream told the client last holds for the letter too.
                turns::defer(work, id, next_attempt_at_ms, &self.draft.attempts)?;
            }
            return Ok(known);
        }
        make_room(work, self.bytes())?;
        let id = next_id(work);
        let draft = &self.draft;
        let letter = self.letter(id, work.now_ms);
        let key = draft.order_key.as_deref().filter(|_| letter.state == State::Pending);
        let behind = match key {
            Some(key) => turns::waiting(work.conn, &draft.upstream, key, false)?,
            None => false,
        };
        let n = rows::insert(work.conn, &letter, &self.body_sum, behind)?;
        rows::put_content(work.conn, n, &letter, &self.headers, (&draft.body, &self.body_sum))?;
        work.unsure.made.push(id);
        Ok(Captured::New(Receipt::new(id, work.sync)))
    }

    /// The live letter that bears the client's key, if there is one.
    fn known(&self, conn: &Connection, key: &str) -> Result<Option<Captured>, Trouble> {
        let Draft { upstream, method, path, .. } = &self.draft;
        let mut statement = conn.prepare_cached(
            "SELECT id, state, body_sha256 FROM letters WHERE idempotency_key = ?1 AND upstream = ?2 AND method = ?3 \
             AND path = ?4 AND idempotency_key IS NOT NULL AND state IN ('pending', 'sending', 'parked') \
             ORDER BY id LIMIT 1",
        )?;
        let known = statement.query_row(params![key, upstream, method, path], |row| {
            let id = rows::id(row, 0)?;
            let same = row.get_ref(2)?.as_blob()? == self.body_sum.as_slice();
            let state = State::of(row.get_ref(1)?.as_str()?).unwrap_or(State::Parked);
            Ok(if same { Captured::Already { id, state } } else { Captured::OtherBody { id } })
        });
        Ok(known.optional()?)
    }

    fn letter(&self, id: LetterId, now_ms: u64) -> Letter {
        let draft = &self.draft;
        let (state, next_attempt_at_ms, parked_because) = match draft.begin {
            Begin::Pending { next_attempt_at_ms } => (State::Pending, Some(next_attempt_at_ms), None),
            Begin::Parked(because) => (State::Parked, None, Some(because)),
        };
        Letter {
            id,
            upstream: draft.upstream.clone(),
            route: draft.route.clone(),
            state,
            verdict: draft.verdict,
            reason: draft.reason,
            parked_because,
            method: draft.method.clone(),
            path: draft.path.clone(),
            order_key: draft.order_key.clone(),
            idempotency_key: draft.idempotency_key.clone(),
            key_header: draft.key_header.clone(),
            body_bytes: u64::try_from(draft.body.len()).unwrap_or(u64::MAX),
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            next_attempt_at_ms,
            heartbeat_at_ms: None,
            expires_at_ms: draft.expires_at_ms,
            version: 1,
            attempts: draft.attempts.clone(),
            priority: draft.priority,
            repeatable: draft.repeatable,
            attempts_made: 0,
        }
    }
}

/// Room for so many bytes more; what is done with gives way first, and `Full` if that is not enough.
pub(super) fn make_room(work: &mut Work<'_>, bytes: u64) -> Result<(), Trouble> {
    if work.room.starved {
        return Err(StoreError::Full.into());
    }
    while !work.room.holds(bytes) {
        if !work.room.might_hold(bytes) || !give_way(work.conn)? {
            work.room.refused = Some(work.room.refused.map_or(bytes, |least| least.min(bytes)));
            return Err(StoreError::Full.into());
        }
        work.room.count(work.conn)?;
    }
    work.room.take(bytes);
    Ok(())
}

fn next_id(work: &mut Work<'_>) -> LetterId {
    let id = LetterId::after(*work.last_id, work.now_ms, fastrand::u128(..));
    *work.last_id = Some(id);
    id
}

/// Whether there is such a letter.
pub(super) fn exists(conn: &Connection, id: LetterId) -> Result<bool, Trouble> {
    match find(conn, id) {
        Ok(_) => Ok(true),
        Err(Trouble::Said(StoreError::NotFound(_))) => Ok(false),
        Err(trouble) => Err(trouble),
    }
}
