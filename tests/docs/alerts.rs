//! `docs/guides/alerts.md` has a section for each alert of `deploy/prometheus/alerts.yaml`, and each alert leads to its section.

use std::collections::BTreeSet;
use std::fs;

use super::{Page, root};

const RULES: &str = "deploy/prometheus/alerts.yaml";

const PARTS: [&str; 5] = ["**Means.**", "**Likely.**", "**Look.**", "**Do.**", "**Do not**"];

/// The sections of the page: heading and text.
fn sections(page: &Page) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in page.text.lines() {
        match (line.strip_prefix("## "), sections.last_mut()) {
            (Some(heading), _) => sections.push((heading.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    sections
}

#[test]
fn every_section_says_what_to_do_and_what_not() {
    let page = Page::read("docs/guides/alerts.md");
    let sections = sections(&page);
    assert!(sections.len() >= 14, "{} sections", sections.len());
    for (name, text) in sections {
        assert!(name.starts_with("Fender"), "{name} is no alert's name");
        let mut from = 0;
        for part in PARTS {
            let at = text[from..].find(part);
            from += at.unwrap_or_else(|| panic!("{name} lacks {part} in its place"));
        }
    }
}

#[test]
fn the_sections_are_those_of_the_rules() {
    let Ok(rules) = fs::read_to_string(root().join(RULES)) else {
        eprintln!("skipped: {RULES} is not there");
        return;
    };
    let after = |key: &str| -> Vec<String> {
        let values = rules.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
        values.map(|value| value.trim().trim_matches(['"', '\'']).to_owned()).collect()
    };
    let alerts: BTreeSet<String> = after("alert:").into_iter().collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let page = Page::read("docs/guides/alerts.md");
    let told: BTreeSet<String> = sections(&page).into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, alerts);
    let links: BTreeSet<String> = after("runbook_url:").into_iter().collect();
    for alert in &alerts {
        let end = format!("docs/guides/alerts.md#{}", alert.to_lowercase());
        assert!(links.iter().any(|link| link.ends_with(&end)), "{alert} does not lead to {end}");
    }
}
