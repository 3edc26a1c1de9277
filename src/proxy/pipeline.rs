//! The page: what happens to a request, from top to bottom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::{CONNECTION, EXPECT, HOST, UPGRADE};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;

use super::attempts::{self, Spent};
use super::body::Body;
use super::capture::Letters;
use super::client::Client;
use super::exchange::{Exchange, Origin};
use super::failure::Failure;
use super::fallback::{self, Delivered};
use super::finish::Finish;
use super::headers::Glance;
use super::id::RequestId;
use super::keys::Keys;
use super::notes::{Logged, Notes};
use super::patience::Said;
use super::refused::{self, Asked, TurnedAway};
use super::stale::Stale;
use super::traced::Trace;
use super::{capture, kept, respond, target};
use crate::clock;
use crate::config;
use crate::drain::{Drain, Phase};
use crate::memory::Memory;
use crate::policy::blame::ClientFault;
use crate::route::{Plan, Table};
use crate::telemetry::events::{Panicked, emit};
use crate::telemetry::feed::Feed;
use crate::telemetry::trace::Sampling;
use crate::upstream::Degradation;
use crate::upstream::upload::{Bounds, Upload};

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
    /// How sick the whole is.
    pub degradation: Arc<Degradation>,
    /// Who is told of what happens.
    pub feed: Arc<Feed>,
    /// Last good answers, for the routes that fall back to them.
    pub stale: Arc<Stale>,
    /// Where writes are kept, if some upstream's are.
    pub letters: Option<Letters>,
    /// Writes in flight that may be stored.
    pub keeping: Arc<AtomicUsize>,
}

impl Proxy {
    /// Answers one request. The answer's body ends the exchange; dropping the future or the body cancels it upstream.
    pub async fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: &Arc<Client>,
    ) -> Response<Body> {
        let glance = Glance::at(request.headers());
        let mut answer = match self.begin(request, glance, client) {
            Ok((exchange, tried_before)) if self.letters.is_some() && capture::keeps(&exchange) => {
                self.outlive(exchange, tried_before).await
            }
            Ok((exchange, tried_before)) => self.answer(exchange, tried_before).await,
            Err(refused) => *refused,
        };
        self.finish_head(&mut answer, client, glance.upgrade);
        answer
    }

    /// The exchange, and whether the client has tried before; or the answer to a request that is none of any route.
    fn begin(
        &self,
        request: Request<Incoming>,
        glance: Glance,
        client: &Arc<Client>,
    ) -> Result<(Box<Exchange>, bool), Box<Response<Body>>> {
        let now = clock::now();
        let id = RequestId::at(now);
        let table = self.table.load();
        let trace = table.sampling().and_then(|sampling| self.trace(sampling, &request, client, &id));
        match self.open((&id, now), &table, request, glance, client) {
            Ok(mut opened) => {
                if trace.is_some() {
                    opened.0.finish.trace = trace;
                }
                Ok(opened)
            }
            Err(turned_away) => Err(Box::new(turned_away.answer(self, &id, trace))),
        }
    }

    #[cold]
    fn trace(
        &self,
        sampling: &Sampling,
        request: &Request<Incoming>,
        client: &Client,
        id: &RequestId,
    ) -> Option<Box<Trace>> {
        let trusted = client.trusted(self.server.load().trust_client_headers);
        let host = request.uri().authority().map(Authority::as_str);
        Trace::of_request(sampling, request.headers(), (request.version(), host), (client, trusted), id)
    }

    async fn answer(&self, mut exchange: Box<Exchange>, tried_before: bool) -> Response<Body> {
        let delivered = self.deliver(&mut exchange, tried_before).await;
        exchange.commit();
        match delivered {
            Ok(delivered) => respond::delivered(self, exchange, delivered),
            Err(spent) => {
                capture::note_unwanted(&exchange);
                respond::spent(self, exchange, *spent)
            }
        }
    }

    /// A write that may be captured runs on its own: the client may hang up, the attempt under way is finished all the same.
    async fn outlive(self: &Arc<Self>, mut exchange: Box<Exchange>, tried_before: bool) -> Response<Body> {
        let id = exchange.id.clone();
        let hung_up = Arc::<OnceLock<Instant>>::default();
        exchange.finish.kept_on(Arc::clone(&hung_up));
        let gone = Gone(Some(hung_up));
        exchange.trail = Some(Vec::new());
        let (proxy, keeping) = (Arc::clone(self), Keeping::one_more(&self.keeping));
        let running = tokio::spawn(async move {
            let answer = kept::answer(&proxy, exchange, tried_before).await;
            drop(keeping);
            answer
        });
        let answer = running.await;
        gone.stayed();
        answer.unwrap_or_else(|_| {
            emit(&Panicked { what: "in a write that may be stored", request_id: Some(id.as_str()) });
            self.refuse(&id, &Failure::Overload("a defect of Fender's ended this request"))
        })
    }

    /// Answers what never became a request: a refused head, or one connection too many.
    #[must_use]
    pub fn refuse(&self, id: &RequestId, failure: &Failure) -> Response<Body> {
        refused::answer(self, id, failure, &Asked::default(), None)
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
    fn open(
        &self,
        (id, started): (&RequestId, Instant),
        table: &Table,
        request: Request<Incoming>,
        glance: Glance,
        client: &Arc<Client>,
    ) -> Result<(Box<Exchange>, bool), TurnedAway> {
        let server = self.server.load();
        let switch = if glance.upgrade { switch_of(&request) } else { None };
        let (mut head, body) = request.into_parts();
        let host = head.uri.authority().map(|authority| authority.as_str().to_owned());
        if let Some(host) = host.as_deref().and_then(|host| HeaderValue::try_from(host).ok()) {
            head.headers.insert(HOST, host); // A target in absolute form beats the field (RFC 9112 section 3.2.2).
        }
        let path = target::resolve(head.uri.path());
        let found = table.plan_for(host_of(&head), &path, &head.method);
        let away = |failure| TurnedAway::new(failure, &head.method, &path, found);
        let plan = found.ok_or_else(|| away(Failure::NoRoute))?;
        let trusted = client.trusted(server.trust_client_headers);
        let said = if trusted && glance.tells {
            Said::by(&head.headers).map_err(|fault| away(fault.into()))?
        } else {
            Said::default()
        };
        let total = plan.settings().timeout.total;
        let prefix = plan.route().strip_prefix.then_some(plan.route().path.as_str());
        let target = target::outgoing(&head.uri, &path, prefix).ok_or_else(|| away(MALFORMED_TARGET))?;
        let expects = glance.expect && expects(&head);
        let upload = self.upload(&server, plan, body, expects, client).map_err(away)?;
        let logged = table.access_log().then(|| Box::new(Logged { upload: upload.clone() }));
        let notes = Notes::new(&head.method, &target, logged);
        let in_flight = self.drain.enter(client.worker);
        let mut finish = Box::new(Finish::new(id.clone(), Arc::clone(plan), started, notes, in_flight));
        begins(plan, head.version, client, &mut finish);
        let patience = said.timeout.map(|limit| started + limit);
        let exchange = Box::new(Exchange {
            id: id.clone(),
            plan: Arc::clone(plan),
            client: Arc::clone(client),
            trusted,
            method: head.method,
            version: head.version,
            headers: head.headers,
            glance,
            target,
            upload,
            switch,
            started,
            deadline: patience.map_or(started + total, |patience| patience.min(started + total)),
            decided: started,
            attempts: 0,
            leg_attempts: 0,
            patience,
            opted: said.opted,
            keys: Keys::default(),
            last: None,
            home_told: None,
            may_have_acted: false,
            trail: None,
            owned: None,
            origin: Origin::Client,
            turned: None,
            finish,
        });
        Ok((exchange, said.tried_before))
    }

    fn upload(
        &self,
        server: &config::Server,
        plan: &Plan,
        body: Incoming,
        expects: bool,
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
            Bounds { idle, max, retain_max: plan.retained_body_max(), spare: client.upload_timer.clone() };
        Ok(Some(Upload::new(body, bounds, self.memory.lease(), expects)))
    }

    /// The route's upstream, and where that brings no answer its fallbacks.
    pub(super) async fn deliver(
        &self,
        exchange: &mut Exchange,
        tried_before: bool,
    ) -> Result<Delivered, Box<Spent>> {
        let policies = exchange.plan.upstream().policies();
        if tried_before {
            policies.metrics().client_retry();
        } else {
            policies.paid(exchange.started);
        }
        if exchange.plan.keyed() {
            exchange.keys = fallback::keys(exchange).await;
        }
        match attempts::guarded(self, exchange).await {
            Ok(answered) => Ok(Delivered::Upstream(answered)),
            Err(spent) => fallback::rescue(self, exchange, spent).await,
        }
    }
}

const MALFORMED_TARGET: Failure = Failure::Client(ClientFault::Bad("the request target is malformed"));

/// Counts a write that may be stored until what becomes of it is settled.
struct Keeping(Arc<AtomicUsize>);

impl Keeping {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Notes when the client hangs up, if it does while its request runs on.
struct Gone(Option<Arc<OnceLock<Instant>>>);

impl Gone {
    fn stayed(mut self) {
        self.0 = None;
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(hung_up) = self.0.take() {
            let _first = hung_up.set(clock::now());
        }
    }
}

/// What the client's connection has to know before the answer.
fn begins(plan: &Plan, version: Version, client: &Client, finish: &mut Finish) {
    let Some(wire) = &client.wire else { return };
    wire.begins(plan.settings().timeout.idle);
    if version == Version::HTTP_10 {
        finish.shows_cut_by_reset(wire);
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

/// Whether the client waits with the body until it is asked for it.
fn expects(head: &request::Parts) -> bool {
    let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    head.version == Version::HTTP_11 && head.headers.get(EXPECT).is_some_and(asks)
}

/// The host that the request names, without its port.
fn host_of(head: &request::Parts) -> Option<&str> {
    let host = head.headers.get(HOST)?.to_str().ok()?;
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
        _ => Some(host),
    }
}
