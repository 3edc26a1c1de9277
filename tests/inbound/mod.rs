//! The front door without a door: bytes in pieces, and virtual time.

mod framing;
mod guard;
mod line;
mod splitting;
