//! What the contract names but this version does not do yet: refused when a user sets it, marked in the schema.
//!
//! Building a policy means deleting its lines here.

use super::problem::{Kind, Problem};
use super::tree::{Node, Step, Value};

/// A key that is not built yet.
pub(super) struct Unbuilt {
    /// Its path; `*` stands for any name or number.
    pub(super) path: &'static str,
    /// The values of it that are built all the same.
    pub(super) but: &'static [&'static str],
    /// What it will do.
    pub(super) what: &'static str,
}

const fn key(path: &'static str, what: &'static str) -> Unbuilt {
    Unbuilt { path, but: &[], what }
}

/// All of them. A table stands for everything in it.
pub(super) const UNBUILT: &[Unbuilt] = &[
    key("upstream.*.proxy", "an egress proxy"),
    key("upstream.*.stream.keepalive", "comments that keep a stream alive"),
    key("route.*.stream.keepalive", "comments that keep a stream alive"),
];

/// A problem for each key of the user's that is not built yet.
pub(super) fn refuse(tree: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    for unbuilt in UNBUILT {
        let pattern: Vec<&str> = unbuilt.path.split('.').collect();
        find(tree, &pattern, &mut Vec::new(), &mut |path, node| {
            let built = node.text().is_some_and(|text| unbuilt.but.contains(&text));
            if !built {
                let message = format!("not built yet: {} will come with a later version", unbuilt.what);
                let mut problem = Problem::new(tree.name_of(path), message).at(node.origin.key_place(), "");
                problem.kind = Kind::NotBuilt;
                problems.push(problem.help("take this key out"));
            }
        });
    }
    problems
}

/// Whether one step of a pattern fits a key.
pub(super) fn matches(want: &str, have: &str) -> bool {
    want == "*" || want == have
}

fn find(node: &Node, pattern: &[&str], path: &mut Vec<Step>, found: &mut dyn FnMut(&[Step], &Node)) {
    let Some((want, rest)) = pattern.split_first() else {
        return found(path, node);
    };
    let mut down = |step: Step, child: &Node| {
        path.push(step);
        find(child, rest, path, found);
        path.pop();
    };
    match &node.value {
        Value::Table(table) => {
            for (key, child) in table.iter().filter(|(key, _)| matches(want, key)) {
                down(Step::Key(key.clone()), child);
            }
        }
        Value::Array(items) if *want == "*" => {
            for (number, item) in items.iter().enumerate() {
                down(Step::Item(number), &item.node);
            }
        }
        _ => {}
    }
}
