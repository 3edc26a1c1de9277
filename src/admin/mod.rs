//! Off to the side: health, metrics, the API. Traffic flows though all of it be dead.
//!
//! Promises: open paths show no secret; every call of the API is answered 401 without a token, and leaves a line in the
//! log; every input is bounded. It reads snapshots and gives commands; it decides nothing about a request.

mod auth;
mod breakers;
mod call;
mod counted;
mod dashboard;
mod degradation;
mod events;
mod given;
mod health;
mod letter_story;
mod letter_view;
mod letters;
mod line;
mod openapi;
mod owner;
mod problem;
mod process;
mod report;
mod requests;
mod server;
mod state;
mod story_view;
mod upstreams;
mod view;

pub(crate) use auth::Caller;
pub(crate) use letters::router as letters;
pub use line::Line;
pub use openapi::openapi;
pub(crate) use requests::newest as newest_story;
pub use server::{router, serve};
pub use state::{Admin, InForce, Own, ReloadRequest};
