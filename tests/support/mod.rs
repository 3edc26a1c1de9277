//! What the black-box tests are written with: the binary as a child, upstreams that do what they are told, byte by
//! byte or well behaved, and clients that notice how an answer ended. Every wait has a bound.

mod client;
mod fender;
mod h2;
mod service;
mod tls;
mod upstream;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use fender::{Fender, Setup, check};
pub(crate) use h2::{H2Client, H2End};
pub(crate) use service::{Protocol, Service};
pub(crate) use tls::Authority;
pub(crate) use upstream::{Connection, Upstream};
pub(crate) use wire::End;

/// The bound of every wait for something that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again until it holds. Only for what announces itself in no other way, such as a gauge.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
