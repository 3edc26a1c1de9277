//! The pipeline: the life of a request from its head to the last byte of its answer.
//!
//! ```text
//! head -> target resolved -> route -> bounds -> [ attempt -> fault? -> may it be sent again? ] -> answer -> end
//! ```
//!
//! Promises: every request is answered or visibly cut; each answer of Fender's own says why; a request is sent again only
//! where [`crate::policy::verdict`] permits it. It never opens a socket, reads a clock of its own or knows TLS.

pub mod body;
pub mod client;
mod exchange;
pub mod failure;
pub mod finish;
mod headers;
pub mod id;
mod patience;
mod pipeline;
mod respond;
mod target;
mod tunnel;
pub mod wire;

pub use client::Client;
pub use pipeline::Proxy;

pub(crate) use crate::upstream::chain;
