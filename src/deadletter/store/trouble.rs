//! What can go wrong inside, and how far it reaches: one letter, the batch, or the file.

use rusqlite::ErrorCode;

use crate::deadletter::query::StoreError;

/// An error on the way to an answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The answer itself: nothing is wrong with the store.
    Said(StoreError),
    /// SQLite's.
    Sql(rusqlite::Error),
}

/// How far an error reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The one that asked.
    One,
    /// Everything that needs space; the file is as it was before the batch.
    Space,
    /// The file: whether the batch is in it is unknown.
    File,
}

impl Trouble {
    pub(super) fn reach(&self) -> Reach {
        let Self::Sql(error) = self else { return Reach::One };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Reach::Space,
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationAborted
                | ErrorCode::OperationInterrupted
                | ErrorCode::InternalMalfunction,
            ) => Reach::File,
            _ => Reach::One,
        }
    }

    /// A transaction that could be neither committed nor undone.
    pub(super) fn unknown_end() -> Self {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
        Self::Sql(rusqlite::Error::SqliteFailure(code, Some("a transaction could not be undone".to_owned())))
    }

    /// Bytes that SQLite's own check found wrong.
    pub(super) fn damage(what: String) -> Self {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Self::Sql(rusqlite::Error::SqliteFailure(code, Some(what)))
    }

    /// Whether another program holds the file, which says nothing about what is in it.
    pub(super) fn is_lock(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Whether the bytes themselves make no sense.
    pub(super) fn is_damage(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    pub(super) fn into_answer(self) -> StoreError {
        match self.reach() {
            Reach::Space => StoreError::Full,
            Reach::One | Reach::File => match self {
                Self::Said(error) => error,
                Self::Sql(error) => StoreError::Unavailable(error.to_string()),
            },
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said(error) => error.fmt(f),
            Self::Sql(error) => error.fmt(f),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Trouble {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sql(error.into())
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Said(error)
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Said(StoreError::Unavailable(what))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::from(error.to_string())
    }
}
