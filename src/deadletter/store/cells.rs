//! A cell as far as it makes sense: a flipped bit makes a text no UTF-8 and a small number a great one, and SQLite's checks let both
//! stand. A list does not fail for one row, and a letter not for a word of its story; what goes up has checksums besides.

use rusqlite::{Row, RowIndex};

/// A text; what is no UTF-8 in it is replaced.
pub(super) fn text<I: RowIndex>(row: &Row<'_>, column: I) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned())
}

/// [`text`], where there is one.
pub(super) fn text_if_any<I: RowIndex>(row: &Row<'_>, column: I) -> rusqlite::Result<Option<String>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

/// A number that fits, if there is one.
pub(super) fn small<T: TryFrom<i64>, I: RowIndex>(row: &Row<'_>, column: I) -> rusqlite::Result<Option<T>> {
    Ok(row.get::<_, Option<i64>>(column)?.and_then(|number| T::try_from(number).ok()))
}
