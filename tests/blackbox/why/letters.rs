//! A letter's story: from its capture to its delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::{id_of, settled, story, why};
use crate::blackbox::letters::keeping;
use crate::support::{Fender, Upstream, eventually};

const FAST: &str = "retry = { max_attempts = 1 }\nbreaker.enabled = false\ndead_letter.mode = \"on_failure\"\n\
    dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"50ms\", jitter = \"none\" }, per_second = 1000.0 }";

/// Refuses until it is told to be well.
fn patient() -> (Upstream, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "503 Busy\r\nretry-after: 0" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    (upstream, well)
}

fn owner(fender: &Fender, id: &str) -> String {
    story(fender, id)["owner"]["who"].as_str().unwrap().to_owned()
}

#[test]
fn is_told_from_its_capture_to_its_delivery_by_either_id() {
    let (upstream, well) = patient();
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let answer = fender.post("/send", "", b"x");
    let (request, letter) = (id_of(&answer), answer.field("fender-letter"));
    assert_eq!(answer.status(), 202);
    assert_eq!(owner(&fender, &request), "fender");
    eventually("it is replayed", || {
        story(&fender, &letter)["letter"]["attempts"].as_array().unwrap().len() > 1
    });
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || story(&fender, &letter)["letter"]["state"] == "delivered");
    assert_eq!(owner(&fender, &letter), "nobody");
    let (by_request, by_letter) = (story(&fender, &request), story(&fender, &letter));
    assert_eq!(by_request, by_letter, "either id tells the same");
    let attempts = by_letter["letter"]["attempts"].as_array().unwrap();
    assert_eq!(attempts.last().unwrap()["outcome"], "success");
    let page = settled(&why(&fender, &letter));
    // How often it was tried meanwhile is chance.
    let tries: Vec<&str> = page.lines().filter(|line| line.contains("  replay  ")).collect();
    assert!(tries.len() >= 2 && tries.last().unwrap().contains("200, success"), "{page}");
    let rest: Vec<&str> = page.lines().filter(|line| !line.contains("  replay  ")).collect();
    insta::assert_snapshot!(rest.join("\n"));
}

#[test]
fn an_operator_has_the_last_word() {
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let answer = fender.post("/send", "", b"x");
    let letter = answer.field("fender-letter");
    assert_eq!(owner(&fender, &letter), "client", "it heard a failure");
    let path = format!("/api/v1/letters/{letter}/discard");
    assert_eq!(super::call(&fender, "POST", &path, super::OPS, &Value::Null).0, 200);
    assert_eq!(owner(&fender, &letter), "nobody");
}

#[test]
fn the_store_alone_tells_it_when_the_process_has_forgotten_the_request() {
    let (upstream, _well) = patient();
    let (setup, _folder) = keeping(&upstream.as_api(&FAST.replace("50ms", "1h")));
    let again = setup.clone();
    let fender = setup.start();
    let answer = fender.post("/send?token=query-secret", "", b"x");
    let (request, letter) = (id_of(&answer), answer.field("fender-letter"));
    fender.sigterm();
    fender.wait_exit(crate::support::PATIENCE * 3);
    let fender = again.start();
    let page = settled(&why(&fender, &letter));
    assert!(!page.contains("query-secret"), "{page}");
    insta::assert_snapshot!(page);
    let gone = super::asked(&fender, &request, super::OPS, &[]);
    assert_eq!(gone.status.code(), Some(1));
}
