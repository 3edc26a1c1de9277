//! The tree into the model, with every wrong value found: what is wrong is told, taken off, and the rest read again.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

use super::de::{Error, Kind as Wrong};
use super::model::Config;
use super::problem::{Kind, Problem};
use super::tree::{Node, Step, Value};
use crate::policy::window::LARGEST_COUNT;

/// Reads the model, repairing the tree as it goes.
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// The names of what was taken off: that it is missing is no further problem.
    pub(super) taken: BTreeSet<String>,
    /// Whether keys may be missing because a file could not be parsed.
    pub(super) broken: bool,
}

impl Reader {
    /// The model, or `None` when the tree is beyond repair.
    pub(super) fn read(&mut self, tree: &mut Node) -> Option<Config> {
        for _ in 0..REPAIRS_MAX {
            match Config::deserialize(&*tree) {
                Ok(config) => return Some(config),
                Err(error) => {
                    let path = error.0.path();
                    self.tell(tree, &path, &error.0);
                    self.taken.insert(tree.name_of(&path));
                    if !tree.peel(&path) {
                        if self.problems.is_empty() {
                            self.problems.push(Problem::new("", "cannot be read as a config"));
                        }
                        return None;
                    }
                }
            }
        }
        self.problems
            .push(Problem::new("", format!("more than {REPAIRS_MAX} problems; the rest was not looked at")));
        None
    }

    fn tell(&mut self, tree: &Node, path: &[Step], error: &Error) {
        if let Wrong::Missing(key) = &error.kind {
            let mut missing = path.to_vec();
            missing.push(Step::from(*key));
            if self.broken || self.taken.contains(&tree.name_of(&missing)) {
                return;
            }
        }
        self.problems.push(describe(tree, path, &error.kind));
    }
}

fn describe(tree: &Node, path: &[Step], wrong: &Wrong) -> Problem {
    match wrong {
        Wrong::UnknownKey(expected) => unknown_key(tree, path, expected),
        Wrong::UnknownWord(expected) => {
            let problem = Problem::value_of(tree, path, format!("must be {}", one_of(expected)));
            let given = tree.at(path).and_then(Node::text).unwrap_or_default();
            match nearest(given, expected) {
                Some(word) => problem.help(format!("did you mean \"{word}\"?")),
                None => problem,
            }
        }
        Wrong::WrongType { found, expected } => {
            let problem =
                Problem::value_of(tree, path, format!("must be {}, not {found}", in_words(expected)));
            match way_out(tree.at(path), expected) {
                Some(help) => problem.help(help),
                None => problem,
            }
        }
        Wrong::OutOfRange { negative, expected } => {
            Problem::value_of(tree, path, out_of_range(*negative, expected))
        }
        Wrong::Missing(key) => {
            let place = tree.at(path).map(|node| node.origin.key_place());
            let problem = Problem::new(tree.name_of(path), format!("must have `{key}`"));
            match place {
                Some(place) => problem.at(place, ""),
                None => problem,
            }
        }
        Wrong::Message(message) => Problem::value_of(tree, path, message.clone()),
    }
}

fn unknown_key(tree: &Node, path: &[Step], expected: &[&'static str]) -> Problem {
    let key = match path.last() {
        Some(Step::Key(key)) => key.as_str(),
        _ => "",
    };
    let mut problem = Problem::new(tree.name_of(path), "unknown key").kind(Kind::UnknownKey);
    if let Some(node) = tree.at(path) {
        problem = problem.at(node.origin.key_place(), "");
        // It may be a misspelt secret.
        let texts = node
            .leaves()
            .into_iter()
            .filter(|(_, leaf)| !matches!(leaf.value, Value::Bool(_) | Value::Integer(_) | Value::Float(_)));
        problem.hide = texts.map(|(_, leaf)| leaf.origin.value_place()).collect();
    }
    match nearest(key, expected) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("keys that may stand here: {}", expected.join(", "))),
    }
}

/// The nearest of `words`, if it is near enough to be meant.
pub fn nearest<'w>(given: &str, words: &[&'w str]) -> Option<&'w str> {
    if given.len() > NEAR_MAX {
        return None;
    }
    let scored = words.iter().map(|word| (strsim::jaro_winkler(&given.to_ascii_lowercase(), word), *word));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(score, _)| *score >= 0.8).map(|(_, word)| word)
}

fn one_of(words: &[&str]) -> String {
    let mut text = String::new();
    for (number, word) in words.iter().enumerate() {
        let between = match number {
            0 => "",
            _ if number + 1 == words.len() => " or ",
            _ => ", ",
        };
        write!(text, "{between}\"{word}\"").expect("invariant: writing to a String cannot fail");
    }
    text
}

/// What serde calls a type, as a user would.
fn in_words(expected: &str) -> &str {
    match expected {
        "f64" | "f32" => "a number",
        "i64" | "i32" | "u64" | "u32" | "u16" | "u8" | "usize" | "a nonzero u32" => "a whole number",
        "a sequence" => "an array",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn out_of_range(negative: bool, expected: &str) -> String {
    match expected {
        _ if negative => "must not be negative".to_owned(),
        "a nonzero u32" => format!("must be from 1 to {LARGEST_COUNT}"), // Only window_requests is one.
        "u32" => format!("must be at most {}", u32::MAX),
        "i32" => format!("must be at most {}", i32::MAX),
        other => format!("must be {}", in_words(other)),
    }
}

fn way_out(node: Option<&Node>, expected: &str) -> Option<String> {
    match (&node?.value, expected) {
        (Value::Integer(number), _) if *number >= 0 && expected.starts_with("a duration") => {
            Some(format!("write \"{number}s\" or \"{number}ms\""))
        }
        (Value::Integer(number), _) if *number >= 0 && expected.starts_with("a size") => {
            Some(format!("write \"{number}B\""))
        }
        (Value::Integer(_), "a string") => Some("put it in quotes".to_owned()),
        (Value::Text(text), "a boolean") if matches!(text.raw.as_str(), "true" | "false") => {
            Some("take the quotes off".to_owned())
        }
        (Value::Text(text), _)
            if in_words(expected).ends_with("number") && text.raw.parse::<f64>().is_ok() =>
        {
            Some("take the quotes off".to_owned())
        }
        (Value::Text(_), "a sequence") => Some("put it in brackets".to_owned()),
        _ => None,
    }
}

const REPAIRS_MAX: usize = 200; // Nobody reads more.
const NEAR_MAX: usize = 64;
