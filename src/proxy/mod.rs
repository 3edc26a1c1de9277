//! The pipeline: the life of a request from its head to the last byte of its answer.
//!
//! ```text
//! head -> target resolved -> route -> bounds
//!      -> [ admission: pause, slot, seat, breaker -> attempt -> judged -> again? ] -> fallback? -> answer -> end
//! ```
//!
//! Promises: every request is answered or visibly cut; each answer of Fender's own says why; a request is sent again only
//! where [`crate::policy::verdict`] permits it; a breaker is asked before and told after every attempt, cancelled ones too.
//! It never opens a socket, reads a clock of its own or knows TLS.

mod admit;
mod attempts;
pub mod body;
mod capture;
pub mod client;
mod decide;
mod exchange;
pub mod failure;
mod fallback;
pub mod finish;
mod headers;
mod hear;
mod heard;
mod holding;
pub mod id;
mod json;
mod kept;
mod keys;
mod notes;
mod patience;
mod pipeline;
mod refused;
mod relay;
mod replayed;
mod respond;
mod respond_letters;
pub mod stale;
mod stored;
mod stream;
mod target;
mod traced;
mod tunnel;
pub mod wire;

pub use capture::Letters;
pub use client::Client;
pub use pipeline::Proxy;
pub use replayed::Turn;

pub(crate) use crate::upstream::chain;
