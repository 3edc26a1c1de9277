//! Three APIs that fail in the ways in which real ones do, each on a port of its own.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use crate::clock;

/// What one API does wrong, in requests of a thousand.
#[derive(Debug, Clone, Copy)]
struct Flaws {
    /// Answered 503.
    unavailable: u32,
    /// Answered, then closed without a word: the next request on the connection finds it stale.
    closes: u32,
    /// The connection is reset in the stead of an answer.
    resets: u32,
    /// Never answered.
    hangs: u32,
    /// The usual time to an answer, in milliseconds: at least, at most.
    pace: (u64, u64),
    /// Whether it goes down now and then, and answers 500 to all.
    outages: bool,
}

/// One outage begins so often, and lasts so long; the first comes soon.
const OUTAGE_EVERY: Duration = Duration::from_secs(6);
const OUTAGE: Duration = Duration::from_secs(2);
const FIRST_OUTAGE: Duration = Duration::from_secs(1);

const AI: Flaws = Flaws { unavailable: 20, closes: 30, resets: 4, hangs: 3, pace: (20, 120), outages: true };
const MESSAGES: Flaws =
    Flaws { unavailable: 10, closes: 60, resets: 6, hangs: 0, pace: (5, 25), outages: true };
const SEARCH: Flaws = Flaws { unavailable: 0, closes: 10, resets: 0, hangs: 0, pace: (1, 5), outages: false };

/// The running upstreams.
pub(super) struct Upstreams {
    ai: SocketAddr,
    messages: SocketAddr,
    search: SocketAddr,
    /// Nothing listens here.
    nobody: SocketAddr,
}

impl Upstreams {
    /// `calm`: from then on nothing is down any more.
    pub(super) fn start(calm: &Arc<AtomicBool>) -> io::Result<Self> {
        let (ai, messages, search) = (bind()?, bind()?, bind()?);
        let nobody = bind()?.local_addr()?;
        let addresses = (ai.local_addr()?, messages.local_addr()?, search.local_addr()?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let calm = Arc::clone(calm);
        thread::Builder::new().name("demo-upstreams".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::join!(
                    listen(ai, AI, &calm),
                    listen(messages, MESSAGES, &calm),
                    listen(search, SEARCH, &calm)
                );
            });
        })?;
        Ok(Self { ai: addresses.0, messages: addresses.1, search: addresses.2, nobody })
    }

    pub(super) fn names(&self) -> [&'static str; 3] {
        ["ai", "messages", "search"]
    }

    /// A config that fronts them; a newcomer reads it on the screen.
    pub(super) fn config(&self, store: &Path, token: &str) -> String {
        let Self { ai, messages, search, nobody } = self;
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\ndrain_quiet = \"0s\"\ndrain_timeout = \"2s\"\n\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\n\
             [[admin.token]]\nname = \"demo\"\nrole = \"operator\"\nsecret = \"{token}\"\n\n\
             [dead_letter]\npath = {store:?}\n\n\
             [upstream.ai]                        # slow, sometimes 503, sometimes silent, now and then down\n\
             url = \"http://{ai}\"\nroute = \"/ai\"\ntimeout = {{ attempt = \"1s\", total = \"2s\" }}\n\
             breaker = {{ open_for = \"500ms\", max_open_for = \"1s\" }}\n\
             retry.budget = {{ ratio = 0.02, min_per_second = 0.2 }}   # few retries: an outage shows it\n\n\
             [[upstream.ai.fallback]]\non = [\"breaker_open\"]\n\
             response = {{ status = 200, body = \"a canned answer\" }}\n\n\
             [upstream.messages]                  # closes idle connections, resets some, now and then down\n\
             url = \"http://{messages}\"\nroute = \"/messages\"\n\
             idempotent = \"yes\"\nbreaker = {{ open_for = \"500ms\", max_open_for = \"1s\" }}\n\
             dead_letter = {{ mode = \"on_failure\", replay = {{ concurrency = 16, per_second = 500.0 }} }}\n\n\
             [upstream.search]                    # two replicas, one of them down\n\
             urls = [\"http://{search}\", \"http://{nobody}\"]\nroute = \"/search\"\n"
        )
    }
}

fn bind() -> io::Result<StdListener> {
    let listener = StdListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether an outage is on, so long after the start.
fn down(passed: Duration) -> bool {
    let phase = passed.as_millis() % OUTAGE_EVERY.as_millis();
    (FIRST_OUTAGE.as_millis()..(FIRST_OUTAGE + OUTAGE).as_millis()).contains(&phase)
}

async fn listen(listener: StdListener, flaws: Flaws, calm: &Arc<AtomicBool>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let begun = clock::now();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, flaws, begun, Arc::clone(calm)));
    }
}

/// A connection ends when the service asks for it: by closing behind an answer, or by a reset in its stead.
async fn serve(stream: TcpStream, flaws: Flaws, begun: Instant, calm: Arc<AtomicBool>) {
    let reset = SockRef::from(&stream).try_clone().ok();
    let service = service_fn(move |request| {
        let outages = flaws.outages && !calm.load(Ordering::Relaxed);
        answer(request, Flaws { outages, ..flaws }, begun)
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if served.is_err()
        && let Some(socket) = reset
    {
        // Where it cannot be reset it is closed: the client fares no better.
        drop(socket.set_linger(Some(Duration::ZERO)));
    }
}

async fn answer(
    request: Request<Incoming>,
    flaws: Flaws,
    begun: Instant,
) -> Result<Response<Reply>, io::Error> {
    if flaws.outages && down(clock::now().saturating_duration_since(begun)) {
        let mut broken = Response::new(Reply::Whole(Bytes::from_static(b"down\n")));
        *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(broken);
    }
    let (least, most) = flaws.pace;
    sleep(Duration::from_millis(fastrand::u64(least..=most))).await;
    let mut dice = fastrand::u32(..1000);
    let mut falls_in = |share: u32| {
        let hit = dice < share;
        dice = dice.wrapping_sub(share);
        hit
    };
    if falls_in(flaws.resets) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if falls_in(flaws.hangs) {
        std::future::pending::<()>().await;
    }
    let mut response = if falls_in(flaws.unavailable) {
        let mut unavailable = Response::new(Reply::Whole(Bytes::from_static(b"busy\n")));
        *unavailable.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        unavailable
    } else if request.uri().path().ends_with("/stream") {
        let mut stream = Response::new(Reply::Events { left: 5, timer: Box::pin(sleep(Duration::ZERO)) });
        stream.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
        stream
    } else {
        Response::new(Reply::Whole(Bytes::from_static(b"hello from upstream\n")))
    };
    if falls_in(flaws.closes) {
        response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// A body: all at once, or event by event.
enum Reply {
    Whole(Bytes),
    Events { left: u32, timer: Pin<Box<Sleep>> },
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Events { left: 0, .. } => Poll::Ready(None),
            Self::Events { left, timer } => timer.as_mut().poll(cx).map(|()| {
                *left -= 1;
                *timer = Box::pin(sleep(Duration::from_millis(50)));
                Some(Ok(Frame::data(Bytes::from(format!("data: {left} to go\n\n")))))
            }),
        }
    }
}
