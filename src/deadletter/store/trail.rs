//! Letters' attempts. What went wrong and what was answered may repeat what was sent, and is sealed like it.

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::cells::{small, text, text_if_any};
use super::rows::{self, Found, bound, int, uint};
use super::sealing::Seals;
use super::trouble::{Reach, Trouble};
use crate::deadletter::codec;
use crate::deadletter::letter::{ANSWER_MAX, Attempt, ERROR_MAX, Letter, TRAIL_MAX};
use crate::deadletter::seal::{Bound, Key, Part};
use crate::policy::outcome::Outcome;

/// A letter's attempts, oldest first. What does not open of them is left out.
pub(super) fn read(conn: &Connection, found: &Found, seals: &Seals) -> Result<Vec<Attempt>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT at, outcome, status, error, duration_ms, answer, sealed FROM attempts WHERE n = ?1 ORDER BY a",
    )?;
    let attempts = statement.query_map([found.n], |row| {
        let (mut error, mut answer) = (text_if_any(row, 3)?, text_if_any(row, 5)?);
        if let Some(sealed) = row.get_ref(6)?.as_blob_or_null()? {
            (error, answer) = words(seals, bound(&found.letter), sealed);
        }
        Ok(Attempt {
            at_ms: uint(row.get(0)?),
            outcome: rows::outcome(&text(row, 1)?).unwrap_or(Outcome::Transient),
            status: small(row, 2)?,
            error,
            duration_ms: uint(row.get(4)?),
            answer,
        })
    })?;
    Ok(attempts.collect::<Result<_, _>>()?)
}

/// What went wrong, and what was answered.
pub(super) fn words(seals: &Seals, of: Bound<'_>, sealed: &[u8]) -> (Option<String>, Option<String>) {
    let opened = seals.keys.open(Part::Attempt, of, sealed).ok();
    let (mut error, mut answer) = (None, None);
    for (name, value) in opened.and_then(|bytes| codec::decode(&bytes)).unwrap_or_default() {
        let text = String::from_utf8(value).ok();
        match name.as_str() {
            "error" => error = text,
            _ => answer = text,
        }
    }
    (error, answer)
}

/// The two as they are sealed; `None` if there is nothing to seal.
fn sealed(
    key: &Key,
    letter: &Letter,
    error: Option<&str>,
    answer: Option<&str>,
) -> Result<Option<Vec<u8>>, Trouble> {
    let fields: Vec<(String, Vec<u8>)> = [("error", error), ("answer", answer)]
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text?.as_bytes().to_vec())))
        .collect();
    if fields.is_empty() {
        return Ok(None);
    }
    Ok(Some(key.seal(Part::Attempt, bound(letter), &codec::encode(&fields))?))
}

/// Lengthens a letter's trail; the oldest attempts give way beyond [`TRAIL_MAX`]. `key`: seals them.
pub(super) fn lengthen(
    conn: &Connection,
    n: i64,
    letter: &Letter,
    attempts: &[Attempt],
    key: Option<&Key>,
) -> Result<(), Trouble> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO attempts (n, at, outcome, status, error, duration_ms, answer, sealed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let most = usize::try_from(TRAIL_MAX).unwrap_or(usize::MAX);
    for attempt in attempts.iter().skip(attempts.len().saturating_sub(most)) {
        let mut error = attempt.error.as_deref().map(|text| cut(text, ERROR_MAX));
        let mut answer = attempt.answer.as_deref().map(|text| cut(text, ANSWER_MAX));
        let mut blob = None;
        if let Some(key) = key {
            blob = sealed(key, letter, error, answer)?;
            (error, answer) = (None, None);
        }
        insert.execute(params![
            n,
            int(attempt.at_ms),
            attempt.outcome.as_str(),
            attempt.status,
            error,
            int(attempt.duration_ms),
            answer,
            blob,
        ])?;
    }
    conn.prepare_cached(
        "DELETE FROM attempts WHERE n = ?1 AND a <= (SELECT a FROM attempts WHERE n = ?1 ORDER BY a DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute(params![n, TRAIL_MAX])?;
    conn.prepare_cached(
        "UPDATE letters SET trail = (SELECT count(*) FROM attempts WHERE n = ?1) WHERE n = ?1",
    )?
    .execute([n])?;
    Ok(())
}

/// Seals a letter's trail with this key. What does not open stays as it is.
pub(super) fn reseal(conn: &Connection, found: &Found, seals: &Seals, key: &Key) -> Result<(), Trouble> {
    let mut statement =
        conn.prepare_cached("SELECT a, error, answer, sealed FROM attempts WHERE n = ?1 ORDER BY a")?;
    let mut rows = statement.query([found.n])?;
    let mut update =
        conn.prepare_cached("UPDATE attempts SET error = NULL, answer = NULL, sealed = ?2 WHERE a = ?1")?;
    let mut anew: Vec<(i64, Vec<u8>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (mut error, mut answer) = (text_if_any(row, 1)?, text_if_any(row, 2)?);
        if let Some(sealed) = row.get_ref(3)?.as_blob_or_null()? {
            (error, answer) = words(seals, bound(&found.letter), sealed);
        }
        if let Some(sealed) = sealed(key, &found.letter, error.as_deref(), answer.as_deref())? {
            anew.push((row.get(0)?, sealed));
        }
    }
    for (a, sealed) in anew {
        update.execute(params![a, sealed])?;
    }
    Ok(())
}

/// An attempt as it stands in the file.
pub(super) type Stored = [Value; 7];

/// A letter's trail as it stands in the file, which is of this schema.
pub(super) fn stored(conn: &Connection, n: i64, version: u32) -> Result<Vec<Stored>, Trouble> {
    let sealed = if version < 2 { "NULL" } else { "sealed" };
    let mut statement = conn.prepare_cached(&format!(
        "SELECT at, outcome, status, error, duration_ms, answer, {sealed} FROM attempts WHERE n = ?1 ORDER BY a",
    ))?;
    let rows = statement.query_map([n], |row| {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?])
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Puts a trail into the file as it stood in another one; whether all of it was taken.
pub(super) fn put_stored(conn: &Connection, n: i64, trail: &[Stored]) -> Result<bool, Trouble> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO attempts (at, outcome, status, error, duration_ms, answer, sealed, n) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut whole = true;
    for attempt in trail {
        let number = Value::from(n);
        match insert.execute(params_from_iter(attempt.iter().chain([&number]))).map_err(Trouble::from) {
            Ok(_) => {}
            // A hand or rot was on it.
            Err(trouble) if trouble.reach() == Reach::One => whole = false,
            Err(trouble) => return Err(trouble),
        }
    }
    conn.prepare_cached(
        "UPDATE letters SET trail = (SELECT count(*) FROM attempts WHERE n = ?1) WHERE n = ?1",
    )?
    .execute([n])?;
    Ok(whole)
}

/// Drops the oldest attempt of a letter's trail.
pub(super) fn shorten(conn: &Connection, n: i64) -> Result<(), Trouble> {
    conn.prepare_cached(
        "DELETE FROM attempts WHERE a = (SELECT a FROM attempts WHERE n = ?1 ORDER BY a LIMIT 1)",
    )?
    .execute([n])?;
    Ok(())
}

/// The beginning of a text, at most `most` bytes, whole characters.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}
