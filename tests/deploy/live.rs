//! A real Prometheus scrapes a running Fender with the shipped config and rules: alerts fire, and every panel can be drawn.
//!
//! Two things differ from what is shipped, and nothing else: the addresses, and all times (intervals of a second, and `for: 1s`), so
//! that it is over in seconds. What the true times do, `promtool test rules` holds.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::queries::of_dashboard;
use super::rules::ALERTS;
use super::scene::Scene;
use super::{deploy, have, python, read, yaml_of};
use crate::support::{Client, PATIENCE, Upstream, eventually};

/// The slowest alert needs a few scrapes with something between them.
const ALERTS_WITHIN: Duration = Duration::from_secs(45);

/// A Prometheus with a folder and a port of its own; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// `config` may name `alerts.yaml`.
    fn start(config: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alerts.yaml"), rules).unwrap();
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let said = folder.path().join("said");
        let child = Command::new("prometheus")
            .current_dir(folder.path())
            .args([
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:0",
            ])
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut prometheus = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), folder };
        eventually("Prometheus listens", || {
            let said = read(&said);
            let told = said
                .split("msg=\"Listening on\" address=")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next());
            let Some(address) = told.and_then(|address| address.parse().ok()) else { return false };
            prometheus.address = address;
            true
        });
        eventually("Prometheus is ready", || prometheus.asked("/-/ready").0 == 200);
        prometheus
    }

    fn asked(&self, target: &str) -> (u16, String) {
        let answer = Client::connect(self.address).request("GET", target, "", b"");
        (answer.status(), answer.text())
    }

    /// What the API answers, or its error.
    fn api(&self, target: &str) -> Result<Value, String> {
        let (status, text) = self.asked(&format!("/api/v1/{target}"));
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status == 200 && answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(text) }
    }

    /// The series that an expression comes to now.
    fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        let data = self.api(&format!("query?query={}", escaped(expr)))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Name and upstream of each alert that fires.
    fn firing(&self) -> BTreeSet<(String, String)> {
        let alerts = self.api("alerts").unwrap();
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let alerts = alerts["alerts"].as_array().unwrap();
        alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| (label(alert, "alertname"), label(alert, "upstream")))
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!(
                "-- the log of prometheus\n{}",
                fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The shipped text with every line that begins so ended so.
fn with(text: &str, key: &str, value: &str) -> String {
    let mut found = false;
    let lines = text.lines().map(|line| {
        if !line.trim_start().starts_with(key) {
            return line.to_owned();
        }
        found = true;
        format!("{}{key} {value}", &line[..line.len() - line.trim_start().len()])
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(found, "there is no {key}");
    text
}

fn quick_config(targets: &[String]) -> String {
    let mut config = read(deploy("prometheus/prometheus.yml"));
    for (key, value) in
        [("scrape_interval:", "1s"), ("scrape_timeout:", "1s"), ("evaluation_interval:", "1s")]
    {
        config = with(&config, key, value);
    }
    let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
    with(&config, "- targets: [\"fender", &targets.join(", "))
        .replace("- targets: [\"fender ", "- targets: [")
        + "]\n"
}

#[test]
fn alerts_fire_and_panels_are_drawn_by_a_real_prometheus() {
    if !have("prometheus", "prometheus") {
        return;
    }
    let scene = Scene::start();
    for _ in 0..2 {
        scene.play(); // The breakers have opened before the first scrape.
    }
    let gone = Upstream::nobody().replace("http://", "");
    let config = quick_config(&[scene.fender.public().to_string(), gone]);
    let rules = with(&read(deploy("prometheus/alerts.yaml")), "for:", "1s");
    let prometheus = Prometheus::start(&config, &rules);
    scene.break_config();

    let expected: BTreeSet<(String, String)> = [
        ("FenderDown", ""),
        ("FenderBreakerOpen", "down"),
        ("FenderRetryBudgetSpent", "absent"),
        ("FenderFailureRateHigh", "down"),
        ("FenderFailureRateHigh", "asks"),
        ("FenderLettersGrowing", "down"),
        ("FenderLettersParked", "down"),
        ("FenderLettersRefused", "down"),
        ("FenderDegradationHigh", ""),
        ("FenderConfigReloadFailed", ""),
        ("FenderQuotaSpent", "spent"),
        ("FenderHealthCheckDown", "absent"),
    ]
    .map(|(alert, upstream)| (alert.to_owned(), upstream.to_owned()))
    .into();
    let until = Instant::now() + ALERTS_WITHIN;
    let firing = loop {
        scene.play();
        let firing = prometheus.firing();
        if expected.is_subset(&firing) {
            break firing;
        }
        let lacking: Vec<_> = expected.difference(&firing).collect();
        assert!(Instant::now() < until, "these do not fire: {lacking:?}");
    };
    // What does not happen here is not told: nothing is an hour old, the store is well, replays end.
    let names: BTreeSet<&str> = firing.iter().map(|(name, _)| name.as_str()).collect();
    let silent: Vec<&str> = ALERTS.into_iter().filter(|name| !names.contains(name)).collect();
    assert_eq!(
        silent,
        ["FenderLetterOld", "FenderLettersStuckSending", "FenderStoreNearlyFull", "FenderStoreUnhealthy"]
    );
    for (alert, upstream) in &firing {
        assert!(
            !(["well", "streams"].contains(&upstream.as_str()) && alert != "FenderFailureRateHigh"),
            "{alert} {upstream}"
        );
    }
    panels_are_drawn(&prometheus, &scene);
}

/// Each query of the dashboard is answered, and has something to show of what the scene plays.
fn panels_are_drawn(prometheus: &Prometheus, scene: &Scene) {
    for query in of_dashboard("10s") {
        let until = Instant::now() + PATIENCE;
        loop {
            let series =
                prometheus.query(&query.expr).unwrap_or_else(|error| panic!("{}: {error}", query.place));
            // 0/0 is no number: a quantile of nothing.
            if series.iter().any(|series| series["value"][1] != "NaN") {
                break;
            }
            assert!(Instant::now() < until, "{} shows nothing: {}: {series:?}", query.place, query.expr);
            scene.play();
        }
    }
    let wrong = prometheus.query("sum(nothing{").unwrap_err();
    assert!(wrong.contains("parse error"), "{wrong}");
}

#[test]
fn sidecars_are_found_by_the_name_of_their_port() {
    if !have("prometheus", "prometheus") {
        return;
    }
    let Some(python) = python() else { return };
    // As the discovery of pods would hand them over; a build without it can still relabel.
    let found = |address: &str, port: &str, phase: &str| {
        serde_json::json!({ "targets": [address], "labels": {
            "__meta_kubernetes_namespace": "shop",
            "__meta_kubernetes_pod_name": format!("pod-{}", &address[address.len() - 1..]),
            "__meta_kubernetes_pod_node_name": "node-1",
            "__meta_kubernetes_pod_phase": phase,
            "__meta_kubernetes_pod_container_port_name": port,
        } })
    };
    let mut config = yaml_of(&python, "prometheus/kubernetes.yml");
    let job = config["scrape_configs"][0].as_object_mut().unwrap();
    job.remove("kubernetes_sd_configs").expect("pods are discovered");
    let pods = [
        found("127.0.0.1:1", "fender-metrics", "Running"),
        found("127.0.0.1:2", "http", "Running"),
        found("127.0.0.1:3", "fender-metrics", "Succeeded"),
    ];
    job.insert("static_configs".to_owned(), pods.to_vec().into());
    let prometheus = Prometheus::start(&config.to_string(), &read(deploy("prometheus/alerts.yaml")));
    let mut targets = Value::Null;
    eventually("the targets are known", || {
        targets = prometheus.api("targets?state=active").unwrap()["activeTargets"].clone();
        targets.as_array().is_some_and(|targets| !targets.is_empty())
    });
    assert_eq!(targets.as_array().unwrap().len(), 1, "{targets}");
    let labels = serde_json::json!({
        "instance": "127.0.0.1:1", "job": "fender", "namespace": "shop", "node": "node-1", "pod": "pod-1",
    });
    assert_eq!(targets[0]["labels"], labels);
}
