//! The whole binary over real sockets, against the contract.

mod admin;
mod breaker;
mod drain;
mod endpoints;
mod fallback;
mod forwarding;
mod framing;
mod health;
mod http2;
mod http2_bounds;
mod http2_upstream;
mod letters;
mod limits;
mod memory;
mod order;
mod pool;
mod problems;
mod reload;
mod resend;
mod retained;
mod retries;
mod streams;
mod throttle;
mod timeouts;
mod traps;
