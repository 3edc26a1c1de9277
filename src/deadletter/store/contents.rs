//! What goes up with letters' replays: headers, bodies, and the credentials that are kept under the seal alone.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{Found, bound};
use super::sealing::Seals;
use super::trouble::Trouble;
use crate::deadletter::codec::{self, Sealed, Sum};
use crate::deadletter::letter::{Content, Credentials, Letter};
use crate::deadletter::query::StoreError;
use crate::deadletter::seal::{Key, Part, Shut};

/// Stores what goes up with a letter's replays. Credentials are never stored in the clear.
pub(super) fn put(
    conn: &Connection,
    n: i64,
    letter: &Letter,
    (headers, body, body_sum): (&[u8], &[u8], &[u8]),
    credentials: Option<&Credentials>,
    key: Option<&Key>,
) -> Result<(), Trouble> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO contents (n, sha256, headers, body, credentials) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let Some(key) = key else {
        if credentials.is_some() {
            return Err(Trouble::from("there is no key to seal a credential with".to_owned()));
        }
        let sum = sum(letter, headers, body_sum);
        insert.execute(params![n, sum.as_slice(), headers, body, None::<Vec<u8>>])?;
        return Ok(());
    };
    let of = bound(letter);
    let credentials = credentials.map(|own| key.seal(Part::Credentials, of, &codec::encode(&own.fields())));
    insert.execute(params![
        n,
        [0_u8; 0].as_slice(),
        key.seal(Part::Headers, of, headers)?,
        key.seal(Part::Body, of, body)?,
        credentials.transpose()?,
    ])?;
    Ok(())
}

fn sum(letter: &Letter, headers: &[u8], body_sum: &[u8]) -> Sum {
    let key_header = letter.key_header.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let Letter { id, upstream, method, path, .. } = letter;
    Sealed { id: *id, upstream, method, path, key_header, headers, body_sum }.sum()
}

/// What stands in the file of a letter that was opened: its parts, or why they cannot be had.
struct Parts {
    headers: Vec<u8>,
    body: Vec<u8>,
    credentials: Option<Vec<u8>>,
    whole: bool,
}

fn parts(conn: &Connection, found: &Found, seals: &Seals) -> Result<Option<Result<Parts, Shut>>, Trouble> {
    let mut statement =
        conn.prepare_cached("SELECT sha256, headers, body, credentials FROM contents WHERE n = ?1")?;
    let read = statement.query_row([found.n], |row| {
        let (headers, body) = (row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob()?);
        if found.form.key_id.is_empty() {
            let whole = is_whole(found, row.get_ref(0)?.as_blob()?, headers, body);
            return Ok(Ok(Parts {
                headers: headers.to_vec(),
                body: body.to_vec(),
                credentials: None,
                whole,
            }));
        }
        let open = |part, sealed| seals.keys.open(part, bound(&found.letter), sealed);
        let credentials = row.get_ref(3)?.as_blob_or_null()?;
        Ok((|| {
            Ok(Parts {
                headers: open(Part::Headers, headers)?,
                body: open(Part::Body, body)?,
                credentials: credentials.map(|sealed| open(Part::Credentials, sealed)).transpose()?,
                whole: true,
            })
        })())
    });
    Ok(read.optional()?)
}

/// What goes up with the replays of a letter that was opened, if it is what was stored; `Damaged` or `Locked` if not.
pub(super) fn read(conn: &Connection, found: &Found, seals: &Seals) -> Result<Content, Trouble> {
    let id = found.letter.id;
    let shut = |shut| match shut {
        Shut::Missing(key) if found.locked(seals) == Some(key) => StoreError::Locked { id, key },
        // A key that the letter was not sealed with.
        Shut::Missing(_) | Shut::Damaged => StoreError::Damaged(id),
    };
    if let Some(why) = found.shut {
        return Err(shut(why).into());
    }
    if found.marred {
        return Err(StoreError::Damaged(id).into());
    }
    let parts = match parts(conn, found, seals) {
        Ok(Some(parts)) => parts.map_err(shut)?,
        Ok(None) => return Err(StoreError::Damaged(id).into()),
        Err(trouble) if trouble.is_damage() => return Err(StoreError::Damaged(id).into()),
        Err(trouble) => return Err(trouble),
    };
    let Parts { headers, body, credentials, whole } = parts;
    let credentials = credentials.map(|bytes| codec::decode(&bytes).map(Credentials::of));
    let content = codec::decode(&headers).filter(|_| whole && credentials != Some(None));
    let headers = content.ok_or(StoreError::Damaged(id))?;
    Ok(Content { headers, body: Bytes::from(body), credentials: credentials.flatten() })
}

/// Seals what goes up with a letter with this key, and gives the credentials among it. What was damaged in the clear stays so
/// under the seal. `None` if it does not open: it stays as it is.
pub(super) fn reseal(
    conn: &Connection,
    found: &Found,
    seals: &Seals,
    key: &Key,
) -> Result<Option<Credentials>, Trouble> {
    let Parts { headers, body, credentials, whole } = match parts(conn, found, seals)? {
        None => return Ok(Some(Credentials::default())), // It came without, as damaged.
        Some(Ok(parts)) => parts,
        Some(Err(_)) => return Ok(None),
    };
    let own = credentials.as_deref().and_then(codec::decode).map(Credentials::of);
    let of = bound(&found.letter);
    let part = |part| if whole { part } else { Part::Damaged };
    let credentials = credentials.map(|own| key.seal(Part::Credentials, of, &own)).transpose()?;
    conn.prepare_cached(
        "UPDATE contents SET sha256 = x'', headers = ?2, body = ?3, credentials = ?4 WHERE n = ?1",
    )?
    .execute(params![
        found.n,
        key.seal(part(Part::Headers), of, &headers)?,
        key.seal(part(Part::Body), of, &body)?,
        credentials
    ])?;
    Ok(Some(own.unwrap_or_default()))
}

/// A letter's content as it stands in a file.
pub(super) struct Stored {
    sum: Vec<u8>,
    headers: Vec<u8>,
    body: Vec<u8>,
    credentials: Option<Vec<u8>>,
}

/// A letter's content as it stands in the file, which is of this schema, if it is whole as far as can be told without a key.
pub(super) fn stored(conn: &Connection, found: &Found, version: u32) -> Result<Stored, Trouble> {
    let credentials = if version < 2 { "NULL" } else { "credentials" };
    let mut statement = conn
        .prepare_cached(&format!("SELECT sha256, headers, body, {credentials} FROM contents WHERE n = ?1"))?;
    let read = statement.query_row([found.n], |row| {
        Ok(Stored { sum: row.get(0)?, headers: row.get(1)?, body: row.get(2)?, credentials: row.get(3)? })
    });
    let whole = |stored: &Stored| {
        !found.form.key_id.is_empty() || is_whole(found, &stored.sum, &stored.headers, &stored.body)
    };
    read.optional()?.filter(whole).ok_or_else(|| StoreError::Damaged(found.letter.id).into())
}

/// Puts a content into the file as it stood in another one.
pub(super) fn put_stored(conn: &Connection, n: i64, stored: &Stored) -> Result<bool, Trouble> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO contents (n, sha256, headers, body, credentials) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    insert.execute(params![n, stored.sum, stored.headers, stored.body, stored.credentials])?;
    Ok(true)
}

/// Whether a letter in the clear bears what was stored.
fn is_whole(found: &Found, stored: &[u8], headers: &[u8], body: &[u8]) -> bool {
    stored == sum(&found.letter, headers, &found.body_sum).as_slice()
        && found.body_sum == codec::sum_of_body(body).as_slice()
}
