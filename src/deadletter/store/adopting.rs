//! How keys are put into force, and the key of tags that they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, params};

use super::rows::uint;
use super::sealing::Seals;
use super::trouble::Trouble;
use crate::deadletter::seal::{Keys, Tags};

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Puts keys into force: opens the store's key of tags with one of them, or makes one, and seals it with the current one.
pub(super) fn adopt(conn: &Connection, keys: &Arc<Keys>) -> Result<Seals, Trouble> {
    // SQLite overwrites what it frees only where that is asked for: here, as long as it may have lain in the clear.
    let was_clear = conn.prepare_cached("SELECT 1 FROM seals WHERE key_id = ''")?.exists([])?;
    conn.pragma_update(None, "secure_delete", was_clear && keys.current().is_some())?;
    let transaction = conn.unchecked_transaction()?;
    let mut seals = look(conn, keys)?;
    seals.settled = true;
    if let Some(key) = keys.current().filter(|_| !seals.blind) {
        let tags = match &mut seals.tags {
            Some(tags) => tags,
            none => none.insert(Tags::generate()?),
        };
        let known = known_tags(conn)?;
        let own = known.iter().find(|known| known.key_id == key.id().to_string());
        if !own.and_then(|own| Tags::open(keys, &own.tags)).is_some_and(|own| own.same(tags)) {
            conn.execute(
                "INSERT INTO seals VALUES (?1, 0, ?2) ON CONFLICT DO UPDATE SET tags = excluded.tags",
                params![key.id().to_string(), tags.sealed(key)?],
            )?;
        }
    }
    if was_clear && (seals.tags.is_some() || !known_tags(conn)?.is_empty()) {
        retag(conn, &seals)?;
    }
    transaction.commit()?;
    Ok(seals)
}

/// These keys for who reads: nothing is written for them, and under them no letter is.
pub(super) fn look(conn: &Connection, keys: &Arc<Keys>) -> Result<Seals, Trouble> {
    let known = known_tags(conn)?;
    // The tags that letters hang on are the store's; what nothing hangs on may have been made for want of a key.
    let opened = known.iter().filter_map(|known| Some((known.letters, Tags::open(keys, &known.tags)?)));
    let tags = opened.max_by_key(|(letters, _)| *letters).map(|(_, tags)| tags);
    let missing = |known: &Known| known.key_id.parse().is_ok_and(|id| keys.find(id).is_none());
    let blind = tags.is_none() && known.iter().any(|known| known.letters > 0 && missing(known));
    Ok(Seals {
        keys: Arc::clone(keys),
        tags,
        blind,
        settled: false,
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
    })
}

/// The key of tags as a key seals it, and how many letters hang on that.
struct Known {
    key_id: String,
    letters: u64,
    tags: Vec<u8>,
}

fn known_tags(conn: &Connection) -> Result<Vec<Known>, Trouble> {
    let mut statement =
        conn.prepare_cached("SELECT key_id, letters, tags FROM seals WHERE tags IS NOT NULL")?;
    let rows = statement.query_map([], |row| {
        Ok(Known { key_id: row.get(0)?, letters: uint(row.get(1)?), tags: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Letters of one order key must meet under one tag, those in the clear too.
fn retag(conn: &Connection, seals: &Seals) -> Result<(), Trouble> {
    let mut statement = conn.prepare(
        "SELECT DISTINCT order_key, order_word FROM letters INDEXED BY keyed \
         WHERE order_key IS NOT NULL AND key_id = ''",
    )?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(String, Option<String>)> = found.collect::<Result<_, _>>()?;
    let mut update = conn.prepare(
        "UPDATE letters SET order_key = ?2, order_word = ?3 WHERE order_key = ?1 AND key_id = '' \
         AND order_word IS ?4",
    )?;
    for (stands, word) in found {
        let own = word.as_ref().unwrap_or(&stands);
        let wanted = seals.order(own);
        if wanted != stands {
            update.execute(params![stands, wanted, seals.tags.is_some().then_some(own), word])?;
        }
    }
    Ok(())
}

/// The keys' own rows, by which tags mean what they mean.
pub(super) fn tags(conn: &Connection) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    Ok(known_tags(conn)?.into_iter().map(|known| (known.key_id, known.tags)).collect())
}

/// Takes them over from another file, so that tags go on to mean what they meant.
pub(super) fn put_tags(conn: &Connection, tags: &[(String, Vec<u8>)]) -> Result<(), Trouble> {
    for (key, tags) in tags {
        conn.execute(
            "INSERT INTO seals VALUES (?1, 0, ?2) ON CONFLICT DO UPDATE SET tags = excluded.tags",
            params![key, tags],
        )?;
    }
    Ok(())
}
