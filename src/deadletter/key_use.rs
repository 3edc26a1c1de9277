//! What keys are to the store: how many letters hang on which, and what is left to be done with them.

use super::seal::KeyId;

/// What a key is to the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// There is none: these letters lie in the clear.
    Clear,
    /// `encryption_key`.
    Current,
    /// One of `old_encryption_keys`.
    Old,
    /// It is not configured: these letters cannot be read until it is.
    Missing,
}

impl Sealing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Clear, Self::Current, Self::Old, Self::Missing];

    /// The word under which it is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Current => "current",
            Self::Old => "old",
            Self::Missing => "missing",
        }
    }
}

/// How many letters hang on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// `None`: letters in the clear.
    pub key: Option<KeyId>,
    /// What it is to the config.
    pub sealing: Sealing,
    /// Letters sealed with it.
    pub letters: u64,
}

/// What one step of tending to the keys did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tended {
    /// Letters that are now sealed with the current key.
    pub resealed: u64,
    /// Letters whose key is there again.
    pub rejoined: u64,
    /// Whether there is more to do.
    pub more: bool,
    /// All letters are sealed, and nothing that lay in the clear is left in the database: the WAL is next.
    pub(super) scrub: bool,
}
