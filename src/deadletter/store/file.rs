//! The files of a store: where they lie, who holds them, how much they take.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::deadletter::query::OpenError;

/// The files that belong to one database.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) db: PathBuf,
    pub(super) wal: PathBuf,
    pub(super) shm: PathBuf,
    pub(super) reserve: PathBuf,
    pub(super) lock: PathBuf,
    /// Where a database is made.
    pub(super) fresh: PathBuf,
    /// One that holds all that could be read of the damaged one at `db`, whose place it is to take.
    pub(super) salvaged: PathBuf,
}

impl Place {
    pub(super) fn new(db: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = OsString::from(db);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            db: db.to_owned(),
            wal: beside("-wal"),
            shm: beside("-shm"),
            reserve: beside(".reserve"),
            lock: beside(".lock"),
            fresh: beside(".fresh"),
            salvaged: beside(".salvaged"),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        match self.db.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    pub(super) fn failed(&self, cause: impl std::fmt::Display) -> OpenError {
        OpenError::Failed { path: self.db.clone(), cause: cause.to_string() }
    }

    /// Takes the place for this process; held until the lock is dropped, or the process ends, however it ends.
    pub(super) fn lock(&self) -> Result<Lock, OpenError> {
        if !self.folder().is_dir() {
            let folder = self.folder().display();
            return Err(self.failed(format!("its folder {folder} does not exist")));
        }
        let mut file = options().truncate(false).open(&self.lock).map_err(|error| self.failed(error))?;
        match file.try_lock() {
            Ok(()) => {
                let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(|error| self.failed(error)).or_else(|error| match full(self.folder()) {
                    // Who holds the lock is a courtesy, which a full disk may refuse.
                    true => Ok(()),
                    false => Err(error),
                })?;
                // Whoever removed the name meanwhile let another take one of its own.
                let is = Id::of(&file.metadata().map_err(|error| self.failed(error))?);
                if Id::at(&self.lock).ok() != Some(is) {
                    return Err(self.failed("its lock file was removed while it was taken"));
                }
                Ok(Lock { is, _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                Err(OpenError::InUse { path: self.db.clone(), pid })
            }
            Err(TryLockError::Error(error)) => Err(self.failed(error)),
        }
    }

    /// Makes an empty file for SQLite that only its owner may read, if there is none; true if it did.
    ///
    /// Only before the first connection: closing a file of the database lets go of the locks that SQLite holds on it.
    pub(super) fn create(&self) -> io::Result<bool> {
        match options().create_new(true).open(&self.db) {
            Ok(file) => {
                file.sync_all()?;
                self.sync_folder()?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The first bytes of the file, as SQLite lays them out: a connection would already make files beside it. Only before the
    /// first connection.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        File::open(&self.db)?.take(HEAD).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Removes the database and what lies beside it, where it is there.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut journal = OsString::from(&self.db);
        journal.push("-journal");
        for path in [&self.db, &self.wal, &self.shm, &PathBuf::from(journal)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The file that was made takes its place, which is empty: what lies beside it belonged to one that is gone.
    pub(super) fn take_place(&self) -> io::Result<()> {
        self.remove()?;
        fs::rename(&self.fresh, &self.db)?;
        self.sync_folder()
    }

    /// The file that was made holds all of the damaged one: from now on that is only to be moved away.
    pub(super) fn note_salvaged(&self) -> io::Result<()> {
        fs::rename(&self.fresh, &self.salvaged)?;
        self.sync_folder()
    }

    /// Moves the damaged database away, and the one that holds what could be read of it into its place; says where it is now.
    /// Where this ends in the middle, the next start goes on with it.
    pub(super) fn exchange(&self, now_ms: u64) -> io::Result<PathBuf> {
        let aside = self.set_aside(now_ms)?;
        fs::rename(&self.salvaged, &self.db)?;
        self.sync_folder()?;
        Ok(aside)
    }

    /// Moves the database and its WAL away; says where it is now. Only without a connection.
    fn set_aside(&self, now_ms: u64) -> io::Result<PathBuf> {
        let to = self.aside(now_ms);
        let aside = Self::new(&to);
        // The WAL goes first: without its database it is nothing, while the database without it would be an older one.
        for (from, to) in [(&self.wal, &aside.wal), (&self.shm, &aside.shm), (&self.db, &to)] {
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.sync_folder()?;
        Ok(to)
    }

    /// Whether all of the database and its WAL can be read at all. Only without a connection that writes.
    pub(super) fn readable(&self) -> io::Result<()> {
        for path in [&self.db, &self.wal] {
            match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => drop(io::copy(&mut file?, &mut io::sink())?),
            }
        }
        Ok(())
    }

    /// Copies the WAL away; says where to.
    pub(super) fn keep_wal(&self, now_ms: u64) -> io::Result<PathBuf> {
        let to = Self::new(&self.aside(now_ms)).wal;
        fs::copy(&self.wal, &to)
            .and_then(|_| File::open(&to)?.sync_all())
            .inspect_err(|_| drop(fs::remove_file(&to)))?;
        self.sync_folder()?;
        Ok(to)
    }

    /// A name for what is damaged, which nothing has yet.
    fn aside(&self, now_ms: u64) -> PathBuf {
        let name = |number: u64| {
            let mut name = OsString::from(&self.db);
            name.push(format!("{DAMAGED}{}", now_ms / 1000 + number));
            PathBuf::from(name)
        };
        let free = |path: &PathBuf| !path.exists() && !Self::new(path).wal.exists();
        (0..).map(name).find(free).unwrap_or_else(|| name(0))
    }

    /// What was set aside as damaged, and is still there.
    pub(super) fn damaged(&self) -> io::Result<Vec<PathBuf>> {
        let mut begin = self.db.file_name().unwrap_or_default().to_owned();
        begin.push(DAMAGED);
        let begin = begin.into_encoded_bytes();
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(&begin) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// New names last only once their folder is on disk.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        File::open(self.folder())?.sync_all()
    }

    /// Whether a store of ours has been here before: its reserve lies beside the file. A WAL says nothing, as every database
    /// may have one.
    pub(super) fn was_a_store(&self) -> bool {
        self.reserve.exists()
    }

    /// Bytes of database, WAL with its index, and reserve.
    pub(super) fn sizes(&self) -> Sizes {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.size());
        Sizes { db: size(&self.db), wal: size(&self.wal), shm: size(&self.shm), reserve: size(&self.reserve) }
    }
}

/// How much each file takes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) db: u64,
    pub(super) wal: u64,
    pub(super) shm: u64,
    pub(super) reserve: u64,
}

impl Sizes {
    pub(super) const fn sum(self) -> u64 {
        self.db + self.wal + self.shm + self.reserve
    }
}

/// The store is this process's while it lives.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) is: Id,
    _file: File,
}

/// Which file a name leads to. While the process has the file open its number is no other's, even if its name is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The file that has this name now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// Ends the name of what was set aside, with the time.
const DAMAGED: &str = ".damaged-";

/// The length of a database's header.
const HEAD: u64 = 100;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Bytes that this process may still write below `folder`.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether next to nothing can be written below `folder`.
pub(super) fn full(folder: &Path) -> bool {
    free(folder).is_ok_and(|bytes| bytes < 64 * 1024)
}
