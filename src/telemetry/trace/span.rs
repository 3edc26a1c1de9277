//! One span, and what it says.

use std::borrow::Cow;

use super::context::Context;

/// What happened between two moments.
#[derive(Debug, Clone)]
pub struct Span {
    /// Itself.
    pub context: Context,
    /// The span that it is a part of; `true`: somebody else's.
    pub parent: Option<(u64, bool)>,
    pub kind: Kind,
    pub name: String,
    /// Nanoseconds since 1970.
    pub began: u64,
    pub ended: u64,
    pub attributes: Vec<(Cow<'static, str>, Value)>,
    pub events: Vec<Event>,
    /// Events that were left out.
    pub events_left_out: u32,
    /// A span of another trace that it goes back to.
    pub link: Option<Context>,
    /// It failed, and why.
    pub error: Option<String>,
}

/// Whose side of an exchange it is, in OTLP's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Server = 2,
    Client = 3,
    Consumer = 5,
}

/// One moment of a span.
#[derive(Debug, Clone)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub at: u64,
    pub name: &'static str,
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// Longer texts are cut.
const TEXT_MAX: usize = 512;

impl Value {
    /// A text, of which as much is kept as is worth reading.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut end = text.len().min(TEXT_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Text(text.get(..end).unwrap_or_default().to_owned())
    }

    /// A whole number.
    #[must_use]
    pub fn int(number: impl TryInto<i64>) -> Self {
        Self::Int(number.try_into().unwrap_or(i64::MAX))
    }

    fn bytes(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }
}

impl Span {
    /// What it costs in memory, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let of = |all: &[(Cow<'static, str>, Value)]| {
            let texts: usize = all.iter().map(|(name, value)| name.len() + value.bytes()).sum();
            texts + size_of_val(all)
        };
        let events: usize = self.events.iter().map(|event| size_of::<Event>() + of(&event.attributes)).sum();
        let texts = self.name.len() + self.error.as_ref().map_or(0, String::len);
        (size_of::<Self>() + texts + of(&self.attributes) + events) as u64
    }
}
