//! What is noted of a request after its answer has begun, or where it got none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Finish, milliseconds};
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::verdict::Verdict;
use crate::route::Plan;
use crate::telemetry::access::AttemptLine;
use crate::telemetry::metrics::Source;
use crate::telemetry::story::{Fact, Turned};

impl Finish {
    /// The attempt under way, if one is, was broken off `now`: what it did upstream is not known.
    pub(in crate::proxy) fn broken_off(&mut self, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.sending.take()?);
        let line = AttemptLine {
            outcome: Outcome::Cancelled.as_str(),
            status: None,
            verdict: Some(Verdict::Ambiguous.as_str()),
            ..AttemptLine::good(0, milliseconds(took))
        };
        self.story(|story| {
            let attempt = story.attempts.len();
            story.attempts.push(line);
            let at = now.saturating_duration_since(self.started);
            story.note(at, self.elsewhere(), Fact::Sent { attempt, limit: None });
        });
        Some(took)
    }

    /// An attempt begins `now`, under this plan.
    pub(in crate::proxy) fn sends(&mut self, plan: &Arc<Plan>, now: Instant) {
        self.sending = Some(now);
        self.turned = (!Arc::ptr_eq(plan, &self.plan)).then(|| Arc::clone(plan));
    }

    /// The plan of the last attempt.
    pub(super) fn sent_by(&self) -> &Arc<Plan> {
        self.turned.as_ref().unwrap_or(&self.plan)
    }

    /// Its upstream, where it is not the one that the request was meant for.
    fn elsewhere(&self) -> Option<Arc<str>> {
        let here = self.sent_by().upstream_name();
        (here != self.plan.upstream_name()).then(|| Arc::from(here))
    }

    /// What came about after the answer had begun. Nothing may have been noted until then: that it went well is.
    pub(super) fn note_late(&self, fact: Option<Fact>, now: Instant) {
        let since = |at: Instant| at.saturating_duration_since(self.started);
        self.story(|story| {
            if let Some(answer) = self.answer.filter(|answer| answer.source == Source::Upstream)
                && story.attempts.is_empty()
            {
                let mut line = AttemptLine::good(answer.status, milliseconds(since(answer.at)));
                let endpoints = self.sent_by().upstream().endpoints();
                let endpoint = self.endpoint.and_then(|endpoint| endpoints.get(endpoint));
                line.endpoint = endpoint.map(|endpoint| endpoint.url.authority().to_string());
                story.attempts.push(line);
                story.note(since(answer.at), None, Fact::Sent { attempt: 0, limit: None });
            }
            if let Some(fact) = fact {
                let own = matches!(fact, Fact::Gone(_));
                story.note(since(now), if own { None } else { self.elsewhere() }, fact);
            }
        });
    }

    /// What became of the breaker, if anything did.
    pub(super) fn note_turned(&self, turned: Option<Box<Turned>>, now: Instant) {
        if let Some(turned) = turned {
            self.note_late(Some(Fact::Turned(turned)), now);
        }
    }

    /// The attempt whose head was good did not end well.
    pub(in crate::proxy) fn ended_otherwise(&self, ended: &Judged) {
        self.story(|story| {
            let good = |line: &&mut AttemptLine| line.outcome == Outcome::Success.as_str();
            if let Some(line) = story.attempts.last_mut().filter(good) {
                line.outcome = ended.outcome.as_str();
                line.verdict = (ended.verdict != Verdict::Done).then_some(ended.verdict.as_str());
            }
        });
    }
}
