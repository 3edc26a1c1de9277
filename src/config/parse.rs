//! TOML text into a tree, with every syntax error at once.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::mask;
use super::problem::Problem;
use super::source::{Place, Source};
use super::tree::{Item, Label, Layer, Node, Origin, Table, Text, Value};

/// The tree of one file, and what is wrong with its syntax.
pub(super) fn parse(name: &str, folder: PathBuf, text: &str, layer: Layer) -> (Node, Vec<Problem>) {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().unwrap_or(0..0).start);
    let errors = first_of_each_line(text, &errors);
    let hidden = mask::hidden_in(text, table.get_ref(), !errors.is_empty());
    let whole = table.span();
    let source = Arc::new(Source { name: name.to_owned(), folder, text: text.to_owned(), hidden });
    let mut problems: Vec<Problem> = Vec::new();
    for (span, message) in errors {
        let source = Arc::clone(&source);
        problems.push(Problem::syntax(message, Place { source, span }));
    }
    let origin = Origin { layer, source, key: 0..0, value: whole };
    let mut growing = Growing { problems: &mut problems };
    let root = growing.table(table.get_ref(), &origin, 0);
    (Node::new(Value::Table(root), origin), problems)
}

/// The parser goes on after an error and often stumbles again on the same line.
fn first_of_each_line<'e>(text: &str, errors: &'e [toml::de::Error]) -> Vec<(Range<usize>, &'e str)> {
    let mut first: Vec<(Range<usize>, &str)> = Vec::new();
    let mut line_end = 0;
    for error in errors {
        let span = within(text, error.span().unwrap_or(0..0));
        if !first.is_empty() && span.start <= line_end {
            continue;
        }
        if first.len() == ERRORS_MAX {
            break;
        }
        let rest = text.get(span.start..).unwrap_or_default();
        line_end = span.start + rest.find('\n').unwrap_or(rest.len());
        first.push((span, in_words(error.message().trim())));
    }
    first
}

struct Growing<'p> {
    problems: &'p mut Vec<Problem>,
}

impl Growing<'_> {
    fn table(&mut self, table: &DeTable<'_>, parent: &Origin, depth: usize) -> Table {
        let entries = table.iter().filter_map(|(key, value)| {
            let origin = parent.child(key.span(), value.span());
            let node = self.node(value, origin, depth + 1)?;
            Some((key.get_ref().to_string(), node))
        });
        entries.collect()
    }

    fn array(&mut self, array: &DeArray<'_>, parent: &Origin, depth: usize) -> Vec<Item> {
        let items = array.iter().enumerate().filter_map(|(index, value)| {
            let origin = parent.child(value.span(), value.span());
            let node = self.node(value, origin, depth + 1)?;
            Some(Item { label: Label::Index(index), node })
        });
        items.collect()
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, origin: Origin, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            self.problems.push(Problem::syntax("nested too deeply", origin.key_place()));
            return None;
        }
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(Text { raw: Cow::into_owned(text.clone()), resolved: None }),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => return self.too_large(&origin),
            },
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => return self.too_large(&origin),
            },
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(array) => Value::Array(self.array(array, &origin, depth)),
            DeValue::Table(table) => Value::Table(self.table(table, &origin, depth)),
        };
        Some(Node::new(value, origin))
    }

    fn too_large(&mut self, origin: &Origin) -> Option<Node> {
        self.problems.push(Problem::syntax("not a number that can be held", origin.value_place()));
        None
    }
}

impl Origin {
    fn child(&self, key: Range<usize>, value: Range<usize>) -> Self {
        let text = &self.source.text;
        Self {
            layer: self.layer.clone(),
            source: Arc::clone(&self.source),
            key: within(text, key),
            value: within(text, value),
        }
    }
}

fn in_words(message: &str) -> &str {
    match message {
        "string values must be quoted, expected literal string" => {
            "a value is missing, or a text is not in quotes"
        }
        other => other,
    }
}

/// A range that the text has, on character boundaries.
fn within(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.ceil_char_boundary(range.end.clamp(start, text.len()));
    start..end
}

const ERRORS_MAX: usize = 50; // What follows is mostly echo.
const DEPTH_MAX: usize = 32; // The model is nowhere deeper than ten.
