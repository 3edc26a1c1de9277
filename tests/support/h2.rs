//! An HTTP/2 client with blocking methods: prior knowledge over TCP, or ALPN over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::PATIENCE;

type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

pub(crate) struct H2Client {
    runtime: Runtime,
    sender: http2::SendRequest<Sent>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct H2Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    pub(crate) end: H2End,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum H2End {
    Clean,
    Reset,
}

impl H2Response {
    pub(crate) fn field(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

impl H2Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the listener accepts");
            handshake(TokioIo::new(stream)).await
        });
        Self { runtime, sender }
    }

    /// None if the TLS handshake failed.
    pub(crate) fn connect_tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Option<Self> {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the listener accepts");
            let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
            let stream = TlsConnector::from(config).connect(name, stream).await.ok()?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "ALPN settles on h2");
            Some(handshake(TokioIo::new(stream)).await)
        })?;
        Some(Self { runtime, sender })
    }

    pub(crate) fn get(&mut self, path: &str) -> H2Response {
        self.exchange(request("GET", path), Full::new(Bytes::new()).boxed_unsync())
    }

    /// With these fields beside its own.
    pub(crate) fn get_with(&mut self, path: &str, fields: HeaderMap) -> H2Response {
        let mut head = request("GET", path);
        head.headers_mut().unwrap().extend(fields);
        self.exchange(head, Full::new(Bytes::new()).boxed_unsync())
    }

    /// Sends a body, and trailers after it if there are any.
    pub(crate) fn post(&mut self, path: &str, body: &[u8], trailers: Option<HeaderMap>) -> H2Response {
        let data = Frame::data(Bytes::copy_from_slice(body));
        let frames: Vec<_> =
            [Some(data), trailers.map(Frame::trailers)].into_iter().flatten().map(Ok).collect();
        let head = request("POST", path).header("te", "trailers");
        self.exchange(head, StreamBody::new(Iter(frames.into_iter())).boxed_unsync())
    }

    /// The body piece by piece, as it arrives.
    pub(crate) fn stream(&mut self, path: &str) -> impl FnMut() -> Option<Bytes> {
        let request = request("GET", path).body(Full::new(Bytes::new()).boxed_unsync()).unwrap();
        let sending = self.sender.send_request(request);
        let mut body = self.runtime.block_on(sending).expect("an answer comes").into_body();
        move || {
            let piece = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, body.frame()).await });
            piece
                .expect("a piece comes in time")
                .map(|frame| frame.expect("no reset").into_data().unwrap_or_default())
        }
    }

    /// The head of an answer whose body is not read for as long as this is kept.
    pub(crate) fn unread(&mut self, path: &str) -> Response<Incoming> {
        let request = request("GET", path).body(Full::new(Bytes::new()).boxed_unsync()).unwrap();
        let sending = self.sender.send_request(request);
        self.runtime.block_on(sending).expect("an answer comes")
    }

    /// Starts a request and gives up on it once its head is there.
    pub(crate) fn start_and_drop(&mut self, path: &str) {
        let request = request("GET", path).body(Full::new(Bytes::new()).boxed_unsync()).unwrap();
        let sending = self.sender.send_request(request);
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(300), sending).await.err();
        });
    }

    fn exchange(&mut self, head: http::request::Builder, body: Sent) -> H2Response {
        let request = head.body(body).unwrap();
        let sending = self.sender.send_request(request);
        self.runtime.block_on(async {
            let all = async { collect(sending.await.expect("an answer comes")).await };
            tokio::time::timeout(PATIENCE, all).await.expect("the answer ends in time")
        })
    }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://app.test{path}"))
}

fn runtime() -> Runtime {
    // One thread drives the connection while the test is elsewhere.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn handshake(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
) -> http2::SendRequest<Sent> {
    // The windows that HTTP/2 begins with: who does not read is sent no more than that.
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let (sender, connection) = builder.handshake(io).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    sender
}

async fn collect(response: Response<Incoming>) -> H2Response {
    let (head, mut incoming) = response.into_parts();
    let mut whole = H2Response {
        status: head.status,
        headers: head.headers,
        body: Vec::new(),
        trailers: HeaderMap::new(),
        end: H2End::Clean,
    };
    while let Some(frame) = incoming.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => whole.body.extend(data),
            Ok(Err(frame)) => whole.trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => {
                whole.end = H2End::Reset;
                break;
            }
        }
    }
    whole
}

/// A stream of what is already there.
struct Iter<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}
