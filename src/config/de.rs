//! The tree into the model, by serde, with errors that say where and what rather than only that.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::model::values::File;
use super::tree::{Item, Node, Step, Value};

/// What serde ran into, and where.
#[derive(Debug)]
pub(super) struct Error {
    /// From the leaf to the root while it is carried up; see `path`.
    steps: Vec<Step>,
    pub(super) kind: Kind,
}

/// What serde ran into.
#[derive(Debug)]
pub(super) enum Kind {
    /// The last step of the path is a key that nothing reads.
    UnknownKey(&'static [&'static str]),
    /// A word that is none of these.
    UnknownWord(&'static [&'static str]),
    /// A value of another type.
    WrongType { found: &'static str, expected: String },
    /// A value of the right type that cannot be held.
    OutOfRange { negative: bool, expected: String },
    /// A table that lacks a key.
    Missing(&'static str),
    /// What a type of ours says; it never repeats the value.
    Message(String),
}

impl Error {
    /// From the root to the leaf.
    pub(super) fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }

    fn of(kind: Kind) -> Box<Self> {
        Box::new(Self { steps: Vec::new(), kind })
    }
}

/// Boxed, so that results stay small.
#[derive(Debug)]
pub(super) struct Boxed(pub(super) Box<Error>);

impl Boxed {
    fn below(mut self, step: impl FnOnce() -> Step) -> Self {
        self.0.steps.push(step());
        self
    }
}

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.kind)
    }
}

impl std::error::Error for Boxed {}

impl serde::de::Error for Boxed {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Error::of(Kind::Message(message.to_string())))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a float",
            Unexpected::Str(_) => "a string",
            Unexpected::Seq => "an array",
            Unexpected::Map => "a table",
            Unexpected::Other(other) if other == DATE => DATE,
            _ => "something else",
        };
        Self(Error::of(Kind::WrongType { found, expected: expected.to_string() }))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let negative = matches!(found, Unexpected::Signed(number) if number < 0);
        Self(Error::of(Kind::OutOfRange { negative, expected: expected.to_string() }))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(Error::of(Kind::UnknownWord(expected)))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self(Error::of(Kind::UnknownKey(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Error::of(Kind::Missing(field)))
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Boxed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Boxed> {
        match &self.value {
            Value::Text(text) => visitor.visit_str(text.as_str()),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(positive) => visitor.visit_u64(positive),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Date => Err(Boxed::invalid_type(Unexpected::Other(DATE), &visitor)),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Table(table) => visitor.visit_map(Entries { entries: table.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Boxed> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Boxed> {
        match self.text() {
            Some(path) if name == File::NAME && !path.is_empty() => {
                let resolved = self.origin.folder().join(path);
                visitor.visit_newtype_struct(StrDeserializer::new(&resolved.to_string_lossy()))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Boxed> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(Word(text.as_str())),
            _ => self.deserialize_any(ExpectsWord).map(|never: Never| match never {}),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Boxed> {
        match self.value {
            // Serde would read a list as the fields in their order; nobody means that.
            Value::Array(_) => Err(Boxed::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Item],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Boxed;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Boxed> {
        let number = self.next;
        let Some(item) = self.items.get(number) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(&item.node).map(Some).map_err(|error| error.below(|| Step::Item(number)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.next))
    }
}

struct Entries<'de> {
    entries: std::collections::btree_map::Iter<'de, String, Node>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Boxed;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Boxed> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, node));
        let read = seed.deserialize(StrDeserializer::<Boxed>::new(key));
        read.map(Some).map_err(|error| error.below(|| Step::Key(key.clone())))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Boxed> {
        let (key, node) = self.value.take().ok_or_else(|| Boxed::custom("a value before its key"))?;
        seed.deserialize(node).map_err(|error| error.below(|| Step::Key(key.to_owned())))
    }
}

struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Boxed;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), Boxed> {
        seed.deserialize(StrDeserializer::new(self.0)).map(|word| (word, Unit))
    }
}

/// All words of ours stand alone.
struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = Boxed;

    fn unit_variant(self) -> Result<(), Boxed> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Boxed> {
        Err(Boxed::custom("must be a word alone"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Boxed> {
        Err(Boxed::custom("must be a word alone"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Boxed> {
        Err(Boxed::custom("must be a word alone"))
    }
}

enum Never {}

struct ExpectsWord;

impl Visitor<'_> for ExpectsWord {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
}

const DATE: &str = "a date";
