//! `fender why`: one request's story, as it is printed, for every reason that an answer can bear.

mod decisions;
mod letters;
mod reasons;
mod scope;

use std::process::Output;

use serde_json::Value;

use super::letters::call;
use crate::support::{Fender, Response, binary, eventually};

const OPS: &str = "operators-secret";

/// What `fender why` does with this id, asked with this token.
fn asked(fender: &Fender, id: &str, token: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token).unwrap();
    let admin = format!("http://{}", fender.admin());
    let mut command = binary();
    command.args(["why", id, "--admin", &admin, "--token-file"]).arg(file).args(more);
    command.output().unwrap()
}

/// The story as it is printed, as soon as it is there: a request's end may come a moment after its client has heard it.
fn why(fender: &Fender, id: &str) -> String {
    let mut said = None;
    eventually("the story is there", || {
        let output = asked(fender, id, OPS, &[]);
        let done = output.status.success();
        said = Some(output);
        done
    });
    String::from_utf8(said.expect("it was asked").stdout).unwrap()
}

/// The same as JSON.
fn story(fender: &Fender, id: &str) -> Value {
    let path = format!("/api/v1/requests/{id}");
    let mut told = Value::Null;
    eventually("the story is there", || {
        let (status, body) = call(fender, "GET", &path, OPS, &Value::Null);
        told = body;
        status == 200
    });
    told
}

fn id_of(answer: &Response) -> String {
    answer.field("fender-request-id")
}

/// A printed story with what differs from run to run taken out: ids, moments, measured times, ports, where the config is.
fn settled(page: &str) -> String {
    let mut settled = String::new();
    for line in page.lines() {
        let line = line.trim_start(); // How far it is from the left follows the times.
        let mut words: Vec<String> = Vec::new();
        let raw: Vec<&str> = line.split(' ').collect();
        for (at, word) in raw.iter().enumerate() {
            let bare = word.trim_end_matches([',', ':', ';', '.', ')']).trim_start_matches('(');
            let next = raw.get(at + 1).map_or("", |next| next.trim_end_matches([',', ':', ';', ')']));
            let told = if bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                word.replace(bare, "REQUEST")
            } else if bare.len() == 26 && bare.starts_with("01") {
                word.replace(bare, "LETTER")
            } else if bare.len() >= 20 && bare.starts_with("20") && bare.contains('T') {
                word.replace(bare, "MOMENT")
            } else if bare.parse::<f64>().is_ok() && ["ms", "s", "min"].contains(&next) {
                word.replace(bare, "N")
            } else if at > 0 && bare == "s" && raw[at - 1].trim_start_matches('(').parse::<f64>().is_ok() {
                word.replacen('s', "ms", 1) // The same time may come out as either.
            } else if let Some((_, rest)) = word.split_once("/fender.toml:") {
                format!("fender.toml:{rest}")
            } else if let Some((before, rest)) = word.split_once("127.0.0.1:") {
                let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}127.0.0.1:PORT{after}")
            } else {
                (*word).to_owned()
            };
            // How wide a column is follows the times.
            if !(told.is_empty() && words.last().is_some_and(String::is_empty)) {
                words.push(told);
            }
        }
        settled.push_str(words.join(" ").trim_end());
        settled.push('\n');
    }
    settled
}

/// Every step that was decided by the config says by which line.
fn every_line_is_known(story: &Value) {
    for step in story["steps"].as_array().unwrap() {
        if let Some(config) = step.get("config") {
            assert!(config["set_by"].is_string(), "{step}");
        }
    }
}
