//! Pure decisions: functions of (state, event, now, dice). Nothing here knows a runtime, a socket, a clock, a log or a lock.
//!
//! Each policy owns its `Settings`: what the config may say about it, checked as far as one value can be.

pub mod backoff;
pub mod blame;
pub mod breaker;
pub mod breakers;
pub mod budget;
pub mod cause;
pub mod conclude;
pub mod deadline;
pub mod degradation;
pub mod judge;
pub mod key;
pub mod keyed;
pub mod limit;
pub mod outcome;
pub mod reason;
pub mod redelivery;
pub mod retry;
pub mod ring;
pub mod throttle;
pub mod told;
pub mod trigger;
pub mod verdict;
pub mod window;
