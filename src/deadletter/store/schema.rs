//! The tables, how they came to be, and how a connection to them is set.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::known;
use super::trouble::Trouble;
use crate::config::model::Sync;

/// `Fndr`: what tells a store of ours from another program's database.
const APPLICATION: i64 = 0x466e_6472;

/// Each brings the schema from its number to the next. What was released is never edited.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("schema-2.sql")];

/// The schema that this Fender writes.
pub(super) const VERSION: u32 = 2;

pub(super) const PAGE: u64 = 4096;

/// What the first bytes of a file say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// A fresh file.
    Empty,
    /// A store of ours, of this schema or a later one: the WAL may know better.
    Ours(u32),
    /// A database that does not say whose it is.
    Unmarked,
    /// Another program's database.
    Foreign,
    /// No database.
    Other,
}

impl Head {
    /// Reads the header that each SQLite database begins with.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, u32::from_be_bytes)
        };
        let (version, application) = (number(60), number(68));
        match bytes {
            [] => Self::Empty,
            bytes if !bytes.starts_with(b"SQLite format 3\0") => Self::Other,
            _ if i64::from(application) == APPLICATION => Self::Ours(version),
            _ if application == 0 => Self::Unmarked,
            _ => Self::Foreign,
        }
    }
}

/// What a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// As it should be now, brought up from this version.
    Ready { from: u32 },
    /// A later Fender's.
    Newer(u32),
    /// Another program's database.
    Foreign,
}

/// The one connection that writes. `wal_limit`: to how many bytes the WAL is cut back after it had to grow.
pub(super) fn writer(path: &Path, sync: Sync, wal_limit: u64) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.pragma_update(None, "page_size", PAGE.cast_signed())?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    if said(&conn)? == (Said { from: 0, application: 0, tables: 0 }) {
        // Before there is a WAL: from its first page on the file itself says whose it is.
        conn.pragma_update(None, "application_id", APPLICATION)?;
    }
    // The word that comes back is the mode in force: a WAL that could not be had is an error, not a slower store.
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Trouble::from(format!("SQLite stays in journal mode {mode}, not wal")));
    }
    conn.pragma_update(None, "synchronous", if sync == Sync::Full { "FULL" } else { "NORMAL" })?;
    conn.pragma_update(None, "cache_size", -2000)?;
    conn.pragma_update(None, "journal_size_limit", wal_limit.cast_signed())?;
    // The writer checkpoints by itself, after its answers are out.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    common(&conn)?;
    Ok(conn)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(32);
    conn.pragma_update(None, "cache_size", -512)?;
    common(&conn)?;
    Ok(conn)
}

pub(super) fn common(conn: &Connection) -> Result<(), Trouble> {
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

/// Nobody else writes, so only another program's reader (a shell on the file) can be in the way.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// What a database says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    from: u32,
    application: i64,
    tables: i64,
}

fn said(conn: &Connection) -> Result<Said, Trouble> {
    Ok(Said {
        from: conn.pragma_query_value(None, "user_version", |row| row.get(0))?,
        application: conn.pragma_query_value(None, "application_id", |row| row.get(0))?,
        tables: conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    })
}

/// The schema of an open file.
pub(super) fn version(conn: &Connection) -> Result<u32, Trouble> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Brings the schema up to date, each step in a transaction of its own.
pub(super) fn migrate(conn: &Connection) -> Result<Schema, Trouble> {
    let Said { from, application, tables } = said(conn)?;
    if application != APPLICATION && (tables > 0 || from > 0) {
        return Ok(Schema::Foreign);
    }
    if from > VERSION {
        return Ok(Schema::Newer(from));
    }
    if from == 0 && tables > 0 {
        return Err(Trouble::damage("it has tables, and says that it has none".to_owned()));
    }
    known::check(conn, from)?;
    steps(conn, from, VERSION)?;
    Ok(Schema::Ready { from })
}

/// Brings a file from one version to another.
pub(super) fn steps(conn: &Connection, from: u32, to: u32) -> Result<(), Trouble> {
    for (step, sql) in (1..=to).zip(MIGRATIONS).filter(|(step, _)| *step > from) {
        let script = format!(
            "BEGIN IMMEDIATE;\n{sql}\nPRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {step};\nCOMMIT;"
        );
        if let Err(error) = conn.execute_batch(&script) {
            // Nothing of a step that failed may stay; that it is undone already is no second failure.
            drop(conn.execute_batch("ROLLBACK"));
            return Err(error.into());
        }
    }
    Ok(())
}
