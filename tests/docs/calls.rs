//! Every curl of the guides does what it is there for: run as it stands, against a Fender that has what it names.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::commands::{lines, words};
use super::{Page, pages_for_users};
use crate::support::{Client, Fender, Setup, Upstream, eventually};

const TOKEN: &str = "operators-secret";

/// All that the guides' calls name: upstreams, a token, a letter that waits for somebody.
fn everything(folder: &Path) -> (Fender, Upstream) {
    let broken = Upstream::answering("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
    let mut upstreams = format!("[dead_letter]\npath = {:?}\n", folder.join("letters.db"));
    for name in ["openai", "billing", "whatsapp"] {
        upstreams.push_str(&format!(
            "[upstream.{name}]\nurl = \"{}\"\ndialect = \"generic\"\nroute = \"/{name}\"\nretry.max_attempts = 1\n\
             breaker.consecutive_failures = 0\ndead_letter.mode = \"on_failure\"\n",
            broken.url()
        ));
    }
    let token = format!("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"{TOKEN}\"\n");
    (Setup::new(upstreams).admin(&token).start(), broken)
}

fn parked(fender: &Fender) -> String {
    let answer = fender.post("/whatsapp/send", "", b"one");
    assert_eq!(answer.field("fender-reason"), "ambiguous", "{}", answer.text());
    answer.field("fender-letter")
}

fn etag(fender: &Fender, id: &str) -> String {
    let fields = format!("authorization: Bearer {TOKEN}\r\n");
    let path = format!("/api/v1/letters/{id}");
    let answer = Client::connect(fender.admin()).request("GET", &path, &fields, b"");
    answer.json()["etag"].as_str().expect("a letter has one").to_owned()
}

/// The curl calls of a page, in its order.
fn curls(page: &Page) -> Vec<String> {
    let shells = page.blocks().into_iter().filter(|block| block.info == "sh");
    shells.flat_map(|block| lines(&block.text)).filter(|line| line.starts_with("curl ")).collect()
}

/// Runs it with what stands for this machine's things in place of the guide's; its status and body.
fn run(line: &str, fender: &Fender, letter: &str, etag: &str) -> (u16, String) {
    let told = line
        .replace("$API", "http://127.0.0.1:8701/api/v1")
        .replace("http://127.0.0.1:8701", &format!("http://{}", fender.admin()))
        .replace("$TOKEN", TOKEN)
        .replace("/ID", &format!("/{letter}"))
        .replace("\"3\"", etag);
    let endless = line.starts_with("curl -sN");
    let mut arguments = words(&told);
    arguments.remove(0);
    let mut command = Command::new("curl");
    command.args(["--noproxy", "*", "--max-time", if endless { "1" } else { "10" }]).args(&arguments);
    let output = command.args(["-w", "\n%{http_code}"]).output().expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = said.rsplit_once('\n').expect("the code is on a line of its own");
    // 28: its time is over, as that of a stream that does not end must be.
    assert!(
        output.status.success() || (endless && output.status.code() == Some(28)),
        "{line}: {}",
        output.status
    );
    (code.parse().expect("a status"), body.to_owned())
}

#[test]
fn every_curl_of_the_guides_works() {
    if !Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no curl");
        return;
    }
    let mut run_for: BTreeMap<String, usize> = BTreeMap::new();
    for page in pages_for_users() {
        let curls = curls(&page);
        if curls.is_empty() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let (fender, _upstream) = everything(folder.path());
        let letter = parked(&fender);
        for line in &curls {
            let (status, body) = run(line, &fender, &letter, &etag(&fender, &letter));
            let wanted = if line.contains("/quit") { 202 } else { 200 };
            assert_eq!(status, wanted, "{}: {line}: {body}", page.path);
            *run_for.entry(page.path.clone()).or_default() += 1;
        }
    }
    assert!(run_for.values().sum::<usize>() >= 20, "{run_for:?}");
}

#[test]
fn what_is_set_by_hand_is_in_force_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (fender, _upstream) = everything(folder.path());
    if !Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no curl");
        return;
    }
    let curls: Vec<String> = pages_for_users().iter().flat_map(curls).collect();
    let said = |part: &str| -> String {
        let line = curls.iter().find(|line| line.contains(part));
        run(line.unwrap_or_else(|| panic!("no guide shows {part}")), &fender, "", "").1
    };
    said("breakers/openai/force-open");
    assert_eq!(fender.get("/openai/x").field("fender-reason"), "breaker_open");
    let forced = [("upstream", "openai"), ("state", "forced_open")];
    assert_eq!(fender.metric("fender_breaker_state", &forced), 1.0);
    said("breakers/openai/auto");
    assert_eq!(fender.get("/openai/x").status(), 500);

    let level: Value = serde_json::from_str(&said("database move")).unwrap();
    assert_eq!(
        (level["level"].as_str(), level["by_hand"]["reason"].as_str()),
        (Some("severe"), Some("database move"))
    );
    assert_eq!(fender.metric("fender_degradation_level", &[]), 3.0);
    said("-X DELETE");
    eventually("the automatic level is back", || fender.metric("fender_degradation_level", &[]) < 3.0);

    said("/config/reload");
    fender
        .logged_where("an audit line", |line| line["message"] == "audit" && line["what"] == "config.reload");
}
