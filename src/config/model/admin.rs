//! `[admin]`: the side that operators, scrapers and probes talk to.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::server::ServerTls;
use super::values::{Address, AddressOrNone, Secret};

/// The admin listeners and who may use them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Metrics, health, the API and the dashboard.
    #[serde(with = "Address")]
    pub listen: SocketAddr,
    /// Only the paths that need no token, for the kubelet and Prometheus; "" = none.
    #[serde(with = "AddressOrNone")]
    pub public_listen: Option<SocketAddr>,
    /// TLS on `listen`.
    pub tls: Option<ServerTls>,
    /// Who may call the API; with no token every call is refused with 401.
    pub token: Vec<Token>,
}

/// One bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who bears it, for the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What follows "Bearer".
    pub secret: Secret,
    /// It sees and touches only these; all of them when left out.
    pub upstreams: Option<Vec<String>>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks, but not into bodies of letters.
    Viewer,
    /// Looks, replays, discards, opens and closes.
    Operator,
}
