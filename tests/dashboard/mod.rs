//! The dashboard in a browser, as people use it. Skipped aloud where there is no Chromium.

mod served;

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Fender, Setup, Upstream};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard");

const TOKENS: &str = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"operators-secret\"\n\
    [[admin.token]]\nname = \"eyes\"\nrole = \"viewer\"\nsecret = \"viewers-secret\"\n";

/// The Python of a venv that can drive a browser; installed once for all tests.
fn python() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(folder.join("browser.lock")).unwrap();
    lock.lock().unwrap();
    let venv = folder.join("browser");
    let output = Command::new(format!("{FOLDER}/install")).arg(&venv).output().unwrap();
    if !output.status.success() {
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(venv.join("bin/python"))
}

/// What a letter's answer says, and an idempotency key: none of it may become markup.
const MARKUP: &str = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

/// Answers 200 to what ends with `/ok`, 500 to all else, until it is told by `/be-well` that it is well.
fn moody() -> Upstream {
    let well = Arc::new(AtomicBool::new(false));
    Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let target = received.head.target().to_owned();
            if target.ends_with("/be-well") {
                well.store(true, Ordering::SeqCst);
            }
            let fine = target.ends_with("/ok") || well.load(Ordering::SeqCst);
            let (status, body) = if fine { ("200 OK", "fine") } else { ("500 Broken", MARKUP) };
            let length = body.len();
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"));
        }
    })
}

/// An API that is asked, one whose writes are kept, and one that is quiet.
fn house(upstream: &Upstream) -> (Fender, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = upstream.url();
    let config = format!(
        "[dead_letter]\npath = {:?}\n\
         [upstream.openai]\nurl = \"{url}\"\ndialect = \"generic\"\nroute = \"/openai\"\ncriticality = \"high\"\nretry.max_attempts = 1\n\
         breaker = {{ consecutive_failures = 3, open_for = \"60s\" }}\n\
         [upstream.whatsapp]\nurl = \"{url}\"\ndialect = \"generic\"\nroute = \"/whatsapp\"\nretry.max_attempts = 1\nbreaker.enabled = false\n\
         dead_letter = {{ mode = \"on_failure\", order_by = \"header:x-chat\", replay = {{ backoff = {{ strategy = \"fixed\", base = \"100ms\" }} }} }}\n\
         [upstream.slack]\nurl = \"{url}\"\ndialect = \"generic\"\nroute = \"/slack\"\n",
        folder.path().join("letters.db")
    );
    (Setup::new(config).admin(TOKENS).start(), folder)
}

/// Plays one part of `browser.py` to its end.
#[track_caller]
fn play(part: &str) {
    let Some(python) = python() else { return };
    let upstream = moody();
    let (fender, _folder) = house(&upstream);
    let mut command = Command::new(python);
    command.arg(format!("{FOLDER}/browser.py")).arg(part);
    command.arg(format!("http://{}", fender.admin())).arg(format!("http://{}", fender.server()));
    let output = command.arg(upstream.url()).env("NO_PROXY", "*").output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("fine"), "{said}");
    assert!(!fender.log().contains("operators-secret"), "{}", fender.log());
}

#[test]
fn the_harness_hears_violations_errors_and_sees_bad_contrast() {
    play("harness");
}

#[test]
fn it_asks_for_a_token_and_forgets_it() {
    play("door");
}

#[test]
fn a_breaker_that_opens_is_seen_and_why() {
    play("breaker");
}

#[test]
fn a_half_open_breaker_says_whether_it_is_being_probed() {
    play("half_open");
}

#[test]
fn breakers_are_forced_and_let_go_by_keyboard() {
    play("by_hand");
}

#[test]
fn letters_are_looked_at_replayed_and_discarded() {
    play("letters");
}

#[test]
fn the_keyboard_alone_reaches_everything() {
    play("keyboard");
}

#[test]
fn it_is_accessible_in_light_and_dark_small_and_wide() {
    play("looks");
}

#[test]
fn it_waits_out_an_outage_and_asks_nothing_while_it_is_hidden() {
    play("outage");
}

#[test]
fn who_may_only_look_is_shown_no_more() {
    play("viewer");
}

#[test]
fn the_report_is_shown_for_a_day_and_a_week() {
    play("report");
}
