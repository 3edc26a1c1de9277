//! The other side: an upstream's endpoints, connections, TLS and addresses, and the state that its policies share.
//!
//! Promises: a failed send says what it did upstream (its verdict); a connection is used by one worker alone; what a
//! request needs but cannot have at once (an address, a connection) it waits for no longer than `timeout.connect`.
//! It never decides whether to try again.

pub mod breaker;
pub mod bulkhead;
mod cell;
pub mod check;
mod connect;
mod degradation;
pub mod endpoint;
mod fault;
mod meter;
pub mod pause;
pub mod policies;
mod pool;
pub mod post;
mod resolve;
mod send;
pub mod tls;
pub mod upload;

pub use breaker::Leave;
pub use bulkhead::Seat;
pub use cell::{Snapshot, Upstream};
pub use degradation::Degradation;
pub use fault::{Fault, chain};
pub use meter::Metered;
pub use pool::Loan;
pub use resolve::follow;
pub use send::{Interims, Outgoing, Reply};
