//! The text of the schema, which SQLite's own checks believe: a bit that flips in it renames a column or a table, and nothing works
//! on a file that is said to be whole. What it should be is known to the letter.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::schema::{self, VERSION};
use super::trouble::Trouble;

/// A table, an index or a trigger, as the file describes it.
#[derive(Debug, PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    table: String,
    /// Empty for an index that SQLite made by itself.
    sql: String,
}

/// All of them, each with its place in the list.
fn objects(conn: &Connection) -> Result<Vec<(i64, Object)>, Trouble> {
    let mut statement =
        conn.prepare("SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")?;
    let rows = statement.query_map([], |row| {
        // Whatever stands there: that it is no text is a difference like any other.
        let text = |at| {
            Ok::<_, rusqlite::Error>(
                String::from_utf8_lossy(
                    row.get_ref(at)?.as_bytes_or_null().ok().flatten().unwrap_or_default(),
                )
                .into_owned(),
            )
        };
        Ok((row.get(0)?, Object { kind: text(1)?, name: text(2)?, table: text(3)?, sql: text(4)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a whole file of this version has.
fn known(version: u32) -> Result<Vec<(i64, Object)>, Trouble> {
    let conn = Connection::open_in_memory()?;
    schema::steps(&conn, 0, version)?;
    objects(&conn)
}

/// The first object of this version that the file lacks or describes otherwise. What somebody added to it is no harm.
pub(super) fn amiss(conn: &Connection, version: u32) -> Result<Option<String>, Trouble> {
    let found = objects(conn)?;
    let lacks = |object: &Object| !found.iter().any(|(_, found)| found == object);
    let lacking = known(version)?.into_iter().find(|(_, object)| lacks(object));
    Ok(lacking.map(|(_, Object { kind, name, .. })| format!("the schema's text is damaged at {kind} {name}")))
}

/// [`amiss`], as an error.
pub(super) fn check(conn: &Connection, version: u32) -> Result<(), Trouble> {
    amiss(conn, version)?.map_or(Ok(()), |what| Err(Trouble::damage(what)))
}

/// A damaged file to read from, and its version. Where the text of its schema is damaged, it is put right in a transaction that never
/// ends: the file stays as it is.
pub(super) fn read_damaged(path: &Path) -> Result<(Connection, u32), Trouble> {
    let as_it_is = || {
        let conn = schema::reader(path)?;
        let version = schema::version(&conn)?;
        check(&conn, version)?;
        Ok((conn, version))
    };
    as_it_is().or_else(|trouble: Trouble| if trouble.is_damage() { put_right(path) } else { Err(trouble) })
}

fn put_right(path: &Path) -> Result<(Connection, u32), Trouble> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything reads the schema: what makes no sense of it is passed over.
    conn.pragma_update(None, "writable_schema", true)?;
    conn.pragma_update(None, "cache_spill", false)?;
    schema::common(&conn)?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let found = objects(&conn)?;
    let is_there = |object: &Object| found.iter().any(|(_, found)| found == object);
    let mut best = (0, known(VERSION)?, VERSION);
    for version in (1..=VERSION).rev() {
        let known = known(version)?;
        let whole = known.iter().filter(|(_, object)| is_there(object)).count();
        if whole > best.0 {
            best = (whole, known, version);
        }
    }
    let (_, known, version) = best;
    for (place, object) in known.iter().filter(|(_, object)| !is_there(object)) {
        let Object { kind, name, table, sql } = object;
        let named = found.iter().find(|(_, found)| found.name == *name);
        let meant = named.or_else(|| found.iter().find(|(at, _)| at == place));
        if let Some((at, _)) = meant {
            conn.execute(
                "UPDATE sqlite_schema SET type = ?1, name = ?2, tbl_name = ?3, sql = nullif(?4, '') WHERE rowid = ?5",
                params![kind, name, table, sql, at],
            )?;
        }
    }
    conn.execute_batch("PRAGMA writable_schema = RESET")?;
    Ok((conn, version))
}
