//! The whole binary over real sockets, against the contract.

mod admin;
mod drain;
mod endpoints;
mod forwarding;
mod framing;
mod http2;
mod http2_bounds;
mod http2_upstream;
mod pool;
mod problems;
mod reload;
mod resend;
mod retained;
mod streams;
mod timeouts;
