//! The text of the schema, which SQLite's own checks believe: a bit that flips in it renames a column or a table, and nothing works
//! on a file that is said to be whole. What it should be is known to the letter.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::cells::text_if_any;
use super::schema::{self, PAGE, VERSION};
use super::trouble::Trouble;

/// A table, an index or a trigger, as the file describes it.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    kind: String,
    name: String,
    table: String,
    /// Empty for an index that SQLite made by itself.
    sql: String,
}

/// One of them, and the page where it begins.
#[derive(Debug)]
struct Object {
    /// Its place in the list.
    place: i64,
    words: Words,
    root: i64,
}

impl Object {
    /// Whatever stands there: what is no text is a difference like any other.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text = |column| text_if_any(row, column).map(Option::unwrap_or_default);
        let words =
            Words { kind: text("type")?, name: text("name")?, table: text("tbl_name")?, sql: text("sql")? };
        Ok(Self { place: row.get("rowid")?, words, root: row.get("rootpage")? })
    }
}

fn objects(conn: &Connection) -> Result<Vec<Object>, Trouble> {
    let mut statement = conn.prepare("SELECT rowid, * FROM sqlite_schema ORDER BY rowid")?;
    let rows = statement.query_map([], Object::read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a whole file of this version has. The roots are those of a file that nobody has packed anew since it was made.
fn known(version: u32) -> Result<Vec<Object>, Trouble> {
    let conn = Connection::open_in_memory()?;
    conn.pragma_update(None, "page_size", PAGE.cast_signed())?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    schema::steps(&conn, 0, version)?;
    objects(&conn)
}

/// The first object of this version that the file lacks or describes otherwise. What somebody added to it is no harm.
pub(super) fn amiss(conn: &Connection, version: u32) -> Result<Option<String>, Trouble> {
    let found = objects(conn)?;
    let lacks = |object: &Object| !found.iter().any(|found| found.words == object.words);
    let lacking = known(version)?.into_iter().find(lacks);
    Ok(lacking.map(|Object { words: Words { kind, name, .. }, .. }| {
        format!("the schema's text is damaged at {kind} {name}")
    }))
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

/// Reads by a schema that is put in the place of the one in the file, in this connection's cache alone.
fn put_right(path: &Path) -> Result<(Connection, u32), Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything reads the schema: what makes no sense of it is passed over.
    conn.pragma_update(None, "writable_schema", true)?;
    conn.pragma_update(None, "cache_spill", false)?;
    schema::common(&conn)?;
    // The first statement fails where the schema cannot be read to its end; those after it go by what could be.
    drop(conn.prepare("SELECT 1 FROM sqlite_schema"));
    let (version, objects) = meant(&conn)?;
    // What the cache knows of the first page must not outlive that page.
    conn.execute_batch("PRAGMA shrink_memory; BEGIN IMMEDIATE")?;
    let first = "SELECT data FROM sqlite_dbpage WHERE pgno = 1";
    let mut page: Vec<u8> = conn.query_row(first, [], |row| row.get(0))?;
    empty(&mut page).ok_or_else(|| Trouble::damage("its first page is cut short".to_owned()))?;
    conn.execute("UPDATE sqlite_dbpage SET data = ?1 WHERE pgno = 1", params![page])?;
    for Object { words: Words { kind, name, table, sql }, root, .. } in objects {
        conn.execute(
            "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES (?1, ?2, ?3, ?4, nullif(?5, ''))",
            params![kind, name, table, root, sql],
        )?;
    }
    conn.execute_batch("PRAGMA writable_schema = RESET")?;
    Ok((conn, version))
}

/// The version that most of what can be read of the schema is of, and the schema that it should have.
fn meant(conn: &Connection) -> Result<(u32, Vec<Object>), Trouble> {
    let mut best = (0, VERSION, known(VERSION)?);
    for version in (1..=VERSION).rev() {
        let mut known = known(version)?;
        let (mut whole, mut moved) = (Vec::new(), 0);
        for (at, known) in known.iter().enumerate() {
            let one = "SELECT rowid, * FROM sqlite_schema WHERE rowid = ?1";
            if let Ok(found) = conn.query_row(one, [known.place], Object::read)
                && found.words == known.words
            {
                moved += usize::from(found.root != known.root);
                whole.push((at, found.root));
            }
        }
        if whole.len() <= best.0 {
            continue;
        }
        // Roots are where they were made, unless somebody has packed the file: one that differs alone is damaged.
        let packed = moved > whole.len() / 2;
        best = (whole.len(), version, Vec::new());
        for (at, root) in whole {
            if let Some(known) = known.get_mut(at).filter(|_| packed) {
                known.root = root;
            }
        }
        best.2 = known;
    }
    Ok((best.1, best.2))
}

/// Makes a first page one of a schema without objects, in a file without free pages.
fn empty(page: &mut [u8]) -> Option<()> {
    page.get_mut(32..40)?.fill(0);
    let [high, low] = *page.get(16..18)?.first_chunk()?;
    // A leaf of a table: no free block, no cells, which begin at the page's end, no scraps.
    page.get_mut(100..108)?.copy_from_slice(&[13, 0, 0, 0, 0, high, low, 0]);
    Some(())
}
