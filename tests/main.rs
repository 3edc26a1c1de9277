//! All tests of the whole: one binary, so that it links once.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by panicking, and lives in real time"
)]

mod admin;
mod blackbox;
mod clients;
mod config;
mod dashboard;
mod deadletter;
mod deploy;
mod dialect;
mod docs;
mod inbound;
mod policy;
mod prove;
mod readme;
mod route;
mod support;
mod tidy;
mod upstream;
