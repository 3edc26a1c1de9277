//! One client connection: TLS, the choice of HTTP/1.1 or HTTP/2, and a call of the proxy for each request.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{self, Frames};
use super::guard::{Guard, Limits, Resettable};
use super::lent::Owner;
use super::listen::Door;
use super::tls::Acceptor;
use crate::drain::Phase;
use crate::policy::blame::ClientFault;
use crate::proxy::body::{Body, Cut};
use crate::proxy::failure::Failure;
use crate::proxy::id::RequestId;
use crate::proxy::wire::Wire;
use crate::proxy::{Client, Proxy};
use crate::telemetry::events::{Panicked, emit};

/// Opens an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// What the library holds of an HTTP/1.1 connection beside the largest head: a head that is just within bounds has the
/// beginning of its body behind it.
const HEAD_SLACK: usize = 16 * 1024;

/// What waits in one HTTP/2 stream for a client that takes it slowly. The library's own bound, 400 KiB, would be a hundred
/// megabytes for one client with great windows and many streams.
const SEND_BUFFER: usize = 64 * 1024;

/// An HTTP/2 client that vanished without a word is noticed after this twice.
const PING: Duration = Duration::from_secs(45);

/// Of more HTTP/1.1 connections than this the library lets go of those that rest. To take one up again costs a twentieth of a
/// request; not to let go costs some 12 KiB for each.
const MANY: usize = 256;

/// A client that has left gets this long to take the end of its connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the requests of one connection share.
struct Connection {
    proxy: Arc<Proxy>,
    client: Arc<Client>,
    /// Requests that the HTTP/1.1 library has handed over.
    number: AtomicU64,
    /// It came when there were too many connections: its requests are refused for as long as there are.
    over: bool,
    open: Arc<AtomicUsize>,
    open_max: usize,
}

impl Connection {
    /// The same, with no request yet.
    fn again(&self) -> Self {
        Self {
            proxy: Arc::clone(&self.proxy),
            client: Arc::clone(&self.client),
            number: AtomicU64::new(0),
            over: self.over,
            open: Arc::clone(&self.open),
            open_max: self.open_max,
        }
    }

    fn is_one_of_many(&self) -> bool {
        self.open.load(Ordering::Relaxed) > MANY
    }
}

/// Serves one connection to its end.
pub async fn serve(door: &Door, stream: TcpStream, peer: SocketAddr, worker: usize, over: bool) {
    let server = door.proxy.server.load_full();
    let limits = Limits {
        head_bytes_max: usize::try_from(server.max_header_bytes).unwrap_or(usize::MAX),
        head_timeout: server.header_timeout,
    };
    let connection = |secure| Connection {
        proxy: Arc::clone(&door.proxy),
        client: Arc::new(Client::new(peer, secure, worker)),
        number: AtomicU64::new(0),
        over,
        open: Arc::clone(&door.connections),
        open_max: door.connections_max,
    };
    match &door.tls {
        None => http(stream, connection(false), limits, false).await,
        // Boxed: plain connections need not be as large.
        Some(tls) => Box::pin(shake_hands(tls, stream, connection(true), limits)).await,
    }
}

async fn shake_hands(tls: &Acceptor, stream: TcpStream, connection: Connection, limits: Limits) {
    let peer = connection.client.peer;
    match tokio::time::timeout(limits.head_timeout, tls.accept(stream)).await {
        Ok(Ok((stream, http2))) => Box::pin(http(stream, connection, limits, http2)).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

async fn http<S>(mut stream: S, connection: Connection, limits: Limits, http2: bool)
where
    S: AsyncRead + AsyncWrite + Resettable + Unpin + Send + 'static,
{
    let peer = connection.client.peer;
    let mut read_ahead = BytesMut::new();
    let prior_knowledge = async {
        while read_ahead.len() < PREFACE.len() && PREFACE.starts_with(&read_ahead) {
            if stream.read_buf(&mut read_ahead).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(read_ahead.starts_with(PREFACE))
    };
    let http2 =
        if http2 { Ok(Ok(true)) } else { tokio::time::timeout(limits.head_timeout, prior_knowledge).await };
    let served = match http2 {
        // Boxed: HTTP/1.1 connections, of which there are many, need not be as large.
        Ok(Ok(true)) => {
            let frames = Frames::new(stream, read_ahead, limits.head_timeout)
                .counted(connection.proxy.drain.clone(), connection.client.worker);
            Box::pin(serve_http2(frames, connection, limits)).await;
            Ok(())
        }
        Ok(Ok(false)) => serve_http1(stream, read_ahead, connection, limits).await,
        // What came began as HTTP/2 would, and is the beginning of a slow head all the same.
        Err(_) if !read_ahead.is_empty() => {
            let out_of_time = Limits { head_timeout: Duration::ZERO, ..limits };
            serve_http1(stream, read_ahead, connection, out_of_time).await
        }
        Ok(Err(_)) | Err(_) => Ok(()), // The client left, or said nothing in time.
    };
    if let Err(error) = served {
        tracing::debug!(%peer, error = %crate::proxy::chain(&error), "client connection ended");
    }
}

/// HTTP/1.1, to the connection's end.
async fn serve_http1<S>(
    mut stream: S,
    mut read_ahead: BytesMut,
    mut connection: Connection,
    limits: Limits,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Resettable + Unpin + Send + 'static,
{
    loop {
        let (owner, lent) = Owner::lends(stream);
        let (guard, wire) = Guard::new(lent, read_ahead, limits);
        Arc::make_mut(&mut connection.client).wire = Some(Arc::clone(&wire));
        let guard = guard.counted(connection.proxy.drain.clone(), connection.client.worker);
        let (served_by, its_wire) = (Arc::new(connection.again()), Arc::clone(&wire));
        let service = service_fn(move |request: Request<Incoming>| {
            let number = served_by.number.fetch_add(1, Ordering::Relaxed) + 1;
            let refused = its_wire.refused(number);
            its_wire.request_came(number, request.version() == Version::HTTP_11);
            answer(Arc::clone(&served_by), request, refused, Some(Answered(Arc::clone(&its_wire))))
        });
        // On the heap: a connection that rests need not be as large.
        let serving = http1_builder(limits).serve_connection(TokioIo::new(guard), service).with_upgrades();
        let mut serving = Box::pin(serving);
        let served = poll_fn(|cx| {
            let polled = serving.as_mut().poll(cx);
            if polled.is_pending() && wire.rests() && connection.is_one_of_many() {
                owner.wants();
                serving.as_mut().graceful_shutdown(); // It has nothing in hand: it ends at once.
                let ended = serving.as_mut().poll(cx);
                if ended.is_pending() {
                    owner.wants_no_more(); // Whatever it still had to do: the connection ends behind that, as any that is shut down.
                }
                return ended;
            }
            polled
        });
        let served = served.await;
        drop(serving);
        let Some(rested) = owner.take() else { return served };
        stream = rested;
        read_ahead = BytesMut::new();
        match stream.read_buf(&mut read_ahead).await {
            Ok(0) => {
                // The client left: under TLS it is told that nothing was cut.
                tokio::time::timeout(FAREWELL, stream.shutdown()).await.ok();
                return served;
            }
            Ok(_) => {}
            Err(_) => return served,
        }
    }
}

fn http1_builder(limits: Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes_max.saturating_add(HEAD_SLACK));
    builder
}

async fn serve_http2<S>(stream: Frames<S>, connection: Connection, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut phase = connection.proxy.drain.watch();
    let peer = connection.client.peer;
    let began_serving = connection.proxy.drain.phase() == Phase::Serving;
    let connection = Arc::new(connection);
    let head_bytes_max = limits.head_bytes_max;
    let service = service_fn(move |request| {
        let fits = frames::fits(&request, head_bytes_max);
        answer(Arc::clone(&connection), request, (!fits).then_some(ClientFault::HeadTooLarge), None)
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(frames::list_bytes_max(limits.head_bytes_max));
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut leaving = false;
    loop {
        let next = if leaving || !began_serving { Phase::Cut } else { Phase::Draining };
        tokio::select! {
            served = &mut serving => {
                if let Err(error) = served {
                    tracing::debug!(%peer, error = %crate::proxy::chain(&error), "client connection ended");
                }
                return;
            }
            _ = phase.wait_for(|phase| *phase >= next) => {
                if next == Phase::Cut {
                    return;
                }
                leaving = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// `refused`: why the request's head is not to be heeded. `answered` is told of the answer's end.
async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
    refused: Option<ClientFault>,
    answered: Option<Answered>,
) -> Result<Response<Followed>, Broken> {
    let followed = |answer: Response<Body>| answer.map(|body| Followed { body, _answered: answered });
    if let Some(fault) = refused {
        return Ok(followed(connection.proxy.refuse(&RequestId::default(), &Failure::Client(fault))));
    }
    if connection.over && connection.open.load(Ordering::Relaxed) > connection.open_max {
        let mut answer = connection
            .proxy
            .refuse(&RequestId::default(), &Failure::Overload("server.max_connections is reached"));
        if connection.client.wire.is_some() {
            answer.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        return Ok(followed(answer));
    }
    // Boxed: the library keeps room for this future as long as the connection is open, though it may rest most of the time.
    let mut handled = Box::pin(connection.proxy.handle(request, &connection.client));
    let answer = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handled.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => {
            let what = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            emit(&Panicked { what: what.unwrap_or("no message"), request_id: None });
            Poll::Ready(Err(Broken))
        }
    });
    answer.await.map(followed)
}

/// A defect of Fender's own broke the request off: its connection (HTTP/1.1) or stream (HTTP/2) is cut.
#[derive(Debug, thiserror::Error)]
#[error("broken off by a panic")]
struct Broken;

/// A response's body; under HTTP/1.1 the connection is told of its end.
struct Followed {
    body: Body,
    _answered: Option<Answered>,
}

struct Answered(Arc<Wire>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.request_done();
    }
}

impl hyper::body::Body for Followed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Resettable for TcpStream {
    fn reset_on_close(&self) {
        // Where the option cannot be set the connection ends without a reset: nothing better can be done.
        if let Err(error) = SockRef::from(self).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "reset on close");
        }
    }

    fn is_broken(&self) -> bool {
        !matches!(SockRef::from(self).take_error(), Ok(None))
    }
}
