//! What tells one breaker, bucket or queue from the next: a word, a header's value or a JSON field's.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A key as the config words it; `W` holds the plain words that this place allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<W> {
    /// One of the plain words.
    Word(W),
    /// `header:NAME`, in lower case.
    Header(String),
    /// `json:/pointer`, an RFC 6901 pointer into the body.
    Json(String),
}

impl<'de, W: Deserialize<'de>> Deserialize<'de> for Key<W> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(KeyVisitor(PhantomData))
    }
}

struct KeyVisitor<W>(PhantomData<W>);

impl<'de, W: Deserialize<'de>> Visitor<'de> for KeyVisitor<W> {
    type Value = Key<W>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word, \"header:NAME\" or \"json:/pointer\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if let Some(name) = text.strip_prefix("header:") {
            if !is_header_name(name) {
                return Err(E::custom("what follows \"header:\" must be a header name"));
            }
            return Ok(Key::Header(name.to_ascii_lowercase()));
        }
        if let Some(pointer) = text.strip_prefix("json:") {
            if !pointer.starts_with('/') {
                return Err(E::custom(
                    "what follows \"json:\" must be a JSON pointer, which starts with a slash",
                ));
            }
            return Ok(Key::Json(pointer.to_owned()));
        }
        W::deserialize(StrDeserializer::new(text)).map(Key::Word)
    }
}

impl<W: JsonSchema> JsonSchema for Key<W> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Key", W::schema_name().trim_end_matches("Word")).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                generator.subschema_for::<W>(),
                {"type": "string", "pattern": "^(header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|json:/.*)$"},
            ]
        })
    }
}

/// Whether this is a header name (an RFC 9110 token).
pub fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
