//! What no single value shows: contradictions, dangling names, files that cannot be read. Everything is looked at, always.

mod admin;
mod dead_letter;
mod fallback;
mod listeners;
mod notify;
mod policies;
mod route;
mod tls;
mod upstream;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::model::Config;
use super::problem::Problem;
use super::tree::{Node, Step, steps};

/// All that contradicts itself or leads nowhere, and what is doubtful; and every file that the config names.
pub(super) fn validate(
    config: &Config,
    tree: &Node,
    taken: &BTreeSet<String>,
) -> (Vec<Problem>, Vec<PathBuf>) {
    let mut check = Check { tree, taken, problems: Vec::new(), files: Vec::new() };
    listeners::check(config, &mut check);
    admin::check(config, &mut check);
    for (name, upstream) in &config.upstream {
        upstream::check(name, upstream, &mut check);
    }
    route::check(config, &mut check);
    fallback::check(config, &mut check);
    dead_letter::check(config, &mut check);
    notify::check(config, &mut check);
    if config.upstream.is_empty() && taken.is_empty() {
        check.warn(
            &steps![],
            "no upstream: every request will get 404",
            "add [upstream.NAME] with a url and a route",
        );
    }
    (check.problems, check.files)
}

struct Check<'t> {
    tree: &'t Node,
    /// What was wrong already and taken off: that it is missing is no further problem.
    taken: &'t BTreeSet<String>,
    problems: Vec<Problem>,
    files: Vec<PathBuf>,
}

impl Check<'_> {
    fn wrong(&mut self, path: &[Step], message: impl Into<String>, help: impl Into<String>) {
        let problem = Problem::value_of(self.tree, path, message);
        self.push(problem, help.into());
    }

    fn warn(&mut self, path: &[Step], message: impl Into<String>, help: impl Into<String>) {
        let problem = Problem::value_of(self.tree, path, message).warning();
        self.push(problem, help.into());
    }

    /// Two keys of one table contradict each other; the first is shown as the culprit.
    fn contradiction(&mut self, path: &[Step], other: &[Step], message: impl Into<String>) {
        let problem = Problem::value_of(self.tree, path, message);
        let problem = match self.tree.at(other) {
            Some(node) => problem.at(node.origin.value_place(), "against this"),
            None => problem,
        };
        self.push(problem, String::new());
    }

    fn push(&mut self, problem: Problem, help: String) {
        let problem = if help.is_empty() { problem } else { problem.help(help) };
        let known = self.problems.iter().any(|other| match (other.place(), problem.place()) {
            (Some(one), Some(another)) => one.same(another) && other.message == problem.message,
            _ => false,
        });
        if !known && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Whether the user set it, and not the defaults.
    fn is_users(&self, path: &[Step]) -> bool {
        self.tree.at(path).is_some_and(Node::is_users)
    }

    /// Whether this was wrong already, and is missing for that reason.
    fn was_taken(&self, path: &[Step]) -> bool {
        self.taken.contains(&self.tree.name_of(path))
    }

    /// Whether the user wrote both keys in one layer, so that their contradiction is his own.
    fn both_written(&self, table: &[Step], one: &str, other: &str) -> bool {
        let written =
            |key: &str| self.tree.at(table).and_then(|node| node.key(key)).is_some_and(Node::is_users);
        written(one) && written(other)
    }
}

fn below(path: &[Step], key: &str) -> Vec<Step> {
    let mut longer = path.to_vec();
    longer.push(Step::from(key));
    longer
}

const PROBLEMS_MAX: usize = 200; // Nobody reads more.
