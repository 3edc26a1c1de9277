//! What an answer holds while it is passed on.

use std::sync::Arc;
use std::time::Instant;

use crate::policy::judge::{Judged, Meaning};
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::route::Plan;
use crate::telemetry::story::Turned;
use crate::upstream::{Leave, Seat};

/// What a response holds until its last byte: its seat, and its breaker's verdict if that is still open.
#[derive(Debug)]
pub(crate) struct Holding {
    plan: Arc<Plan>,
    leave: Option<Leave>,
    slow: bool,
    _seat: Seat,
}

impl Holding {
    /// What is held for an attempt of this plan; `leave`: `None` where the breaker has been told already.
    pub(super) const fn new(plan: Arc<Plan>, leave: Option<Leave>, slow: bool, seat: Seat) -> Self {
        Self { plan, leave, slow, _seat: seat }
    }

    /// The answer was passed on to its last byte. What that made of the breaker, if it changed.
    pub(super) fn completed(mut self, now: Instant) -> Option<Box<Turned>> {
        self.leave.take()?.succeeded(self.slow, now)
    }

    /// The answer was a change of protocol: that is what the breaker hears; the seat is held to the end.
    pub(super) fn switched(mut self, now: Instant) -> (Self, Option<Box<Turned>>) {
        let turned = self.leave.take().and_then(|leave| leave.succeeded(self.slow, now));
        (self, turned)
    }

    /// The answer was passed on to its last byte, and that said that it had failed.
    pub(super) fn failed(self, meaning: Meaning, now: Instant) -> Option<Box<Turned>> {
        self.ended_badly(&Judged::answer(200, meaning, &[]), now)
    }

    /// The upstream broke it off, for this reason.
    pub(super) fn cut(self, reason: Reason, now: Instant) -> Option<Box<Turned>> {
        self.ended_badly(&Judged::fault(reason, Verdict::Ambiguous), now)
    }

    fn ended_badly(mut self, ended: &Judged, now: Instant) -> Option<Box<Turned>> {
        let leave = self.leave.take()?;
        if ended.is_named_by(&self.plan.settings().breaker.failures) {
            leave.failed(self.slow, ended.told, now)
        } else {
            leave.succeeded(self.slow, now)
        }
    }
}
