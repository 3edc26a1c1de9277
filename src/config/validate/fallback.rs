//! `[[fallback]]`: leads somewhere, not in a circle, and to nobody who speaks another language.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::admin::suggestion;
use super::{Check, below};
use crate::config::model::{Config, Fallback, FallbackAction, Route};
use crate::config::source::read_bounded;
use crate::config::tree::{Step, steps};

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let names: Vec<&str> = config.upstream.keys().map(String::as_str).collect();
    for (name, upstream) in &config.upstream {
        each(config, &names, name, &upstream.fallback, &steps!["upstream", name, "fallback"], check);
    }
    for (number, route) in config.route.iter().enumerate() {
        each(
            config,
            &names,
            &route.upstream,
            &route.plan.fallback,
            &steps!["route", number, "fallback"],
            check,
        );
        stale_without_get(route, &steps!["route", number, "fallback"], check);
    }
    cycles(config, check);
}

fn each(
    config: &Config,
    names: &[&str],
    from: &str,
    fallbacks: &[Fallback],
    at: &[Step],
    check: &mut Check<'_>,
) {
    for (number, fallback) in fallbacks.iter().enumerate() {
        let mut here = at.to_vec();
        here.push(Step::from(number));
        match &fallback.action {
            FallbackAction::Upstream { name, json, .. } => {
                to_upstream(config, names, (from, name), &here, check);
                for pointer in json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/'))
                {
                    let key = below(&below(&here, "json"), pointer);
                    check.wrong(
                        &key,
                        "is not a JSON pointer",
                        "a pointer starts with a slash, such as \"/model\"",
                    );
                }
            }
            FallbackAction::Response(answer) => {
                for (name, value) in &answer.headers {
                    let key = below(&below(&below(&here, "response"), "headers"), name);
                    own_header(name, value.expose(), &key, check);
                }
                let Some(file) = &answer.body_file else { continue };
                check.files.push(file.clone());
                if let Err(why) = read_bounded(file, BODY_MAX) {
                    let key = below(&below(&here, "response"), "body_file");
                    check.wrong(&key, format!("cannot read {}: {why}", file.display()), "");
                }
            }
            FallbackAction::Stale(_) => {}
        }
        if fallback.on.is_empty() {
            check.warn(&below(&here, "on"), "names no failure: it never answers", "");
        }
    }
}

/// A kept answer is for the same GET: on a route that takes none there is never one.
fn stale_without_get(route: &Route, at: &[Step], check: &mut Check<'_>) {
    let takes_get = route.methods.is_empty() || route.methods.contains(&Method::GET);
    for (number, fallback) in route.plan.fallback.iter().enumerate() {
        let mut here = at.to_vec();
        here.extend(steps![number, "stale"]);
        if !takes_get && matches!(fallback.action, FallbackAction::Stale(_)) && check.is_users(at) {
            check.warn(&here, "is never used: it is for GET, which this route does not take", "");
        }
    }
}

/// A field of an answer of Fender's own: its framing and its own fields are not the config's to set.
pub(super) fn own_header(name: &str, value: &str, key: &[Step], check: &mut Check<'_>) {
    let lower = name.to_ascii_lowercase();
    let framing =
        ["content-length", "transfer-encoding", "connection", "trailer", "upgrade"].contains(&lower.as_str());
    if framing || lower.starts_with("fender-") {
        check.wrong(key, "is Fender's own to say", "take this field out");
    }
    if http::HeaderValue::try_from(value).is_err() {
        check.wrong(
            key,
            "has a value that no header field can have",
            "line breaks and control characters cannot be sent",
        );
    }
}

fn to_upstream(
    config: &Config,
    names: &[&str],
    (from, to): (&str, &str),
    here: &[Step],
    check: &mut Check<'_>,
) {
    let key = below(here, "upstream");
    let Some(target) = config.upstream.get(to) else {
        return check.wrong(&key, "no upstream has this name", suggestion(to, names));
    };
    let Some(source) = config.upstream.get(from) else {
        return;
    };
    let (ours, theirs) = (source.spoken().name(), target.spoken().name());
    if ours != theirs {
        let message =
            format!("speaks the dialect {theirs}, but {from} speaks {ours}: a fallback must speak the same");
        check.wrong(&key, message, "");
    }
}

/// From each upstream the fallbacks are followed; one that comes back is told once, at the entry that closes the circle.
fn cycles(config: &Config, check: &mut Check<'_>) {
    let mut edges: BTreeMap<&str, Vec<(&str, Vec<Step>)>> = BTreeMap::new();
    let mut add = |from: &'_ str, fallbacks: &[Fallback], at: Vec<Step>| {
        let Some((from, _)) = config.upstream.get_key_value(from) else {
            return;
        };
        for (number, fallback) in fallbacks.iter().enumerate() {
            if let FallbackAction::Upstream { name, .. } = &fallback.action
                && let Some((to, _)) = config.upstream.get_key_value(name)
            {
                let mut here = at.clone();
                here.extend(steps![number, "upstream"]);
                edges.entry(from).or_default().push((to, here));
            }
        }
    };
    for (name, upstream) in &config.upstream {
        add(name, &upstream.fallback, steps!["upstream", name, "fallback"]);
    }
    for (number, route) in config.route.iter().enumerate() {
        let own = check.is_users(&steps!["route", number, "fallback"]);
        if own {
            add(&route.upstream, &route.plan.fallback, steps!["route", number, "fallback"]);
        }
    }
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        walk(start, &edges, &mut vec![*start], &mut done, check);
    }
}

fn walk<'c>(
    here: &'c str,
    edges: &BTreeMap<&'c str, Vec<(&'c str, Vec<Step>)>>,
    trail: &mut Vec<&'c str>,
    done: &mut BTreeSet<&'c str>,
    check: &mut Check<'_>,
) {
    if trail.len() > TRAIL_MAX || !done.insert(here) {
        return;
    }
    for (to, at) in edges.get(here).into_iter().flatten() {
        if let Some(start) = trail.iter().position(|name| name == to) {
            let circle: Vec<&str> = trail.iter().skip(start).copied().chain([*to]).collect();
            check.wrong(
                at,
                format!("fallbacks go in a circle: {}", circle.join(" -> ")),
                "end it with a response or nothing",
            );
        } else {
            trail.push(to);
            walk(to, edges, trail, done, check);
            trail.pop();
        }
    }
}

impl Fallback {
    pub(super) fn leads_to(&self) -> Option<&str> {
        match &self.action {
            FallbackAction::Upstream { name, .. } => Some(name),
            FallbackAction::Response(_) | FallbackAction::Stale(_) => None,
        }
    }
}

const BODY_MAX: u64 = 1 << 20;
const TRAIL_MAX: usize = 500; // Longer than any real chain, shorter than the stack.
