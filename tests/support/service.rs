//! A well-behaved upstream over hyper, for what hyper does better than a script: HTTP/2, TLS, big bodies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = http_body_util::combinators::UnsyncBoxBody<Bytes, Failure>;

pub(crate) enum Protocol {
    Http1,
    /// Without TLS, by prior knowledge.
    Http2,
    /// What ALPN settles.
    Tls(Arc<ServerConfig>),
}

/// Serves what a path asks for:
/// `/echo` the request's body and trailers as they come, `/bytes/N` so many bytes in pieces of 64 KiB,
/// `/grpc` a message and then trailers, `/cut` a piece and then an abrupt end, `/stall` nothing, all else `200 ok`.
pub(crate) struct Service {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    heads: Mutex<Vec<http::request::Parts>>,
}

impl Service {
    pub(crate) fn start(protocol: Protocol) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let theirs = Arc::clone(&seen);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, protocol, theirs));
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<http::request::Parts> {
        self.seen.heads.lock().unwrap().clone()
    }
}

async fn serve(listener: std::net::TcpListener, protocol: Protocol, seen: Arc<Seen>) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let seen = Arc::clone(&seen);
        let serve = service_fn(move |request| answer(request, Arc::clone(&seen)));
        match &protocol {
            Protocol::Http1 => {
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
            Protocol::Http2 => {
                tokio::spawn(
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve),
                );
            }
            Protocol::Tls(config) => {
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let io = TokioIo::new(stream);
                    if two {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(io, serve).await.ok();
                    } else {
                        http1::Builder::new().serve_connection(io, serve).await.ok();
                    }
                });
            }
        }
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    seen.heads.lock().unwrap().push(head.clone());
    let path = head.uri.path().to_owned();
    let response = match path.split('/').nth(1) {
        Some("echo") => Response::new(body.map_err(Into::into).boxed_unsync()),
        Some("bytes") => {
            Response::new(bytes(path.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or(0)))
        }
        Some("grpc") => grpc(body).await,
        Some("cut") => Response::new(cut()),
        Some("stall") => std::future::pending().await,
        _ => Response::new(full("ok")),
    };
    Ok(response)
}

async fn grpc(body: Incoming) -> Response<Answer> {
    let message = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (sender, body) = pieces();
    tokio::spawn(async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        trailers.insert("grpc-message", http::HeaderValue::from_static("fine"));
        for frame in [Frame::data(message), Frame::trailers(trailers)] {
            sender.send(Piece::Frame(frame)).await.ok();
        }
    });
    Response::builder().header("content-type", "application/grpc").body(body).expect("its parts are constant")
}

fn cut() -> Answer {
    let (sender, body) = pieces();
    tokio::spawn(async move {
        sender.send(Piece::Frame(Frame::data(Bytes::from_static(b"half")))).await.ok();
        // Written before the connection breaks, so that the client has seen it.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        sender.send(Piece::Cut).await.ok();
    });
    body
}

fn bytes(count: usize) -> Answer {
    let (sender, body) = pieces();
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let mut left = count;
        while left > 0 {
            let next = piece.slice(..left.min(piece.len()));
            left -= next.len();
            if sender.send(Piece::Frame(Frame::data(next))).await.is_err() {
                return;
            }
        }
    });
    body
}

fn full(text: &'static str) -> Answer {
    http_body_util::Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync()
}

enum Piece {
    Frame(Frame<Bytes>),
    Cut,
}

fn pieces() -> (mpsc::Sender<Piece>, Answer) {
    let (sender, receiver) = mpsc::channel(2);
    (sender, Pieces(receiver).boxed_unsync())
}

/// A body that is what its sender sends.
struct Pieces(mpsc::Receiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.0.poll_recv(context).map(|piece| match piece? {
            Piece::Frame(frame) => Some(Ok(frame)),
            Piece::Cut => Some(Err("cut on purpose".into())),
        })
    }
}
