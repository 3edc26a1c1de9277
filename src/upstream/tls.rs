//! TLS towards upstreams: roots, client certificates, ALPN.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::Speak;
use super::fault::{Fault, chain};
use crate::config::UpstreamTls;
use crate::config::pem::{certificates, private_key};
use crate::policy::reason::Reason;

/// How one upstream is spoken to under TLS.
pub struct Client {
    http1: TlsConnector,
    http2: TlsConnector,
    negotiate: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl Client {
    /// Reads the certificates that `settings` names; without a CA file the system's roots are trusted, and where there are
    /// none (an image without certificates) Mozilla's, which are compiled in.
    ///
    /// # Errors
    /// A text that names the file and what is wrong with it.
    pub fn new(settings: &UpstreamTls) -> Result<Self, String> {
        let roots = match &settings.ca_file {
            Some(file) => Arc::new(own_roots(file)?),
            None => system_roots(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match (&settings.client_cert_file, &settings.client_key_file) {
            (Some(cert), Some(key)) => {
                builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(|error| {
                    format!("{} and {} do not go together: {error}", cert.display(), key.display())
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        let server_name = match &settings.server_name {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| format!("server_name {name:?} is no host name"))?,
            ),
            None => None,
        };
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            http1: offering(&[b"http/1.1"]),
            http2: offering(&[b"h2"]),
            negotiate: offering(&[b"h2", b"http/1.1"]),
            server_name,
        })
    }

    /// Shakes hands; tells whether HTTP/2 is to be spoken.
    ///
    /// # Errors
    /// A `tls` fault.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
        speak: Speak,
    ) -> Result<(TlsStream<TcpStream>, bool), Fault> {
        let failed = |error: &dyn std::fmt::Display| {
            Fault::never_sent(Reason::Tls, format!("TLS with {host}: {error}"))
        };
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                .map_err(|error| failed(&error))?,
        };
        let connector = match speak {
            Speak::Http1 => &self.http1,
            Speak::Http2 => &self.http2,
            Speak::Negotiate => &self.negotiate,
        };
        let stream = connector.connect(name, stream).await.map_err(|error| failed(&chain(&error)))?;
        let http2 = match speak {
            Speak::Http1 => false,
            Speak::Http2 => true,
            Speak::Negotiate => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        Ok((stream, http2))
    }
}

impl Client {
    /// Shakes hands with a peer that speaks HTTP/1.1 and is no upstream.
    ///
    /// # Errors
    /// A text that says why there is no TLS.
    pub(crate) async fn connect_http1(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, String> {
        let connected = self.connect(host, stream, Speak::Http1).await;
        connected.map(|(stream, _)| stream).map_err(|fault| fault.to_string())
    }
}

/// How a peer that broke TLS off said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alert {
    /// It does not take our certificate, or the lack of one. Over TLS 1.3 it may say so only after our side of the handshake
    /// is done and a request has left, which it has not read then.
    Certificate,
    Other,
}

/// The alert among an error's causes.
#[must_use]
pub(super) fn alert(error: &(dyn std::error::Error + 'static)) -> Option<Alert> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner.or_else(|| error.downcast_ref()) {
            return Some(match alert {
                AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateRequired => Alert::Certificate,
                _ => Alert::Other,
            });
        }
        cause = error.source();
    }
    None
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(store)
    }))
}

fn own_roots(file: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(store)
}
