//! The front door: listeners, connections, TLS.
//!
//! Promises: no message whose framing two parsers could read differently ever reaches the proxy; heads, bodies and
//! connections have a bound in bytes and in time; a cut stays visible as a cut. It never decides what happens to a
//! request: every one becomes a call of [`crate::proxy::Proxy::handle`].

pub mod connection;
pub mod frames;
pub mod framing;
pub mod guard;
mod hangup;
mod judge;
mod lent;
pub mod listen;
mod stall;
pub mod tls;
