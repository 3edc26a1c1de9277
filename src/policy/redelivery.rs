//! What becomes of a letter after one attempt to deliver it (contract 5.8).

use std::time::Duration;

use super::backoff;
use super::judge::Judged;
use super::outcome::Outcome;
use super::verdict::Verdict;

/// What the config says of it.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The wait after this outcome.
    pub backoff: &'a backoff::Settings,
    /// After so many attempts it is parked.
    pub max_attempts: u32,
    /// A letter whose write may have been done is sent again.
    pub ambiguous_replays: bool,
    /// A used-up quota is waited for so long.
    pub quota_wait: Duration,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is delivered.
    Done,
    /// It is tried again, no sooner than after this wait.
    Again { wait: Duration },
    /// It waits for an operator.
    Park(Why),
}

/// Why it waits for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The write may have been done.
    Ambiguous,
    /// No try helps.
    Permanent,
    /// All tries are used up.
    Attempts,
}

/// `attempts`: made so far, this one included. `repeatable`: a second send is harmless. A quota that is used up is no
/// fault of the letter's: it does not count towards its attempts' end.
#[must_use]
pub fn next(ended: &Judged, attempts: u32, repeatable: bool, rules: &Rules<'_>, dice: f64) -> Next {
    let told = ended.told.unwrap_or_default();
    match ended.outcome {
        Outcome::Success => Next::Done,
        Outcome::Permanent => Next::Park(Why::Permanent),
        Outcome::Quota => Next::Again { wait: told.max(rules.quota_wait) },
        Outcome::Transient | Outcome::Throttled | Outcome::Cancelled => {
            let harmless = repeatable || rules.ambiguous_replays || ended.verdict != Verdict::Ambiguous;
            if !harmless {
                Next::Park(Why::Ambiguous)
            } else if attempts >= rules.max_attempts {
                Next::Park(Why::Attempts)
            } else {
                let wait = rules.backoff.wait(attempts.max(1), rules.backoff.base, dice);
                Next::Again { wait: wait.max(told) }
            }
        }
    }
}

/// What a status says of a write that is replayed: a credential that does not work now may work later, and the letter is
/// not to blame.
#[must_use]
pub const fn outcome_of(status: u16, outcome: Outcome) -> Outcome {
    match (status, outcome) {
        (401 | 402 | 403 | 407, Outcome::Permanent) => Outcome::Quota,
        (300..=399, Outcome::Success) => Outcome::Permanent, // It leads elsewhere: nothing was done here.
        (_, outcome) => outcome,
    }
}

/// How many replays an upstream gets at once after it has come back: one, then twice as many after each that worked, up to
/// the configured number; one again after a failure. (TCP's slow start, RFC 5681 section 3.1.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    at_once: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: 1 }
    }
}

impl Pace {
    /// How many may be under way.
    #[must_use]
    pub fn at_once(&self, most: u32) -> u32 {
        self.at_once.min(most)
    }

    /// One ended: `well`, or not.
    pub fn ended(&mut self, well: bool, most: u32) {
        self.at_once = if well { self.at_once.saturating_mul(2).min(most.max(1)) } else { 1 };
    }
}
