//! The page: what happens to a request, from top to bottom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header::{CONNECTION, EXPECT, HOST, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::Body;
use super::client::Client;
use super::exchange::Exchange;
use super::failure::Failure;
use super::finish::{Finish, Record, milliseconds};
use super::id::RequestId;
use super::{finish, patience, respond, target};
use crate::clock;
use crate::config;
use crate::drain::{Drain, Phase};
use crate::memory::Memory;
use crate::policy::blame::ClientFault;
use crate::policy::outcome::Outcome;
use crate::route::{Plan, Table};
use crate::telemetry::access::AttemptLine;
use crate::telemetry::events::{AttemptFailed, emit};
use crate::telemetry::metrics::Source;
use crate::upstream::upload::{Bounds, Upload};
use crate::upstream::{Fault, Reply};

/// What all requests share.
#[derive(Debug)]
pub struct Proxy {
    /// The routes in force; a reload swaps them whole.
    pub table: Arc<ArcSwap<Table>>,
    /// `[server]` as in force.
    pub server: ArcSwap<config::Server>,
    /// The bound over all that is retained.
    pub memory: Arc<Memory>,
    /// Where the process stands on its way to its end.
    pub drain: Drain,
}

impl Proxy {
    /// Answers one request. The answer's body ends the exchange; dropping the future or the body cancels it upstream.
    pub async fn handle(&self, request: Request<Incoming>, client: &Client) -> Response<Body> {
        let id = RequestId::new();
        let asked_to_switch = request.headers().contains_key(UPGRADE);
        let logged = self.table.load().access_log();
        let asked = logged.then(|| (request.method().to_string(), request.uri().path().to_owned()));
        let mut answer = match self.open(id.clone(), request, client) {
            Ok(mut exchange) => {
                let delivered = self.deliver(&mut exchange).await;
                exchange.commit();
                match delivered {
                    Ok(reply) => respond::relay(exchange, reply),
                    Err(failure) => respond::failed(exchange, &failure),
                }
            }
            Err(failure) => self.refuse_noted(&id, &failure, asked),
        };
        self.finish_head(&mut answer, client, asked_to_switch);
        answer
    }

    /// Answers what never became a request: a refused head, or one connection too many.
    #[must_use]
    pub fn refuse(&self, id: &RequestId, failure: &Failure) -> Response<Body> {
        let asked = self.table.load().access_log().then(Default::default);
        self.refuse_noted(id, failure, asked)
    }

    /// `asked`: method and path for the access log, if there is one and a request.
    fn refuse_noted(
        &self,
        id: &RequestId,
        failure: &Failure,
        asked: Option<(String, String)>,
    ) -> Response<Body> {
        let answer = respond::refused(id, failure, None);
        if let Some((method, path)) = asked {
            finish::log_refused(id, failure.reason(), answer.status().as_u16(), &method, &path);
        }
        self.table.load().unrouted().answered(answer.status().as_u16(), Source::Fender, Duration::ZERO);
        answer
    }

    /// What the client's connection has to know beside the answer.
    fn finish_head(&self, answer: &mut Response<Body>, client: &Client, asked_to_switch: bool) {
        let Some(wire) = &client.wire else { return };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if asked_to_switch {
            wire.stays_http();
        }
        if self.drain.phase() != Phase::Serving {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Finds the plan and checks the bounds that the head alone can break.
    fn open<'a>(
        &self,
        id: RequestId,
        request: Request<Incoming>,
        client: &'a Client,
    ) -> Result<Exchange<'a>, Failure> {
        let started = clock::now();
        let server = self.server.load();
        let table = self.table.load();
        let switch = switch_of(&request);
        let (mut head, body) = request.into_parts();
        let host = head.uri.authority().map(|authority| authority.as_str().to_owned());
        if let Some(host) = host.as_deref().and_then(|host| HeaderValue::try_from(host).ok()) {
            head.headers.insert(HOST, host); // A target in absolute form beats the field (RFC 9112 section 3.2.2).
        }
        let path = target::resolve(head.uri.path());
        let plan = table.plan_for(host_of(&head), &path, &head.method).ok_or(Failure::NoRoute)?;
        let trusted = client.trusted(server.trust_client_headers);
        let impatient = trusted && head.headers.keys().any(patience::concerns);
        let told = if impatient { patience::told(&head.headers)? } else { None };
        let total = plan.settings().timeout.total;
        let prefix = plan.route().strip_prefix.then_some(plan.route().path.as_str());
        let target = target::outgoing(&head.uri, &path, prefix).ok_or(MALFORMED_TARGET)?;
        let upload = self.upload(&server, plan, &head, body, client)?;
        let record = table.access_log().then(|| {
            let (method, path) = (head.method.to_string(), path.to_string());
            Box::new(Record { method, path, attempts: Vec::new(), upload: upload.clone() })
        });
        let mut finish = Box::new(Finish::new(
            id.clone(),
            Arc::clone(plan),
            started,
            record,
            self.drain.enter(client.worker),
        ));
        if let Some(wire) = &client.wire {
            wire.begins(plan.settings().timeout.idle);
            if head.version == Version::HTTP_10 {
                finish.shows_cut_by_reset(wire);
            }
        }
        Ok(Exchange {
            id,
            plan: Arc::clone(plan),
            client,
            trusted,
            method: head.method,
            version: head.version,
            headers: head.headers,
            target,
            upload,
            switch,
            started,
            deadline: started + told.map_or(total, |told| total.min(told)),
            decided: started,
            attempts: 0,
            finish,
        })
    }

    fn upload(
        &self,
        server: &config::Server,
        plan: &Plan,
        head: &request::Parts,
        body: Incoming,
        client: &Client,
    ) -> Result<Option<Upload>, Failure> {
        if body.is_end_stream() {
            return Ok(None);
        }
        let max = server.max_request_body;
        if max.is_some_and(|max| body.size_hint().lower() > max) {
            return Err(Failure::Client(ClientFault::BodyTooLarge));
        }
        let settings = plan.settings();
        let idle = server.body_idle_timeout.min(settings.timeout.idle);
        let bounds =
            Bounds { idle, max, retain_max: settings.retry.max_body, spare: client.upload_timer.clone() };
        let expects = head.version == Version::HTTP_11
            && head
                .headers
                .get(EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Ok(Some(Upload::new(body, bounds, self.memory.lease(), expects)))
    }

    /// Attempts, until one brings a response or no further one may be made.
    async fn deliver(&self, exchange: &mut Exchange<'_>) -> Result<Reply, Failure> {
        let mut fresh = false;
        loop {
            let fault = match self.attempt(exchange, fresh).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            if let Some(fault) = exchange.upload.as_ref().and_then(Upload::fault) {
                return Err(Failure::Client(fault)); // The client's side failed first.
            }
            let again = fault.stale
                && !fresh
                && exchange.repeatable().permits_resend(fault.verdict)
                && exchange.replayable();
            emit(&AttemptFailed {
                request_id: exchange.id.as_str(),
                upstream: exchange.plan.upstream_name(),
                reason: fault.reason.as_str(),
                verdict: fault.verdict.as_str(),
                error: &fault.detail,
                again,
            });
            if !again {
                return Err(Failure::Upstream(fault));
            }
            exchange.plan.upstream_metrics().stale_connection();
            fresh = true; // A stale connection is replaced once, outside of all retries.
        }
    }

    /// One send. `fresh`: not over a connection that has served before.
    async fn attempt(&self, exchange: &mut Exchange<'_>, fresh: bool) -> Result<Reply, Fault> {
        let begun = if exchange.attempts == 0 { exchange.started } else { clock::now() };
        exchange.attempts += u32::from(!fresh);
        let deadline = exchange.deadline.min(begun + exchange.plan.settings().timeout.attempt);
        let plan = Arc::clone(&exchange.plan);
        let mut pending = PendingAttempt { plan: &plan, begun, settled: false };
        let sent = plan
            .upstream()
            .send(exchange.client.worker, exchange.outgoing(begun), fresh, deadline.into())
            .await;
        let outcome = match &sent {
            Ok(reply) => Outcome::of_status(reply.response.status().as_u16()),
            Err(_) => match exchange.upload.as_ref().and_then(Upload::fault) {
                Some(ClientFault::Gone) => Outcome::Cancelled,
                Some(_) => Outcome::Permanent, // The client's own fault.
                None => Outcome::Transient,
            },
        };
        let now = clock::now();
        pending.settle(outcome, now);
        exchange.decided = now;
        if let Some(record) = exchange.finish.record() {
            record.attempts.push(attempt_line(&sent, outcome, now.saturating_duration_since(begun)));
        }
        sent
    }
}

const MALFORMED_TARGET: Failure = Failure::Client(ClientFault::Bad("the request target is malformed"));

/// An attempt whose end is counted, whatever it is: dropped unsettled, it was cancelled.
struct PendingAttempt<'a> {
    plan: &'a Plan,
    begun: Instant,
    settled: bool,
}

impl PendingAttempt<'_> {
    fn settle(&mut self, outcome: Outcome, now: Instant) {
        self.settled = true;
        self.plan.upstream_metrics().attempt(outcome, now.saturating_duration_since(self.begun));
    }
}

impl Drop for PendingAttempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Outcome::Cancelled, clock::now());
        }
    }
}

fn attempt_line(sent: &Result<Reply, Fault>, outcome: Outcome, took: Duration) -> AttemptLine {
    let fault = sent.as_ref().err();
    AttemptLine {
        outcome: outcome.as_str(),
        status: sent.as_ref().ok().map(|reply| reply.response.status().as_u16()),
        reason: fault.map(|fault| fault.reason.as_str()),
        verdict: fault.map(|fault| fault.verdict.as_str()),
        error: fault.map(|fault| fault.detail.clone()),
        duration_ms: milliseconds(took),
        stale_connection: fault.is_some_and(|fault| fault.stale),
    }
}

/// The client's side of a protocol switch, if it asks for one that is passed on: HTTP/2 by upgrade is not (RFC 9113 has
/// withdrawn it), prior knowledge or ALPN lead there.
fn switch_of(request: &Request<Incoming>) -> Option<hyper::upgrade::OnUpgrade> {
    if request.version() != Version::HTTP_11 {
        return None;
    }
    let protocol = request.headers().get(UPGRADE)?;
    let tokens = request
        .headers()
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let asked = tokens.into_iter().any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    let http2 = protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c");
    (asked && !http2).then(|| request.extensions().get::<hyper::upgrade::OnUpgrade>().cloned()).flatten()
}

/// The host that the request names, without its port.
fn host_of(head: &request::Parts) -> Option<&str> {
    let host = head.headers.get(HOST)?.to_str().ok()?;
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
        _ => Some(host),
    }
}
