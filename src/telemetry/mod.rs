//! Off to the side: what Fender says of itself.
//!
//! Promises: an event is one struct, whose log line and metric cannot disagree; label values come from the config, never
//! from requests; a log reader that hangs costs lines (counted), never traffic. Nothing here decides anything.

pub mod access;
pub mod events;
pub mod feed;
pub mod history;
mod letter_events;
pub mod letters;
pub mod logging;
mod maker;
pub mod metrics;
mod policies;
mod policy_events;
pub mod prune;
mod sharded;
mod sink;
pub mod story;
pub mod streams;
mod total;
pub mod trace;
pub mod webhooks;
