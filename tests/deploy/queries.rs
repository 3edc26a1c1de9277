//! All that dashboard and rules ask Prometheus, and whether it means something there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::promql::{Name, names};
use super::scene::Scene;
use super::{deploy, fine, have, python, read, yaml_of};

/// An expression, and where it stands.
pub(super) struct Query {
    pub(super) place: String,
    pub(super) expr: String,
}

/// What Prometheus or its scrape config adds to every series.
const OF_THE_TARGET: [&str; 2] = ["instance", "job"];

/// The dashboard's expressions, its variables filled in as Grafana does when everything is chosen.
pub(super) fn of_dashboard(interval: &str) -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(&read(deploy("grafana/fender.json"))).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().unwrap();
            let expr = expr
                .replace("$__rate_interval", interval)
                .replace("$instance", ".*")
                .replace("$upstream", ".*");
            assert!(!expr.contains('$'), "an unknown variable in {expr}");
            queries.push(Query { place: format!("panel {}", panel["title"]), expr });
        }
    }
    assert!(queries.len() > 40, "{} queries", queries.len());
    queries
}

fn of_rules(python: &std::path::Path) -> Vec<Query> {
    let rules = yaml_of(python, "prometheus/alerts.yaml");
    let rules =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| Query {
            place: rule["alert"].as_str().unwrap().to_owned(),
            expr: rule["expr"].as_str().unwrap().to_owned(),
        })
        .collect()
}

/// The labels of each metric that the binary shows.
fn shown(series: impl Iterator<Item = String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for series in series {
        let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
        let labels = labels.split("=\"").map(|part| part.rsplit([',', '"', '}']).next().unwrap_or_default());
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
        shown.entry(name.to_owned()).or_default().extend(labels);
    }
    shown
}

#[test]
fn every_metric_and_label_that_is_asked_for_is_there() {
    let scene = Scene::start();
    scene.play();
    let shown = shown(scene.fender.metrics().into_keys());
    let mut queries = of_dashboard("1m");
    let dashboard: Value = serde_json::from_str(&read(deploy("grafana/fender.json"))).unwrap();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["definition"].as_str().unwrap_or_default();
        if let Some((expr, label)) =
            query.strip_prefix("label_values(").and_then(|query| query.rsplit_once(", "))
        {
            let expr =
                format!("sum by ({}) ({})", label.trim_end_matches(')'), expr.replace("$instance", ".*"));
            queries.push(Query { place: format!("variable {}", variable["name"]), expr });
        }
    }
    if let Some(python) = python() {
        queries.extend(of_rules(&python));
    }
    let known = |metric: &str| shown.get(metric).cloned().or_else(|| (metric == "up").then(BTreeSet::new));
    let mut wrong = Vec::new();
    for Query { place, expr } in &queries {
        let names = names(expr);
        let metrics: Vec<&String> = names
            .iter()
            .filter_map(|name| if let Name::Metric(metric) = name { Some(metric) } else { None })
            .collect();
        assert!(!metrics.is_empty(), "{place}: {expr} asks for nothing");
        for name in &names {
            let fine = match name {
                Name::Metric(metric) => known(metric).is_some(),
                Name::Selected(metric, label) => {
                    OF_THE_TARGET.contains(&label.as_str())
                        || known(metric).is_some_and(|labels| labels.contains(label))
                }
                Name::Grouped(label) => {
                    OF_THE_TARGET.contains(&label.as_str())
                        || metrics
                            .iter()
                            .filter_map(|metric| known(metric))
                            .any(|labels| labels.contains(label))
                }
            };
            if !fine {
                wrong.push(format!("{place}: {name:?} is not in /metrics: {expr}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn promtool_parses_every_query_of_the_dashboard() {
    if !have("promtool", "prometheus") {
        return;
    }
    let recorded = |exprs: &[&str]| {
        let rules: Vec<Value> = exprs
            .iter()
            .enumerate()
            .map(|(number, expr)| serde_json::json!({ "record": format!("panel:{number}"), "expr": expr }))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        // JSON is YAML.
        let path = folder.path().join("rules.yaml");
        fs::write(&path, serde_json::json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string())
            .unwrap();
        (folder, path)
    };
    let queries = of_dashboard("1m");
    let exprs: Vec<&str> = queries.iter().map(|query| query.expr.as_str()).collect();
    let (_folder, path) = recorded(&exprs);
    let said = fine(Command::new("promtool").args(["check", "rules"]).arg(path));
    assert!(said.contains(&format!("{} rules found", exprs.len())), "{said}");
    let (_folder, path) = recorded(&["sum(rate(a[1m])"]);
    let output = Command::new("promtool").args(["check", "rules"]).arg(path).output().unwrap();
    assert!(!output.status.success(), "promtool takes what is no expression");
}

#[test]
fn the_dashboard_is_one_that_grafana_can_draw() {
    let dashboard: Value = serde_json::from_str(&read(deploy("grafana/fender.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id stands twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{} is wider than the page", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(
                target["expr"].as_str().unwrap().contains("$instance"),
                "{} asks all instances",
                panel["title"]
            );
        }
    }
    let rows: Vec<&str> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|row| row["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        rows,
        ["At a glance", "Traffic", "Latency", "Retries", "Breakers", "Limits", "Letters", "Process"]
    );
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "instance", "upstream"]);
}
