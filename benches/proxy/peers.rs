//! What Fender is compared with: an upstream that costs little, and two forwarders over hyper-util's client.
//!
//! The upstream and the lean forwarder are one current-thread runtime per core, each with a listener of its own
//! (SO_REUSEPORT); the plain forwarder is what anyone writes first, on tokio's multi-thread runtime.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Answers `/N` and `/post/N` with so many bytes.
pub(crate) fn upstream(listen: SocketAddr) {
    on_each_core(listen, || {
        let stock = Bytes::from(vec![b'x'; 64 * 1024 * 1024]);
        move |stream| {
            let stock = stock.clone();
            async move {
                let answer = service_fn(move |request: Request<Incoming>| {
                    let size = request.uri().path().rsplit('/').next().and_then(|size| size.parse().ok());
                    let body = stock.slice(..size.unwrap_or(0).min(stock.len()));
                    async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
                });
                http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
            }
        }
    });
}

/// No resilience, no headers of its own, on tokio's usual runtime: what the field's crates cost by themselves.
pub(crate) fn plain(listen: SocketAddr, upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.expect("the port is free");
        let client = client();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a TCP socket");
                tokio::spawn(forward(stream, client.clone(), upstream));
            }
        }
    });
}

/// The same with a runtime and a client of its own for each core.
pub(crate) fn lean(listen: SocketAddr, upstream: SocketAddr) {
    on_each_core(listen, move || {
        let client = client();
        move |stream| forward(stream, client.clone(), upstream)
    });
}

type Plain = Client<HttpConnector, Incoming>;

fn client() -> Plain {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

async fn forward(stream: TcpStream, client: Plain, upstream: SocketAddr) {
    let forward = service_fn(move |mut request: Request<Incoming>| {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let target: Uri = format!("http://{upstream}{path}").parse().expect("a path makes a URL");
        *request.uri_mut() = target;
        client.request(request)
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), forward).await.ok();
}

fn on_each_core<Serve, Served>(listen: SocketAddr, build: impl Fn() -> Serve + Clone + Send + 'static)
where
    Serve: Fn(TcpStream) -> Served + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers: Vec<_> = (0..cores)
        .map(|_| {
            thread::spawn({
                let build = build.clone();
                move || worker(listen, build)
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker serves until it is killed");
    }
}

fn worker<Serve, Served>(listen: SocketAddr, build: impl FnOnce() -> Serve)
where
    Serve: Fn(TcpStream) -> Served,
    Served: Future<Output = ()> + Send + 'static,
{
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.set_nonblocking(true).expect("a socket that does not block");
    socket.bind(&listen.into()).expect("the port is free");
    socket.listen(1024).expect("it listens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(socket.into()).expect("a listener");
        let serve = build();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a TCP socket");
                tokio::spawn(serve(stream));
            }
        }
    });
}
