//! What a traced request's spans say.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::{Asked, Broke, Send, Trace};
use crate::clock;
use crate::config::Scheme;
use crate::dialect::Listener;
use crate::policy::reason::Reason;
use crate::telemetry::access::AttemptLine;
use crate::telemetry::story::{Ended, Fact, Story, brief};
use crate::telemetry::trace::{Event, Kind, Span, Value};

impl Trace {
    /// The request has ended: its spans are on their way.
    #[cold]
    pub(in crate::proxy) fn end(
        self,
        story: &Story,
        ended: &Ended,
        route: &str,
        (began, now): (Instant, Instant),
    ) {
        if self.sends.is_empty() && matches!(self.asked, Asked::Letter { .. }) {
            return; // Its turn was not taken: it has many of those while its upstream is ill.
        }
        let clock = Clock { began, unix_ns: clock::unix_ns_at(began) };
        let mut spans = vec![self.whole(story, ended, route, &clock, now)];
        for (number, send) in self.sends.iter().enumerate() {
            spans.push(self.attempt((number, send), story, ended, &clock, now));
        }
        self.tracer.push(spans);
    }

    fn whole(&self, story: &Story, ended: &Ended, route: &str, clock: &Clock, now: Instant) -> Span {
        let mut about = Attributes::default();
        about.method(&story.method);
        about.text("url.path", &story.path);
        let (kind, link) = match &self.asked {
            Asked::Client { host, secure, version } => {
                about.text("url.scheme", if *secure { "https" } else { "http" });
                about.text("network.protocol.version", version);
                about.host(host.as_deref().unwrap_or_default(), *secure);
                if ended.how != "cancelled" || ended.reason != Some(Reason::Cancelled) {
                    about.int("http.response.status_code", ended.status); // Else nobody was answered.
                }
                about.text("fender.source", ended.source);
                about.text("fender.letter", story.letter().unwrap_or_default());
                about.text("fender.end", ended.how);
                about.text("fender.reason", ended.reason.map_or("", |reason| reason.as_str()));
                (Kind::Server, None)
            }
            Asked::Letter { id, captured } => {
                about.text("fender.letter", id);
                let heard = self.sends.last().is_some_and(|send| send.ended.is_some());
                about.text(
                    "fender.end",
                    self.broke.map_or(if heard { "complete" } else { "cancelled" }, Broke::how),
                );
                (Kind::Consumer, Some(*captured))
            }
        };
        about.text("http.route", route);
        about.text("fender.request_id", &format!("{:032x}", story.id));
        about.text("fender.upstream", &story.upstream);
        about.text("fender.route", &story.route);
        about.int("fender.attempts", self.sends.iter().filter(|send| !send.again).count());
        about.text("fender.verdict", story.verdict().unwrap_or_default());
        let error = self.error(story, ended);
        about.text("error.type", error.as_deref().unwrap_or_default());
        let name = match (&self.asked, route) {
            (Asked::Letter { .. }, _) => format!("replay {}", story.upstream),
            (_, "") => known(&story.method).unwrap_or("HTTP").to_owned(),
            (_, route) => format!("{} {route}", known(&story.method).unwrap_or("HTTP")),
        };
        let events = story.steps.iter().filter(|step| !matches!(step.fact, Fact::Sent { .. }));
        let events = events.map(|step| {
            let mut about = Attributes::default();
            about.text("fender.upstream", step.elsewhere.as_deref().unwrap_or_default());
            about.figures("fender", &step.fact.figures(story));
            Event { at: clock.after(step.at), name: step.fact.kind(), attributes: about.0 }
        });
        Span {
            context: self.context,
            parent: self.parent.map(|parent| (parent.span, true)),
            kind,
            name,
            began: clock.after(Duration::ZERO),
            ended: clock.at(now),
            attributes: about.0,
            events: events.collect(),
            events_left_out: story.left_out,
            link,
            error,
        }
    }

    /// Why the whole failed, if it did: a client's own fault is none of the server's.
    fn error(&self, story: &Story, ended: &Ended) -> Option<String> {
        match (&self.asked, ended.how) {
            (Asked::Letter { .. }, _) => {
                if self.sends.last().is_some_and(|send| send.ended.is_none()) {
                    return Some("cancelled".to_owned());
                }
                let last = story.attempts.last();
                let bad = last.filter(|line| line.outcome != SUCCESS);
                let broke = || self.broke.map(|broke| broke.as_str().to_owned());
                bad.map(|line| line.reason.unwrap_or(line.outcome).to_owned()).or_else(broke)
            }
            (_, "complete") if ended.status < 500 => None,
            (_, "complete") => {
                Some(ended.reason.map_or_else(|| ended.status.to_string(), |reason| reason.to_string()))
            }
            (_, how) => {
                let why = ended.reason.or_else(|| cut(story).and_then(|(reason, _)| reason));
                Some(why.map_or(how, |reason| reason.as_str()).to_owned())
            }
        }
    }

    /// Why the answer that was passed on is no good behind its head, if it is not.
    fn broke(&self, story: &Story, ended: &Ended) -> Option<&'static str> {
        match (&self.asked, ended.how) {
            (Asked::Letter { .. }, _) => self.broke.map(Broke::as_str),
            (_, "complete") => None,
            (_, how) => Some(cut(story).and_then(|(reason, _)| reason).map_or(how, |reason| reason.as_str())),
        }
    }

    fn attempt(
        &self,
        (number, send): (usize, &Send),
        story: &Story,
        ended: &Ended,
        clock: &Clock,
        now: Instant,
    ) -> Span {
        let last = number + 1 == self.sends.len();
        let relayed = self.relayed && last;
        let line = story.attempts.get(number).filter(|_| send.ended.is_some());
        let mut about = Attributes::default();
        about.method(&story.method);
        let endpoints = send.plan.upstream().endpoints();
        let endpoint = send.endpoint.and_then(|at| endpoints.get(at)).or_else(|| endpoints.first());
        if let Some(endpoint) = endpoint {
            about.text("url.scheme", endpoint.url.scheme().as_str());
            about.host(endpoint.url.authority().as_str(), endpoint.url.scheme() == Scheme::Https);
        }
        about.text("network.protocol.version", send.version.unwrap_or_default());
        if number > 0 {
            about.int("http.request.resend_count", number);
        }
        about.text("fender.upstream", send.plan.upstream_name());
        let broke = if relayed { self.broke(story, ended) } else { None };
        let error = about.ended(line, broke);
        about.text("error.type", error.as_deref().unwrap_or_default());
        if let Some(call) = &send.call {
            about.text("gen_ai.provider.name", &call.provider);
            about.text("gen_ai.operation.name", &call.operation);
            about.text("gen_ai.request.model", call.model.as_deref().unwrap_or_default());
        }
        if let Some(told) = self.listener.as_ref().filter(|_| relayed).map(Listener::told) {
            about.text("gen_ai.response.model", told.model.as_deref().unwrap_or_default());
            let tokens = [
                ("gen_ai.usage.input_tokens", told.input()),
                ("gen_ai.usage.cache_read.input_tokens", told.cache_read_tokens),
                ("gen_ai.usage.cache_creation.input_tokens", told.cache_creation_tokens),
                ("gen_ai.usage.output_tokens", told.output()),
                ("gen_ai.usage.reasoning.output_tokens", told.reasoning_tokens),
            ];
            for (name, tokens) in tokens {
                tokens.into_iter().for_each(|tokens| about.int(name, tokens));
            }
        }
        let why = line
            .and_then(|line| line.error.clone())
            .or_else(|| cut(story).filter(|_| broke.is_some()).map(|(_, error)| error.to_owned()));
        Span {
            context: self.context.sampled(send.span),
            parent: Some((self.context.span, false)),
            kind: Kind::Client,
            name: known(&story.method).unwrap_or("HTTP").to_owned(),
            began: clock.at(send.began),
            ended: clock.at(send.ended.filter(|_| !relayed).unwrap_or(now)),
            attributes: about.0,
            events: Vec::new(),
            events_left_out: 0,
            link: None,
            error: error.map(|error| brief(&why.unwrap_or(error)).into()),
        }
    }
}

const SUCCESS: &str = "success";

/// How the answer broke off, if it did.
fn cut(story: &Story) -> Option<(Option<Reason>, &str)> {
    story.steps.iter().rev().find_map(|step| match &step.fact {
        Fact::Cut { reason, error, .. } => Some((*reason, &**error)),
        _ => None,
    })
}

impl Broke {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Off(reason) => reason.as_str(),
            Self::Failed => "failed",
            Self::Unread => "cancelled",
        }
    }

    /// As the end of an answer is called that goes to a client.
    const fn how(self) -> &'static str {
        match self {
            Self::Off(_) => "cut",
            Self::Failed | Self::Unread => self.as_str(),
        }
    }
}

/// Moments of one request in nanoseconds since 1970: what lies between them is measured, whatever becomes of the wall clock.
struct Clock {
    began: Instant,
    unix_ns: u64,
}

impl Clock {
    fn at(&self, moment: Instant) -> u64 {
        self.after(moment.saturating_duration_since(self.began))
    }

    fn after(&self, since: Duration) -> u64 {
        self.unix_ns.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[derive(Default)]
struct Attributes(Vec<(Cow<'static, str>, Value)>);

impl Attributes {
    /// What is empty says nothing.
    fn text(&mut self, name: &'static str, text: &str) {
        if !text.is_empty() {
            self.0.push((Cow::Borrowed(name), Value::text(text)));
        }
    }

    fn int(&mut self, name: &'static str, number: impl TryInto<i64>) {
        self.0.push((Cow::Borrowed(name), Value::int(number)));
    }

    fn method(&mut self, method: &str) {
        self.text("http.request.method", known(method).unwrap_or("_OTHER"));
        if known(method).is_none() {
            self.text("http.request.method_original", method);
        }
    }

    /// Host and port, the scheme's own where none is written.
    fn host(&mut self, authority: &str, secure: bool) {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, port.parse().ok())
            }
            _ => (authority, None),
        };
        self.text("server.address", host.trim_start_matches('[').trim_end_matches(']'));
        if !host.is_empty() {
            self.int("server.port", port.unwrap_or(if secure { 443_u16 } else { 80 }));
        }
    }

    /// How an attempt ended; its `error.type`, if it failed. Of an answer that `broke` it is not said that its head was good.
    fn ended(&mut self, line: Option<&AttemptLine>, broke: Option<&str>) -> Option<String> {
        let Some(line) = line else { return Some("cancelled".to_owned()) };
        if let Some(status) = line.status {
            self.int("http.response.status_code", status);
        }
        if line.outcome != SUCCESS || broke.is_none() {
            self.text("fender.outcome", line.outcome);
        }
        self.text("fender.verdict", line.verdict.unwrap_or_default());
        self.text("fender.reason", line.reason.unwrap_or_default());
        if line.stale_connection {
            self.0.push((Cow::Borrowed("fender.stale_connection"), Value::Bool(true)));
        }
        let status = line.status.filter(|status| *status >= 400).map(|status| status.to_string());
        let failed = || (line.outcome != SUCCESS).then(|| line.outcome.to_owned());
        line.reason.map(str::to_owned).or(status).or_else(|| broke.map(str::to_owned)).or_else(failed)
    }

    /// A story's figures, nested ones with their names joined.
    fn figures(&mut self, before: &str, figures: &serde_json::Map<String, serde_json::Value>) {
        for (name, value) in figures {
            let name = format!("{before}.{name}");
            let value = match value {
                serde_json::Value::String(text) => Value::text(text),
                serde_json::Value::Bool(flag) => Value::Bool(*flag),
                serde_json::Value::Object(below) => {
                    self.figures(&name, below);
                    continue;
                }
                other => match (other.as_i64(), other.as_f64()) {
                    (Some(number), _) => Value::Int(number),
                    (None, Some(number)) => Value::Float(number),
                    (None, None) => continue,
                },
            };
            self.0.push((Cow::Owned(name), value));
        }
    }
}

/// A method that HTTP knows.
fn known(method: &str) -> Option<&str> {
    const ALL: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    ALL.contains(&method).then_some(method)
}
