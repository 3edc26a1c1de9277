//! Which plan applies to a request: a compiled table, immutable, swapped whole by a reload.

pub mod index;
mod plan;
mod table;

pub use plan::{Fallback, How, Plan};
pub use table::Table;
