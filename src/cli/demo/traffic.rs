//! A busy application: a few clients that keep asking.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::figures::{Answer, Figures, Instead};
use crate::clock;
use crate::drain::{Drain, Phase};

const CLIENTS: usize = 12;

/// Between two requests of one client, in milliseconds, at most.
const PAUSE_MS: u64 = 20;

/// What is asked: upstream (its place in the figures), method, path.
const ASKED: [(usize, &str, &str); 4] = [
    (0, "GET", "/ai/hello"),
    (0, "GET", "/ai/stream"),
    (1, "POST", "/messages/send"),
    (2, "GET", "/search/all"),
];

/// Starts the clients on a thread of their own; they end when the proxy drains, or at `calm`.
pub(super) fn start(
    server: SocketAddr,
    figures: &Arc<Figures>,
    drain: &Drain,
    calm: &Arc<AtomicBool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (figures, drain, calm) = (Arc::clone(figures), drain.clone(), Arc::clone(calm));
    thread::Builder::new().name("demo-traffic".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            for _ in 0..CLIENTS {
                clients.spawn(ask(server, Arc::clone(&figures), drain.clone(), Arc::clone(&calm)));
            }
            while clients.join_next().await.is_some() {}
        });
    })?;
    Ok(())
}

async fn ask(server: SocketAddr, figures: Arc<Figures>, drain: Drain, calm: Arc<AtomicBool>) {
    let mut connection = None;
    while drain.phase() == Phase::Serving && !calm.load(Ordering::Relaxed) {
        let (upstream, method, path) = ASKED.get(fastrand::usize(..ASKED.len())).copied().unwrap_or(ASKED[0]);
        let asked = clock::now();
        match once(&mut connection, server, method, path).await {
            Ok((status, reason, instead, attempts)) => {
                let took = clock::now().saturating_duration_since(asked);
                figures.add(upstream, &Answer { status, reason, instead, attempts, took });
            }
            // The proxy is not there yet, or not any more.
            Err(_) => connection = None,
        }
        sleep(Duration::from_millis(fastrand::u64(..PAUSE_MS))).await;
    }
}

type Connection = Option<SendRequest<Full<Bytes>>>;
type Heard = (u16, Option<String>, Instead, u64);

async fn once(
    connection: &mut Connection,
    server: SocketAddr,
    method: &str,
    path: &str,
) -> Result<Heard, Box<dyn std::error::Error + Send + Sync>> {
    let mut sender = match connection.take().filter(SendRequest::is_ready) {
        Some(sender) => sender,
        None => {
            let (sender, running) = handshake(TokioIo::new(TcpStream::connect(server).await?)).await?;
            tokio::spawn(running);
            sender
        }
    };
    let body = if method == "POST" { Bytes::from_static(b"{\"to\":\"you\"}") } else { Bytes::new() };
    let request =
        Request::builder().method(method).uri(path).header("host", "fender").body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let reason = field("fender-reason").map(str::to_owned);
    let instead = match status {
        202 if field("fender-letter").is_some() => Instead::Kept,
        _ if field("fender-fallback").is_some() => Instead::FellBack,
        _ => Instead::Nothing,
    };
    let attempts = field("fender-attempts").and_then(|text| text.parse().ok()).unwrap_or(0);
    response.into_body().collect().await?;
    *connection = Some(sender);
    Ok((status, reason, instead, attempts))
}
