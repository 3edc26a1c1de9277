//! The whole binary over real sockets, against the contract.

mod admin;
mod drain;
mod forwarding;
mod framing;
mod http2;
mod problems;
mod reload;
mod resend;
mod streams;
mod timeouts;
