//! `[server]`: the side that the application talks to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Addresses, File, OptionalFile};
use crate::units::{AtLeastOne, Size, SizeOrOff, Time, TimeOrZero};

/// The front door.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where the application's requests are taken: one address or many.
    #[serde(with = "Addresses")]
    pub listen: Vec<SocketAddr>,
    /// Worker threads; 0 = the cores that the cgroup grants.
    pub workers: usize,
    /// After SIGTERM the process ends no later than this: what is in flight by then is cut, writes that may be kept are kept.
    #[serde(with = "Time")]
    pub drain_timeout: Duration,
    /// After SIGTERM the process ends once nothing has been in flight for this long.
    #[serde(with = "TimeOrZero")]
    pub drain_quiet: Duration,
    /// After SIGTERM the process ends no sooner than this.
    #[serde(with = "TimeOrZero")]
    pub drain_min: Duration,
    /// Client connections at once; beyond it 503.
    #[serde(with = "AtLeastOne::<usize>")]
    pub max_connections: usize,
    /// Slow headers are cut with 408.
    #[serde(with = "Time")]
    pub header_timeout: Duration,
    /// Slow request bodies are cut with 408.
    #[serde(with = "Time")]
    pub body_idle_timeout: Duration,
    /// Larger request heads get 431.
    #[serde(with = "Size")]
    pub max_header_bytes: u64,
    /// Larger request bodies get 413; 0B = no limit, bodies stream.
    #[serde(with = "SizeOrOff")]
    pub max_request_body: Option<u64>,
    /// All that is retained in memory at once; when spent, a body is not retained.
    #[serde(with = "Size")]
    pub buffer_memory: u64,
    /// Whose fender-*, x-forwarded-* and SDK retry headers are believed.
    pub trust_client_headers: TrustClientHeaders,
    /// TLS on `listen`.
    pub tls: Option<ServerTls>,
}

/// A certificate to show, and perhaps one to ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate chain, PEM.
    #[serde(with = "File")]
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    #[serde(with = "File")]
    pub key_file: PathBuf,
    /// Clients must show a certificate that one of these signed, PEM.
    #[serde(default, deserialize_with = "OptionalFile::deserialize")]
    #[schemars(with = "OptionalFile")]
    pub client_ca_file: Option<PathBuf>,
}

/// Whose headers about the client are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrustClientHeaders {
    /// Those of clients on this machine.
    Loopback,
    /// Everybody's.
    Always,
    /// Nobody's.
    Never,
}
