//! `[dialect.NAME]`: laid over what it starts from, compiled, and handed to the upstreams that speak it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::load::Loaded;
use super::model::{Config, Preset, Upstream};
use super::parse::parse;
use super::problem::{Kind, Problem};
use super::read::nearest;
use super::tree::{Layer, Node, Step, Table, Value, steps};
use crate::dialect::{At, Dialect, builtin};

/// Lays each of the user's dialects over what it starts from: what it `extends`, else the built-in one of its name, else
/// the generic one. Tables merge, all else replaces.
pub(super) fn lay_over(user: &mut Node) -> Vec<Problem> {
    let Some(written) = user.key("dialect").and_then(Node::table).cloned() else {
        return Vec::new();
    };
    let mut laying = Laying { written: &written, problems: Vec::new() };
    let whole: Vec<(String, Node)> = written
        .iter()
        .filter(|(_, node)| node.table().is_some()) // serde says what is wrong with the others
        .map(|(name, _)| (name.clone(), laying.whole(name, &mut Vec::new())))
        .collect();
    let problems = laying.problems;
    if let Value::Table(root) = &mut user.value
        && let Some(Node { value: Value::Table(dialects), .. }) = root.get_mut("dialect")
    {
        dialects.extend(whole);
    }
    problems
}

struct Laying<'w> {
    written: &'w Table,
    problems: Vec<Problem>,
}

impl Laying<'_> {
    /// The user's dialect of this name over all that is below it.
    fn whole(&mut self, name: &str, trail: &mut Vec<String>) -> Node {
        trail.push(name.to_owned());
        let Some(own) = self.written.get(name).cloned() else {
            return built_in(name);
        };
        let lower = match own.key("extends").and_then(Node::text) {
            Some(from) if from == name && builtin::text(from).is_some() => built_in(from),
            Some(from) if trail.iter().any(|other| other == from) => {
                self.wrong(
                    name,
                    &own,
                    format!("goes in a circle: {} -> {from}", trail.join(" -> ")),
                    String::new(),
                );
                built_in(GENERIC)
            }
            Some(from) if self.written.contains_key(from) => self.whole(from, trail),
            Some(from) if builtin::text(from).is_some() => built_in(from),
            Some(from) => {
                let mut names: Vec<&str> = builtin::names().collect();
                names.extend(self.written.keys().map(String::as_str));
                let help = suggestion(from, &names);
                self.wrong(name, &own, "no dialect has this name".to_owned(), help);
                built_in(GENERIC)
            }
            None if builtin::text(name).is_some() => built_in(name),
            None => built_in(GENERIC),
        };
        own.over(lower)
    }

    fn wrong(&mut self, name: &str, own: &Node, message: String, help: String) {
        let tree = Node::new(Value::Table(self.written.clone()), own.origin.clone());
        let problem = Problem::value_of(&tree, &steps![name, "extends"], message);
        let known = self.problems.iter().any(|other| other.key == format!("dialect.{}", problem.key));
        if !known {
            let problem = if help.is_empty() { problem } else { problem.help(help) };
            self.problems.push(Problem { key: format!("dialect.{}", problem.key), ..problem });
        }
    }
}

/// A built-in dialect's file over those that it extends.
fn built_in(name: &str) -> Node {
    let text = builtin::text(name).unwrap_or_default();
    let layer = Layer::Dialect(name.to_owned());
    let (own, problems) = parse(&format!("dialects/{name}.toml"), PathBuf::new(), text, layer);
    debug_assert!(problems.is_empty(), "a built-in dialect is TOML");
    match own.key("extends").and_then(Node::text).map(str::to_owned) {
        Some(from) if from != name => own.over(built_in(&from)),
        _ => own,
    }
}

/// Compiles the user's dialects and tells each upstream which one it speaks.
pub(super) fn settle(config: &mut Config, tree: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut own: BTreeMap<String, Arc<Dialect>> = BTreeMap::new();
    for (name, spec) in &config.dialect {
        match Dialect::compile(name, spec.clone()) {
            Ok(dialect) => {
                own.insert(name.clone(), Arc::new(dialect));
            }
            Err(faults) => {
                // A broken one is known by its name all the same.
                own.insert(name.clone(), Dialect::generic());
                for fault in faults {
                    let way = fault.at.iter().map(|at| match at {
                        At::Key(key) => Step::from(key),
                        At::Item(number) => Step::from(*number),
                    });
                    let path: Vec<Step> = steps!["dialect", name].into_iter().chain(way).collect();
                    let problem = Problem::value_of(tree, &path, fault.message);
                    problems.push(if fault.help.is_empty() { problem } else { problem.help(fault.help) });
                }
            }
        }
    }
    for (name, upstream) in &mut config.upstream {
        match chosen(upstream, &own) {
            Ok(dialect) => upstream.spoken = dialect,
            Err(wrong) => problems.push(wrong(tree, &steps!["upstream", name, "dialect"])),
        }
    }
    problems
}

type Wrong = Box<dyn Fn(&Node, &[Step]) -> Problem>;

/// By its name; `auto`: by the URL's host, the user's own dialects first; then by the preset.
fn chosen(upstream: &Upstream, own: &BTreeMap<String, Arc<Dialect>>) -> Result<Arc<Dialect>, Wrong> {
    let named = |name: &str| own.get(name).cloned().or_else(|| builtin::dialect(name));
    if upstream.dialect != "auto" {
        return named(&upstream.dialect).ok_or_else(|| unknown(&upstream.dialect, own));
    }
    let host = upstream.urls.first().map(|url| url.host().to_owned()).unwrap_or_default();
    let by_host = own
        .values()
        .find(|dialect| dialect.is_of(&host))
        .cloned()
        .or_else(|| builtin::of_host(&host).and_then(|dialect| named(dialect.name())));
    let by_preset = || named(if upstream.preset == Preset::Ai { "openai" } else { GENERIC });
    Ok(by_host.or_else(by_preset).unwrap_or_else(Dialect::generic))
}

fn unknown(name: &str, own: &BTreeMap<String, Arc<Dialect>>) -> Wrong {
    if NOT_BUILT.contains(&name) {
        return Box::new(|tree, path| {
            let message = "not built yet: this dialect will come with a later version";
            Problem::value_of(tree, path, message).kind(Kind::NotBuilt).help("take this key out")
        });
    }
    let mut names = vec!["auto"];
    names.extend(builtin::names());
    names.extend(own.keys().map(String::as_str));
    let help = suggestion(name, &names);
    Box::new(move |tree, path| Problem::value_of(tree, path, "no dialect has this name").help(help.clone()))
}

fn suggestion(given: &str, names: &[&str]) -> String {
    match nearest(given, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("dialects: {}", names.join(", ")),
    }
}

impl Loaded {
    /// The user's dialects: their names and what they say about themselves.
    pub fn own_dialects(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.dialect.iter().map(|(name, spec)| (name.as_str(), spec.about.as_str()))
    }

    /// One of the user's dialects as TOML, with all that it starts from.
    pub fn own_dialect(&self, name: &str) -> Option<String> {
        self.config.dialect.get(name)?;
        self.tree.key("dialect")?.key(name).map(Node::document)
    }
}

const GENERIC: &str = "generic";
const NOT_BUILT: &[&str] = &["bedrock"];

/// A path without what any built-in dialect takes for a secret.
#[must_use]
pub fn without_secrets(path: &str) -> String {
    let dialects = builtin::names().filter_map(builtin::dialect);
    dialects.fold(path.to_owned(), |path, dialect| dialect.masked(&path).into_owned())
}
