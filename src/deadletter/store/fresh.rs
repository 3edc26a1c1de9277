//! A database is made beside its place and takes it when it is whole: whatever ends that in between, no half of one ever bears
//! the store's name.

use std::time::Duration;

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;

use super::file::Place;
use super::recover::{Db, Opener};
use super::salvage::{Salvaged, salvage};
use super::schema::{self, Schema};
use super::space;
use super::trouble::{Reach, Trouble};
use crate::clock;
use crate::deadletter::query::{OpenError, Opened};

/// Makes a database with what `fill` puts into it, at [`Place::fresh`]: all of it in the one file, and on disk.
pub(super) fn make<T>(
    opener: &Opener,
    fill: impl FnOnce(&Connection) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let place = Place::new(&opener.place.fresh);
    // What an earlier try left.
    place.remove()?;
    // A try that failed leaves the disk its room; where it cannot, the next one does.
    made(opener, &place, fill).inspect_err(|_| drop(place.remove()))
}

fn made<T>(
    opener: &Opener,
    place: &Place,
    fill: impl FnOnce(&Connection) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    place.create()?;
    let conn = schema::writer(&place.db, opener.sync, opener.limits.wal)?;
    let schema = schema::migrate(&conn)?;
    if !matches!(schema, Schema::Ready { .. }) {
        return Err(Trouble::from(format!("the file was replaced while it was made: {schema:?}")));
    }
    conn.pragma_update(None, "max_page_count", opener.limits.max_pages())?;
    let filled = fill(&conn)?;
    conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE)?;
    conn.close().map_err(|(_, error)| error)?;
    if place.sizes().wal > 0 {
        return Err(Trouble::from("its WAL did not come home".to_owned()));
    }
    Ok(filled)
}

/// A file that looks damaged and cannot be read is tried for so long before what can be read of it is all there is.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

impl Opener {
    /// Makes the file, if there is none; true if it did.
    pub(super) fn create(&self) -> Result<bool, OpenError> {
        if self.place.db.try_exists().map_err(|error| self.place.failed(error))? {
            return Ok(false);
        }
        let create = || -> Result<bool, Trouble> {
            make(self, |_| Ok(()))?;
            self.place.take_place()?;
            Ok(true)
        };
        let created = create().or_else(|trouble| {
            // On a full disk the reserve may be all that is left.
            space::release(&self.place)?;
            create().map_err(|_| trouble)
        });
        created.map_err(|trouble| self.place.failed(trouble))
    }

    /// Whether a file that looks damaged is: to SQLite a page that cannot be read now is one that makes no sense. A disk that stays so
    /// has lost it.
    fn is_readable(&self) -> Result<(), Trouble> {
        let Err(error) = self.place.readable() else {
            self.unreadable.set(None);
            return Ok(());
        };
        let now = clock::now();
        let since = self.unreadable.get().unwrap_or(now);
        self.unreadable.set(Some(since));
        if now.saturating_duration_since(since) >= GIVEN_UP_AFTER {
            return Ok(());
        }
        Err(Trouble::from(format!("it cannot be read: {error}")))
    }

    /// Takes what can be read of the file over into a fresh one, and sets it aside. Not before all of that is on disk does the fresh
    /// one take its place: until then, whatever fails, it begins again.
    pub(super) fn afresh(&self, opened: &mut Opened) -> Result<Db, OpenError> {
        let take = |conn: &Connection| {
            let Salvaged { letters, missed } = salvage(&self.place.db, conn)?;
            if missed { self.is_readable().map(|()| letters) } else { Ok(letters) }
        };
        self.is_readable().map_err(|trouble| self.place.failed(trouble))?;
        let made = || make(self, take);
        let salvaged = made().or_else(|trouble| {
            if trouble.reach() != Reach::Space {
                return Err(trouble);
            }
            space::release(&self.place)?;
            made()
        });
        opened.salvaged = salvaged.map_err(|trouble| self.place.failed(trouble))?;
        let exchanged = self.place.note_salvaged().and_then(|()| self.place.exchange(clock::unix_ms()));
        opened.set_aside = Some(exchanged.map_err(|error| self.place.failed(error))?);
        let (db, _) = self.connect().map_err(|trouble| self.place.failed(trouble))?;
        Ok(db)
    }
}
