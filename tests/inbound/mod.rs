//! The front door without a door: bytes in pieces, and virtual time.

mod frames;
mod framing;
mod guard;
mod hangup;
mod line;
mod splitting;
