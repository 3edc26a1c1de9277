//! From files to a config, or to everything that is wrong with them.

use std::path::{Path, PathBuf};

use super::defaults::{Defaults, put};
use super::model::Config;
use super::parse::parse;
use super::problem::{Kind, Problem, Problems, Severity};
use super::read::Reader;
use super::tree::{Layer, Node, Step, steps};
use super::{dialects, interpolate, resolve, source, unbuilt, validate};

/// A config that is in order, and what came with it.
#[derive(Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What is allowed but doubtful.
    pub warnings: Vec<Problem>,
    /// Every file to watch: config files (or their folder), certificates, keys, secrets.
    pub files: Vec<PathBuf>,
    /// How many config files there are.
    pub config_files: usize,
    /// Every value in force, and who set it.
    pub(super) tree: Node,
}

/// One config text, and where its relative paths start.
pub(super) struct Written {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) text: String,
}

/// Reads a config file, or all `*.toml` of a folder in name order.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let files = source::files_of(path).map_err(|why| unreadable(vec![why]))?;
    let mut written = Vec::new();
    let mut complaints = Vec::new();
    for file in &files {
        match source::read(file) {
            Ok(text) => written.push(Written {
                name: file.display().to_string(),
                folder: file.parent().map(Path::to_owned).unwrap_or_default(),
                text,
            }),
            Err(why) => complaints.push(why),
        }
    }
    if !complaints.is_empty() {
        return Err(unreadable(complaints));
    }
    let mut loaded = load_written(written, &from_process, Strictness::Released)?;
    let mut watched = files;
    if path.is_dir() {
        watched.push(path.to_owned());
    }
    watched.append(&mut loaded.files);
    watched.sort();
    watched.dedup();
    loaded.files = watched;
    Ok(loaded)
}

/// Reads a config from a text, as if it were a file of that name in the working folder.
pub fn load_text(name: &str, text: &str) -> Result<Loaded, Problems> {
    load_text_with(name, text, &from_process)
}

/// As `load_text`, with another environment.
pub fn load_text_with(
    name: &str,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load_written(vec![in_working_folder(name, text)], environment, Strictness::Released)
}

/// As `load_text`, but keys that are not built yet are read and checked instead of refused.
pub fn load_text_ahead(name: &str, text: &str) -> Result<Loaded, Problems> {
    load_written(vec![in_working_folder(name, text)], &from_process, Strictness::Ahead)
}

/// Whether keys that are not built yet are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    Released,
    Ahead,
}

fn load_written(
    written: Vec<Written>,
    environment: &dyn Fn(&str) -> Option<String>,
    strictness: Strictness,
) -> Result<Loaded, Problems> {
    let config_files = written.len();
    let defaults = Defaults::read();
    let (mut user, mut problems) = merged(written, &defaults);
    let broken = !problems.is_empty();
    let mut interpolated = interpolate::interpolate(&mut user, environment);
    let mut files = std::mem::take(&mut interpolated.files);
    problems.append(&mut interpolated.problems);
    if strictness == Strictness::Released {
        problems.extend(unbuilt::refuse(&user));
    }
    problems.extend(resolve::refuse_budgets(&mut user));
    problems.extend(dialects::lay_over(&mut user));

    let mut reader = Reader { problems, taken: Default::default(), broken };
    // From the last to the first, so that taking an element off moves none that is still to come.
    for path in interpolated.broken.iter().rev() {
        reader.taken.insert(user.name_of(path));
        user.peel(path);
    }
    let mut tree = resolve::without_routes(user.clone(), &defaults);
    let mut read = reader
        .read(&mut tree)
        .and_then(|_| {
            let routes = resolve::routes(&user, &tree, &defaults);
            put(&mut tree, "route", routes);
            reader.read(&mut tree)
        })
        .map(|config| finished(config, &user));
    let mut problems = reader.problems;
    let of_dialects = read.as_mut().map(|config| dialects::settle(config, &tree));
    if let Some(config) = read.as_ref().filter(|_| !broken) {
        let (more, named) = validate::validate(config, &tree, &reader.taken);
        problems.extend(of_dialects.into_iter().flatten());
        problems.extend(more);
        files.extend(named);
    }
    let problems = problems.into_iter().map(|problem| interpolated.redacted(problem));
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.partition(|problem| problem.severity == Severity::Error);
    match read {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings, files, config_files, tree }),
        _ => Err(Problems(in_order(errors))), // Doubts can wait until it works.
    }
}

/// All files as one tree.
fn merged(written: Vec<Written>, defaults: &Defaults) -> (Node, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut whole: Option<Node> = None;
    for one in written {
        let (tree, syntax) = parse(&one.name, one.folder, &one.text, Layer::User);
        problems.extend(syntax);
        match &mut whole {
            Some(whole) => resolve::join(whole, tree, &mut Vec::<Step>::new(), &mut problems),
            None => whole = Some(tree),
        }
    }
    let nothing = || Node::new(super::tree::Value::Table(Default::default()), defaults.root.origin.clone());
    (whole.unwrap_or_else(nothing), problems)
}

/// What the shorthands stand for, and what only the written tree tells.
fn finished(mut config: Config, user: &Node) -> Config {
    for (number, route) in config.route.iter_mut().enumerate() {
        let says = |key: &str| user.at(&steps!["route", number, key]).is_some();
        route.plan.own_breaker = says("breaker");
        route.plan.own_limits = says("rate_limit");
    }
    for upstream in config.upstream.values_mut() {
        upstream.urls.extend(upstream.url.take());
        upstream.route = None;
    }
    config
}

/// By file and line; what is about no line comes first. Wrong values on a line that is no TOML are no news.
fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    let broken: Vec<_> =
        problems.iter().filter(|one| one.kind == Kind::Syntax).filter_map(Problem::place).cloned().collect();
    problems.retain(|problem| {
        problem.kind == Kind::Syntax
            || problem.place().is_none_or(|place| !broken.iter().any(|line| line.same_line(place)))
    });
    problems.sort_by_cached_key(|problem| {
        problem.place().map(|place| (place.file().to_owned(), place.span.start, place.span.end))
    });
    problems
}

fn unreadable(complaints: Vec<String>) -> Problems {
    let problems = complaints.into_iter().map(|why| Problem::new("", why).kind(Kind::Syntax));
    Problems(problems.collect())
}

fn in_working_folder(name: &str, text: &str) -> Written {
    Written { name: name.to_owned(), folder: PathBuf::new(), text: text.to_owned() }
}

fn from_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
