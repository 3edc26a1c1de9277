//! Letters to rows and back.
//!
//! A word that this Fender does not know (a hand was on the file) reads as the most careful one: a list never fails for one
//! row.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params, params};

use super::trouble::Trouble;
use crate::deadletter::codec::{self, Sealed, Sum};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{ANSWER_MAX, Attempt, Because, Content, ERROR_MAX, Letter, State, TRAIL_MAX};
use crate::deadletter::query::StoreError;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

/// The columns that [`letter`] reads, of `letters AS l`.
pub(super) const COLUMNS: &str = "l.n, l.id, l.upstream, l.route, l.state, l.verdict, l.reason, \
    l.parked_because, l.method, l.path, l.order_key, l.idempotency_key, l.key_name, l.key_value, l.body_bytes, \
    l.created_at, l.updated_at, l.next_attempt_at, l.heartbeat_at, l.expires_at, l.version, l.priority, l.repeatable, \
    l.attempts_made";

/// A letter's number in the file, and the letter without its trail.
pub(super) fn letter(row: &Row<'_>) -> rusqlite::Result<(i64, Letter)> {
    let word = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let time = |column| row.get::<_, Option<i64>>(column).map(|time| time.map(uint));
    let key_name: Option<String> = row.get("key_name")?;
    let key_value: Option<String> = row.get("key_value")?;
    let letter = Letter {
        id: id(row, "id")?,
        upstream: row.get("upstream")?,
        route: row.get("route")?,
        state: State::of(word("state")?).unwrap_or(State::Parked),
        verdict: verdict(word("verdict")?).unwrap_or(Verdict::Ambiguous),
        reason: reason(word("reason")?),
        parked_because: row
            .get::<_, Option<String>>("parked_because")?
            .map(|word| Because::of(&word).unwrap_or(Because::Operator)),
        method: row.get("method")?,
        path: row.get("path")?,
        order_key: row.get("order_key")?,
        idempotency_key: row.get("idempotency_key")?,
        key_header: key_name.zip(key_value),
        body_bytes: uint(row.get("body_bytes")?),
        created_at_ms: uint(row.get("created_at")?),
        updated_at_ms: uint(row.get("updated_at")?),
        next_attempt_at_ms: time("next_attempt_at")?,
        heartbeat_at_ms: time("heartbeat_at")?,
        expires_at_ms: uint(row.get("expires_at")?),
        version: uint(row.get("version")?),
        attempts: Vec::new(),
        priority: row.get("priority")?,
        repeatable: row.get("repeatable")?,
        attempts_made: row.get("attempts_made")?,
    };
    Ok((row.get("n")?, letter))
}

pub(super) fn id<I: rusqlite::RowIndex>(row: &Row<'_>, column: I) -> rusqlite::Result<LetterId> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn verdict(word: &str) -> Option<Verdict> {
    Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == word)
}

pub(super) fn reason(word: &str) -> Option<Reason> {
    Reason::ALL.into_iter().find(|reason| reason.as_str() == word)
}

pub(super) fn outcome(word: &str) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)
}

/// Of SQLite's integers: what is negative is none of ours.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// For SQLite's integers: what is beyond them is as good as never.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The letter of that id with its number, without its trail.
pub(super) fn find(conn: &Connection, id: LetterId) -> Result<(i64, Letter), Trouble> {
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM letters AS l WHERE l.id = ?1"))?;
    let found = statement.query_row([id.to_string()], letter).optional()?;
    found.ok_or_else(|| StoreError::NotFound(id).into())
}

/// The letter of that id, with its trail.
pub(super) fn load(conn: &Connection, id: LetterId) -> Result<Letter, Trouble> {
    let (n, mut letter) = find(conn, id)?;
    letter.attempts = trail(conn, n)?;
    Ok(letter)
}

/// A letter's attempts, oldest first.
pub(super) fn trail(conn: &Connection, n: i64) -> Result<Vec<Attempt>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT at, outcome, status, error, duration_ms, answer FROM attempts WHERE n = ?1 ORDER BY a",
    )?;
    let attempts = statement.query_map([n], |row| {
        Ok(Attempt {
            at_ms: uint(row.get(0)?),
            outcome: outcome(row.get_ref(1)?.as_str()?).unwrap_or(Outcome::Transient),
            status: row.get(2)?,
            error: row.get(3)?,
            duration_ms: uint(row.get(4)?),
            answer: row.get(5)?,
        })
    })?;
    Ok(attempts.collect::<Result<_, _>>()?)
}

/// Lengthens a letter's trail; the oldest attempts give way beyond [`TRAIL_MAX`].
pub(super) fn lengthen(conn: &Connection, n: i64, attempts: &[Attempt]) -> Result<(), Trouble> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO attempts (n, at, outcome, status, error, duration_ms, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let most = usize::try_from(TRAIL_MAX).unwrap_or(usize::MAX);
    for attempt in attempts.iter().skip(attempts.len().saturating_sub(most)) {
        insert.execute(params![
            n,
            int(attempt.at_ms),
            attempt.outcome.as_str(),
            attempt.status,
            attempt.error.as_deref().map(|text| cut(text, ERROR_MAX)),
            int(attempt.duration_ms),
            attempt.answer.as_deref().map(|text| cut(text, ANSWER_MAX)),
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

/// Inserts a letter with its trail; its content comes apart. Says its number.
pub(super) fn insert(
    conn: &Connection,
    letter: &Letter,
    body_sum: &Sum,
    behind: bool,
) -> Result<i64, Trouble> {
    let mut statement: CachedStatement<'_> = conn.prepare_cached(
        "INSERT INTO letters (id, upstream, route, state, verdict, reason, parked_because, method, path, order_key, \
         idempotency_key, key_name, key_value, body_bytes, body_sha256, created_at, updated_at, next_attempt_at, \
         heartbeat_at, expires_at, version, priority, repeatable, attempts_made, trail, behind) VALUES (:id, :upstream, \
         :route, :state, :verdict, :reason, :parked_because, :method, :path, :order_key, :idempotency_key, :key_name, \
         :key_value, :body_bytes, :body_sha256, :created_at, :updated_at, :next_attempt_at, :heartbeat_at, :expires_at, \
         :version, :priority, :repeatable, :attempts_made, 0, :behind)",
    )?;
    statement.execute(named_params! {
        ":id": letter.id.to_string(),
        ":upstream": letter.upstream,
        ":route": letter.route,
        ":state": letter.state.as_str(),
        ":verdict": letter.verdict.as_str(),
        ":reason": letter.reason.map_or("", Reason::as_str),
        ":parked_because": letter.parked_because.map(Because::as_str),
        ":method": letter.method,
        ":path": letter.path,
        ":order_key": letter.order_key,
        ":idempotency_key": letter.idempotency_key,
        ":key_name": letter.key_header.as_ref().map(|(name, _)| name),
        ":key_value": letter.key_header.as_ref().map(|(_, value)| value),
        ":body_bytes": int(letter.body_bytes),
        ":body_sha256": body_sum.as_slice(),
        ":created_at": int(letter.created_at_ms),
        ":updated_at": int(letter.updated_at_ms),
        ":next_attempt_at": letter.next_attempt_at_ms.map(int),
        ":heartbeat_at": letter.heartbeat_at_ms.map(int),
        ":expires_at": int(letter.expires_at_ms),
        ":version": int(letter.version),
        ":priority": letter.priority,
        ":repeatable": letter.repeatable,
        ":attempts_made": letter.attempts_made,
        ":behind": behind,
    })?;
    let n = conn.last_insert_rowid();
    if !letter.attempts.is_empty() {
        lengthen(conn, n, &letter.attempts)?;
    }
    Ok(n)
}

/// Stores what goes up with a letter's replays.
pub(super) fn put_content(
    conn: &Connection,
    n: i64,
    letter: &Letter,
    headers: &[u8],
    (body, body_sum): (&[u8], &Sum),
) -> Result<(), Trouble> {
    let sum = seal(letter, headers, body_sum);
    conn.prepare_cached("INSERT INTO contents (n, sha256, headers, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![n, sum.as_slice(), headers, body])?;
    Ok(())
}

fn seal(letter: &Letter, headers: &[u8], body_sum: &[u8]) -> Sum {
    let key_header = letter.key_header.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let Letter { id, upstream, method, path, .. } = letter;
    Sealed { id: *id, upstream, method, path, key_header, headers, body_sum }.sum()
}

/// What goes up with a letter's replays, if it is what was stored; `Damaged` if not.
pub(super) fn content(conn: &Connection, n: i64, letter: &Letter) -> Result<Content, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT c.sha256, c.headers, c.body, l.body_sha256 FROM contents AS c JOIN letters AS l USING (n) WHERE n = ?1",
    )?;
    let read = statement.query_row([n], |row| {
        let (headers, body) = (row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob()?);
        let body_sum = row.get_ref(3)?.as_blob()?;
        let whole = row.get_ref(0)?.as_blob()? == seal(letter, headers, body_sum).as_slice()
            && body_sum == codec::sum_of_body(body).as_slice();
        let content = codec::decode(headers).filter(|_| whole);
        Ok(content.map(|headers| Content { headers, body: bytes::Bytes::copy_from_slice(body) }))
    });
    let damaged = || StoreError::Damaged(letter.id).into();
    match read.optional().map_err(Trouble::from) {
        Ok(content) => content.flatten().ok_or_else(damaged),
        Err(trouble) if trouble.is_damage() => Err(damaged()),
        Err(trouble) => Err(trouble),
    }
}

/// The checksum of a letter's body, as it was stored.
pub(super) fn body_sum(conn: &Connection, n: i64) -> Result<Vec<u8>, Trouble> {
    let mut statement = conn.prepare_cached("SELECT body_sha256 FROM letters WHERE n = ?1")?;
    Ok(statement.query_row([n], |row| row.get(0))?)
}

/// Removes a letter and all that is its.
pub(super) fn remove(conn: &Connection, n: i64) -> Result<(), Trouble> {
    conn.prepare_cached("DELETE FROM contents WHERE n = ?1")?.execute([n])?;
    conn.prepare_cached("DELETE FROM attempts WHERE n = ?1")?.execute([n])?;
    conn.prepare_cached("DELETE FROM letters WHERE n = ?1")?.execute([n])?;
    Ok(())
}
