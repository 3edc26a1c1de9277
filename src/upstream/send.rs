//! One attempt: an endpoint, a connection, the request out, the response's head in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::cell::Upstream;
use super::connect::{self, Http1, Speak};
use super::endpoint::{Busy, Endpoint, choose};
use super::fault::Fault;
use super::pool::{Loan, Open, Pool, Taken};
use super::upload::UploadBody;
use crate::clock;
use crate::config::HttpVersion;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

/// Is told of each interim response (1xx) but 100 and 101.
pub trait Interims: Send + Sync {
    /// One came.
    fn interim(&self, status: StatusCode, headers: &HeaderMap);
}

/// A request as it is to be sent; `host` is the upstream's to set, unless it is there.
#[expect(clippy::struct_excessive_bools, reason = "independent properties of one request")]
pub struct Outgoing {
    pub method: Method,
    /// Path and query behind the endpoint's base path; begins with a slash.
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    /// There is a `host` among them, by `headers.set`.
    pub own_host: bool,
    /// How long a connection may take to open.
    pub connect: Duration,
    pub body: UploadBody,
    /// It may be sent again if the connection proves to be stale.
    pub repeatable: bool,
    /// The request asks for another protocol: it needs a connection of its own.
    pub upgrade: bool,
    /// gRPC needs HTTP/2 even where the config leaves the choice open.
    pub grpc: bool,
    /// The client may have split its cookie over several fields: it speaks HTTP/2.
    pub split_cookies: bool,
    /// The body waits for "100 Continue".
    pub expects: bool,
    pub interims: Option<Arc<dyn Interims>>,
}

/// Which connection will do.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    speak: Speak,
    /// Not one that has served before.
    fresh: bool,
    /// Surely not a stale one.
    careful: bool,
    /// Opened within this time.
    connect: Duration,
}

/// A response whose head has come.
#[derive(Debug)]
pub struct Reply {
    pub response: Response<Incoming>,
    pub loan: Loan,
}

impl Reply {
    /// Reads the body for nothing but to have the connection again: no more than `max` bytes of it, no longer than `until`.
    pub async fn drain(self, max: u64, until: std::time::Instant) {
        let Self { mut response, loan } = self;
        let mut read = 0;
        let whole = async {
            while let Some(frame) = response.body_mut().frame().await {
                read += frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
                if read > max {
                    return None;
                }
            }
            Some(())
        };
        if timeout_at(until.into(), whole).await.ok().flatten().is_some() {
            loan.give_back(clock::now());
        }
    }
}

impl Upstream {
    /// Sends a request from `worker`, `now`, and waits for the response's head until `deadline`. An endpoint that cannot be
    /// connected to is passed over for the next one, each once. `fresh`: not over a connection that has served before.
    ///
    /// # Errors
    /// See [`Fault`]: it tells also what the attempt did upstream.
    pub async fn send(
        self: &Arc<Self>,
        worker: usize,
        outgoing: Outgoing,
        fresh: bool,
        (mut now, deadline): (std::time::Instant, Instant),
    ) -> Result<Box<Reply>, Fault> {
        let mut passed_over = Vec::new();
        loop {
            let at = choose(self.endpoints(), &passed_over, now, |sides| fastrand::usize(..sides));
            let Some(endpoint) = self.endpoints().get(at) else {
                return Err(Fault::never_sent(Reason::Connect, "the upstream has no endpoint"));
            };
            let speak = self.speak(endpoint, &outgoing);
            match self
                .connection(
                    worker,
                    at,
                    endpoint,
                    Wanted { speak, fresh, careful: !outgoing.repeatable, connect: outgoing.connect },
                    (now, deadline),
                )
                .await
            {
                Ok((mut loan, reused)) => {
                    return match exchange(&mut loan, endpoint, outgoing, reused, deadline).await {
                        Ok(response) => Ok(Box::new(Reply { response, loan })), // It is handed on often: by its address.
                        Err(fault) => Err(Fault { endpoint: Some(at), ..fault }),
                    };
                }
                Err(fault)
                    if passed_over.len() + 1 >= self.endpoints().len() || fault.reason == Reason::Timeout =>
                {
                    return Err(Fault { endpoint: Some(at), ..fault });
                }
                Err(_) => {
                    passed_over.push(at);
                    now = clock::now();
                }
            }
        }
    }

    fn speak(&self, endpoint: &Endpoint, outgoing: &Outgoing) -> Speak {
        match self.settings().http {
            HttpVersion::One => Speak::Http1,
            HttpVersion::Two => Speak::Http2,
            HttpVersion::Auto if outgoing.upgrade => Speak::Http1,
            HttpVersion::Auto if endpoint.is_https() => Speak::Negotiate,
            HttpVersion::Auto if outgoing.grpc => Speak::Http2,
            HttpVersion::Auto => Speak::Http1,
        }
    }

    async fn connection(
        self: &Arc<Self>,
        worker: usize,
        at: usize,
        endpoint: &Arc<Endpoint>,
        wanted: Wanted,
        (now, deadline): (std::time::Instant, Instant),
    ) -> Result<(Loan, bool), Fault> {
        let Wanted { speak, fresh, careful, connect } = wanted;
        let Some(pool) = self.pool(worker) else {
            return Err(Fault::never_sent(Reason::Connect, "no such worker"));
        };
        // Where there is no choice, nobody asks how busy an endpoint is.
        let busy = (self.endpoints().len() > 1).then(|| Busy::at(endpoint));
        let idle_timeout = self.settings().pool.idle_timeout;
        if let Some(taken) = pool
            .take(at, endpoint, speak, idle_timeout, careful, now)
            .filter(|taken| !fresh || taken.shared())
        {
            return Ok((Loan::new(self, worker, at, taken, busy), true));
        }
        let connect_deadline = Instant::from_std(now) + connect;
        // Boxed: most requests find a connection, and none should carry the room for opening one.
        let opening = Box::pin(self.open(pool, at, endpoint, speak, deadline.min(connect_deadline)));
        let (taken, reused) = match opening.await {
            Err(fault) if Instant::from_std(clock::now()) >= deadline => {
                return Err(Fault { reason: Reason::Timeout, ..fault });
            }
            other => other?,
        };
        Ok((Loan::new(self, worker, at, taken, busy), reused))
    }

    async fn open(
        &self,
        pool: &Pool,
        at: usize,
        endpoint: &Endpoint,
        speak: Speak,
        deadline: Instant,
    ) -> Result<(Taken, bool), Fault> {
        let late = || Fault::never_sent(Reason::Connect, "no connection within timeout.connect");
        let gate = pool.gate(at, speak);
        let _turn = match &gate {
            Some(gate) => Some(timeout_at(deadline, gate.lock()).await.map_err(|_| late())?),
            None => None,
        };
        let shared = gate.as_ref().and_then(|_| {
            pool.take(at, endpoint, speak, Duration::MAX, false, clock::now())
                .or_else(|| pool.full(at, endpoint))
        });
        if let Some(taken) = shared {
            return Ok((taken, true));
        }
        let tls = self.tls(endpoint)?;
        let opened = connect::open(endpoint, tls, speak, deadline).await;
        endpoint.connected(opened.is_ok(), clock::now());
        self.metrics().connected(opened.as_ref().map(drop).map_err(|fault| fault.reason));
        let open = Open::count(self.open_connections());
        Ok((pool.opened(at, opened?, open), false))
    }
}

async fn exchange(
    loan: &mut Loan,
    endpoint: &Endpoint,
    outgoing: Outgoing,
    reused: bool,
    deadline: Instant,
) -> Result<Response<Incoming>, Fault> {
    let upgrade = outgoing.upgrade;
    let response = match loan.http2().map(super::pool::Http2::sender) {
        Some(mut sender) => {
            let request = http2_request(endpoint, outgoing)?;
            let sent = timeout_at(deadline, sender.try_send_request(request)).await;
            sent.map_err(|_| timed_out(true))?.map_err(|mut error| {
                let left = error.take_message().is_none();
                Fault::of_stream(error.error(), left, reused)
            })?
        }
        None => {
            let Some(connection) = loan.http1() else {
                return Err(Fault::never_sent(Reason::Connect, "the connection is gone"));
            };
            let request = http1_request(endpoint, outgoing)?;
            let mark = connection.meter.mark();
            let Http1 { sender, meter, alarm, .. } = connection;
            alarm.as_mut().reset(deadline);
            let sent = tokio::select! {
                biased;
                sent = sender.try_send_request(request) => sent,
                () = alarm.as_mut() => return Err(timed_out(meter.sent_since(mark))),
            };
            sent.map_err(|error| {
                Fault::of_exchange(
                    error.error(),
                    meter.sent_since(mark),
                    reused && !meter.received_since(mark),
                )
            })?
        }
    };
    sane(&response, upgrade)?;
    Ok(response)
}

fn timed_out(left: bool) -> Fault {
    let verdict = if left { Verdict::Ambiguous } else { Verdict::NeverSent };
    Fault::new(Reason::Timeout, verdict, "no response head in time")
}

/// What the HTTP library lets pass, but a careful proxy must not relay.
fn sane(response: &Response<Incoming>, upgrade: bool) -> Result<(), Fault> {
    let headers = response.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().peekable();
    let nonsense = if codings.peek().is_some() && headers.contains_key(CONTENT_LENGTH) {
        "both Content-Length and Transfer-Encoding in the response"
    } else if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        "a transfer coding other than chunked in the response"
    } else if response.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrade {
        "101 without having been asked"
    } else {
        return Ok(());
    };
    Err(Fault::new(Reason::Protocol, Verdict::Ambiguous, nonsense))
}

fn http1_request(endpoint: &Endpoint, outgoing: Outgoing) -> Result<Request<UploadBody>, Fault> {
    let target = join(endpoint.url.base_path(), &outgoing.target)?;
    let mut request = Request::new(outgoing.body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = outgoing.headers;
    if !outgoing.own_host {
        request.headers_mut().append(HOST, endpoint.host_header.clone());
    }
    if outgoing.split_cookies {
        join_cookies(request.headers_mut());
    }
    let gate = outgoing.expects.then(|| request.body().gate()).flatten();
    if gate.is_some() || outgoing.interims.is_some() {
        let interims = outgoing.interims;
        hyper::ext::on_informational(&mut request, move |interim| {
            match (interim.status().as_u16(), &gate, &interims) {
                (100, Some(gate), _) => gate.proceed(),
                (102..=199, _, Some(interims)) => interims.interim(interim.status(), interim.headers()),
                _ => {}
            }
        });
    }
    Ok(request)
}

fn http2_request(endpoint: &Endpoint, outgoing: Outgoing) -> Result<Request<UploadBody>, Fault> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if endpoint.is_https() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    parts.authority = Some(match outgoing.headers.get(HOST) {
        None => endpoint.url.authority().clone(),
        Some(set) => Authority::try_from(set.as_bytes()).map_err(|error| unsendable(&error))?, // By headers.set.
    });
    parts.path_and_query = Some(join(endpoint.url.base_path(), &outgoing.target)?);
    let uri = Uri::from_parts(parts).map_err(|error| unsendable(&error))?;
    let mut request = Request::new(outgoing.body);
    *request.method_mut() = outgoing.method;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = outgoing.headers;
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(http::header::UPGRADE);
    request.headers_mut().remove(http::header::CONNECTION);
    if request.headers_mut().remove(http::header::EXPECT).is_some()
        && let Some(gate) = request.body().gate()
    {
        gate.proceed(); // The library tells nothing of interim responses here: the body does not wait for one.
    }
    Ok(request)
}

fn join(base: &str, target: &PathAndQuery) -> Result<PathAndQuery, Fault> {
    if base.is_empty() {
        return Ok(target.clone());
    }
    PathAndQuery::from_maybe_shared(Bytes::from(format!("{base}{target}")))
        .map_err(|error| unsendable(&error))
}

fn unsendable(error: &dyn std::error::Error) -> Fault {
    Fault::never_sent(Reason::Protocol, format!("the request's target or host cannot be sent: {error}"))
}

/// HTTP/2 clients may split a cookie over several fields; HTTP/1.1 knows one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}
