//! How the command reaches the dead-letter log: through the admin API of a running Fender, or straight on the file of one
//! that is stopped. Both speak the same calls.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use crate::admin::{self, Caller};
use crate::config;
use crate::deadletter::Store;

/// The way to the log.
pub(super) enum Link {
    /// The API of a running Fender.
    Remote { address: String, token: String },
    /// The file.
    File { router: Router, store: Store },
}

/// An answer that is whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Link {
    /// `admin`: its URL; `token_file`: a file that holds the token's secret.
    pub(super) fn remote(admin: &str, token_file: Option<&Path>) -> Result<Self, String> {
        let uri: Uri = admin.parse().map_err(|_| format!("--admin {admin:?} is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!(
                "--admin {admin:?}: only http:// is spoken here; use it on the machine itself"
            ));
        }
        let authority = uri.authority().ok_or_else(|| format!("--admin {admin:?} names no host"))?;
        let address = match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        let token = match token_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("--token-file {}: {error}", file.display()))?
                .trim()
                .to_owned(),
            None => String::new(),
        };
        Ok(Self::Remote { address, token })
    }

    /// The file of a Fender that is stopped; made if it is not there and `new` says that it may be.
    pub(super) fn file(path: PathBuf, new: bool) -> Result<Self, String> {
        if !new && !path.exists() {
            return Err(format!("--store {}: there is no such file", path.display()));
        }
        let defaults = config::load_text("defaults", "[upstream.none]\nurl = \"http://none\"\nroute = \"/\"");
        let mut settings = defaults.map_err(|problems| problems.to_string())?.config.dead_letter;
        settings.path = path;
        let (store, _) = Store::open(&settings).map_err(|error| error.to_string())?;
        Ok(Self::File { router: admin::letters(Some(store.clone())), store })
    }

    /// One call; `path` behind `/api/v1/letters`, query included.
    pub(super) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let answer = match self {
            Self::Remote { address, token } => {
                let stream = TcpStream::connect(address).await.map_err(|error| {
                    format!("{address}: {error} (is Fender running? --store FILE works on the file of one that is stopped)")
                })?;
                let shaken = handshake(TokioIo::new(stream)).await;
                let (mut sender, running) = shaken.map_err(|error| error.to_string())?;
                let running = tokio::spawn(running);
                let mut request = Request::builder()
                    .method(method)
                    .uri(format!("/api/v1/letters{path}"))
                    .header(HOST, address)
                    .header(CONTENT_TYPE, "application/json");
                if !token.is_empty() {
                    request = request.header(AUTHORIZATION, format!("Bearer {token}"));
                }
                let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
                let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = response.status();
                let body =
                    response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                running.abort();
                Answer { status, body }
            }
            Self::File { router, .. } => {
                let path = if path.is_empty() { "/" } else { path };
                let uri = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
                let mut request = Request::builder()
                    .method(method)
                    .uri(uri)
                    .body(Body::from(body))
                    .map_err(|error| error.to_string())?;
                request.extensions_mut().insert(Caller::with_the_file());
                let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
                let status = response.status();
                let body =
                    response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
                Answer { status, body }
            }
        };
        Ok(answer)
    }

    /// Lets go of the file.
    pub(super) async fn close(&self) {
        if let Self::File { store, .. } = self {
            store.close().await;
        }
    }
}
