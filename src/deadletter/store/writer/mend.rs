//! How the writer comes by its file, lets go of it, and comes by it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;

use super::Writer;
use crate::clock;
use crate::deadletter::query::{OpenError, Opened, StoreError};
use crate::deadletter::store::adopting;
use crate::deadletter::store::held::Held;
use crate::deadletter::store::recover::Db;
use crate::deadletter::store::schema::BUSY;
use crate::deadletter::store::sealing::{self, Seals};
use crate::deadletter::store::space;
use crate::deadletter::store::trouble::Trouble;
use crate::telemetry::events::{StoreLost, StoreOpened, StoreUnopened, emit};

impl Writer {
    /// [`Self::begin`], by who tells why it failed.
    pub(in crate::deadletter::store) fn first(&mut self) -> Result<Opened, OpenError> {
        self.begin().inspect_err(|error| self.db = Err(error.to_string()))
    }

    /// Opens the file for the first time, or the one that took its place, and judges what a crash left behind.
    fn begin(&mut self) -> Result<Opened, OpenError> {
        let lock = self.opener.place.lock()?;
        let (db, opened) = self.opener.start(&mut self.unsure)?;
        self.starved = space::rebuild(&self.opener.place, self.opener.limits).is_err();
        self.spent = None;
        self.held = Some(Held::new(lock, db.is));
        self.adopt(db).map_err(|trouble| {
            self.held = None;
            self.opener.place.failed(trouble)
        })?;
        Ok(opened)
    }

    /// Lets go of files that are not those which their names lead to: what is written to them is lost with the process.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        let place = &self.opener.place;
        let Some((what, owned)) =
            self.held.as_ref().and_then(|held| Some((held.amiss(place)?, held.owned(place).is_none())))
        else {
            return Ok(());
        };
        emit(&StoreLost { what: &what });
        if owned && let Ok(conn) = &self.db {
            // Of a database that is at its place nothing is lost with its WAL; where this fails there is nothing more to do.
            drop(conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE));
        }
        self.shared.held.store(false, Ordering::SeqCst);
        // The connection goes before the lock does.
        self.let_go(what.clone());
        self.held = None;
        self.suspect = false;
        self.mended = clock::now();
        Err(StoreError::Unavailable(what))
    }

    /// Tries what ails.
    pub(super) fn mend(&mut self) {
        self.mended = clock::now();
        if self.look().is_err() {
            return;
        }
        if self.held.is_none() {
            // Whoever still reads the former file has locks on it, which a look at it would drop.
            if self.shared.reading.load(Ordering::SeqCst) == 0 {
                self.begin_again();
            }
            return;
        }
        if self.db.is_err() {
            let mut opened = Opened::default();
            let db = self.opener.again(self.suspect, &mut self.unsure, &mut opened);
            match db.and_then(|db| self.adopt(db)) {
                Ok(()) => self.suspect = false,
                Err(trouble) => {
                    self.suspect |= !trouble.is_lock();
                    self.let_go(trouble.to_string());
                }
            }
            self.starved |= !self.opener.place.reserve.exists();
        }
        if self.starved && self.db.is_ok() {
            // What a vacuum cut off leaves the file with a checkpoint.
            self.bring_home();
            self.starved = space::rebuild(&self.opener.place, self.opener.limits).is_err();
            self.publish();
        }
    }

    /// Puts the keys that are configured into force, if others are.
    pub(super) fn rekey(&self, anew: bool) {
        let (keys, last) = (self.shared.keys.load_full(), self.shared.seals.load_full());
        let Ok(conn) = &self.db else { return };
        // Once nothing hangs any more on tags that do not open, others may be made.
        let sees =
            last.blind && !self.shared.looks && adopting::look(conn, &keys).is_ok_and(|seals| !seals.blind);
        if Arc::ptr_eq(&keys, &last.keys) && !anew && !sees {
            return;
        }
        let adopt = if self.shared.looks { adopting::look } else { adopting::adopt };
        match adopt(conn, &keys) {
            Ok(seals) => {
                self.shared.seals.store(Arc::new(seals));
                sealing::tell(conn, &keys);
            }
            // Captures wait; what is there goes on as far as the last keys open it, and these are tried again.
            Err(error) => {
                tracing::error!(%error, "the store's keys are not in force yet: no letter is taken until they are");
                let open = if anew { Arc::default() } else { Arc::clone(&last.keys) };
                self.shared.seals.store(Arc::new(Seals::unsettled(open)));
            }
        }
    }

    /// Brings the WAL home and cuts it off, which nothing else does: what it held in the clear must not stay in it. The reserve
    /// gives a full disk the room that the WAL had.
    pub(super) fn scrub(&self) -> bool {
        let Ok(conn) = &self.db else { return false };
        if self.starved {
            return false;
        }
        // Captures are behind it: who reads is not waited for, it is tried again later.
        if conn.busy_timeout(Duration::ZERO).is_err() {
            return false;
        }
        let done = conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE);
        if let Err(error) = conn.busy_timeout(BUSY) {
            tracing::debug!(%error, "the store's patience with locks is not back");
        }
        let done = matches!(done, Ok((all, done)) if all == done);
        if done {
            self.wal_pages.store(0, Ordering::Relaxed);
        }
        done
    }

    fn begin_again(&mut self) {
        match self.begin() {
            Ok(opened) => emit(&StoreOpened::from(&opened)),
            Err(error) => {
                let error = error.to_string();
                if self.db.as_ref().err() != Some(&error) {
                    emit(&StoreUnopened { error: &error });
                }
                self.db = Err(error);
            }
        }
    }

    /// Takes a connection into use.
    fn adopt(&mut self, Db { mut conn, is }: Db) -> Result<(), Trouble> {
        let pages = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut _, in_wal| {
            told.store(u64::try_from(in_wal).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))?;
        let last: Option<String> = conn.query_row("SELECT max(id) FROM letters", [], |row| row.get(0))?;
        self.last_id = self.last_id.max(last.and_then(|id| id.parse().ok()));
        if let Some(held) = &mut self.held {
            held.connected(&self.opener.place, is)?;
        }
        self.wal_pages = pages;
        self.db = Ok(conn);
        // What the former file's tags were says nothing of this one's.
        self.rekey(true);
        self.shared.held.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.publish();
        Ok(())
    }
}
