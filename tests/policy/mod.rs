//! The policies: tables against the tables of the contract, state machines as scripts, counters against naive models.

mod backoff;
mod breaker;
mod breaker_properties;
mod breakers;
mod budget;
mod degradation;
mod keyed;
mod limit;
mod oracles;
mod retry;
mod script;
mod tables;
mod throttle;
mod told;
mod window;
mod world;

use std::num::NonZeroU32;
use std::time::Duration;

use fender::policy::breaker::{BreakerWord, Settings};
use fender::policy::key::Key;

/// A breaker that nothing but what a test adds can trip.
fn settings() -> Settings {
    Settings {
        enabled: true,
        observe: false,
        window: secs(30),
        window_requests: None,
        minimum_requests: 10,
        failure_rate: 1.0,
        consecutive_failures: 0,
        slow_call: None,
        slow_rate: 0.8,
        open_for: secs(10),
        max_open_for: secs(300),
        half_open_probes: 3,
        half_open_timeout: secs(30),
        ramp: None,
        key: Key::Word(BreakerWord::Upstream),
        failures: Vec::new(),
    }
}

/// One that three failures in a row trip.
fn three_in_a_row() -> Settings {
    Settings { consecutive_failures: 3, minimum_requests: 1000, ..settings() }
}

fn of_requests(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
