//! What `deploy/` ships is true: it parses, its tools take it, its configs are sound, and its alerts and panels show what a running
//! Fender does. A tool that cannot be had is skipped aloud.

mod confined;
mod image;
mod live;
mod manifests;
mod promql;
mod queries;
mod rules;
mod scene;
mod systemd;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deploy");

/// Beyond `drain_timeout`, Fender takes at most so long to end: to store what is under way, to say last words, to stop its workers, to
/// close the store.
const AFTER_DRAIN: Duration = Duration::from_secs(11);

fn skip(why: &str) {
    eprintln!("skipped: {}", why.trim());
}

/// A path below `deploy/`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `deploy/` whose name ends so.
fn files(ends: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&deploy(""), &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(ends));
    found.sort();
    assert!(!found.is_empty(), "deploy/ has no {ends}");
    found
}

/// Whether a program is there; says aloud if not.
fn have(program: &str, package: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        skip(&format!("{program} is not there ({package})"));
    }
    there
}

/// What it said on both outputs; fails the test if it failed.
#[track_caller]
fn fine(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// The Python of a venv with the validator in it; installed once for all tests.
fn python() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(folder.join("deploy.lock")).unwrap();
    lock.lock().unwrap();
    let venv = folder.join("deploy");
    let output = Command::new(format!("{SCRIPTS}/install")).arg(&venv).output().ok()?;
    if !output.status.success() {
        skip(&String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(venv.join("bin/python"))
}

/// Gives a script this text, and returns what it prints, or what it complains of.
fn script(python: &Path, name: &str, text: &str) -> Result<String, String> {
    let mut child = Command::new(python)
        .arg(format!("{SCRIPTS}/{name}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The documents of a YAML text.
#[track_caller]
fn yaml(python: &Path, what: &str, text: &str) -> Vec<Value> {
    let json =
        script(python, "yaml_to_json.py", text).unwrap_or_else(|error| panic!("{what} is no YAML: {error}"));
    serde_json::from_str(&json).unwrap()
}

/// The one document of a YAML file below `deploy/`.
#[track_caller]
fn yaml_of(python: &Path, path: &str) -> Value {
    let mut documents = yaml(python, path, &read(deploy(path)));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}
