//! The base URL of a service: scheme, host, port and base path, nothing else; and that of a webhook, which may bear a query.

use std::fmt;

use http::Uri;
use http::uri::{Authority, PathAndQuery};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// The base URL of a service. Printing it hides the base path, which may bear a secret.
#[derive(Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(transparent, extend("pattern" = r"^https?://|\$\{", "examples" = ["https://api.openai.com"]))]
pub struct Url(#[schemars(with = "String")] Parts);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Parts {
    scheme: Scheme,
    authority: Authority,
    path: String,
}

/// How a service is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Url {
    /// Checks and takes apart; the message never repeats the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let after_scheme = text.split_once("://").map(|(_, rest)| rest).ok_or(NO_SCHEME)?;
        let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("must not bear a user name or a password; set the credential in headers.set instead");
        }
        if text.contains('#') {
            return Err("must not bear a fragment (#)");
        }
        let uri: Uri = text.parse().map_err(|_| "must be a URL such as \"https://host/base\"")?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(NO_SCHEME),
        };
        if uri.query().is_some() {
            return Err("must not bear a query (?)");
        }
        let authority = uri.authority().cloned().ok_or("must name a host")?;
        let port_text = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        if authority.host().is_empty()
            || port_text == ":"
            || (port_text.starts_with(':') && !matches!(authority.port_u16(), Some(1..)))
        {
            return Err("must name a host, and a port from 1 to 65535 or none");
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        if path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains("//") {
            return Err("must not bear empty, \".\" or \"..\" path segments");
        }
        Ok(Self(Parts { scheme, authority, path }))
    }

    /// Http or https.
    pub fn scheme(&self) -> Scheme {
        self.0.scheme
    }

    /// The host: a name, an IPv4 address, or an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.0.authority.host();
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, the scheme's own when none is written.
    pub fn port(&self) -> u16 {
        self.0.authority.port_u16().unwrap_or(match self.0.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// Host and port as written: what goes into the Host header.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// What stands before each request's path: `""`, or `/base` without a slash at its end.
    pub fn base_path(&self) -> &str {
        &self.0.path
    }
}

impl Scheme {
    /// As it is written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden_path = if self.0.path.is_empty() { "" } else { "/(hidden)" };
        write!(f, "{}://{}{hidden_path}", self.0.scheme.as_str(), self.0.authority)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// Where a webhook's posts go: the path stays as it is written, and a query may follow. Printing it shows neither: either may be what
/// lets one post there.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl {
    base: Url,
    rest: String,
}

impl HookUrl {
    /// Checks and takes apart; the message never repeats the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("must not bear a fragment (#)");
        }
        let (before, query) =
            text.split_once('?').map_or((text, None), |(before, query)| (before, Some(query)));
        let base = Url::parse(before)?;
        let slash = if base.base_path().is_empty() || !before.ends_with('/') { "" } else { "/" };
        let Some(query) = query else { return Ok(Self { base, rest: slash.to_owned() }) };
        let place = if base.base_path().is_empty() { "/" } else { slash };
        let rest = format!("{place}?{query}");
        let sent = format!("{}{rest}", base.base_path());
        if PathAndQuery::try_from(sent).is_err() {
            return Err("bears a query (?) with characters that must be percent-encoded");
        }
        Ok(Self { base, rest })
    }

    /// Scheme, host, port, and the path without a slash at its end.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// What follows it: a slash at the path's end, and the query.
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden_query = if self.rest.contains('?') { "?(hidden)" } else { "" };
        write!(f, "{}{hidden_query}", self.base)
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for HookUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

const NO_SCHEME: &str = "must start with http:// or https://";
