//! What is noted of a request on its way, for the access log and for those who ask later: nothing, as long as all goes well
//! and there is no log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use http::uri::PathAndQuery;

use super::exchange::Exchange;
use super::failure::Failure;
use super::finish::milliseconds;
use crate::clock;
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::route::Plan;
use crate::telemetry::access::AttemptLine;
use crate::telemetry::events::{Event, emit, emit_told};
use crate::telemetry::story::{Fact, Line, Step, Story, brief};
use crate::upstream::Fault;
use crate::upstream::upload::Upload;

/// What is noted of one request.
#[derive(Debug)]
pub struct Notes {
    /// What was asked for, until it is known whether anyone wants to know.
    method: Method,
    target: PathAndQuery,
    /// There is an access log.
    logged: Option<Box<Logged>>,
    /// Locked by nobody but the request's own task, one note after the other.
    story: Mutex<Option<Box<Story>>>,
}

/// What only the access log wants to know.
#[derive(Debug)]
pub struct Logged {
    pub upload: Option<Upload>,
}

impl Notes {
    /// Nothing yet, of a request for this target, as it goes up.
    pub(super) fn new(method: &Method, target: &PathAndQuery, logged: Option<Box<Logged>>) -> Self {
        Self { method: method.clone(), target: target.clone(), logged, story: Mutex::default() }
    }

    /// What the access log wants to know, if there is one.
    pub(super) fn logged(&self) -> Option<&Logged> {
        self.logged.as_deref()
    }

    /// Whether anything has been noted, or is to be in any case.
    pub(super) fn any(&self) -> bool {
        self.logged.is_some() || self.story.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The story so far, which is begun if there is none.
    pub(super) fn story<T>(&self, of: (&str, &Plan, Instant), with: impl FnOnce(&mut Story) -> T) -> T {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        with(story.get_or_insert_with(|| Box::new(self.begun(of))))
    }

    /// The story, at the end of it, if there is one.
    pub(super) fn take(&mut self) -> Option<Box<Story>> {
        self.story.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn begun(&self, (id, plan, started): (&str, &Plan, Instant)) -> Story {
        let dialect = plan.upstream().dialect();
        let route = plan.route();
        let prefix = if route.strip_prefix { route.path.trim_end_matches('/') } else { "" };
        // Some secrets are known by where the path begins, with the prefix or without.
        let path = format!("{prefix}{}", dialect.masked(self.target.path()));
        let (from, path) = ((plan.upstream_name(), plan.name()), dialect.masked(&path));
        Story::new(id, clock::unix_ms_at(started), from, (self.method.as_str(), &path))
    }
}

impl Exchange {
    /// Logs an event of this request, and notes it in its story.
    pub(super) fn emit(&self, event: &impl Event) {
        emit(event);
        self.note_of(&self.plan, event.fact());
    }

    /// The same, and tells it to whoever reads the feed.
    pub(super) fn emit_told(&self, event: &impl Event) {
        emit_told(event, self.plan.upstream().policies().feed());
        self.note_of(&self.plan, event.fact());
    }

    /// Notes what came about just now.
    pub(super) fn note(&self, fact: Fact) {
        self.note_of(&self.plan, Some(fact));
    }

    /// Notes what came about just now under this plan.
    pub(super) fn note_of(&self, plan: &Plan, fact: Option<Fact>) {
        let Some(fact) = fact else { return };
        let at = clock::now().saturating_duration_since(self.started);
        self.finish.story(|story| story.note(at, self.elsewhere(plan), fact));
    }

    /// The plan's upstream, where it is not the one that the request was meant for.
    fn elsewhere(&self, plan: &Plan) -> Option<Arc<str>> {
        let (home, here) = (self.finish.plan().upstream_name(), plan.upstream_name());
        (home != here).then(|| Arc::from(here))
    }

    /// Notes that it stood in line since then.
    pub(super) fn waited(&self, line: Line, since: Instant) {
        self.note(Fact::Waited { line, how_long: clock::now().saturating_duration_since(since) });
    }

    /// Notes that it is the client's fault, or nobody's.
    pub(super) fn note_failed(&self, failure: &Failure) {
        let reason = failure.reason();
        let too_large = |story: &mut Story| {
            matches!(story.steps.last(), Some(Step { fact: Fact::NotKept { why: "body" }, .. }))
        };
        let key = match reason {
            Reason::BodyTooLarge if self.finish.story(too_large) => Some("dead_letter.max_body"),
            Reason::BodyTooLarge => Some("server.max_request_body"),
            Reason::BodyTimeout => {
                let own = self.plan.settings().timeout.idle;
                let is_own = self.upload.as_ref().is_some_and(|upload| upload.idle() == own);
                Some(if is_own { "timeout.idle" } else { "server.body_idle_timeout" })
            }
            _ => None,
        };
        self.note(Fact::Failed { reason, detail: brief(&failure.detail()), key });
    }

    /// Notes the end of an attempt, `now`, unless all has gone well so far and nobody keeps a log.
    pub(super) fn tried(&self, tried: &Tried<'_>, begun: Instant, now: Instant) {
        if tried.ended.outcome == Outcome::Success && !self.finish.noted() && !self.hung_up() {
            return;
        }
        let mut line = tried.line(&self.plan, now.saturating_duration_since(begun));
        // What the client broke off itself says nothing about the connection upstream.
        line.stale_connection &= self.upload.as_ref().and_then(Upload::fault).is_none();
        let limit = tried.limit(self, begun);
        let elsewhere = self.elsewhere(&self.plan);
        self.finish.story(|story| {
            let attempt = story.attempts.len();
            story.attempts.push(line);
            let at = now.saturating_duration_since(self.started);
            story.note(at, elsewhere, Fact::Sent { attempt, limit });
        });
    }
}

/// How one send ended.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    pub ended: &'a Judged,
    /// Why no answer came.
    pub fault: Option<&'a Fault>,
    /// Which of the endpoints it was sent to.
    pub endpoint: Option<usize>,
}

impl Tried<'_> {
    fn line(&self, plan: &Plan, took: Duration) -> AttemptLine {
        let Self { ended, fault, endpoint } = self;
        let endpoint = endpoint.and_then(|at| plan.upstream().endpoints().get(at));
        AttemptLine {
            outcome: ended.outcome.as_str(),
            status: ended.status,
            reason: fault.map(|fault| fault.reason.as_str()),
            verdict: (ended.verdict != Verdict::Done).then_some(ended.verdict.as_str()),
            error: fault.map(|fault| fault.detail.clone()),
            duration_ms: milliseconds(took),
            stale_connection: fault.is_some_and(|fault| fault.stale),
            endpoint: endpoint.map(|endpoint| endpoint.url.authority().to_string()),
        }
    }

    /// Whose time ran out; `None` where it was the client's own patience, or nobody's.
    fn limit(&self, exchange: &Exchange, begun: Instant) -> Option<&'static str> {
        match self.fault?.reason {
            Reason::FirstContent => Some("stream.first_content"),
            Reason::Timeout => {
                let own = begun + exchange.plan.settings().timeout.attempt;
                if own <= exchange.deadline {
                    Some("timeout.attempt")
                } else {
                    (exchange.patience != Some(exchange.deadline)).then_some("timeout.total")
                }
            }
            _ => None,
        }
    }
}
