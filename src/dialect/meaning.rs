//! What an answer means.

use std::time::Duration;

pub use crate::policy::judge::Meaning;
use crate::policy::outcome::Outcome;
pub use crate::policy::throttle::Scope;
use crate::policy::told;
use crate::policy::verdict::Verdict;

/// An answer's head.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Its status.
    pub status: u16,
    /// Its fields, by name in lower case.
    pub field: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The time since 1970; zero: it is not known, and no moment can be read.
    pub unix_now: Duration,
}

/// What is known once the head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// All.
    Known(Meaning),
    /// The body tells; no more than so many bytes of it are worth reading.
    Read { max: usize },
}

impl Meaning {
    /// What an answer means where the standards of HTTP have to do.
    #[must_use]
    pub fn generic(head: &Head<'_>) -> Self {
        let outcome = Outcome::of_status(head.status);
        if outcome == Outcome::Success {
            return Self { outcome, verdict: Verdict::Done, told: None, scope: Scope::Credential };
        }
        let asks_back = (head.field)("retry-after").is_some();
        // Only an answer that says "wait" is asked how long: rate-limit fields stand on others too.
        let says_wait = matches!(head.status, 429 | 503 | 529) || asks_back;
        let told = says_wait.then(|| told::told(head.field, head.unix_now)).flatten();
        let verdict = Verdict::of_status(head.status, asks_back, outcome);
        Self { outcome, verdict, told: told.map(|told| told.wait), scope: Scope::Credential }
    }
}
