//! `[[route]]`: each leads somewhere, and no two are the same.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::suggestion;
use super::policies::{self, Overridable};
use super::{Check, below};
use crate::config::model::{Config, Fallback, Route};
use crate::config::tree::{Step, steps};

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let names: Vec<&str> = config.upstream.keys().map(String::as_str).collect();
    for (number, route) in config.route.iter().enumerate() {
        let at = steps!["route", number];
        let known = config.upstream.contains_key(&route.upstream);
        if !known && !check.was_taken(&steps!["upstream", &route.upstream]) {
            check.wrong(
                &below(&at, "upstream"),
                "no upstream has this name",
                suggestion(&route.upstream, &names),
            );
        }
        path_of(&at, check);
        host_of(route, &at, check);
        let settings = Overridable {
            timeout: &route.plan.timeout,
            retry: &route.plan.retry,
            breaker: &route.plan.breaker,
            limits: &route.plan.rate_limit,
        };
        policies::check(&settings, &at, check);
    }
    duplicates(config, check);
    unreached(config, check);
}

fn unreached(config: &Config, check: &mut Check<'_>) {
    let own = config.upstream.values().flat_map(|upstream| &upstream.fallback);
    let of_routes = config.route.iter().flat_map(|route| &route.plan.fallback);
    let reached: BTreeSet<&str> = own
        .chain(of_routes)
        .filter_map(Fallback::leads_to)
        .chain(config.route.iter().map(|route| route.upstream.as_str()))
        .collect();
    for name in config.upstream.keys().filter(|name| !reached.contains(name.as_str())) {
        check.warn(
            &steps!["upstream", name],
            "no route leads here",
            "set its `route`, or add a [[route]] with this upstream",
        );
    }
}

fn path_of(at: &[Step], check: &mut Check<'_>) {
    let here = below(at, "path");
    let Some(path) = check.tree.at(&here).and_then(|node| node.text()) else {
        return;
    };
    let complaint = if !path.starts_with('/') {
        "must start with a slash"
    } else if path.contains(['?', '#']) || path.chars().any(|letter| letter.is_control() || letter == ' ') {
        "must be a path alone: no query, fragment, space or control character"
    } else if path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains("//") {
        "must not have empty, \".\" or \"..\" segments: they are resolved before a route is chosen"
    } else if path.contains(['*', '{']) {
        "is a prefix in whole segments: it has no wildcards"
    } else {
        return;
    };
    check.wrong(&here, complaint, "such as \"/openai\"");
}

fn host_of(route: &Route, at: &[Step], check: &mut Check<'_>) {
    let Some(host) = &route.host else { return };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    if host.len() > 253 || !(is_address || host.bytes().all(good)) {
        check.wrong(
            &below(at, "host"),
            "must be a host name alone: no scheme, port, path or wildcard",
            "such as \"api.local\"",
        );
    }
}

fn duplicates(config: &Config, check: &mut Check<'_>) {
    let mut places: BTreeMap<_, Vec<(usize, &Route)>> = BTreeMap::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, route) in config.route.iter().enumerate() {
        let here = steps!["route", number];
        let neighbours = places.entry((route.host.as_deref(), route.path.as_str())).or_default();
        if let Some((before, _)) = neighbours.iter().find(|(_, other)| share_methods(route, other)) {
            let other_name = check.tree.name_of(&steps!["route", *before]);
            let message = format!("takes the same requests as {other_name}");
            check.contradiction(&below(&here, "path"), &steps!["route", *before, "path"], message);
        }
        neighbours.push((number, route));
        if !check.is_users(&below(&here, "name")) {
            continue;
        }
        if let Some(before) = names.insert(&route.name, number) {
            let other = steps!["route", before, "name"];
            check.contradiction(&below(&here, "name"), &other, "is the name of another route");
        }
    }
}

fn share_methods(one: &Route, other: &Route) -> bool {
    match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, true) => true,
        (false, false) => one.methods.iter().any(|method| other.methods.contains(method)),
        _ => false,
    }
}
