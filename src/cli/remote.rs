//! The admin API of a running Fender, as its own commands call it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::UpstreamTls;
use crate::upstream::tls::Client as Tls;

/// Where it is, and who calls.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Where {
    /// The admin listener of a running Fender
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "FENDER_ADMIN",
        default_value = "http://127.0.0.1:8701"
    )]
    admin: String,
    /// A file that holds the secret of a token of [[admin.token]]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificates that an https:// listener is trusted by, instead of the system's; PEM
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// The way to it.
pub(super) struct Remote {
    host: String,
    port: u16,
    tls: Option<Tls>,
    token: Option<String>,
}

/// An answer that is whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// A connection, and then TLS on it, takes no longer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

impl Remote {
    /// Reads what the arguments name.
    ///
    /// # Errors
    /// A text that names the argument that cannot be used.
    pub(super) fn new(to: &Where) -> Result<Self, String> {
        let admin = &to.admin;
        let uri: Uri = admin.parse().map_err(|_| format!("--admin {admin:?} is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => {
                let settings = UpstreamTls {
                    ca_file: to.ca_file.clone(),
                    client_cert_file: None,
                    client_key_file: None,
                    server_name: None,
                };
                Some(Tls::new(&settings)?)
            }
            _ => return Err(format!("--admin {admin:?} begins with neither http:// nor https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("--admin {admin:?} names no host"))?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(format!("--admin {admin:?} names a path: only the listener is wanted"));
        }
        let token = to.token_file.as_deref().map(secret).transpose()?;
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { host: host.to_owned(), port, tls, token })
    }

    /// One call.
    ///
    /// # Errors
    /// Nobody answers, or not to the end.
    pub(super) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let address = format!("{}:{}", self.host, self.port);
        let connecting = timeout(CONNECT_MAX, TcpStream::connect(&address)).await;
        let stream = connecting.map_err(|_| format!("{address}: nobody answers")).and_then(|connected| {
            connected.map_err(|error| format!("{address}: {error} (is Fender running there?)"))
        })?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &address)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let shaken = timeout(CONNECT_MAX, tls.connect_http1(&self.host, stream)).await;
                exchange(shaken.map_err(|_| format!("{address}: no TLS is spoken there"))??, request).await
            }
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = handshake(TokioIo::new(stream)).await;
    let (mut sender, running) = shaken.map_err(|error| error.to_string())?;
    let running = tokio::spawn(running);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    running.abort();
    Ok(Answer { status, body })
}

fn secret(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("--token-file {}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}
