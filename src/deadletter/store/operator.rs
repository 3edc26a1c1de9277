//! What operators and retention do to letters.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::job::Work;
use super::rows::{self, int};
use super::sealing;
use super::trouble::Trouble;
use super::turns::{self, To};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Because, Letter, State};
use crate::deadletter::query::{Act, Gone, Retained, StoreError};

/// Replays or discards a letter that waits.
pub(super) fn act(
    work: &Work<'_>,
    id: LetterId,
    if_match: Option<&str>,
    act: Act,
) -> Result<Letter, Trouble> {
    let found = rows::find(work.conn, id)?.open(work.seals);
    let letter = &found.letter;
    if if_match.is_some_and(|wanted| !meets(wanted, &letter.etag())) {
        return Err(StoreError::Changed { etag: letter.etag() }.into());
    }
    if !matches!(letter.state, State::Pending | State::Parked) {
        return Err(StoreError::Standing(letter.state).into());
    }
    // A path that lacks its credential leads nowhere, whoever asks.
    let lacking = letter.parked_because == Some(Because::Credential) && letter.path.contains(MASKED);
    if act == Act::Replay && lacking {
        return Err(StoreError::Standing(letter.state).into());
    }
    if let (Act::Replay, Some(key)) = (act, found.locked(work.seals)) {
        return Err(StoreError::Locked { id, key }.into());
    }
    let (to, attempts_made) = match act {
        Act::Replay => (To::Pending { next_attempt_at_ms: work.now_ms }, 0),
        Act::Discard => (To::Discarded, letter.attempts_made),
    };
    turns::put(work.conn, &found, to, attempts_made, work.now_ms)?;
    rows::load(work.conn, id, work.seals)
}

/// What stands in a stored path for a credential.
const MASKED: &str = "***";

/// Parks a letter that is still pending; whether it was.
pub(super) fn park(work: &Work<'_>, id: LetterId, because: Because) -> Result<bool, Trouble> {
    let found = rows::find(work.conn, id)?;
    let pending = found.letter.state == State::Pending;
    if pending {
        turns::put(work.conn, &found, To::Parked(because), found.letter.attempts_made, work.now_ms)?;
    }
    Ok(pending)
}

/// RFC 9110 section 13.1.1: a list of entity tags, or any.
fn meets(if_match: &str, etag: &str) -> bool {
    if_match.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag)
}

/// Removes those of the letters that are delivered or discarded; says how many.
pub(super) fn purge(work: &Work<'_>, ids: &[LetterId]) -> Result<u64, Trouble> {
    let mut statement = work
        .conn
        .prepare_cached("SELECT n FROM letters WHERE id = ?1 AND state IN ('delivered', 'discarded')")?;
    let mut removed = 0;
    for id in ids {
        let found: Option<i64> = statement.query_row([id.to_string()], |row| row.get(0)).optional()?;
        if let Some(n) = found {
            rows::remove(work.conn, n)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Parks what is pending of these as damaged.
pub(super) fn park_damaged(work: &Work<'_>, ids: &[LetterId]) -> Result<(), Trouble> {
    for id in ids {
        match rows::find(work.conn, *id) {
            Ok(found) if found.letter.state == State::Pending => {
                let to = To::Parked(Because::Damaged);
                turns::put(work.conn, &found, to, found.letter.attempts_made, work.now_ms)?;
            }
            Ok(_) | Err(Trouble::Said(_)) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}

/// Removes the letter that is done with the longest, delivered before discarded; false if there is none.
pub(super) fn give_way(conn: &Connection) -> Result<bool, Trouble> {
    for state in [State::Delivered, State::Discarded] {
        let mut statement = conn.prepare_cached(
            "SELECT n FROM letters INDEXED BY standing WHERE state = ?1 ORDER BY updated_at LIMIT 1",
        )?;
        let oldest: Option<i64> = statement.query_row([state.as_str()], |row| row.get(0)).optional()?;
        if let Some(n) = oldest {
            rows::remove(conn, n)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// How long what is done with stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    pub(super) delivered: Duration,
    pub(super) parked: Option<Duration>,
}

/// So many letters at most in one turn, so that a turn never holds up a capture for long; fewer in a small store.
const TURN: usize = 100;

/// So many pages are given back to the disk in one turn.
const VACUUM_PAGES: u64 = 256;

/// Free pages that are kept for what comes next.
const VACUUM_SLACK: u64 = 256;

/// One turn of retention at `now_ms`.
pub(super) fn retain(work: &Work<'_>, retention: Retention, now_ms: u64) -> Result<Retained, Trouble> {
    let mut retained = Retained::default();
    let turn = TURN.min(work.room.limits.batch_count());
    let spans = [
        (State::Delivered, Some(retention.delivered)),
        (State::Discarded, Some(retention.delivered)),
        (State::Parked, retention.parked),
    ];
    for (state, span) in spans {
        let Some(span) = span else { continue };
        let before = now_ms.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let left = turn.saturating_sub(retained.removed.len());
        for (n, gone) in standing_since(work.conn, state, before, left)? {
            rows::remove(work.conn, n)?;
            retained.removed.push(gone);
        }
    }
    for id in expiring(work.conn, now_ms, turn)? {
        let found = rows::find(work.conn, id)?;
        let to = To::Parked(Because::Expired);
        turns::put(work.conn, &found, to, found.letter.attempts_made, work.now_ms)?;
        retained.expired.push(Gone { id, upstream: found.letter.upstream, was: State::Pending });
    }
    // On a full disk every page counts: the reserve is to come back.
    let slack = if work.room.starved { 0 } else { VACUUM_SLACK };
    let more = !sealing::scrubbing(work)? && vacuum(work, slack)?;
    retained.more = retained.removed.len() >= turn || retained.expired.len() >= turn || more;
    Ok(retained)
}

/// Gives some of the pages that are free beyond `slack` back to the disk; whether there are more.
pub(super) fn vacuum(work: &Work<'_>, slack: u64) -> Result<bool, Trouble> {
    let free: i64 = work.conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let spare = free.cast_unsigned().saturating_sub(slack);
    let most = VACUUM_PAGES.min(work.room.limits.checkpoint_pages() / 2);
    if spare > 0 {
        let pages = spare.min(most);
        let mut vacuum = work.conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(spare > most)
}

fn standing_since(
    conn: &Connection,
    state: State,
    before_ms: u64,
    limit: usize,
) -> Result<Vec<(i64, Gone)>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT n, id, upstream FROM letters INDEXED BY standing WHERE state = ?1 AND updated_at <= ?2 \
         ORDER BY updated_at LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = statement.query_map(params![state.as_str(), int(before_ms), limit], |row| {
        Ok((row.get(0)?, Gone { id: rows::id(row, 1)?, upstream: row.get(2)?, was: state }))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn expiring(conn: &Connection, now_ms: u64, most: usize) -> Result<Vec<LetterId>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM letters INDEXED BY expiring WHERE state = 'pending' AND expires_at <= ?1 \
         ORDER BY expires_at LIMIT ?2",
    )?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let found = statement.query_map(params![int(now_ms), limit], |row| rows::id(row, 0))?;
    Ok(found.collect::<Result<_, _>>()?)
}
