//! Opens connections: addresses, TCP, TLS, and the choice of HTTP/1.1 or HTTP/2.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, timeout_at};

use super::endpoint::{Endpoint, Lead};
use super::fault::Fault;
use super::meter::{Meter, Metered};
use super::tls;
use super::upload::UploadBody;
use crate::policy::reason::Reason;

/// Each further address is tried this long after the one before it, if that has not answered by then (RFC 8305 section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses that are tried for one connection.
const ADDRESSES_MAX: usize = 8;

/// A dead peer is noticed after about a minute and a half.
const KEEPALIVE: Duration = Duration::from_secs(45);

/// What an HTTP/2 upstream may send ahead on one stream, and on all of a connection: one response that its client does not
/// read must not stop the others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// What an HTTP/1.1 connection reads ahead, and what waits there to be written; a response's head must fit too. The library's
/// own bound is 400 KiB, for each of many uploads that an upstream does not take.
const AHEAD_MAX: usize = 40 * 1024;

/// The same for the first [`ROOMY_MAX`] connections of the process: an answer of 64 KiB passes in one piece.
const ROOMY_AHEAD_MAX: usize = 72 * 1024;

/// So many connections read and write that much ahead; where there are more, memory counts for more than time.
const ROOMY_MAX: usize = 32;

static ROOMY: AtomicUsize = AtomicUsize::new(0);

/// One connection's leave to read further ahead, until it is dropped.
struct Roomy;

impl Roomy {
    fn take() -> Option<Self> {
        let more = |roomy| if roomy < ROOMY_MAX { Some(roomy + 1) } else { None };
        ROOMY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for Roomy {
    fn drop(&mut self) {
        ROOMY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Streams on a connection whose peer has not yet said how many it takes (RFC 9113 section 6.5.2 advises at least 100).
const STREAMS_UNTIL_TOLD: usize = 100;

/// Which HTTP a connection is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speak {
    Http1,
    Http2,
    /// Let TLS choose (ALPN); without TLS it is HTTP/1.1.
    Negotiate,
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub(super) enum Opened {
    Http1(Http1),
    /// With the streams that its peer takes at once.
    Http2(http2::SendRequest<UploadBody>, Arc<AtomicUsize>, Lead),
}

/// An HTTP/1.1 connection: one request at a time.
#[derive(Debug)]
pub struct Http1 {
    pub sender: http1::SendRequest<UploadBody>,
    pub meter: Arc<Meter>,
    pub socket: Peek,
    pub lead: Lead,
    /// The deadline of the request that runs. It lives as long as the connection, since to move a timer that is set costs
    /// less than to set and clear one for each request.
    pub alarm: Pin<Box<Sleep>>,
}

/// A second handle on a connection's socket, by which it is seen whether the peer has closed it.
#[derive(Debug)]
pub struct Peek(socket2::Socket);

impl Peek {
    fn of(stream: &TcpStream) -> std::io::Result<Self> {
        SockRef::from(stream).try_clone().map(Self)
    }

    /// Nothing has come and the peer has not closed: the connection can take a request.
    #[must_use]
    pub fn quiet(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        matches!(self.0.peek(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// Opens a connection to `endpoint` before `deadline`.
///
/// # Errors
/// The fault is `connect` or `tls`, and nothing was sent.
pub(super) async fn open(
    endpoint: &Endpoint,
    tls: Option<Arc<tls::Client>>,
    speak: Speak,
    deadline: Instant,
) -> Result<Opened, Fault> {
    let host = endpoint.url.host();
    let opened = timeout_at(deadline, async {
        let stream = dial(endpoint).await?;
        let Some(tls) = tls else { return plain(stream, speak).await };
        let peer = stream.peer_addr().map_err(|error| refused(host, &error))?;
        let peek = Peek::of(&stream).map_err(|error| refused(host, &error))?;
        let (stream, http2) = tls.connect(host, stream, speak).await?;
        handshake(stream, http2, peek, peer).await
    });
    opened.await.unwrap_or_else(|_| {
        Err(Fault::never_sent(Reason::Connect, format!("connect to {host}: not within timeout.connect")))
    })
}

async fn plain(stream: TcpStream, speak: Speak) -> Result<Opened, Fault> {
    let ends = stream.peer_addr().and_then(|peer| Ok((peer, Peek::of(&stream)?)));
    let (peer, peek) = ends.map_err(|error| Fault::never_sent(Reason::Connect, error.to_string()))?;
    handshake(stream, speak == Speak::Http2, peek, peer).await
}

async fn handshake<S>(stream: S, http2: bool, peek: Peek, peer: SocketAddr) -> Result<Opened, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, meter) = Metered::new(stream);
    let failed = |error: hyper::Error| Fault::never_sent(Reason::Connect, super::fault::chain(&error));
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let room = Arc::new(AtomicUsize::new(STREAMS_UNTIL_TOLD));
        let told = Arc::clone(&room);
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                if polled.is_pending() {
                    told.store(connection.current_max_send_streams(), Ordering::Relaxed);
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%peer, error = %super::fault::chain(&error), "upstream connection ended");
            }
        });
        return Ok(Opened::Http2(sender, room, Lead::to(peer)));
    }
    let mut builder = http1::Builder::new();
    let roomy = Roomy::take();
    builder.max_buf_size(if roomy.is_some() { ROOMY_AHEAD_MAX } else { AHEAD_MAX });
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        let _roomy = roomy;
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%peer, error = %super::fault::chain(&error), "upstream connection ended");
        }
    });
    let alarm = Box::pin(tokio::time::sleep(KEEPALIVE));
    Ok(Opened::Http1(Http1 { sender, meter, socket: peek, lead: Lead::to(peer), alarm }))
}

/// Connects to one of the endpoint's addresses, waiting for them if they are not known yet.
async fn dial(endpoint: &Endpoint) -> Result<TcpStream, Fault> {
    let host = endpoint.url.host();
    endpoint.resolved().await;
    let mut tries = JoinSet::new();
    let mut last = format!("{host} has no address");
    for address in endpoint.addresses_in_turn().into_iter().take(ADDRESSES_MAX) {
        tries.spawn(async move { (address, TcpStream::connect(address).await) });
        let Ok(joined) = tokio::time::timeout(STAGGER, tries.join_next()).await else { continue };
        match settled(joined) {
            Ok(stream) => return Ok(stream),
            Err(why) => last = why,
        }
    }
    while let Some(joined) = tries.join_next().await {
        match settled(Some(joined)) {
            Ok(stream) => return Ok(stream),
            Err(why) => last = why,
        }
    }
    Err(Fault::never_sent(Reason::Connect, last))
}

type Joined = Option<Result<(SocketAddr, std::io::Result<TcpStream>), tokio::task::JoinError>>;

fn settled(joined: Joined) -> Result<TcpStream, String> {
    let Some(Ok((address, connected))) = joined else { return Err("the connecting task ended".to_owned()) };
    let stream = connected.map_err(|error| format!("connect to {address}: {error}"))?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(Duration::from_secs(15)).with_retries(3);
    // Without these options the connection works all the same, only slower to notice a dead peer.
    if let Err(error) =
        stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive))
    {
        tracing::debug!(%address, %error, "socket options");
    }
    Ok(stream)
}

fn refused(host: &str, error: &std::io::Error) -> Fault {
    Fault::never_sent(Reason::Connect, format!("connect to {host}: {error}"))
}
