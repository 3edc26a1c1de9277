//! Every key of the config that a page names between backticks is a key: `breaker.open_for`, `server.tls`.

use std::collections::BTreeSet;

use fender::config::schema;
use serde_json::Value;

use super::{pages_for_users, report};

/// Every key by its path; below an upstream and a route the path starts there too. `NAME` is any name.
fn keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    collect(&schema(), "", &mut keys);
    let short: Vec<String> = keys
        .iter()
        .filter_map(|key| key.strip_prefix("upstream.NAME.").or_else(|| key.strip_prefix("route.")))
        .map(str::to_owned)
        .collect();
    keys.extend(short);
    keys
}

fn collect(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        keys.insert(path.clone());
        collect(below, &path, keys);
        collect(&below["items"], &path, keys);
        let named = &below["additionalProperties"];
        if named.is_object() {
            keys.insert(format!("{path}.NAME"));
            collect(named, &format!("{path}.NAME"), keys);
        }
    }
}

/// The dotted path that a span begins with, if it looks like a key: `a.b = "x"` names `a.b`.
fn dotted(span: &str) -> Option<&str> {
    let path = span.split([' ', '=']).next()?;
    let words = path.split('.').all(|word| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            || word == "NAME"
    });
    (path.contains('.') && words).then_some(path)
}

/// Attributes of spans, which OpenTelemetry has named.
const SPANS_SAY: [&str; 2] = ["server.address", "server.port"];

#[test]
fn every_key_that_a_page_names_exists() {
    let keys = keys();
    assert!(keys.contains("breaker.open_for") && keys.contains("admin.token.upstreams"), "{keys:?}");
    let tables: BTreeSet<&str> = keys.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    // An event of [[notify]] looks like a key of the breaker.
    let events: BTreeSet<String> = schema()["properties"]["notify"]["items"]["properties"]["on"]["default"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event.as_str().map(str::to_owned))
        .collect();
    let (mut problems, mut found) = (Vec::new(), 0);
    for page in pages_for_users() {
        for (line, span) in page.code_spans() {
            let Some(path) = dotted(span) else { continue };
            let first = path.split('.').next().unwrap_or_default();
            if !tables.contains(first) || events.contains(path) || SPANS_SAY.contains(&path) {
                continue;
            }
            found += 1;
            // A page about dialects names their keys from a dialect's own table on.
            let of_dialects =
                page.path.starts_with("docs/dialects/") && keys.contains(&format!("dialect.NAME.{path}"));
            if !keys.contains(path) && !of_dialects {
                problems.push(format!("{}:{line}: {path} is no key", page.path));
            }
        }
    }
    report(&problems);
    assert!(found > 100, "only {found} keys were found");
}

#[test]
fn a_word_that_is_no_key_is_told_from_one() {
    assert_eq!(dotted("breaker.open_for"), Some("breaker.open_for"));
    assert_eq!(dotted("dead_letter.mode = \"outbox\""), Some("dead_letter.mode"));
    assert_eq!((dotted("breaker"), dotted("a.B"), dotted("fender check")), (None, None, None));
    let keys = keys();
    assert!(!keys.contains("breaker.open") && keys.contains("upstream.NAME.retry.budget.ratio"));
}
