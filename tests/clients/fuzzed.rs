//! The admin API against its own description: schemathesis makes calls of it, right ones and wrong ones, and holds the answers to it.

use std::fs;
use std::process::Command;

use super::python;
use crate::support::{Setup, Upstream};

const TOKENS: &str = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"operators-secret\"\n\
    [[admin.token]]\nname = \"eyes\"\nrole = \"viewer\"\nsecret = \"viewers-secret\"\nupstreams = [\"api\"]\n";

/// Calls that end what is looked at, or never end themselves.
const NOT_FUZZED: [&str; 2] = ["/api/v1/quit", "/api/v1/events"];

fn holds_to_its_description(token: &str, examples: &str, excluded_checks: &str) {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let keeping = "dead_letter.mode = \"on_failure\"\nretry.max_attempts = 1\nbreaker.enabled = true\ncriticality = \"high\"";
    let store = format!("[dead_letter]\npath = {:?}\n", folder.path().join("letters.db"));
    let fender = Setup::new(store + &upstream.as_api(keeping)).admin(TOKENS).start();
    let letters: Vec<String> = (0..4)
        .map(|number| fender.post("/", "content-type: text/plain\r\n", format!("letter {number}").as_bytes()))
        .map(|answer| answer.field("fender-letter"))
        .collect();
    // Half of the calls name what is there.
    let config = format!("[parameters]\nid = {letters:?}\nname = [\"api\"]\n");
    fs::write(folder.path().join("schemathesis.toml"), config).unwrap();
    let base = format!("http://{}", fender.admin());
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .current_dir(folder.path())
        .args([
            "--config-file",
            "schemathesis.toml",
            "run",
            &format!("{base}/api/v1/openapi.json"),
            "--url",
            &base,
        ])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args([
            "--max-examples",
            examples,
            "--continue-on-failure",
            "--no-color",
            "--generation-database",
            "none",
        ])
        .args(["--seed", "20260101", "--request-timeout", "15", "--warnings", "off"])
        .env("NO_PROXY", "*");
    if !excluded_checks.is_empty() {
        command.args(["--exclude-checks", excluded_checks]);
    }
    for path in NOT_FUZZED {
        command.args(["--exclude-path", path]);
    }
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let summary =
        said.lines().find(|line| line.contains("generated")).unwrap_or_else(|| panic!("no summary: {said}"));
    eprintln!("as {token}: {summary}");
    let count: u32 = summary.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count > 200, "{said}");
    assert_eq!(fender.admin_get("/health/ready").status(), 200);
    assert!(!fender.log().contains("panic"), "{}", fender.log());
}

#[test]
fn an_operator_finds_the_api_as_described() {
    holds_to_its_description("operators-secret", "25", "");
}

/// Whom much is refused: nothing that is asked wrong may be granted, and nothing falls over.
#[test]
fn a_bounded_viewer_finds_the_api_as_described() {
    holds_to_its_description("viewers-secret", "10", "");
}
