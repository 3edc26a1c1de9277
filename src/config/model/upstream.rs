//! `[upstream.NAME]`: one external service and its policies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use super::dead_letter::LetterRule;
use super::fallback::Fallback;
use super::url::Url;
use super::values::{HeaderNames, OptionalFile, Secret, UrlOrNone, header_name};
use crate::dialect::Dialect;
use crate::policy::degradation::{Criticality, ShedAt};
use crate::policy::limit::{Concurrency, RateLimit};
use crate::policy::{breaker, deadline, retry, throttle};
use crate::units::{AtLeastOne, Size, TextOrNone, Time, TimeOrOff};

/// One external service.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its base URL: scheme, host, port, base path.
    #[serde(default)]
    pub(in crate::config) url: Option<Url>,
    /// Its base URLs, when it has several.
    #[serde(default)]
    pub urls: Vec<Url>,
    /// A path prefix that goes here: shorthand for one `[[route]]`.
    #[serde(default)]
    pub(in crate::config) route: Option<String>,
    /// The set of defaults that fits this kind of service.
    pub preset: Preset,
    /// Its weight in the degradation level.
    pub criticality: Criticality,
    /// From this degradation level on it is answered by its fallbacks, else 503.
    pub shed_at: ShedAt,
    /// Which HTTP version it is spoken to in.
    pub http: HttpVersion,
    /// How it speaks: generic, the name of a built-in dialect or of a [dialect.NAME]; auto: by the URL's host.
    pub dialect: String,
    /// Whether a request that is not idempotent by its method may be sent twice.
    pub idempotent: Idempotent,
    /// A request bearing this header may be sent twice; auto: the one that the dialect knows; "" = none.
    pub idempotency_header: IdempotencyHeader,
    /// An egress proxy; "" = none.
    #[serde(with = "UrlOrNone")]
    pub proxy: Option<Url>,
    /// What Fender adds and takes away, so that the application needs no secret.
    pub headers: Headers,
    /// TLS towards it.
    pub tls: UpstreamTls,
    /// Its connections.
    pub pool: Pool,
    /// How long anything may take.
    pub timeout: deadline::Settings,
    /// Event streams: text/event-stream, application/x-ndjson.
    pub stream: Stream,
    /// Whether a failed attempt is made again.
    pub retry: retry::Settings,
    /// When it is left alone for a while.
    pub breaker: breaker::Settings,
    /// The bulkhead: how much at once.
    pub concurrency: Concurrency,
    /// What it says itself about waiting.
    pub throttle: throttle::Settings,
    /// Our own limits, any number; all must grant.
    pub rate_limit: Vec<RateLimit>,
    /// The active check; recovery here wakes the breaker and the replays.
    pub health: Health,
    /// What answers when it cannot, tried in order.
    pub fallback: Vec<Fallback>,
    /// Which of its failed writes are kept.
    pub dead_letter: LetterRule,
    /// The dialect that `dialect` comes to.
    #[serde(skip, default = "Dialect::generic")]
    pub(in crate::config) spoken: Arc<Dialect>,
}

/// A set of defaults for one kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Language models: slow, streaming, throttled.
    Ai,
    /// Messaging APIs: writes that must not be lost.
    Messaging,
    /// A service of one's own: the defaults.
    Internal,
}

/// Which HTTP version an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HttpVersion {
    /// What it offers under TLS, else HTTP/1.1.
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1.
    #[serde(rename = "1")]
    One,
    /// HTTP/2, with prior knowledge when there is no TLS.
    #[serde(rename = "2")]
    Two,
}

/// Whether a request that is not idempotent by its method may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Idempotent {
    /// It may not.
    No,
    /// A POST here may be sent twice without harm.
    Yes,
    /// The method and paths that the dialect lists as repeatable may.
    Auto,
}

/// Which header makes a request safe to send twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdempotencyHeader {
    /// The one that the dialect says the API honours.
    Auto,
    /// None.
    None,
    /// This one.
    Named(HeaderName),
}

/// What Fender adds to a request and takes away from it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Headers that are set, over the client's own.
    pub set: BTreeMap<String, Secret>,
    /// Headers that are taken away.
    #[serde(with = "HeaderNames")]
    pub remove: Vec<HeaderName>,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Trusted instead of the system's roots, PEM.
    #[serde(default, deserialize_with = "OptionalFile::deserialize")]
    #[schemars(with = "OptionalFile")]
    pub ca_file: Option<PathBuf>,
    /// A certificate to show, PEM.
    #[serde(default, deserialize_with = "OptionalFile::deserialize")]
    #[schemars(with = "OptionalFile")]
    pub client_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(default, deserialize_with = "OptionalFile::deserialize")]
    #[schemars(with = "OptionalFile")]
    pub client_key_file: Option<PathBuf>,
    /// The name that its certificate must bear, when it is not the URL's host.
    #[serde(default, deserialize_with = "TextOrNone::deserialize")]
    #[schemars(with = "TextOrNone")]
    pub server_name: Option<String>,
}

/// Connections to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Idle connections that are kept.
    #[serde(with = "AtLeastOne::<usize>")]
    pub max_idle: usize,
    /// How long an idle connection is kept.
    #[serde(with = "Time")]
    pub idle_timeout: Duration,
    /// How often its name is looked up again.
    #[serde(with = "Time")]
    pub dns_refresh: Duration,
}

/// Event streams.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Until the first event with content; 0s = off.
    #[serde(with = "TimeOrOff")]
    pub first_content: Option<Duration>,
    /// Until then nothing is passed on, and a failure may be retried or fall back.
    pub commit: Commit,
    /// The most that commit may hold back; beyond it the stream is committed.
    #[serde(with = "Size")]
    pub hold_max: u64,
    /// A comment to the client whenever nothing was sent for this long; 0s = off.
    #[serde(with = "TimeOrOff")]
    pub keepalive: Option<Duration>,
    /// A stream that ends without its dialect's end mark is cut, and counts as a failure.
    pub end_mark: bool,
}

/// When a stream's answer counts as begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Commit {
    /// With its first byte.
    FirstByte,
    /// With its first event.
    FirstEvent,
    /// With its first event that has content.
    FirstContent,
    /// With its last.
    Complete,
}

/// The active check.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked for; "" = off.
    #[serde(with = "TextOrNone")]
    pub path: Option<String>,
    /// How often it is asked for.
    #[serde(with = "Time")]
    pub interval: Duration,
    /// How long the answer may take.
    #[serde(with = "Time")]
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy.
    #[serde(with = "AtLeastOne::<u32>")]
    pub unhealthy_after: u32,
    /// So many successes in a row make it healthy.
    #[serde(with = "AtLeastOne::<u32>")]
    pub healthy_after: u32,
}

impl<'de> Deserialize<'de> for IdempotencyHeader {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "" => Ok(Self::None),
            name => header_name(name).map(Self::Named),
        }
    }
}

impl JsonSchema for IdempotencyHeader {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IdempotencyHeader".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["auto", "", "idempotency-key"]})
    }
}

impl Preset {
    /// As the config words it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ai => "ai",
            Self::Messaging => "messaging",
            Self::Internal => "internal",
        }
    }
}

impl Upstream {
    /// The dialect in force: the one that is named, or what `auto` comes to by the URL's host and the preset.
    pub fn spoken(&self) -> &Arc<Dialect> {
        &self.spoken
    }
}
