//! Letters kept: writes that could not be delivered, on disk until they are.
//!
//! It promises that a letter for which a [`Receipt`] was given is there after a crash (and, under `sync = "full"`, after a
//! power cut), whole or told as damaged; that a letter leaves only by delivery, an operator's word or a retention that the
//! config set; that letters of one key are due one at a time and in order; that memory does not follow the backlog; that
//! where a key is configured nothing that may bear payload lies on disk in the clear.
//!
//! It never sends anything, knows no HTTP, and never takes down the proxying of what needs no store.

mod codec;
#[cfg(test)]
mod fuzz;
mod id;
mod key_use;
mod letter;
mod line;
mod query;
mod seal;
mod sendable;
mod store;

pub use id::{LetterId, NoLetterId};
pub use key_use::{KeyUse, Sealing, Tended};
pub use letter::{
    ANSWER_MAX, Attempt, Because, Begin, Content, Credentials, Draft, Due, ERROR_MAX, Letter, SealedWith,
    Settled, State, TRAIL_MAX,
};
pub use line::Told;
pub use query::{
    Act, BulkResult, Captured, Cursor, Exported, Failure, Figures, Filter, Gone, Imported, OpenError, Opened,
    Page, Receipt, Report, Retained, Stats, StoreError,
};
pub use seal::{KeyId, Keys};
pub use store::Store;
