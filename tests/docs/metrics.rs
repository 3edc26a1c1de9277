//! `docs/guides/metrics.md` lists the metrics that there are, with their types and labels, and no others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Page, report};
use crate::support::{Client, Setup, Upstream};

/// A metric's type and the names of its labels.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    kind: String,
    labels: BTreeSet<String>,
}

/// All families that the text shows.
fn shown(text: &str) -> BTreeMap<String, Shape> {
    let mut families: BTreeMap<String, Shape> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let shape = Shape { kind: kind.to_owned(), labels: BTreeSet::new() };
            families.insert(name.to_owned(), shape);
        } else if !line.starts_with('#') {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let plain = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let family = plain.filter(|plain| families.contains_key(*plain)).unwrap_or(name);
            let shape = families.get_mut(family).unwrap_or_else(|| panic!("{name} has no type"));
            let labels = rest.split("=\"").filter_map(|part| part.rsplit([',', '"']).next());
            let names = labels.filter(|label| !label.is_empty() && *label != "le" && !label.contains('}'));
            shape.labels.extend(names.map(str::to_owned));
        }
    }
    families
}

/// All that the page lists.
fn listed(page: &Page) -> BTreeMap<String, Shape> {
    let mut listed = BTreeMap::new();
    for row in page.rows("metric") {
        let [name, kind, labels, moves, ..] = row.as_slice() else { panic!("{row:?} has too few cells") };
        assert!(!moves.is_empty(), "{name}: what moves it?");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        let before = listed.insert(name.trim_matches('`').to_owned(), Shape { kind: kind.clone(), labels });
        assert!(before.is_none(), "{name} is listed twice");
    }
    listed
}

/// A Fender that has everything: a store, a check, a fallback, a limit.
fn everything() -> String {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.db");
    let more = "dialect = \"openai\"\ndead_letter.mode = \"on_failure\"\nhealth.path = \"/\"\nrate_limit = [{ requests = 1000 }]\n\
        fallback = [{ stale = \"1m\" }]";
    let fender = Setup::new(format!("[dead_letter]\npath = {path:?}\n{}", upstream.as_api(more))).start();
    assert_eq!(fender.get("/").status(), 200);
    let answer = Client::connect(fender.admin()).request("GET", "/metrics", "", b"");
    assert_eq!(answer.status(), 200);
    answer.text()
}

#[test]
fn the_page_lists_every_metric_and_no_other() {
    let shown = shown(&everything());
    assert!(shown.len() > 40, "{shown:?}");
    let listed = listed(&Page::read("docs/guides/metrics.md"));
    let mut problems = Vec::new();
    for (name, shape) in &shown {
        match listed.get(name) {
            None => problems.push(format!("{name} is not listed: {shape:?}")),
            Some(said) if said != shape => {
                problems.push(format!("{name}: listed as {said:?}, is {shape:?}"));
            }
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|name| !shown.contains_key(*name));
    problems.extend(gone.map(|name| format!("{name} is listed and is not there")));
    report(&problems);
}

#[test]
fn every_metric_that_a_page_names_is_there() {
    let shown = shown(&everything());
    let mut problems = Vec::new();
    for page in super::pages_for_users() {
        for (number, line) in page.text.lines().enumerate() {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let known = |name: &str| shown.contains_key(name);
                let plain = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| word.strip_suffix(end));
                let named =
                    word.starts_with("fender_") && word.len() > "fender_".len() && !word.ends_with('_');
                let family = word.starts_with("fender_health_check") && line.contains("grep");
                if named && !family && !known(word) && !plain.is_some_and(known) {
                    problems.push(format!("{}:{}: {word} is no metric", page.path, number + 1));
                }
            }
        }
    }
    report(&problems);
}

mod the_reader {
    use super::{Page, listed, shown};

    #[test]
    fn reads_families_with_their_labels() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total{one=\"x,y\",two=\"\"} 1\n# TYPE b histogram\n\
            b_bucket{up=\"u\",le=\"0.1\"} 0\nb_sum{up=\"u\"} 0\n# TYPE c gauge\nc 1\n";
        let shown = shown(text);
        let labels = |name: &str| shown[name].labels.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            (labels("a_total"), labels("b"), labels("c")),
            ("one two".into(), "up".into(), String::new())
        );
        assert_eq!(shown["b"].kind, "histogram");
        let page = "| metric | type | labels | moves when |\n|---|---|---|---|\n| `a_total` | counter | `one`, `two` | x |\n";
        let page = Page { path: String::new(), text: page.to_owned() };
        assert_eq!(listed(&page)["a_total"], shown["a_total"]);
    }
}
