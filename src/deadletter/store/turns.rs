//! Whose turn it is: replays begin, give signs of life and end; letters of one key go one at a time, in order.

use rusqlite::{Connection, OptionalExtension, params};

use super::cells::{small, text, text_if_any};
use super::job::Work;
use super::rows::{self, Found, int, uint};
use super::trail;
use super::trouble::Trouble;
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Attempt, Because, Due, Letter, Settled, State};
use crate::deadletter::query::StoreError;

/// Where a letter goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    Pending { next_attempt_at_ms: u64 },
    Sending,
    Delivered,
    Parked(Because),
    Discarded,
}

impl To {
    const fn state(self) -> State {
        match self {
            Self::Pending { .. } => State::Pending,
            Self::Sending => State::Sending,
            Self::Delivered => State::Delivered,
            Self::Parked(_) => State::Parked,
            Self::Discarded => State::Discarded,
        }
    }
}

impl From<Settled> for To {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Delivered => Self::Delivered,
            Settled::Again { next_attempt_at_ms } => Self::Pending { next_attempt_at_ms },
            Settled::Parked(because) => Self::Parked(because),
        }
    }
}

/// Changes where a letter stands, `attempts_made` included, and gives its key's turn to who has it now.
pub(super) fn put(
    conn: &Connection,
    found: &Found,
    to: To,
    attempts_made: u32,
    now_ms: u64,
) -> Result<(), Trouble> {
    let next = if let To::Pending { next_attempt_at_ms } = to { Some(int(next_attempt_at_ms)) } else { None };
    let because = if let To::Parked(because) = to { Some(because.as_str()) } else { None };
    let heartbeat = matches!(to, To::Sending).then(|| int(now_ms));
    // It stands behind until its key has been looked at.
    let behind = next.is_some() && found.order.is_some();
    conn.prepare_cached(
        "UPDATE letters SET state = ?2, next_attempt_at = ?3, parked_because = ?4, heartbeat_at = ?5, behind = ?6, \
         attempts_made = ?7, updated_at = ?8, version = version + 1 WHERE n = ?1",
    )?
    .execute(params![found.n, to.state().as_str(), next, because, heartbeat, behind, attempts_made, int(now_ms)])?;
    match &found.order {
        Some(key) => reorder(conn, &found.letter.upstream, key),
        None => Ok(()),
    }
}

/// Of the pending letters of a key the first is not behind, unless one is being sent; all others are.
pub(super) fn reorder(conn: &Connection, upstream: &str, key: &str) -> Result<(), Trouble> {
    let first = |behind: bool| -> Result<Option<(i64, String)>, Trouble> {
        let mut statement = conn.prepare_cached(
            "SELECT n, id FROM letters INDEXED BY keyed WHERE order_key = ?1 AND upstream = ?2 AND state = 'pending' \
             AND behind = ?3 AND order_key IS NOT NULL ORDER BY id LIMIT 1",
        )?;
        let found = statement.query_row(params![key, upstream, behind], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    };
    let set = |n: i64, behind: bool| -> Result<(), Trouble> {
        conn.prepare_cached("UPDATE letters SET behind = ?2 WHERE n = ?1")?.execute(params![n, behind])?;
        Ok(())
    };
    let (head, next) = (first(false)?, first(true)?);
    match (head, next) {
        (Some((n, _)), _) if standing(conn, upstream, key, State::Sending)? => set(n, true),
        (Some((head, head_id)), Some((next, next_id))) if next_id < head_id => {
            set(head, true)?;
            set(next, false)
        }
        (None, Some((n, _))) if !standing(conn, upstream, key, State::Sending)? => set(n, false),
        _ => Ok(()),
    }
}

fn standing(conn: &Connection, upstream: &str, key: &str, state: State) -> Result<bool, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT 1 FROM letters INDEXED BY keyed WHERE order_key = ?1 AND upstream = ?2 AND state = ?3 \
         AND order_key IS NOT NULL LIMIT 1",
    )?;
    Ok(statement.exists(params![key, upstream, state.as_str()])?)
}

/// Whether a letter of this key is on its way, or waits for its turn: those that stepped aside hold up nobody.
pub(super) fn in_line(conn: &Connection, upstream: &str, key: &str) -> Result<bool, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT 1 FROM letters INDEXED BY keyed WHERE order_key = ?1 AND upstream = ?2 AND state = 'pending' \
         AND behind IN (0, 1) AND order_key IS NOT NULL LIMIT 1",
    )?;
    Ok(statement.exists(params![key, upstream])? || standing(conn, upstream, key, State::Sending)?)
}

/// Whether a letter of this key is pending or sending; with `hold` a parked one counts too.
pub(super) fn waiting(conn: &Connection, upstream: &str, key: &str, hold: bool) -> Result<bool, Trouble> {
    Ok(standing(conn, upstream, key, State::Pending)?
        || standing(conn, upstream, key, State::Sending)?
        || (hold && standing(conn, upstream, key, State::Parked)?))
}

/// Who may be replayed now, and the key that each is sealed with.
pub(super) fn due(
    conn: &Connection,
    upstream: &str,
    hold: bool,
    now_ms: u64,
    limit: u32,
) -> Result<Vec<(Due, String)>, Trouble> {
    let now = int(now_ms);
    let found: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM letters INDEXED BY times WHERE upstream = ?1 AND state = 'pending' \
             AND behind = 0 AND next_attempt_at <= ?2 LIMIT 257)",
        )?
        .query_row(params![upstream, now], |row| row.get(0))?;
    // Few are sorted; among many the first in order are soon found.
    let index = match found {
        0 => return Ok(Vec::new()),
        1..=256 => "times",
        _ => "turns",
    };
    let mut statement = conn.prepare_cached(&format!(
        "SELECT id, order_key, attempts_made, key_id FROM letters AS l INDEXED BY {index} WHERE upstream = ?1 \
         AND state = 'pending' AND behind = 0 AND next_attempt_at <= ?2 AND (NOT ?3 OR order_key IS NULL OR NOT EXISTS \
         (SELECT 1 FROM letters AS p INDEXED BY keyed WHERE p.order_key = l.order_key AND p.upstream = l.upstream \
         AND p.state = 'parked' AND p.behind = 0 AND p.id < l.id AND p.order_key IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM letters AS p INDEXED BY keyed WHERE p.order_key = l.order_key \
         AND p.upstream = l.upstream AND p.state = 'pending' AND p.behind = 2 AND p.id < l.id \
         AND p.order_key IS NOT NULL)) \
         ORDER BY priority DESC, id LIMIT ?4"
    ))?;
    let due = statement.query_map(params![upstream, now, hold, limit], |row| {
        // A letter whose id is none is nobody's turn, and stops nobody.
        let Ok(id) = rows::id(row, 0) else { return Ok(None) };
        let attempts_made = small(row, 2)?.unwrap_or(u32::MAX);
        Ok(Some((Due { id, order_key: text_if_any(row, 1)?, attempts_made }, text(row, 3)?)))
    })?;
    Ok(due.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

/// Makes letters due that wait only for their own backoff, at most `limit` of them; how many there were. Those whose last
/// attempt was told to wait keep their time.
pub(super) fn hasten(work: &Work<'_>, upstream: &str, limit: u32) -> Result<u64, Trouble> {
    let mut statement = work.conn.prepare_cached(
        "UPDATE letters SET next_attempt_at = ?2, version = version + 1, updated_at = ?2 WHERE n IN (SELECT l.n \
         FROM letters AS l INDEXED BY times WHERE l.upstream = ?1 AND l.state = 'pending' AND l.behind = 0 \
         AND l.next_attempt_at > ?2 AND coalesce((SELECT outcome FROM attempts WHERE n = l.n ORDER BY a DESC LIMIT 1), \
         'transient') NOT IN ('throttled', 'quota') LIMIT ?3)",
    )?;
    Ok(uint(i64::try_from(statement.execute(params![upstream, int(work.now_ms), limit])?).unwrap_or(0)))
}

/// When the next one comes due.
pub(super) fn next_due(conn: &Connection, upstream: &str) -> Result<Option<u64>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT next_attempt_at FROM letters INDEXED BY times WHERE upstream = ?1 AND state = 'pending' AND behind = 0 \
         ORDER BY next_attempt_at LIMIT 1",
    )?;
    Ok(statement.query_row([upstream], |row| row.get(0)).optional()?.map(uint))
}

/// Pending -> sending; `None` if it is not pending, or not its turn.
pub(super) fn begin(work: &mut Work<'_>, id: LetterId, now_ms: u64) -> Result<Option<Letter>, Trouble> {
    let found = rows::find(work.conn, id)?;
    let mut statement = work.conn.prepare_cached("SELECT behind FROM letters WHERE n = ?1")?;
    let behind: bool = statement.query_row([found.n], |row| row.get(0))?;
    if found.letter.state != State::Pending || behind || found.locked(work.seals).is_some() {
        return Ok(None);
    }
    put(work.conn, &found, To::Sending, found.letter.attempts_made, now_ms)?;
    work.unsure.begun.push(id);
    rows::load(work.conn, id, work.seals).map(Some)
}

/// The end of a replay.
pub(super) fn settle(
    work: &Work<'_>,
    id: LetterId,
    attempt: &Attempt,
    settled: Settled,
) -> Result<Letter, Trouble> {
    let found = sending(work.conn, id)?;
    note(work, &found, attempt)?;
    let made = found.letter.attempts_made.saturating_add(1);
    put(work.conn, &found, settled.into(), made, work.now_ms)?;
    rows::load(work.conn, id, work.seals)
}

/// One more in a letter's trail.
fn note(work: &Work<'_>, found: &Found, attempt: &Attempt) -> Result<(), Trouble> {
    let key = work.seals.key_for(&found.form.key_id);
    let add = |attempt: &Attempt| {
        trail::lengthen(work.conn, found.n, &found.letter, std::slice::from_ref(attempt), key)
    };
    let wordless = || Attempt { error: None, answer: None, ..attempt.clone() };
    if work.room.tight() {
        // A trail must never be what keeps a letter from being delivered: it tells the last attempts, in few words.
        trail::shorten(work.conn, found.n)?;
        return add(&wordless());
    }
    if key.is_none() && !found.form.key_id.is_empty() {
        // The keys were taken out while it was being sent: what repeats it must not lie in the clear.
        return add(&wordless());
    }
    add(attempt)
}

/// A pending letter waits at least until then: its client sent it again, and heard so. Its trail tells of the last of those
/// attempts, by which a recovery of the upstream knows whose wait was told.
pub(super) fn defer(
    work: &Work<'_>,
    id: LetterId,
    next_attempt_at_ms: u64,
    attempts: &[Attempt],
) -> Result<(), Trouble> {
    let found = rows::find(work.conn, id)?;
    if found.letter.next_attempt_at_ms >= Some(next_attempt_at_ms) {
        return Ok(());
    }
    if let Some(last) = attempts.last() {
        note(work, &found, last)?;
    }
    let made = found.letter.attempts_made;
    put(work.conn, &found, To::Pending { next_attempt_at_ms }, made, work.now_ms)
}

/// Sending -> elsewhere, without an attempt.
pub(super) fn withdraw(work: &Work<'_>, id: LetterId, to: To) -> Result<(), Trouble> {
    let found = sending(work.conn, id)?;
    put(work.conn, &found, to, found.letter.attempts_made, work.now_ms)
}

/// A sign of life; of who is not being sent nothing is noted.
pub(super) fn heartbeat(work: &Work<'_>, ids: &[LetterId], now_ms: u64) -> Result<(), Trouble> {
    let mut statement = work
        .conn
        .prepare_cached("UPDATE letters SET heartbeat_at = ?2 WHERE id = ?1 AND state = 'sending'")?;
    for id in ids {
        statement.execute(params![id.to_string(), int(now_ms)])?;
    }
    Ok(())
}

fn sending(conn: &Connection, id: LetterId) -> Result<Found, Trouble> {
    let found = rows::find(conn, id)?;
    match found.letter.state {
        State::Sending => Ok(found),
        elsewhere => Err(StoreError::Standing(elsewhere).into()),
    }
}
