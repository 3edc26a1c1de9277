//! TLS on the listeners. A reload replaces the certificates for the connections to come.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::guard::Resettable;
use crate::config::ServerTls;
use crate::config::pem::{certificates, private_key};

/// Shakes hands with clients.
pub struct Acceptor {
    config: ArcSwap<ServerConfig>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Reads the files that `settings` names. `protocols`: what ALPN offers, best first.
    ///
    /// # Errors
    /// A text that names the file and what is wrong with it.
    pub fn new(settings: &ServerTls, protocols: &[&[u8]]) -> Result<Self, String> {
        Ok(Self { config: ArcSwap::from(read(settings, protocols)?) })
    }

    /// Takes over another's certificates for the connections to come.
    pub fn renew(&self, other: &Self) {
        self.config.store(other.config.load_full());
    }

    /// The handshake; tells whether HTTP/2 was chosen.
    ///
    /// # Errors
    /// The client's, mostly: no common version, no certificate.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, bool)> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(stream).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, http2))
    }
}

impl Resettable for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }

    fn is_broken(&self) -> bool {
        self.get_ref().0.is_broken()
    }
}

fn read(settings: &ServerTls, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = match &settings.client_ca_file {
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", file.display()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let key = private_key(&settings.key_file)?;
    let mut config = builder.with_single_cert(certificates(&settings.cert_file)?, key).map_err(|error| {
        format!(
            "{} and {} do not go together: {error}",
            settings.cert_file.display(),
            settings.key_file.display()
        )
    })?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}
