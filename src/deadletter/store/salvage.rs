//! Letters out of a damaged file, and letters from elsewhere, each to its place.

use std::path::Path;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OptionalExtension, params};

use super::adopting;
use super::rows::{self, COLUMNS, Form, Found};
use super::sealing::Seals;
use super::trouble::{Reach, Trouble};
use super::{contents, known, trail, turns};
use crate::deadletter::letter::{Because, Content, Letter, State};

/// What a salvage came to.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    pub(super) letters: u64,
    /// Something could not be read.
    pub(super) missed: bool,
}

/// Copies every letter that can be read of a damaged file, as it stands there: its seal needs no key. Says how many. One whose
/// content is damaged comes without it, parked. What the fresh file does not take ends it; what the damaged one does not give is
/// asked for twice, then passed over.
pub(super) fn salvage(damaged: &Path, conn: &Connection) -> Result<Salvaged, Trouble> {
    let nothing = Salvaged { letters: 0, missed: true };
    let (old, version) = match twice(|| known::read_damaged(damaged)) {
        Err(trouble) if trouble.is_damage() => return Ok(nothing),
        old => old?,
    };
    let columns = if version < 2 { COLUMNS_OF_FIRST } else { COLUMNS };
    let mut salvaged = Salvaged::default();
    let (mut last, mut gap) = (0_i64, 0_u32);
    let mut transaction = conn.unchecked_transaction()?;
    if version >= 2 {
        // Without them letters keep their places in the order of their keys among themselves, but new ones do not join them.
        match twice(|| adopting::tags(&old)) {
            Ok(tags) => adopting::put_tags(conn, &tags)?,
            Err(_) => salvaged.missed = true,
        }
    }
    while gap < GAP_MAX {
        match twice(|| next_letter(&old, columns, last)) {
            Ok(None) => break,
            // Where the order of the numbers is damaged, the next one may lie behind: whoever followed it would never end.
            Ok(Some(found)) if found.n > last => {
                (last, gap) = (found.n, 0);
                match take_over(&old, conn, &found, version) {
                    Ok(whole) => {
                        salvaged.letters += 1;
                        salvaged.missed |= !whole;
                    }
                    Err(trouble) if trouble.reach() == Reach::One => salvaged.missed = true,
                    Err(trouble) => return Err(trouble),
                }
                if salvaged.letters % BETWEEN_COMMITS == 0 {
                    transaction.commit()?;
                    conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)?;
                    transaction = conn.unchecked_transaction()?;
                }
            }
            Ok(Some(_)) | Err(_) => (last, gap, salvaged.missed) = (last + 1, gap + 1, true),
        }
    }
    transaction.commit()?;
    Ok(salvaged)
}

/// What cannot be read is read once more: a page that could not be had looks like one that makes no sense.
fn twice<T>(read: impl Fn() -> Result<T, Trouble>) -> Result<T, Trouble> {
    read().or_else(|_| read())
}

/// [`COLUMNS`] as the first schema has them.
const COLUMNS_OF_FIRST: &str = "l.*, '' AS key_id, NULL AS head, NULL AS order_word";

/// So many numbers in a row without a readable letter end a salvage.
const GAP_MAX: u32 = 10_000;
const BETWEEN_COMMITS: u64 = 500;

fn next_letter(old: &Connection, columns: &str, after: i64) -> Result<Option<Found>, Trouble> {
    let mut statement = old.prepare_cached(&format!(
        "SELECT {columns} FROM letters AS l NOT INDEXED WHERE l.n > ?1 ORDER BY l.n LIMIT 1"
    ))?;
    Ok(statement.query_row(params![after], Found::read).optional()?)
}

/// Whether all of it came over.
fn take_over(old: &Connection, conn: &Connection, found: &Found, version: u32) -> Result<bool, Trouble> {
    if found.form.key_id.is_empty() && rows::sum_of(&found.body_sum).is_none() {
        return Err(Trouble::from("no checksum".to_owned()));
    }
    let behind = found.letter.state == State::Pending && found.order.is_some();
    let n = rows::insert(conn, &found.letter, &found.form, behind)?;
    // A letter without its trail is a letter.
    let trail = twice(|| trail::stored(old, found.n, version));
    let told = taken(trail.as_ref().map_or(Ok(false), |trail| trail::put_stored(conn, n, trail)))?;
    let content = twice(|| contents::stored(old, found, version)).ok();
    let whole = taken(content.map_or(Ok(false), |content| contents::put_stored(conn, n, &content)))?;
    if !whole && matches!(found.letter.state, State::Pending | State::Sending) {
        conn.execute(
            "UPDATE letters SET state = 'parked', parked_because = ?2, next_attempt_at = NULL, heartbeat_at = NULL, \
             behind = 0 WHERE n = ?1",
            params![n, Because::Damaged.as_str()],
        )?;
    }
    if let Some(key) = &found.order {
        turns::reorder(conn, &found.letter.upstream, key)?;
    }
    Ok(told && whole)
}

/// What makes no sense the fresh file does not take, and does without; what else it fails with is its own.
fn taken(put: Result<bool, Trouble>) -> Result<bool, Trouble> {
    match put {
        Err(trouble) if trouble.reach() == Reach::One => Ok(false),
        put => put,
    }
}

/// Puts a whole letter from elsewhere into the file, in its place in its key's order.
pub(super) fn place(
    conn: &Connection,
    letter: &Letter,
    body_sum: &[u8],
    content: Option<(&[u8], &Content)>,
    seals: &Seals,
) -> Result<(), Trouble> {
    let form = Form::of(letter, &letter.path, body_sum, seals)?;
    let behind = letter.state == State::Pending && letter.order_key.is_some();
    let n = rows::insert(conn, letter, &form, behind)?;
    let key = seals.keys.current();
    if !letter.attempts.is_empty() {
        trail::lengthen(conn, n, letter, &letter.attempts, key)?;
    }
    if let Some((headers, content)) = content {
        contents::put(conn, n, letter, (headers, &content.body, body_sum), None, key)?;
    }
    match &form.order_key {
        Some(key) => turns::reorder(conn, &letter.upstream, key),
        None => Ok(()),
    }
}
