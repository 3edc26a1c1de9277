//! Letters out of a file that was set aside, and letters from elsewhere, each to its place.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{self, COLUMNS, Form, Found};
use super::sealing::{self, Seals};
use super::trouble::Trouble;
use super::{contents, schema, trail, turns};
use crate::deadletter::letter::{Because, Content, Letter, State};

/// Copies every letter that can be read from the file that was set aside, as it stands there: its seal needs no key. Says how
/// many. One whose content is damaged comes without it, parked.
pub(super) fn salvage(aside: &Path, conn: &Connection) -> Result<u64, Trouble> {
    let old = schema::reader(aside)?;
    let version: u32 = old.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let columns = if version < 2 { COLUMNS_OF_FIRST } else { COLUMNS };
    let (mut saved, mut last, mut gap) = (0, 0_i64, 0_u32);
    let mut transaction = conn.unchecked_transaction()?;
    if version >= 2 {
        // Without them letters keep their places in the order of their keys among themselves, but new ones do not join them.
        drop(sealing::copy(&old, conn));
    }
    while gap < GAP_MAX {
        match next_letter(&old, columns, last) {
            Ok(None) => break,
            Ok(Some(found)) => {
                (last, gap) = (found.n, 0);
                if take_over(&old, conn, &found, version).is_ok() {
                    saved += 1;
                }
                if saved % BETWEEN_COMMITS == 0 {
                    transaction.commit()?;
                    transaction = conn.unchecked_transaction()?;
                }
            }
            Err(_) => (last, gap) = (last + 1, gap + 1),
        }
    }
    transaction.commit()?;
    Ok(saved)
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

fn take_over(old: &Connection, conn: &Connection, found: &Found, version: u32) -> Result<(), Trouble> {
    if found.form.key_id.is_empty() && rows::sum_of(&found.body_sum).is_none() {
        return Err(Trouble::from("no checksum".to_owned()));
    }
    let behind = found.letter.state == State::Pending && found.order.is_some();
    let n = rows::insert(conn, &found.letter, &found.form, behind)?;
    // A letter without its trail is a letter.
    drop(trail::copy(old, found.n, conn, n, version));
    let whole = contents::copy(old, found, conn, n, version).unwrap_or(false);
    if !whole && matches!(found.letter.state, State::Pending | State::Sending) {
        conn.execute(
            "UPDATE letters SET state = 'parked', parked_because = ?2, next_attempt_at = NULL, heartbeat_at = NULL, \
             behind = 0 WHERE n = ?1",
            params![n, Because::Damaged.as_str()],
        )?;
    }
    match &found.order {
        Some(key) => turns::reorder(conn, &found.letter.upstream, key),
        None => Ok(()),
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
