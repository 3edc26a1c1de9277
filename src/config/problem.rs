//! One thing that is wrong with a config: the key, its value, why, where, and a way out.

use std::fmt;

use super::mask;
use super::source::Place;
use super::tree::{Node, Step, Value};

/// Whether a config with this problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// What kind of problem it is, for those who treat kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file is not TOML, or cannot be read.
    Syntax,
    /// Nothing has this name.
    UnknownKey,
    /// The value cannot stand here.
    Invalid,
    /// The name is reserved.
    NotBuilt,
    /// The key cannot change while the process runs.
    NeedsRestart,
}

/// One thing that is wrong with a config, or doubtful.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Whether the config can be used all the same.
    pub severity: Severity,
    /// What kind it is.
    pub kind: Kind,
    /// The key, as a user would write it; empty when the file as a whole is meant.
    pub key: String,
    /// The value as written, with secrets masked; `None` when it says nothing.
    pub value: Option<String>,
    /// Why; a fragment that follows the key.
    pub message: String,
    /// A way out.
    pub help: Option<String>,
    /// Where; the first place is the culprit's, the others explain.
    pub(super) places: Vec<(Place, String)>,
    /// What must not be shown besides the source's own secrets.
    pub(super) hide: Vec<Place>,
}

/// All that is wrong with a config, in the order of the files.
#[derive(Clone, Debug)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problem {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            kind: Kind::Invalid,
            key: key.into(),
            value: None,
            message: message.into(),
            help: None,
            places: Vec::new(),
            hide: Vec::new(),
        }
    }

    /// About a file or value that reads well and cannot be used: a certificate that is none, a key that does not fit it.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self::new("", message)
    }

    pub(super) fn syntax(message: impl Into<String>, place: Place) -> Self {
        Self { kind: Kind::Syntax, ..Self::new("", message) }.at(place, "")
    }

    /// About the value at `path` in `tree`; it is shown if it is a scalar and no secret.
    pub(super) fn value_of(tree: &Node, path: &[Step], message: impl Into<String>) -> Self {
        let problem = Self::new(tree.name_of(path), message);
        let Some(node) = tree.at(path) else { return problem };
        let mut problem = problem;
        let place = node.origin.value_place();
        let is_scalar = !matches!(node.value, Value::Table(_) | Value::Array(_));
        if is_scalar {
            let shown = mask::masked(&place.source.text, place.span.clone(), &place.source.hidden);
            problem.value = (shown.chars().count() <= SHOWN_MAX && !shown.contains('\n')).then_some(shown);
            problem.at(place, "")
        } else {
            problem.at(node.origin.key_place(), "")
        }
    }

    pub(super) fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        self.places.push((place, label.into()));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub(super) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Where the culprit stands.
    pub fn place(&self) -> Option<&Place> {
        self.places.first().map(|(place, _)| place)
    }
}

/// The one-line form: `route[2].timeout.total = "5x": must be …`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.value) {
            ("", _) => f.write_str(&self.message),
            (key, Some(value)) => write!(f, "{key} = {value}: {}", self.message),
            (key, None) => write!(f, "{key}: {}", self.message),
        }
    }
}

impl Problems {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, on their own.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    /// Never true of what `load` returns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One line each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            if let Some(place) = problem.place() {
                write!(f, "{place}: ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

const SHOWN_MAX: usize = 80;
