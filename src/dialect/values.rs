//! Values of a dialect's file that need more than a plain type. Messages never repeat the given text.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::pattern::Pattern;
use super::scan::Raw;
use super::template::Template;
use crate::policy::key::is_header_name;

/// What must stand in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anything but null and the empty string.
    Something,
    /// One of these.
    OneOf(Vec<Scalar>),
}

/// A plain JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    Text(String),
    /// A whole number, as it is written.
    Number(String),
    Bool(bool),
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(pub Vec<String>);

/// Statuses, and classes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet {
    /// Bit n stands for nxx.
    classes: u8,
    codes: Vec<u16>,
}

/// A host of URLs: a name, or `*.` and what it ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

/// A method and a pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodPath {
    pub(super) method: String,
    pub(super) path: Pattern,
}

/// A header's name; empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderText(pub(super) Option<HeaderName>);

/// Where a request may name something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceAt {
    /// In its body: a JSON pointer, whose first step is also the name of a form's field.
    Body(String),
    /// A parameter of its query.
    Query(String),
    /// What its path has at `{}`.
    Path(Pattern),
}

impl Expected {
    pub(super) fn meets(&self, value: Raw<'_>) -> bool {
        match self {
            Self::Something => value.is_something(),
            Self::OneOf(all) => all.iter().any(|one| one.is(value)),
        }
    }
}

impl Scalar {
    fn is(&self, value: Raw<'_>) -> bool {
        match (self, value) {
            (Self::Text(text), Raw::Text(inside, false)) => text.as_bytes() == inside,
            (Self::Text(text), Raw::Text(_, true)) => value.text().is_some_and(|value| value == *text),
            (Self::Number(number), Raw::Number(written)) => number.as_bytes() == written,
            (Self::Bool(flag), Raw::Bool(value)) => *flag == value,
            _ => false,
        }
    }
}

impl Texts {
    pub(super) fn has(&self, text: &str) -> bool {
        self.0.iter().any(|one| one == text)
    }

    /// Whether one of them stands somewhere in `text`, whatever the case of its letters.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        self.0.iter().any(|one| {
            let length = one.len();
            length == 0
                || text.as_bytes().windows(length).any(|part| part.eq_ignore_ascii_case(one.as_bytes()))
        })
    }
}

impl StatusSet {
    /// 400 to 599.
    #[must_use]
    pub const fn failures() -> Self {
        Self { classes: 1 << 4 | 1 << 5, codes: Vec::new() }
    }

    pub(super) fn has(&self, status: u16) -> bool {
        let class = status / 100;
        (class < 8 && self.classes & (1 << class) != 0) || self.codes.contains(&status)
    }
}

impl Host {
    /// Whether it stands for this host.
    #[must_use]
    pub fn is(&self, host: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some(end) => host
                .len()
                .checked_sub(end.len())
                .filter(|before| *before > 0)
                .and_then(|before| host.get(before..))
                .is_some_and(|host| host.eq_ignore_ascii_case(end)),
            None => host.eq_ignore_ascii_case(&self.0),
        }
    }
}

struct ExpectedVisitor;

impl<'de> Visitor<'de> for ExpectedVisitor {
    type Value = Expected;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a whole number, a boolean, or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Expected, E> {
        Ok(if text == "*" {
            Expected::Something
        } else {
            Expected::OneOf(vec![Scalar::Text(text.to_owned())])
        })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Expected, E> {
        Ok(Expected::OneOf(vec![Scalar::Number(number.to_string())]))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Expected, E> {
        Ok(Expected::OneOf(vec![Scalar::Number(number.to_string())]))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Expected, E> {
        Ok(Expected::OneOf(vec![Scalar::Bool(flag)]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Expected, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element::<Expected>()? {
            match one {
                Expected::OneOf(scalars) => all.extend(scalars),
                Expected::Something => return Err(A::Error::custom("\"*\" stands alone, not in a list")),
            }
        }
        Ok(Expected::OneOf(all))
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ExpectedVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or a list of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
            all.push(one);
        }
        Ok(Texts(all))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextsVisitor)
    }
}

struct StatusesVisitor;

impl<'de> Visitor<'de> for StatusesVisitor {
    type Value = StatusSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status such as 429, a class such as \"5xx\", or a list of them")
    }

    fn visit_i64<E: Error>(self, code: i64) -> Result<StatusSet, E> {
        let code = u16::try_from(code).ok().filter(|code| (100..=599).contains(code));
        let code = code.ok_or_else(|| E::custom("must be a status from 100 to 599"))?;
        Ok(StatusSet { classes: 0, codes: vec![code] })
    }

    fn visit_u64<E: Error>(self, code: u64) -> Result<StatusSet, E> {
        self.visit_i64(i64::try_from(code).unwrap_or(i64::MAX))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusSet, E> {
        let class = match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => class - b'0',
            _ => return Err(E::custom("must be a class such as \"5xx\"; a single status is a number")),
        };
        Ok(StatusSet { classes: 1 << class, codes: Vec::new() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StatusSet, A::Error> {
        let mut all = StatusSet { classes: 0, codes: Vec::new() };
        while let Some(one) = seq.next_element::<StatusSet>()? {
            all.classes |= one.classes;
            all.codes.extend(one.codes);
        }
        Ok(all)
    }
}

impl<'de> Deserialize<'de> for StatusSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StatusesVisitor)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(good) {
            return Err(D::Error::custom("must be a host such as \"api.example.com\" or \"*.example.com\""));
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for MethodPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (method, path) = text.split_once(' ').unwrap_or_default();
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(D::Error::custom(
                "must be a method and a path's pattern, such as \"POST **/completions\"",
            ));
        }
        Ok(Self { method: method.to_owned(), path: Pattern::parse(path).map_err(D::Error::custom)? })
    }
}

impl<'de> Deserialize<'de> for HeaderText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| is_header_name(&text));
        name.map(|name| Self(Some(name))).ok_or_else(|| D::Error::custom("must be a header name"))
    }
}

impl<'de> Deserialize<'de> for PlaceAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if let Some(name) = text.strip_prefix("query:") {
            return Ok(Self::Query(name.to_owned()));
        }
        if let Some(pattern) = text.strip_prefix("path:") {
            return Pattern::parse(pattern).map(Self::Path).map_err(D::Error::custom);
        }
        if text.starts_with('/') {
            return Ok(Self::Body(text));
        }
        Err(D::Error::custom(
            "must be a JSON pointer, which starts with a slash, \"query:NAME\" or \"path:PATTERN\"",
        ))
    }
}

macro_rules! schema {
    ($($name:ident $schema:tt;)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                concat!("Dialect", stringify!($name)).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema! {
    Expected {"type": ["string", "integer", "boolean", "array"], "items": {"type": ["string", "integer", "boolean"]}};
    Texts {"type": ["string", "array"], "items": {"type": "string"}};
    StatusSet {"type": ["integer", "string", "array"], "items": {"type": ["integer", "string"]}, "examples": [[429, "5xx"]]};
    Host {"type": "string", "examples": ["api.example.com", "*.example.com"]};
    MethodPath {"type": "string", "examples": ["POST **/chat/completions"]};
    HeaderText {"type": "string"};
    PlaceAt {"type": "string", "examples": ["/to", "query:chat_id", "path:**/deployments/{}/**"]};
    Pattern {"type": "string", "examples": ["**/bot{}/**"]};
    Template {"type": "string"};
}
