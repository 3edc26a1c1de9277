//! Values that need more than a plain type: secrets, addresses, files, names, methods.
//!
//! As in `units`, markers carry a rule to serde and to the schema, and messages never repeat the given text.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::{HeaderName, Method};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::url::Url;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// An IP address and a port.
pub(crate) struct Address;

/// An IP address and a port, or `""` for none.
pub(crate) struct AddressOrNone;

/// One address or a list of them.
pub(crate) struct Addresses;

/// A path; a relative one starts from the folder of the file that names it.
pub(crate) struct File;

/// A `File` that may be left out.
pub(crate) struct OptionalFile;

/// A URL, or `""` for none.
pub(crate) struct UrlOrNone;

/// A list of methods.
pub(crate) struct Methods;

/// A list of header names.
pub(crate) struct HeaderNames;

impl Address {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        address(&String::deserialize(from)?)
    }
}

impl AddressOrNone {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() { Ok(None) } else { address(&text).map(Some) }
    }
}

impl Addresses {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
        from.deserialize_any(AddressesVisitor)
    }
}

struct AddressesVisitor;

impl<'de> Visitor<'de> for AddressesVisitor {
    type Value = Vec<SocketAddr>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"127.0.0.1:8700\", or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        address(text).map(|one| vec![one])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        struct One(SocketAddr);
        impl<'de> Deserialize<'de> for One {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Address::deserialize(from).map(One)
            }
        }
        let mut all = Vec::new();
        while let Some(One(one)) = seq.next_element()? {
            all.push(one);
        }
        if all.is_empty() {
            return Err(A::Error::custom("must list at least one address"));
        }
        Ok(all)
    }
}

fn address<E: Error>(text: &str) -> Result<SocketAddr, E> {
    text.parse().map_err(|_| {
        E::custom("must be an IP address and a port, such as \"127.0.0.1:8700\" or \"[::1]:8700\"")
    })
}

impl File {
    /// The name under which our deserializer hands out paths that are already resolved.
    pub(crate) const NAME: &'static str = "fender::File";

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        struct Resolved;
        impl<'de> Visitor<'de> for Resolved {
            type Value = PathBuf;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<PathBuf, D::Error> {
                let text = String::deserialize(from)?;
                if text.is_empty() {
                    return Err(D::Error::custom("must name a file"));
                }
                Ok(PathBuf::from(text))
            }
        }
        from.deserialize_newtype_struct(Self::NAME, Resolved)
    }
}

impl OptionalFile {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        File::deserialize(from).map(Some)
    }
}

impl UrlOrNone {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(None);
        }
        Url::parse(&text).map(Some).map_err(D::Error::custom)
    }
}

impl Methods {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Method>, D::Error> {
        struct One(Method);
        impl<'de> Deserialize<'de> for One {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                let method = Method::from_bytes(text.as_bytes()).ok();
                let known =
                    method.filter(|_| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-'));
                known
                    .map(One)
                    .ok_or_else(|| D::Error::custom("must be a method in capitals, such as \"GET\""))
            }
        }
        let all = Vec::<One>::deserialize(from)?;
        Ok(all.into_iter().map(|one| one.0).collect())
    }
}

impl HeaderNames {
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HeaderName>, D::Error> {
        struct One(HeaderName);
        impl<'de> Deserialize<'de> for One {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                header_name(&String::deserialize(from)?).map(One)
            }
        }
        let all = Vec::<One>::deserialize(from)?;
        Ok(all.into_iter().map(|one| one.0).collect())
    }
}

/// A header name, or why not.
pub(crate) fn header_name<E: Error>(text: &str) -> Result<HeaderName, E> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| E::custom("must be a header name, such as \"x-request-id\""))
}

macro_rules! schema {
    ($($marker:ident $schema:tt;)*) => {$(
        impl JsonSchema for $marker {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($marker).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema! {
    Address {"type": "string", "examples": ["127.0.0.1:8701"]};
    AddressOrNone {"type": "string", "examples": ["", "0.0.0.0:8702"]};
    Addresses {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}], "examples": ["127.0.0.1:8700"]};
    File {"type": "string", "minLength": 1};
    OptionalFile {"type": "string", "minLength": 1};
    UrlOrNone {"type": "string", "pattern": r"^$|^https?://|\$\{"};
    Methods {"type": "array", "items": {"type": "string", "pattern": r"^[A-Z-]+$|\$\{"}};
    HeaderNames {"type": "array", "items": {"type": "string"}};
}
