//! Texts with places to fill in: `{"error":{"message":"{detail}"}}`.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer};

/// A text with names in braces. Braces around anything but a small-letter word are plain, as JSON needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Name(String),
}

impl Template {
    /// Takes a text apart.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            match after.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, behind)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Plain(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Name(name.to_owned()));
                    rest = behind;
                }
                None => {
                    plain.push('{');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        Self { parts }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The names in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Plain(_) => None,
        })
    }

    /// Filled in as it stands.
    pub(super) fn fill<'v>(&self, value: &dyn Fn(&str) -> Cow<'v, str>) -> String {
        self.with(|name, text| text.push_str(&value(name)))
    }

    /// Filled in so that a JSON text stays one: each value may stand between quotes, a number also without.
    pub(super) fn fill_json<'v>(&self, value: &dyn Fn(&str) -> Cow<'v, str>) -> String {
        self.with(|name, text| {
            let quoted = serde_json::Value::from(value(name)).to_string();
            text.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
        })
    }

    fn with(&self, mut put: impl FnMut(&str, &mut String)) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(plain) => text.push_str(plain),
                Part::Name(name) => put(name, &mut text),
            }
        }
        text
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self::parse(&text))
    }
}
