//! How the store divides `max_bytes`, and the reserve that keeps it able to deliver and delete on a full disk.
//!
//! A WAL database cannot even delete a row without writing to its WAL first. So a file of some bytes lies beside it, and
//! goes when the disk is full; and captures leave the WAL the room that it had.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use rusqlite::Connection;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::file::{Place, Sizes, free};
use super::schema::PAGE;
use super::trouble::Trouble;

/// What follows from `max_bytes`, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// All that the store may occupy.
    pub(super) max: u64,
    /// The ballast's size.
    pub(super) reserve: u64,
    /// What the WAL may take, and keeps.
    pub(super) wal: u64,
}

impl Limits {
    pub(super) fn of(max: u64) -> Self {
        // What the WAL holds must fit into the database when it is checkpointed on a full disk: the reserve is no smaller.
        let share = (max / 64).clamp(256 << 10, 8 << 20);
        Self { max, reserve: share, wal: share }
    }

    /// A checkpoint is due from this many pages in the WAL on.
    pub(super) const fn checkpoint_pages(self) -> u64 {
        self.wal / 2 / PAGE
    }

    /// So many bytes of bodies go into one commit, and one more letter.
    pub(super) const fn batch_bytes(self) -> u64 {
        self.wal / 4
    }

    /// So many operations go into one commit.
    pub(super) fn batch_count(self) -> usize {
        usize::try_from(self.wal / (64 << 10)).unwrap_or(4).clamp(4, 128)
    }

    /// Kept back of the quota for what deliveries and deletes may add: indexes split, short trails grow, and many letters removed
    /// at once lengthen the WAL.
    fn headroom(self) -> u64 {
        (self.max / 256).max((self.max / 32).clamp(16 * PAGE, 32 * PAGE))
    }

    /// What SQLite itself is told: room for deletes, whose indexes may grow, is left above what captures may take.
    pub(super) fn max_pages(self) -> i64 {
        let pages = self.max.saturating_sub(self.reserve + self.wal) / PAGE;
        i64::try_from(pages.max(MIN_PAGES)).unwrap_or(i64::MAX)
    }
}

/// The schema itself must fit.
const MIN_PAGES: u64 = 64;

/// What one batch may still take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) limits: Limits,
    /// Captures are refused, whatever the figures.
    pub(super) starved: bool,
    /// The smallest capture that was refused for want of quota, in bytes.
    pub(super) refused: Option<u64>,
    sizes: Sizes,
    /// The WAL's bytes that hold frames of use.
    wal_used: u64,
    wal_added: u64,
    /// What the file will have once all is checkpointed.
    pages: u64,
    free_pages: u64,
}

impl Room {
    pub(super) fn measure(
        place: &Place,
        limits: Limits,
        wal_pages: u64,
        starved: bool,
        conn: &Connection,
    ) -> Result<Self, Trouble> {
        let mut room = Self {
            limits,
            starved,
            refused: None,
            sizes: place.sizes(),
            wal_used: wal_pages * (PAGE + 24),
            wal_added: BATCH_PAGES * PAGE,
            pages: 0,
            free_pages: 0,
        };
        room.count(conn)?;
        Ok(room)
    }

    /// Reads anew how many pages there are, and how many of them are free.
    pub(super) fn count(&mut self, conn: &Connection) -> Result<(), Trouble> {
        let pages = |pragma| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        self.pages = pages("page_count")?.cast_unsigned();
        self.free_pages = pages("freelist_count")?.cast_unsigned();
        Ok(())
    }

    /// Whether a letter of so many bytes may come in without the files growing beyond `max_bytes`.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        self.fits(bytes, pages_of(bytes).saturating_sub(self.free_pages))
    }

    /// Whether it might, if others gave way: what the WAL takes, no deletion gives back.
    pub(super) fn might_hold(&self, bytes: u64) -> bool {
        self.fits(bytes, 0)
    }

    fn fits(&self, bytes: u64, grown: u64) -> bool {
        let wal = self.sizes.wal.max(self.wal_used + self.wal_added + wal_of(bytes)).max(self.limits.wal);
        let sum = (self.pages + grown) * PAGE + wal + self.sizes.shm.max(32 << 10) + self.limits.reserve;
        // What finds its place in free pages takes nothing of what is kept back.
        let kept_back = if grown > 0 { self.limits.headroom() } else { 0 };
        sum + kept_back <= self.limits.max
    }

    /// Whether trails must not grow any more: what is left is for deliveries and deletes.
    pub(super) fn tight(&self) -> bool {
        self.starved || !self.holds(PAGE)
    }

    /// So many bytes of bodies may be written anew at once.
    pub(super) const fn step_bytes(&self) -> u64 {
        self.limits.batch_bytes()
    }

    /// Notes that a letter of so many bytes came in.
    pub(super) fn take(&mut self, bytes: u64) {
        let pages = pages_of(bytes);
        let from_free = pages.min(self.free_pages);
        self.free_pages -= from_free;
        self.pages += pages - from_free;
        self.wal_added += wal_of(bytes);
    }
}

/// Index pages that any batch rewrites.
const BATCH_PAGES: u64 = 26;

/// Pages that a letter adds: its content, its row and its share of the indexes.
fn pages_of(bytes: u64) -> u64 {
    bytes / (PAGE - 16) + 2
}

/// Bytes that a letter adds to the WAL: the pages of its content, and those that it alone touches.
fn wal_of(bytes: u64) -> u64 {
    (bytes / (PAGE - 16) + 4) * (PAGE + 24)
}

/// Lays the reserve down, if the disk has room for it and some more.
pub(super) fn rebuild(place: &Place, limits: Limits) -> io::Result<()> {
    let there = fs::metadata(&place.reserve).map_or(0, |metadata| metadata.len());
    if there == limits.reserve {
        return Ok(());
    }
    release(place)?;
    if free(place.folder())? < limits.reserve + limits.wal.min(SPARE) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place.reserve)?;
    let laid = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, limits.reserve) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0_u8; 64 << 10];
            (0..limits.reserve / (64 << 10)).try_for_each(|_| file.write_all(&zeros))
        }
        laid => laid.map_err(io::Error::from),
    };
    // A part of a reserve is none.
    laid.and_then(|()| file.sync_all()).inspect_err(|_| drop(release(place)))
}

/// What must be free beyond the reserve before captures are taken again.
const SPARE: u64 = 1 << 20;

/// Gives the reserve's bytes to the WAL.
pub(super) fn release(place: &Place) -> io::Result<()> {
    match fs::remove_file(&place.reserve) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whether the disk has so little left that the reserve must go for the store to work at all.
pub(super) fn starving(place: &Place) -> bool {
    place.reserve.exists() && free(place.folder()).is_ok_and(|bytes| bytes < SPARE)
}
