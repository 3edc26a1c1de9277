//! The alerts and the scrape configs, by Prometheus's own tool and by what they must bear.

use std::fs;
use std::process::Command;

use super::{deploy, fine, have, python, read, yaml, yaml_of};

/// One name each: `docs/guides/alerts.md` and operators' own routes know them by these.
pub(super) const ALERTS: [&str; 15] = [
    "FenderBreakerOpen",
    "FenderConfigReloadFailed",
    "FenderDegradationHigh",
    "FenderDown",
    "FenderFailureRateHigh",
    "FenderHealthCheckDown",
    "FenderLetterOld",
    "FenderLettersGrowing",
    "FenderLettersParked",
    "FenderLettersRefused",
    "FenderLettersStuckSending",
    "FenderQuotaSpent",
    "FenderRetryBudgetSpent",
    "FenderStoreNearlyFull",
    "FenderStoreUnhealthy",
];

const PACKAGE: &str = "prometheus";

#[test]
fn promtool_takes_rules_and_scrape_configs() {
    if !have("promtool", PACKAGE) {
        return;
    }
    let said = fine(Command::new("promtool").args(["check", "rules"]).arg(deploy("prometheus/alerts.yaml")));
    assert!(said.contains(&format!("{} rules found", ALERTS.len())), "{said}");
    fine(Command::new("promtool").args(["check", "config"]).arg(deploy("prometheus/prometheus.yml")));
    // Some builds, Debian's among them, leave the discovery of pods out: all else of that config is checked by any.
    let Some(python) = python() else { return };
    let mut config = yaml_of(&python, "prometheus/kubernetes.yml");
    let job = config["scrape_configs"][0].as_object_mut().unwrap();
    let found = job.remove("kubernetes_sd_configs").expect("pods are discovered");
    assert_eq!(found[0]["role"], "pod");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(deploy("prometheus/alerts.yaml"), folder.path().join("alerts.yaml")).unwrap();
    let path = folder.path().join("kubernetes.yml");
    fs::write(&path, config.to_string()).unwrap();
    fine(Command::new("promtool").args(["check", "config"]).arg(path));
}

#[test]
fn the_rules_fire_when_they_must_and_not_otherwise() {
    if !have("promtool", PACKAGE) {
        return;
    }
    fine(Command::new("promtool").args(["test", "rules"]).arg(deploy("prometheus/alerts_test.yaml")));
}

#[test]
fn every_alert_is_tried_with_a_case_that_fires_and_one_that_does_not() {
    let Some(python) = python() else { return };
    let tests = yaml_of(&python, "prometheus/alerts_test.yaml");
    let mut cases: Vec<(&str, bool)> = Vec::new();
    for test in tests["tests"].as_array().unwrap() {
        for case in test["alert_rule_test"].as_array().unwrap() {
            let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
            cases.push((case["alertname"].as_str().unwrap(), fires));
        }
    }
    for alert in ALERTS {
        for fires in [true, false] {
            assert!(cases.contains(&(alert, fires)), "{alert} has no case with fires = {fires}");
        }
    }
    assert!(cases.iter().all(|(alert, _)| ALERTS.contains(alert)), "{cases:?}");
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_is_and_what_to_do() {
    let Some(python) = python() else { return };
    let rules = yaml_of(&python, "prometheus/alerts.yaml");
    let mut names = Vec::new();
    for group in rules["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            names.push(name.to_owned());
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
            let annotation = |key: &str| rule["annotations"][key].as_str().unwrap_or_default().to_owned();
            assert!(annotation("summary").contains("{{ $labels.instance }}"), "{name}: which instance?");
            assert!(annotation("description").len() > 60, "{name}: what is to be done?");
            let anchor = format!("docs/guides/alerts.md#{}", name.to_lowercase());
            assert!(annotation("runbook_url").ends_with(&anchor), "{name}: {}", annotation("runbook_url"));
            let expr = rule["expr"].as_str().unwrap();
            // Those whose series bear an upstream name it.
            let by_upstream =
                !["fender_dead_letter_oldest", "dead_letter_store", "degradation", "config_reload", "up{"]
                    .iter()
                    .any(|whole| expr.contains(whole));
            assert_eq!(annotation("summary").contains("{{ $labels.upstream }}"), by_upstream, "{name}");
        }
    }
    names.sort();
    assert_eq!(names, ALERTS);
}

#[test]
fn every_alert_has_its_part_in_the_handbook() {
    let headings: Vec<String> = read(deploy("../docs/guides/alerts.md"))
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(str::to_owned)
        .collect();
    for alert in ALERTS {
        assert!(
            headings.iter().any(|heading| heading == alert),
            "docs/guides/alerts.md has no heading {alert}"
        );
    }
}

#[test]
fn the_reader_of_yaml_notices_what_is_wrong() {
    let Some(python) = python() else { return };
    assert_eq!(yaml(&python, "two", "a: 1\n---\n- b\n").len(), 2);
    for wrong in ["a: 1\na: 2\n", "a: [1\n", "a:\n\t- 1\n"] {
        assert!(super::script(&python, "yaml_to_json.py", wrong).is_err(), "{wrong:?}");
    }
}
