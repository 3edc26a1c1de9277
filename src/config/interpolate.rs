//! `${env:NAME}` and `${file:PATH}` in any string; `$${` is a literal `${`.

use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::source::read_bounded;
use super::tree::{Node, Step, Value};

/// Where environment variables come from.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What became of all references in one tree.
#[derive(Default)]
pub(super) struct Interpolated {
    pub(super) problems: Vec<Problem>,
    /// Where a reference could not be followed; the value there must not be judged.
    pub(super) broken: Vec<Vec<Step>>,
    /// The files that were read, and those that could not be.
    pub(super) files: Vec<PathBuf>,
    /// What the references stand for: no message may repeat it.
    pub(super) values: Vec<String>,
}

impl Interpolated {
    /// A problem that repeats nothing of what a reference stands for, whoever worded it.
    pub(super) fn redacted(&self, mut problem: Problem) -> Problem {
        // Shorter values say nothing, and would tear holes into plain words.
        for value in self.values.iter().filter(|value| value.len() >= 4) {
            for text in [Some(&mut problem.message), problem.help.as_mut()].into_iter().flatten() {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), "(hidden)");
                }
            }
        }
        problem
    }
}

/// Follows every reference in the tree.
pub(super) fn interpolate(tree: &mut Node, environment: Environment<'_>) -> Interpolated {
    let mut done = Interpolated::default();
    let mut complaints = Vec::new();
    walk(tree, &mut Vec::new(), environment, &mut done, &mut complaints);
    for Complaint { path, message, help } in complaints {
        done.problems.push(Problem::value_of(tree, &path, message).help(help));
        if done.broken.last() != Some(&path) {
            done.broken.push(path);
        }
    }
    done
}

/// What is wrong with a reference, before the whole tree can be asked how to name its place.
struct Complaint {
    path: Vec<Step>,
    message: String,
    help: String,
}

fn walk(
    node: &mut Node,
    path: &mut Vec<Step>,
    environment: Environment<'_>,
    done: &mut Interpolated,
    wrong: &mut Vec<Complaint>,
) {
    match &mut node.value {
        Value::Table(table) => {
            for (key, child) in table {
                path.push(Step::Key(key.clone()));
                walk(child, path, environment, done, wrong);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter_mut().enumerate() {
                path.push(Step::Item(number));
                walk(&mut item.node, path, environment, done, wrong);
                path.pop();
            }
        }
        Value::Text(text) if text.raw.contains("${") => {
            match resolve(&text.raw, node.origin.folder(), environment, done) {
                Ok(resolved) => text.resolved = Some(resolved),
                Err(complaints) => {
                    let placed = |(message, help)| Complaint { path: path.clone(), message, help };
                    wrong.extend(complaints.into_iter().map(placed));
                }
            }
        }
        _ => {}
    }
}

/// What a text stands for, or all that is wrong with it, each with a way out.
fn resolve(
    raw: &str,
    folder: &Path,
    environment: Environment<'_>,
    done: &mut Interpolated,
) -> Result<String, Vec<(String, String)>> {
    let mut resolved = String::new();
    let mut complaints = Vec::new();
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let body = reference.get(2..).unwrap_or_default();
        if let Some(literal) = before.strip_suffix('$') {
            resolved.push_str(literal);
            resolved.push_str("${");
            rest = body;
            continue;
        }
        resolved.push_str(before);
        let Some((name, after)) = body.split_once('}') else {
            complaints.push(("\"${\" is never closed".to_owned(), LITERAL.to_owned()));
            rest = "";
            break;
        };
        match follow(name, folder, environment, &mut done.files) {
            Ok(value) => {
                resolved.push_str(&value);
                done.values.push(value);
            }
            Err(complaint) => complaints.push(complaint),
        }
        rest = after;
    }
    resolved.push_str(rest);
    if complaints.is_empty() { Ok(resolved) } else { Err(complaints) }
}

fn follow(
    name: &str,
    folder: &Path,
    environment: Environment<'_>,
    files: &mut Vec<PathBuf>,
) -> Result<String, (String, String)> {
    if let Some(variable) = name.strip_prefix("env:") {
        let usable = !variable.is_empty() && !variable.contains(['=', '\0']);
        return usable.then(|| environment(variable)).flatten().ok_or_else(|| {
            (
                format!("the environment variable {variable} is not set"),
                format!("set {variable} where Fender starts"),
            )
        });
    }
    if let Some(path) = name.strip_prefix("file:") {
        let path = folder.join(path);
        files.push(path.clone());
        let text = read_bounded(&path, SECRET_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
        return match text {
            Ok(text) => Ok(without_newline(&text).to_owned()),
            Err(why) => Err((
                format!("cannot read {}: {why}", path.display()),
                "a relative path starts from the folder of the config file".to_owned(),
            )),
        };
    }
    Err(("must refer to ${env:NAME} or ${file:PATH}".to_owned(), LITERAL.to_owned()))
}

/// One trailing newline is cut.
fn without_newline(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

const LITERAL: &str = "write $${ for a literal ${";
const SECRET_MAX: u64 = 1 << 20;
