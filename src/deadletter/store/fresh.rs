//! A database is made beside its place and takes it when it is whole: whatever ends that in between, no half of one ever bears
//! the store's name.

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;

use super::file::Place;
use super::recover::Opener;
use super::schema::{self, Schema};
use super::trouble::Trouble;

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
