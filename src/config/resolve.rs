//! Who wins: defaults < preset < profile < upstream < route, key by key.

use super::defaults::{Defaults, put, take};
use super::problem::Problem;
use super::source::Place;
use super::tree::{Item, Label, Node, Step, Table, Value};

/// The user's tree over the profile over the defaults; routes are left out, since they lie over finished upstreams.
pub(super) fn without_routes(mut user: Node, defaults: &Defaults) -> Node {
    let profile = user.key("profile").and_then(Node::text).unwrap_or("production").to_owned();
    let (whole, of_upstreams) =
        defaults.profile(&profile).map_or((None, None), |(whole, up)| (Some(whole), up));
    if let Value::Table(table) = &mut user.value {
        table.remove("route");
    }
    if let Some(upstreams) = at_mut(&mut user, "upstream") {
        each_value(upstreams, |upstream| {
            let written = std::mem::replace(upstream, defaults.upstream.clone());
            *upstream = over_defaults(written, defaults, of_upstreams.as_ref());
        });
    }
    if let Some(tokens) = at_mut(&mut user, "admin").and_then(|admin| at_mut(admin, "token")) {
        each_entry(tokens, &defaults.token);
    }
    if let Some(hooks) = at_mut(&mut user, "notify") {
        each_entry(hooks, &defaults.notify);
    }
    match whole {
        Some(profile) => user.over(profile.over(defaults.root.clone())),
        None => user.over(defaults.root.clone()),
    }
}

/// The user's routes, and the shorthands of upstreams, each over its upstream's policies.
pub(super) fn routes(user: &Node, resolved: &Node, defaults: &Defaults) -> Node {
    let mut written = user.key("route").cloned();
    let mut items = match written.as_mut().map(|node| &mut node.value) {
        Some(Value::Array(items)) => std::mem::take(items),
        Some(_) => return written.unwrap_or_else(|| take(&mut defaults.root.clone(), "route")), // serde says what is wrong
        None => Vec::new(),
    };
    let upstreams = resolved.key("upstream").and_then(Node::table);
    for (name, upstream) in upstreams.into_iter().flatten() {
        if let Some(route) = upstream.key("route").filter(|route| route.text().is_some()) {
            items.push(shorthand(name, route));
        }
    }
    for item in &mut items {
        if item.node.table().is_none() {
            continue;
        }
        lists(&mut item.node, defaults);
        let upstream = item.node.key("upstream").and_then(Node::text);
        let upstream =
            upstream.and_then(|name| resolved.key("upstream")?.key(name)).unwrap_or(&defaults.upstream);
        let mut lower = defaults.route.clone();
        for key in OVERRIDABLE {
            if let Some(node) = upstream.key(key) {
                put(&mut lower, key, node.clone());
            }
        }
        let origin = lower.origin.clone();
        let written = std::mem::replace(&mut item.node, Node::new(Value::Table(Table::new()), origin));
        item.node = written.over(lower);
        outcomes(&mut item.node);
    }
    let origin = written.unwrap_or_else(|| resolved.clone()).origin;
    Node::new(Value::Array(items), origin)
}

/// What a route may say over its upstream.
pub(super) const OVERRIDABLE: [&str; 10] = [
    "timeout",
    "stream",
    "retry",
    "breaker",
    "rate_limit",
    "fallback",
    "dead_letter",
    "idempotent",
    "idempotency_header",
    "shed_at",
];

/// A route cannot have a retry budget of its own: the budget guards the upstream.
pub(super) fn refuse_budgets(user: &mut Node) -> Vec<Problem> {
    let routes = user.key("route").map(Node::items).unwrap_or_default();
    let paths: Vec<Vec<Step>> = (0..routes.len())
        .map(|number| {
            let key = |key: &str| Step::Key(key.to_owned());
            vec![key("route"), Step::Item(number), key("retry"), key("budget")]
        })
        .filter(|path| user.at(path).is_some())
        .collect();
    let problems = paths.iter().filter_map(|path| {
        let node = user.at(path)?;
        let problem = Problem::new(user.name_of(path), "a route has no retry budget of its own");
        Some(
            problem
                .at(node.origin.key_place(), "")
                .help("the budget guards the upstream: set upstream.NAME.retry.budget"),
        )
    });
    let problems = problems.collect();
    for path in &paths {
        user.peel(path);
    }
    problems
}

/// The trees of several files into one: tables merge, lists of tables follow one another, all else stands once.
pub(super) fn join(first: &mut Node, second: Node, name: &mut Vec<Step>, problems: &mut Vec<Problem>) {
    let both_lists = first.is_array_of_tables() && second.is_array_of_tables();
    match (&mut first.value, second) {
        (Value::Table(into), Node { value: Value::Table(from), .. }) => {
            for (key, node) in from {
                name.push(Step::Key(key.clone()));
                match into.get_mut(&key) {
                    Some(here) => join(here, node, name, problems),
                    None => {
                        into.insert(key, node);
                    }
                }
                name.pop();
            }
        }
        (Value::Array(into), Node { value: Value::Array(from), .. }) if both_lists => {
            for item in from {
                let label = Label::Index(into.len());
                into.push(Item { label, node: item.node });
            }
        }
        (_, second) => {
            let places: [Place; 2] = [second.origin.key_place(), first.origin.key_place()];
            let [again, before] = places;
            let help = "set it in one file only: the files of a folder are one config";
            let message = format!("set twice, in {} and in {}", before.file(), again.file());
            let problem = Problem::new(first.name_of(name), message);
            problems.push(problem.at(again, "set again here").at(before, "first set here").help(help));
        }
    }
}

fn over_defaults(mut written: Node, defaults: &Defaults, profile: Option<&Node>) -> Node {
    if written.table().is_none() {
        return written; // serde says what is wrong
    }
    let preset = written.key("preset").and_then(Node::text).unwrap_or("internal");
    let mut lower = defaults.upstream.clone();
    if let Some(preset) = defaults.preset(preset) {
        lower = preset.over(lower);
    }
    if let Some(profile) = profile {
        lower = profile.clone().over(lower);
    }
    lists(&mut written, defaults);
    let mut merged = written.over(lower);
    outcomes(&mut merged);
    merged
}

/// Each entry of a list of tables starts from what the defaults show.
fn lists(node: &mut Node, defaults: &Defaults) {
    for (key, entry) in [("rate_limit", &defaults.rate_limit), ("fallback", &defaults.fallback)] {
        if let Some(list) = at_mut(node, key) {
            each_entry(list, entry);
        }
    }
}

/// Each wait of `replay.by_outcome` starts from `replay.backoff`.
fn outcomes(node: &mut Node) {
    let Some(replay) = at_mut(node, "dead_letter").and_then(|rule| at_mut(rule, "replay")) else {
        return;
    };
    let Some(backoff) = replay.key("backoff").cloned() else {
        return;
    };
    if let Some(outcomes) = at_mut(replay, "by_outcome") {
        each_value(outcomes, |wait| lay_over(wait, &backoff));
    }
}

fn each_entry(list: &mut Node, lower: &Node) {
    if let Value::Array(items) = &mut list.value {
        for item in items.iter_mut() {
            lay_over(&mut item.node, lower);
        }
    }
}

fn lay_over(node: &mut Node, lower: &Node) {
    if node.table().is_some() {
        let written = std::mem::replace(node, lower.clone());
        *node = written.over(lower.clone());
    }
}

fn shorthand(name: &str, route: &Node) -> Item {
    let upstream = super::tree::Text { raw: name.to_owned(), resolved: None };
    let upstream = Node::new(Value::Text(upstream), route.origin.clone());
    let table = Table::from([("path".to_owned(), route.clone()), ("upstream".to_owned(), upstream)]);
    let node = Node::new(Value::Table(table), route.origin.clone());
    Item { label: Label::Shorthand(name.to_owned()), node }
}

fn at_mut<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Table(table) => table.get_mut(key),
        _ => None,
    }
}

fn each_value(node: &mut Node, mut change: impl FnMut(&mut Node)) {
    if let Value::Table(table) = &mut node.value {
        table.values_mut().for_each(&mut change);
    }
}
