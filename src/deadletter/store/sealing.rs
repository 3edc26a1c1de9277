//! Which keys are in force, what of the file waits to be sealed with the one that is, and what steps there are to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::job::Work;
use super::rows::{self, COLUMNS, Form, Found, uint};
use super::trouble::Trouble;
use super::{contents, operator, scrub, trail, turns};
use crate::deadletter::key_use::{KeyUse, Sealing, Tended};
use crate::deadletter::letter::{Letter, State};
use crate::deadletter::query::StoreError;
use crate::deadletter::seal::{Key, KeyId, Keys, Tags, Unsealed};
use crate::telemetry::events::{StoreLocked, emit};

/// The keys in force, and the key of tags that they opened.
#[derive(Debug, Default)]
pub(super) struct Seals {
    pub(super) keys: Arc<Keys>,
    /// There as soon as any of the keys has been in use.
    pub(super) tags: Option<Tags>,
    /// Letters hang on tags that none of the keys opens: which letters are of one order, or one write, nobody can say.
    pub(super) blind: bool,
    /// False while the configured keys are not in force: nothing new is written then, neither sealed nor in the clear.
    pub(super) settled: bool,
    /// Which they are: those that are put into force later, or in another file, bear a higher number.
    pub(super) number: u64,
}

impl From<Unsealed> for Trouble {
    fn from(why: Unsealed) -> Self {
        Self::Said(StoreError::Unavailable(why.to_string()))
    }
}

impl Seals {
    /// What new letters are sealed with; `None`: they are written in the clear.
    pub(super) fn writing(&self) -> Result<Option<&Key>, Trouble> {
        if !self.settled {
            return Err(Trouble::from("its keys are not in force yet".to_owned()));
        }
        Ok(self.keys.current())
    }

    /// Whether a letter with an order key or an idempotency key cannot be written, for want of what these are compared with.
    pub(super) const fn cannot_tag(&self, letter: &Letter) -> bool {
        self.blind && (letter.order_key.is_some() || letter.idempotency_key.is_some())
    }

    /// These keys for what is there, and nothing for what comes.
    pub(super) fn unsettled(keys: Arc<Keys>) -> Self {
        Self { keys, tags: None, blind: false, settled: false, number: 0 }
    }

    /// How an order key stands in the file.
    pub(super) fn order(&self, word: &str) -> String {
        self.tags.as_ref().map_or_else(|| word.to_owned(), |tags| tags.tag("order", &[word]))
    }

    /// What a letter's further attempts are sealed with: as the letter is where that key is at hand, else with the one that is
    /// written with. Where there is neither, the words of a sealed letter's attempts are not kept.
    pub(super) fn key_for(&self, key_id: &str) -> Option<&Key> {
        let own = key_id.parse::<KeyId>().ok().and_then(|id| self.keys.find(id));
        own.or_else(|| self.keys.current())
    }
}

/// Letters by the key that they are sealed with; '' stands for none.
fn uses(conn: &Connection) -> Result<BTreeMap<String, u64>, Trouble> {
    let mut statement = conn.prepare_cached("SELECT key_id, letters FROM seals")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, uint(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many letters hang on which key, and what that key is to the config.
pub(super) fn figures(conn: &Connection, keys: &Keys) -> Result<Vec<KeyUse>, Trouble> {
    let mut found = uses(conn)?;
    for key in keys.all() {
        found.entry(key.id().to_string()).or_insert(0);
    }
    let told = found.into_iter().filter_map(|(text, letters)| {
        let key = text.parse::<KeyId>().ok();
        let sealing = match key {
            None => Sealing::Clear,
            Some(id) if keys.current().is_some_and(|key| key.id() == id) => Sealing::Current,
            Some(id) if keys.find(id).is_some() => Sealing::Old,
            Some(_) => Sealing::Missing,
        };
        // A key that nobody has and nothing hangs on is nobody's matter any more.
        let idle = letters == 0 && matches!(sealing, Sealing::Clear | Sealing::Missing);
        (!idle).then_some(KeyUse { key, sealing, letters })
    });
    Ok(told.collect())
}

/// Tells which letters cannot be read for want of their key.
pub(super) fn tell(conn: &Connection, keys: &Keys) {
    for found in figures(conn, keys).unwrap_or_default() {
        if let (Sealing::Missing, Some(key)) = (found.sealing, found.key) {
            emit(&StoreLocked { key: &key.to_string(), letters: found.letters });
        }
    }
}

/// So many letters at most are sealed in one step, and so many bytes of bodies as the WAL has room for.
const STEP: u64 = 32;

/// So many rows at most are looked at for them.
const LOOKED_AT: i64 = 2000;

/// Where a walk over the letters stands.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one walk")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Of which keys it is.
    of: u64,
    after: i64,
    /// Something was sealed since its beginning.
    fruitful: bool,
    /// It came to its end, and what is left does not open: under these keys it need not begin again.
    barren: bool,
    /// Pages that were free before are gone: what is freed from then on is overwritten.
    swept: bool,
    /// The first page whose unused bytes have not been overwritten since all was sealed.
    page: u64,
    /// No page holds anything that lay in the clear: what is left of that is in the WAL.
    clean: bool,
}

/// One step of what keys leave to be done: letters whose key is back join their lines; letters in the clear and under old keys
/// are sealed with the current one; what once lay in the clear is overwritten.
pub(super) fn tend(work: &mut Work<'_>, walk: &mut Walk) -> Result<Tended, Trouble> {
    let mut tended = Tended::default();
    if walk.of != work.seals.number {
        *walk = Walk { of: work.seals.number, ..Walk::default() };
    }
    if rejoin(work, &mut tended)? {
        return Ok(tended);
    }
    let Some(current) = work.seals.keys.current().map(|key| key.id().to_string()) else { return Ok(tended) };
    if work.room.starved {
        // What is left of the disk is for deliveries; what is free goes back to it, or the want would never end. Pages move.
        walk.page = 0;
        tended.more = operator::vacuum(work, 0)?;
        return Ok(tended);
    }
    let uses = uses(work.conn)?;
    let openable =
        |key: &String| key.is_empty() || key.parse().is_ok_and(|id| work.seals.keys.find(id).is_some());
    let waits = |(key, letters): (&String, &u64)| *letters > 0 && *key != current && openable(key);
    if uses.get("").is_some_and(|letters| *letters > 0) && !walk.swept {
        walk.swept = !operator::vacuum(work, 0)?;
        tended.more = true;
        return Ok(tended);
    }
    if !walk.barren && uses.iter().any(waits) {
        (walk.page, walk.clean) = (0, false);
        return reseal(work, walk, &current, tended);
    }
    // Nothing hangs on these keys any more, so nothing may open the tags with them.
    work.conn
        .prepare_cached("DELETE FROM seals WHERE letters = 0 AND key_id <> ?1 AND key_id <> ''")?
        .execute([&current])?;
    if uses.get("") == Some(&0) {
        if walk.clean {
            tended.scrub = true; // Somebody read the WAL when it was to be cut off: only that is done again.
            return Ok(tended);
        }
        if walk.page == 0 && operator::vacuum(work, 0)? {
            tended.more = true;
            return Ok(tended);
        }
        let next = scrub::gaps(work.conn, walk.page)?;
        walk.page = next.unwrap_or_default();
        walk.clean = next.is_none();
        (tended.more, tended.scrub) = (!walk.clean, walk.clean);
    }
    Ok(tended)
}

/// Whether what once lay in the clear waits to be overwritten: no page may change its place meanwhile.
pub(super) fn scrubbing(work: &Work<'_>) -> Result<bool, Trouble> {
    let waits = work.conn.prepare_cached("SELECT 1 FROM seals WHERE key_id = ''")?.exists([])?;
    Ok(waits && work.seals.keys.current().is_some())
}

/// Notes that nothing of what lay in the clear is left in the file.
pub(super) fn scrubbed(work: &Work<'_>) -> Result<(), Trouble> {
    work.conn.execute("DELETE FROM seals WHERE key_id = '' AND letters = 0", [])?;
    work.conn.pragma_update(None, "secure_delete", false)?;
    Ok(())
}

/// Letters that stepped aside for want of a key that is there again; whether there were any.
fn rejoin(work: &Work<'_>, tended: &mut Tended) -> Result<bool, Trouble> {
    for key in work.seals.keys.all() {
        let mut statement = work.conn.prepare_cached(
            "SELECT n, upstream, order_key FROM letters INDEXED BY aside WHERE behind = 2 AND key_id = ?1 LIMIT 100",
        )?;
        let found = statement.query_map([key.id().to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?))
        })?;
        let found: Vec<(i64, String, Option<String>)> = found.collect::<Result<_, _>>()?;
        for (n, upstream, order) in &found {
            set_behind(work.conn, *n, i64::from(order.is_some()))?;
            if let Some(order) = order {
                turns::reorder(work.conn, upstream, order)?;
            }
        }
        if !found.is_empty() {
            tended.rejoined += u64::try_from(found.len()).unwrap_or_default();
            tended.more = true;
            return Ok(true);
        }
    }
    Ok(false)
}

fn set_behind(conn: &Connection, n: i64, behind: i64) -> Result<(), Trouble> {
    conn.prepare_cached("UPDATE letters SET behind = ?2 WHERE n = ?1")?.execute(params![n, behind])?;
    Ok(())
}

/// Pending letters whose key is missing leave their lines until it is back: nothing else of them changes.
pub(super) fn step_aside(work: &Work<'_>, ids: &[crate::deadletter::id::LetterId]) -> Result<(), Trouble> {
    for id in ids {
        let Ok(found) = rows::find(work.conn, *id) else { continue };
        if found.letter.state != State::Pending || found.locked(work.seals).is_none() {
            continue;
        }
        set_behind(work.conn, found.n, 2)?;
        if let Some(order) = &found.order {
            turns::reorder(work.conn, &found.letter.upstream, order)?;
        }
    }
    Ok(())
}

fn reseal(
    work: &mut Work<'_>,
    walk: &mut Walk,
    current: &str,
    mut tended: Tended,
) -> Result<Tended, Trouble> {
    let mut statement = work
        .conn
        .prepare_cached("SELECT n, key_id, body_bytes FROM letters WHERE n > ?1 ORDER BY n LIMIT ?2")?;
    let looked = statement.query_map(params![walk.after, LOOKED_AT], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, uint(row.get(2)?)))
    })?;
    let looked: Vec<(i64, String, u64)> = looked.collect::<Result<_, _>>()?;
    if looked.is_empty() {
        // At the end: from the beginning again, unless nothing of what is left opens.
        tended.more = true;
        (walk.after, walk.barren, walk.fruitful) = (0, !walk.fruitful, false);
        return Ok(tended);
    }
    let mut bytes = 0;
    for (n, key_id, body) in looked {
        if tended.resealed >= STEP || bytes >= work.room.step_bytes() {
            break;
        }
        if key_id != current {
            let grows = key_id.is_empty();
            // What is written anew lies there twice for a moment.
            if !work.room.holds(body + 1024) {
                return Ok(tended); // It is tried again when there is room.
            }
            if one(work, n)? {
                bytes += body;
                work.room.take(if grows { body + 1024 } else { 0 });
                tended.resealed += 1;
                walk.fruitful = true;
            }
        }
        walk.after = n;
    }
    tended.more = true;
    Ok(tended)
}

/// Seals a letter with the current key; false if it does not open.
fn one(work: &Work<'_>, n: i64) -> Result<bool, Trouble> {
    let (conn, seals) = (work.conn, work.seals);
    let Some(key) = seals.writing()? else { return Ok(false) };
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM letters AS l WHERE l.n = ?1"))?;
    let Some(found) = statement.query_row([n], Found::read).optional()? else { return Ok(false) };
    let found = found.open(seals);
    if found.shut.is_some() || seals.cannot_tag(&found.letter) {
        return Ok(false);
    }
    let Some(credentials) = contents::reseal(conn, &found, seals, key)? else { return Ok(false) };
    trail::reseal(conn, &found, seals, key)?;
    let path = credentials.path.as_deref().unwrap_or(&found.letter.path);
    let form = Form::of(&found.letter, path, &found.body_sum, seals)?;
    conn.prepare_cached(
        "UPDATE letters SET key_id = ?2, head = ?3, path = ?4, order_key = ?5, order_word = ?6, idempotency_key = ?7, \
         key_name = ?8, key_value = ?9, body_sha256 = ?10 WHERE n = ?1",
    )?
    .execute(params![
        n,
        form.key_id,
        form.head,
        form.path,
        form.order_key,
        form.order_word,
        form.idempotency_key,
        form.key_name,
        form.key_value,
        form.body_sum
    ])?;
    if let (Some(was), Some(is)) = (&found.order, &form.order_key)
        && was != is
    {
        // Sealed while no key of tags could be opened: it joins the others of its key now.
        if found.letter.state == State::Pending {
            set_behind(conn, n, 1)?;
        }
        turns::reorder(conn, &found.letter.upstream, was)?;
        turns::reorder(conn, &found.letter.upstream, is)?;
    }
    Ok(true)
}
