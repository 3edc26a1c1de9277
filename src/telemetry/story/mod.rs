//! The story of one request that was no plain success: what was decided about it, in order, with the figures that decided.
//!
//! Promises: a request that goes well has none, and pays nothing for those that have one; a story holds no header, no query
//! and no body; it is bounded, as is the ring that keeps the last of them. It decides nothing.

mod fact;
mod figures;
mod keys;
mod ring;
mod says;

use std::sync::Arc;
use std::time::Duration;

use super::access::AttemptLine;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

pub use fact::{BreakerSays, By, Fact, Gone, Line, NoFallback, Probe, Settings, Stopped, Turned, WaitOf};
pub use figures::ms;
pub use ring::{BYTES_MAX, Held, STEPS_MAX, Sort, Stories, TEXT_MAX, brief};
pub use says::span;

/// What is told of one request.
#[derive(Debug)]
pub struct Story {
    /// The number that its id is, written as 32 hexadecimal digits.
    pub id: u128,
    /// When it came, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Where its route leads; "" where no route matched.
    pub upstream: String,
    /// The route that matched.
    pub route: String,
    /// The request's method.
    pub method: String,
    /// Its path, masked as in the access log. Where no route matched, what dialects that nobody uses take for a secret is still
    /// in it: it is taken out when it is told.
    pub path: String,
    /// Every send, as the access log lists them.
    pub attempts: Vec<AttemptLine>,
    /// What was decided, in order.
    pub steps: Vec<Step>,
    /// Steps of the middle that were left out.
    pub left_out: u32,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// One thing that was decided or came about.
#[derive(Debug)]
pub struct Step {
    /// Since the request came.
    pub at: Duration,
    /// Another upstream than its route's, to which a fallback has turned it.
    pub elsewhere: Option<Arc<str>>,
    /// What.
    pub fact: Fact,
}

/// A request's end.
#[derive(Debug)]
pub struct Ended {
    /// 499 where the client hung up before its answer began.
    pub status: u16,
    /// `upstream`, `fallback`, `fender` or `dead_letter`.
    pub source: &'static str,
    /// Why Fender answered, fell back or stored.
    pub reason: Option<Reason>,
    /// `complete`, `failed`, `cut` or `cancelled`.
    pub how: &'static str,
    /// From the request's first byte to the last of its answer.
    pub took: Duration,
}

impl Story {
    /// One that begins. `id` in hexadecimal digits; what is no such number is 0, and never found.
    #[must_use]
    pub fn new(id: &str, began_unix_ms: u64, (upstream, route): (&str, &str), asked: (&str, &str)) -> Self {
        Self {
            id: u128::from_str_radix(id, 16).unwrap_or_default(),
            began_unix_ms,
            upstream: upstream.to_owned(),
            route: route.to_owned(),
            method: asked.0.to_owned(),
            path: asked.1.to_owned(),
            attempts: Vec::new(),
            steps: Vec::new(),
            left_out: 0,
            ended: None,
        }
    }

    /// Notes what came about.
    pub fn note(&mut self, at: Duration, elsewhere: Option<Arc<str>>, fact: Fact) {
        if self.steps.len() >= STEPS_MAX {
            // How it began and how it ended tell more than what went on in between.
            self.steps.remove(STEPS_MAX / 2);
            self.left_out = self.left_out.saturating_add(1);
        }
        // What was noticed late stands where it belongs.
        let later = self.steps.iter().rev().take_while(|step| step.at > at).count();
        self.steps.insert(self.steps.len() - later, Step { at, elsewhere, fact });
    }

    /// Whether there is nothing to tell: one attempt, a good answer of the upstream's, and nothing that was waited for; or a
    /// letter's turn that was not taken.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let good = |line: &AttemptLine| line.outcome == Outcome::Success.as_str() && !line.stale_connection;
        let passed_on = self.ended.as_ref().is_none_or(|ended| {
            ended.how == "complete" && ended.reason.is_none() && ended.source == "upstream"
        });
        passed_on
            && matches!(self.attempts.as_slice(), [one] if good(one))
            && self.steps.iter().all(|step| matches!(step.fact, Fact::Sent { .. } | Fact::Replays { .. }))
            || self.replays().is_some() && self.attempts.is_empty()
    }

    /// What its attempts did upstream: done, if the last one was; else the most that one of them may have done. `None`:
    /// nothing was sent.
    #[must_use]
    pub fn verdict(&self) -> Option<&'static str> {
        let last = self.attempts.last()?.verdict.unwrap_or(Verdict::Done.as_str());
        let was = |verdict: &&str| self.attempts.iter().any(|line| line.verdict == Some(*verdict));
        let worst = [Verdict::Ambiguous.as_str(), Verdict::Refused.as_str()].into_iter().find(was);
        Some(worst.filter(|_| last != Verdict::Done.as_str()).unwrap_or(last))
    }

    /// The letter that it is about: made of it, stored before under its idempotency key, or sent again as this.
    #[must_use]
    pub fn letter(&self) -> Option<&str> {
        self.made().or_else(|| self.replays()).or_else(|| {
            self.steps.iter().find_map(|step| match &step.fact {
                Fact::Already { letter, .. } => Some(&**letter),
                _ => None,
            })
        })
    }

    /// The letter that was made of it, if one was.
    #[must_use]
    pub fn made(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match &step.fact {
            Fact::Kept { letter, .. } => Some(&**letter),
            _ => None,
        })
    }

    /// The letter whose turn it was, if it was no client's request.
    #[must_use]
    pub fn replays(&self) -> Option<&str> {
        match &self.steps.first()?.fact {
            Fact::Replays { letter } => Some(letter),
            _ => None,
        }
    }

    /// Whether the client was told that its write is Fender's.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step.fact, Fact::Kept { accepted: true, .. } | Fact::Already { accepted: true, .. })
        })
    }

    /// When its end was known, in milliseconds since 1970.
    #[must_use]
    pub fn ended_unix_ms(&self) -> u64 {
        let last = self.steps.last().map_or(Duration::ZERO, |step| step.at);
        let took = self.ended.as_ref().map_or(last, |ended| ended.took.max(last));
        self.began_unix_ms.saturating_add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
    }

    /// What it is a story of.
    #[must_use]
    pub fn sort(&self) -> Sort {
        let permanent = |line: &AttemptLine| line.outcome == Outcome::Permanent.as_str();
        if self.replays().is_some() {
            Sort::Replay
        } else if self.letter().is_some() {
            Sort::Letter
        } else if self.upstream.is_empty()
            || self.attempts.last().is_some_and(permanent)
            || self.steps.iter().any(|step| matches!(step.fact, Fact::Failed { .. }))
        {
            Sort::Callers
        } else if self.attempts.is_empty() {
            Sort::Refused
        } else {
            Sort::Tried
        }
    }
}
