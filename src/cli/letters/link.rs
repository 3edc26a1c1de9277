//! How the command reaches the dead-letter log: through the admin API of a running Fender, or straight on the file of one
//! that is stopped. Both speak the same calls.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use tower::ServiceExt as _;

use crate::admin::{self, Caller};
use crate::cli::remote::{Answer, Remote};
use crate::config;
use crate::config::model::{Secret, key_bytes};
use crate::deadletter::{Filter, Sealing, Store};

/// The way to the log.
pub(super) enum Link {
    /// The API of a running Fender.
    Remote(Remote),
    /// The file.
    File { router: Router, store: Store },
}

impl Link {
    /// The file of a Fender that is stopped; made if it is not there and `new` says that it may be.
    ///
    /// `keys`: files of keys, the one to write with first.
    pub(super) fn file(path: PathBuf, new: bool, keys: &[PathBuf]) -> Result<Self, String> {
        if !new && !path.exists() {
            return Err(format!("--store {}: there is no such file", path.display()));
        }
        let defaults = config::load_text("defaults", "[upstream.none]\nurl = \"http://none\"\nroute = \"/\"");
        let mut settings = defaults.map_err(|problems| problems.to_string())?.config.dead_letter;
        settings.path = path;
        let mut keys = keys.iter().map(|file| key(file)).collect::<Result<Vec<_>, _>>()?.into_iter();
        settings.encryption_key = keys.next();
        settings.old_encryption_keys = keys.collect();
        let (store, _) = (if new { Store::open(&settings) } else { Store::open_to_look(&settings) })
            .map_err(|error| error.to_string())?;
        Ok(Self::File { router: admin::letters(&store), store })
    }

    /// Whether the file holds letters that are sealed. Blocks nobody: there is nobody else.
    pub(super) async fn is_sealed(&self) -> Result<bool, String> {
        let Self::File { store, .. } = self else { return Ok(false) };
        let stats = store.stats(Filter::default()).await.map_err(|error| error.to_string())?;
        Ok(stats.keys.iter().any(|found| found.sealing != Sealing::Clear && found.letters > 0))
    }

    /// One call; `path` behind `/api/v1/letters`, query included.
    pub(super) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let answer = match self {
            Self::Remote(remote) => {
                let called = remote.call(method, &format!("/api/v1/letters{path}"), body).await;
                called
                    .map_err(|why| format!("{why}; --store FILE works on the file of one that is stopped"))?
            }
            Self::File { router, .. } => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(format!("/api/v1/letters{path}"))
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

/// The key in a file; one newline behind it is cut, as where a config refers to the file.
fn key(file: &Path) -> Result<Secret, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("--key-file {}: {error}", file.display()))?;
    let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text);
    let key = Secret::from(text.to_owned());
    match key_bytes(&key) {
        Some(_) => Ok(key),
        None => Err(format!("--key-file {}: must hold 32 bytes in base64", file.display())),
    }
}
