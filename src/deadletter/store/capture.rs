//! A write becomes a letter.

use rusqlite::{OptionalExtension, params};

use super::contents;
use super::job::Work;
use super::operator::give_way;
use super::rows::{self, COLUMNS, Form, Found, find};
use super::trouble::Trouble;
use super::{trail, turns};
use crate::deadletter::codec::{self, Sum};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Begin, Credentials, Draft, Letter, State};
use crate::deadletter::query::{Captured, Receipt, StoreError};
use crate::deadletter::seal::Shut;

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
        let Draft { path, body, attempts, credentials, .. } = &self.draft;
        let answers =
            attempts.iter().filter_map(|attempt| attempt.answer.as_ref().map(String::len)).sum::<usize>();
        let own = credentials
            .iter()
            .flat_map(Credentials::fields)
            .map(|(_, value)| value.len() + 64)
            .sum::<usize>();
        let sum = self.headers.len() + body.len() + path.len() + answers + own + 512;
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// Stores it, unless it is stored already (contract 5.10).
    pub(super) fn store(&self, work: &mut Work<'_>) -> Result<Captured, Trouble> {
        if let Some(key) = &self.draft.idempotency_key
            && let Some(known) = self.known(work, key)?
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
        let form = Form::of(&letter, self.whole_path(), &self.body_sum, work.seals)?;
        let behind = match form.order_key.as_deref().filter(|_| letter.state == State::Pending) {
            Some(key) => turns::in_line(work.conn, &draft.upstream, key)?,
            None => false,
        };
        let n = rows::insert(work.conn, &letter, &form, behind)?;
        let key = work.seals.keys.current();
        if !letter.attempts.is_empty() {
            trail::lengthen(work.conn, n, &letter, &letter.attempts, key)?;
        }
        let content = (&self.headers[..], &draft.body[..], &self.body_sum[..]);
        contents::put(work.conn, n, &letter, content, draft.credentials.as_ref(), key)?;
        work.unsure.made.push(id);
        Ok(Captured::New(Receipt::new(id, work.sync)))
    }

    /// The path with the secret that may be in it.
    fn whole_path(&self) -> &str {
        let sealed = self.draft.credentials.as_ref().and_then(|own| own.path.as_deref());
        sealed.unwrap_or(&self.draft.path)
    }

    /// The live letter that bears the client's key, if there is one: under its tag, or in the clear.
    fn known(&self, work: &Work<'_>, key: &str) -> Result<Option<Captured>, Trouble> {
        let Draft { upstream, method, .. } = &self.draft;
        let path = self.whole_path();
        let tag = |path: &str| Some(work.seals.tags.as_ref()?.tag("once", &[key, upstream, method, path]));
        // A letter that has no secret, as from an import or from before credentials were sealed, is known by its masked path.
        let (whole, masked) = (tag(path), tag(&self.draft.path));
        let mut statement = work.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM letters AS l WHERE idempotency_key = ?1 AND upstream = ?2 AND method = ?3 \
             AND path = ?4 AND idempotency_key IS NOT NULL AND state IN ('pending', 'sending', 'parked') \
             ORDER BY id LIMIT 1",
        ))?;
        let mut first: Option<Found> = None;
        for (stands, path) in [(whole.as_deref(), ""), (masked.as_deref(), ""), (Some(key), &self.draft.path)]
        {
            let Some(stands) = stands else { continue };
            let found =
                statement.query_row(params![stands, upstream, method, path], Found::read).optional()?;
            if let Some(found) = found
                && first.as_ref().is_none_or(|first| found.letter.id < first.letter.id)
            {
                first = Some(found);
            }
        }
        let Some(found) = first.map(|found| found.open(work.seals)) else { return Ok(None) };
        let (id, state) = (found.letter.id, found.letter.state);
        match found.shut {
            // Whether it is the same write nobody can say: the client keeps this one.
            Some(Shut::Missing(key)) => return Err(StoreError::Locked { id, key }.into()),
            Some(Shut::Damaged) => return Err(StoreError::Damaged(id).into()),
            None => {}
        }
        let same = found.body_sum == self.body_sum.as_slice();
        Ok(Some(if same { Captured::Already { id, state } } else { Captured::OtherBody { id } }))
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
            sealed: None,
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
pub(super) fn exists(conn: &rusqlite::Connection, id: LetterId) -> Result<bool, Trouble> {
    match find(conn, id) {
        Ok(_) => Ok(true),
        Err(Trouble::Said(StoreError::NotFound(_))) => Ok(false),
        Err(trouble) => Err(trouble),
    }
}
