//! A config as a tree of values that remember who set them.
//!
//! Layers merge here: tables key by key, all else whole. What a value replaced stays below it, so that a value
//! that turns out to be wrong can be taken off and the rest still be judged.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::source::{Place, Source};

/// A value, who set it, and what it replaced.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
    pub(super) below: Option<Box<Self>>,
}

/// What a config file can hold.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Text),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date,
    Array(Vec<Item>),
    Table(Table),
}

pub(super) type Table = BTreeMap<String, Node>;

/// A text as written, and what it stands for when it refers to the environment or to a file.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) raw: String,
    pub(super) resolved: Option<String>,
}

/// An element of an array, and how a message names it: its place stays what it was in the file.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) label: Label,
    pub(super) node: Node,
}

/// How a message names an element.
#[derive(Clone, Debug)]
pub(super) enum Label {
    /// By its number.
    Index(usize),
    /// As the `route` of this upstream.
    Shorthand(String),
}

/// Who set a value, and where.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) layer: Layer,
    pub(super) source: Arc<Source>,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Who set a value; later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Defaults,
    Dialect(String),
    Preset(String),
    Profile(String),
    User,
}

/// One step down the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        self.resolved.as_deref().unwrap_or(&self.raw)
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(text)") // It may be a secret.
    }
}

impl Origin {
    pub(super) fn key_place(&self) -> Place {
        Place { source: Arc::clone(&self.source), span: self.key.clone() }
    }

    pub(super) fn value_place(&self) -> Place {
        Place { source: Arc::clone(&self.source), span: self.value.clone() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.source.folder
    }
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, below: None }
    }

    pub(super) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Item] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    pub(super) fn key(&self, key: &str) -> Option<&Self> {
        self.table().and_then(|table| table.get(key))
    }

    pub(super) fn is_users(&self) -> bool {
        self.origin.layer == Layer::User
    }

    pub(super) fn is_array_of_tables(&self) -> bool {
        !self.items().is_empty() && self.items().iter().all(|item| item.node.table().is_some())
    }

    pub(super) fn at(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.key(key),
            Step::Item(number) => node.items().get(*number).map(|item| &item.node),
        })
    }

    fn at_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match (&mut node.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key),
            (Value::Array(items), Step::Item(number)) => items.get_mut(*number).map(|item| &mut item.node),
            _ => None,
        })
    }

    /// This tree over a lower one.
    pub(super) fn over(mut self, lower: Self) -> Self {
        match (&mut self.value, lower) {
            (Value::Table(upper), Self { value: Value::Table(lower), .. }) => {
                for (key, node) in lower {
                    let merged = match upper.remove(&key) {
                        Some(above) => above.over(node),
                        None => node,
                    };
                    upper.insert(key, merged);
                }
            }
            (_, lower) => self.below = Some(Box::new(lower)),
        }
        self
    }

    /// Takes off what stands at `path`, down to what it replaced. False if there is nothing to take off.
    pub(super) fn peel(&mut self, path: &[Step]) -> bool {
        let Some((last, parent)) = path.split_last() else {
            return false;
        };
        let Some(parent) = self.at_mut(parent) else {
            return false;
        };
        match (&mut parent.value, last) {
            (Value::Table(table), Step::Key(key)) => {
                let Some(node) = table.remove(key) else {
                    return false;
                };
                if let Some(below) = node.below {
                    table.insert(key.clone(), *below);
                }
                true
            }
            (Value::Array(items), Step::Item(number)) if *number < items.len() => {
                items.remove(*number);
                true
            }
            _ => false,
        }
    }

    /// The name of what stands at `path`, as a user would write it: `upstream.openai.retry.on[2]`.
    pub(super) fn name_of(&self, path: &[Step]) -> String {
        let mut name = String::new();
        let mut here = Some(self);
        for step in path {
            match step {
                Step::Key(key) => {
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&written_key(key));
                    here = here.and_then(|node| node.key(key));
                }
                Step::Item(number) => {
                    let item = here.and_then(|node| node.items().get(*number));
                    match item.map(|item| &item.label) {
                        Some(Label::Shorthand(upstream)) => {
                            return format!("upstream.{}.route", written_key(upstream));
                        }
                        Some(Label::Index(index)) => name.push_str(&format!("[{index}]")),
                        None => name.push_str(&format!("[{number}]")),
                    }
                    here = item.map(|item| &item.node);
                }
            }
        }
        name
    }
}

/// A key as TOML wants it: bare where it may be.
pub(super) fn written_key(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Step {
    fn from(number: usize) -> Self {
        Self::Item(number)
    }
}

/// A path through the tree, of keys and numbers.
macro_rules! steps {
    ($($step:expr),* $(,)?) => {
        Vec::<$crate::config::tree::Step>::from([$($crate::config::tree::Step::from($step)),*])
    };
}
pub(super) use steps;
