//! Opening: after a quiet end, after a crash, after an error, and where the file is beyond repair.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;

use super::file::{Id, Place};
use super::job::Unsure;
use super::rows;
use super::schema::{self, Head, Schema, VERSION};
use super::space::{self, Limits};
use super::trouble::{Reach, Trouble};
use super::turns::{self, To};
use super::wal::{self, Lost};
use crate::clock;
use crate::config::model::Sync;
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Because, Letter, State};
use crate::deadletter::query::{OpenError, Opened, StoreError};

/// How a store's file is opened.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    pub(super) place: Place,
    pub(super) sync: Sync,
    pub(super) limits: Limits,
    /// Since when a file that looks damaged cannot be read.
    pub(super) unreadable: Cell<Option<Instant>>,
}

/// The connection that writes, and the file that it was opened on.
#[derive(Debug)]
pub(super) struct Db {
    pub(super) conn: Connection,
    pub(super) is: Id,
}

/// A file up to this size is checked whole at each start; a larger one by `verify`, after an error, or when a read finds
/// damage: a start must not wait for a backlog.
const CHECKED_AT_START: u64 = 16 << 20;

impl Opener {
    /// Opens the file at the start, or anew where it is not the one that it was, and judges what a crash left behind. A damaged
    /// file is set aside; of one that is not ours nothing is touched.
    pub(super) fn start(&self, unsure: &mut Unsure) -> Result<(Db, Opened), OpenError> {
        let mut opened = Opened::default();
        if self.place.salvaged.exists() {
            let aside = self.place.exchange(clock::unix_ms()).map_err(|error| self.place.failed(error))?;
            opened.set_aside = Some(aside);
        }
        if self.place.fresh.exists() {
            // The half of a file that nobody waits for, with letters in it: it is in nobody's way, if it cannot go.
            drop(Place::new(&self.place.fresh).remove());
        }
        opened.created = self.create()?;
        let head = Head::of(&self.place.head().map_err(|error| self.place.failed(error))?);
        let ours = self.place.was_a_store();
        if matches!(head, Head::Ours(_)) {
            opened.kept_wal = self.keep_wal().map_err(|error| self.place.failed(error))?;
        }
        let db = match head {
            Head::Ours(found) if found > VERSION => return Err(self.newer(found)),
            Head::Empty | Head::Ours(_) => self.file(&mut opened),
            // A store that never came to a checkpoint may have its mark in the WAL alone.
            Head::Unmarked if ours => self.file(&mut opened),
            Head::Other if ours => self.afresh(&mut opened),
            // Somebody else's file is left as it is.
            Head::Unmarked | Head::Foreign => return Err(self.foreign()),
            Head::Other => {
                let what = "it is no database, and nothing says that it ever was; name another file";
                return Err(self.place.failed(what));
            }
        }?;
        undo(&db.conn, unsure).map_err(|trouble| self.place.failed(trouble))?;
        *unsure = Unsure::default();
        judge(&db.conn, &mut opened).map_err(|trouble| self.place.failed(trouble))?;
        if opened.created {
            // The names beside it last too.
            self.place.sync_folder().map_err(|error| self.place.failed(error))?;
        }
        Ok((db, opened))
    }

    /// Copies a WAL that SQLite will not read to its end; says where the copy is.
    fn keep_wal(&self) -> io::Result<Option<PathBuf>> {
        let Lost { commits } = wal::lost(&self.place.wal)?;
        if commits == 0 { Ok(None) } else { self.place.keep_wal(clock::unix_ms()).map(Some) }
    }

    fn newer(&self, found: u32) -> OpenError {
        OpenError::Newer { path: self.place.db.clone(), found, known: VERSION }
    }

    fn foreign(&self) -> OpenError {
        self.place.failed("it is a database of another program; name another file")
    }

    /// Opens the file again after an error: checks all of it if it is `suspect`, undoes what a batch of unknown end may have left, and leaves
    /// nothing in the WAL that depends on what may not have reached the disk.
    pub(super) fn again(
        &self,
        suspect: bool,
        unsure: &mut Unsure,
        opened: &mut Opened,
    ) -> Result<Db, Trouble> {
        if space::starving(&self.place) {
            space::release(&self.place)?;
        }
        let db = match self.connect_checked(suspect.then_some(Check::Pages)) {
            Ok((db, Schema::Ready { .. })) => db,
            Ok((_, other)) => return Err(Trouble::from(format!("the file was replaced: {other:?}"))),
            Err(trouble) if trouble.is_damage() => {
                self.afresh(opened).map_err(|error| Trouble::from(error.to_string()))?
            }
            Err(trouble) => return Err(trouble),
        };
        db.conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::RESTART)?;
        undo(&db.conn, unsure)?;
        *unsure = Unsure::default();
        Ok(db)
    }

    fn file(&self, opened: &mut Opened) -> Result<Db, OpenError> {
        let mut attempt = self.checked();
        if attempt.as_ref().is_err_and(|trouble| trouble.reach() != Reach::One && !trouble.is_damage())
            && space::starving(&self.place)
        {
            space::release(&self.place).map_err(|error| self.place.failed(error))?;
            attempt = self.checked();
        }
        match attempt {
            Ok((db, Schema::Ready { from })) => {
                opened.migrated_from = (from != VERSION && from != 0).then_some(from);
                Ok(db)
            }
            Ok((_, Schema::Newer(found))) => Err(self.newer(found)),
            Ok((_, Schema::Foreign)) => Err(self.foreign()),
            Err(trouble) if trouble.is_damage() => self.afresh(opened),
            Err(trouble) => Err(self.place.failed(trouble)),
        }
    }

    fn checked(&self) -> Result<(Db, Schema), Trouble> {
        let sizes = self.place.sizes();
        self.connect_checked((sizes.db + sizes.wal <= CHECKED_AT_START).then_some(Check::All))
    }

    /// A connection to a file that is checked whole, if that is asked for. What looks like damage is looked at twice: a page that
    /// could not be read looks like one that makes no sense.
    fn connect_checked(&self, how: Option<Check>) -> Result<(Db, Schema), Trouble> {
        let connect = || {
            let (db, schema) = self.connect()?;
            if let Some(how) = how.filter(|_| matches!(schema, Schema::Ready { .. })) {
                check(&db.conn, how)?;
            }
            Ok((db, schema))
        };
        connect().or_else(|trouble: Trouble| if trouble.is_damage() { connect() } else { Err(trouble) })
    }

    pub(super) fn connect(&self) -> Result<(Db, Schema), Trouble> {
        let is = Id::at(&self.place.db)?;
        let conn = schema::writer(&self.place.db, self.sync, self.limits.wal)?;
        if Id::at(&self.place.db)? != is {
            return Err(Trouble::from("the file was replaced while it was opened".to_owned()));
        }
        let schema = schema::migrate(&conn)?;
        conn.pragma_update(None, "max_page_count", self.limits.max_pages())?;
        Ok((Db { conn, is }, schema))
    }
}

/// What SQLite says of the whole file: damage, or nothing.
fn check(conn: &Connection, how: Check) -> Result<(), Trouble> {
    match problems(conn, how, 1)?.into_iter().next() {
        None => Ok(()),
        Some(problem) => Err(Trouble::damage(problem)),
    }
}

/// How closely a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Whether each page makes sense.
    Pages,
    /// Whether the indexes agree with the tables, too.
    All,
}

/// At most `most` things that SQLite finds wrong with the file.
pub(super) fn problems(conn: &Connection, how: Check, most: u32) -> Result<Vec<String>, Trouble> {
    let word = if how == Check::All { "integrity_check" } else { "quick_check" };
    let mut statement = conn.prepare(&format!("PRAGMA {word}({most})"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Letters that a crash left in `sending` (contract 5.6).
fn judge(conn: &Connection, opened: &mut Opened) -> Result<(), Trouble> {
    let mut statement = conn.prepare("SELECT id FROM letters WHERE state = 'sending' ORDER BY id")?;
    let left: Vec<LetterId> = statement
        .query_map([], |row| Ok(rows::id(row, 0).ok()))?
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    if left.is_empty() {
        return Ok(());
    }
    let now_ms = clock::unix_ms();
    let transaction = conn.unchecked_transaction()?;
    for id in left {
        let found = rows::find(conn, id)?;
        let to = judged(&found.letter, now_ms);
        turns::put(conn, &found, to, found.letter.attempts_made, now_ms)?;
        match to {
            To::Pending { .. } => opened.resumed.push(id),
            _ => opened.parked.push(id),
        }
    }
    Ok(transaction.commit()?)
}

/// Where a letter goes of which nobody knows how its sending ended.
pub(super) fn judged(letter: &Letter, now_ms: u64) -> To {
    if letter.repeatable {
        To::Pending { next_attempt_at_ms: now_ms }
    } else {
        To::Parked(Because::Ambiguous)
    }
}

fn undo(conn: &Connection, unsure: &Unsure) -> Result<(), Trouble> {
    let now_ms = clock::unix_ms();
    let transaction = conn.unchecked_transaction()?;
    let found = |id: &LetterId| match rows::find(conn, *id) {
        Ok(found) => Ok(Some(found)),
        Err(Trouble::Said(StoreError::NotFound(_))) => Ok(None),
        Err(trouble) => Err(trouble),
    };
    for id in &unsure.made {
        if let Some(found) = found(id)? {
            rows::remove(conn, found.n)?;
            if let Some(key) = &found.order {
                turns::reorder(conn, &found.letter.upstream, key)?;
            }
        }
    }
    for id in &unsure.begun {
        if let Some(found) = found(id)?
            && found.letter.state == State::Sending
        {
            let to = To::Pending { next_attempt_at_ms: now_ms };
            turns::put(conn, &found, to, found.letter.attempts_made, now_ms)?;
        }
    }
    Ok(transaction.commit()?)
}
