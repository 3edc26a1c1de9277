//! Posts to somebody who is no upstream: the receiver of a webhook, a collector of spans. One connection a post, since there are few.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::resolve::addresses;
use super::tls::Client as Tls;
use crate::clock;
use crate::config::{Scheme, UpstreamTls, Url};
use crate::policy::told::told;

/// Where bodies are posted to.
pub struct Receiver {
    url: Url,
    host: HeaderValue,
    tls: Option<Tls>,
}

/// What a receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The answer's status.
    pub status: StatusCode,
    /// How long it asks to be left alone.
    pub wait: Option<Duration>,
}

/// How long one of a host's addresses may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Addresses that are tried.
const ADDRESSES_MAX: usize = 4;

/// So much of an answer is read, lest a receiver that is still writing it sees its connection break.
const ANSWER_MAX: usize = 16 << 10;

/// And it is waited for no longer: what its head says holds in any case.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Receiver {
    /// Under TLS the system's roots are trusted, or Mozilla's where there are none.
    ///
    /// # Errors
    /// A text that says what of it cannot be used.
    pub fn new(url: &Url) -> Result<Self, String> {
        let host = HeaderValue::from_str(url.authority().as_str()).map_err(|error| error.to_string())?;
        let tls = match url.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(Tls::new(&UpstreamTls::default())?),
        };
        Ok(Self { url: url.clone(), host, tls })
    }

    /// Posts a body to `path`, below the URL's own; redirects are not followed.
    ///
    /// # Errors
    /// A text that says why there is no answer. Whether the receiver has acted is unknown then.
    pub async fn post(
        &self,
        path: &str,
        fields: &[(HeaderName, HeaderValue)],
        body: Bytes,
        within: Duration,
    ) -> Result<Answered, String> {
        self.post_and_hear(path, fields, body, within).await.map(|(answered, _)| answered)
    }

    /// The same, with what the answer says, as far as it was read.
    ///
    /// # Errors
    /// As above.
    pub async fn post_and_hear(
        &self,
        path: &str,
        fields: &[(HeaderName, HeaderValue)],
        body: Bytes,
        within: Duration,
    ) -> Result<(Answered, Vec<u8>), String> {
        let late = |_| Err(format!("no answer within {} ms", within.as_millis()));
        timeout(within, self.exchange(path, fields, body)).await.unwrap_or_else(late)
    }

    async fn exchange(
        &self,
        path: &str,
        fields: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<(Answered, Vec<u8>), String> {
        let whole = format!("{}{path}", self.url.base_path());
        let target = if whole.is_empty() { "/" } else { &whole };
        let mut request = Request::post(target).body(Full::new(body)).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, self.host.clone());
        for (name, value) in fields {
            request.headers_mut().insert(name, value.clone());
        }
        let stream = self.connect().await?;
        match &self.tls {
            None => answered(stream, request).await,
            Some(tls) => answered(tls.connect_http1(self.url.host(), stream).await?, request).await,
        }
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let (host, port) = (self.url.host(), self.url.port());
        let found: Vec<SocketAddr> = addresses(host, port).await?;
        let mut last = format!("{host} has no address");
        for address in found.into_iter().take(ADDRESSES_MAX) {
            match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = format!("{host}: {error}"),
                Err(_) => last = format!("{host}: no connection within {} ms", CONNECT_MAX.as_millis()),
            }
        }
        Err(last)
    }
}

async fn answered<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(Answered, Vec<u8>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, running) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let running = tokio::spawn(running);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    let heard = match answer {
        Ok(answer) => {
            let (head, mut body) = answer.into_parts();
            let mut said = Vec::new();
            let read = async {
                while let Some(Ok(frame)) = body.frame().await
                    && said.len() < ANSWER_MAX
                {
                    let piece = frame.data_ref().map_or(&[][..], |data| data);
                    let room = piece.len().min(ANSWER_MAX - said.len());
                    said.extend_from_slice(piece.get(..room).unwrap_or_default());
                }
            };
            drop(timeout(ANSWER_WITHIN, read).await);
            Ok((Answered { status: head.status, wait: wait(&head.headers) }, said))
        }
        Err(error) => Err(error),
    };
    running.abort();
    heard
}

fn wait(fields: &HeaderMap) -> Option<Duration> {
    let field = |name: &str| fields.get(name)?.to_str().ok();
    told(&field, Duration::from_millis(clock::unix_ms())).map(|told| told.wait)
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("url", &self.url).finish_non_exhaustive()
    }
}
