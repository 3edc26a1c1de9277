//! Whether the files of an open store are still those that their names lead to. A file whose name is gone can be written on and
//! on, and is lost at the end of the process.

use std::io;
use std::path::Path;

use super::file::{Id, Lock, Place};

/// What an open store holds.
#[derive(Debug)]
pub(super) struct Held {
    lock: Lock,
    db: Id,
    /// The WAL and its index: there as long as a connection is.
    beside: Option<[Id; 2]>,
}

impl Held {
    /// The lock, and a database of which there is no connection yet.
    pub(super) const fn new(lock: Lock, db: Id) -> Self {
        Self { lock, db, beside: None }
    }

    /// Notes the files of a connection that has been read from.
    pub(super) fn connected(&mut self, place: &Place, db: Id) -> io::Result<()> {
        self.db = db;
        self.beside = Some([Id::at(&place.wal)?, Id::at(&place.shm)?]);
        Ok(())
    }

    /// Notes that the connection was closed: SQLite may have removed what lay beside the database.
    pub(super) const fn disconnected(&mut self) {
        self.beside = None;
    }

    /// What is not as it was, in words.
    ///
    /// A second Fender that finds the lock file gone takes one of its own, and opens the database beside this one for as long
    /// as this one has not looked: at most until its next batch, or some seconds. SQLite's own locks keep the file whole
    /// meanwhile. A lock on the database itself would shut that gap, but cannot be had: closing a second descriptor of the file
    /// drops the locks that SQLite holds on it for the whole process.
    pub(super) fn amiss(&self, place: &Place) -> Option<String> {
        self.owned(place).or_else(|| {
            let [wal, shm] = self.beside?;
            look("WAL", &place.wal, wal).or_else(|| look("WAL's index", &place.shm, shm))
        })
    }

    /// What is not as it was of the lock and the database alone.
    pub(super) fn owned(&self, place: &Place) -> Option<String> {
        look("lock file", &place.lock, self.lock.is).or_else(|| look("database", &place.db, self.db))
    }
}

fn look(what: &str, path: &Path, is: Id) -> Option<String> {
    let how = match Id::at(path) {
        Ok(now) if now == is => return None,
        Ok(_) => "was replaced by another file".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
        Err(error) => format!("cannot be found: {error}"),
    };
    Some(format!("its {what} {} {how}", path.display()))
}
