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
    // It went well: there is no story of that turn, and it has none of the turn before it.
    assert_eq!(attempts.last().unwrap()["request_id"], Value::Null);
    assert_eq!(attempts.last().unwrap()["verdict"], Value::Null);
    assert!(attempts[0]["request_id"].is_string());
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
    let act = |act: &str| {
        let path = format!("/api/v1/letters/{letter}/{act}");
        assert_eq!(super::call(&fender, "POST", &path, super::OPS, &Value::Null).0, 200);
    };
    act("replay");
    eventually("it is parked again", || {
        let letter = &story(&fender, &letter)["letter"];
        letter["state"] == "parked" && letter["attempts"].as_array().unwrap().len() == 1
    });
    act("discard");
    assert_eq!(owner(&fender, &letter), "nobody");
    insta::assert_snapshot!(settled(&why(&fender, &letter)));
}

/// What the log says of a letter's turn bears an id: whoever asks for it is told of that turn, and the letter's own story names it.
#[test]
fn a_letters_turn_has_a_story_of_its_own() {
    let (upstream, _well) = patient();
    let (setup, _folder) =
        keeping(&upstream.as_api(&FAST.replace("backoff =", "max_attempts = 2, backoff =")));
    let fender = setup.start();
    let answer = fender.post("/send", "", b"x");
    let letter = answer.field("fender-letter");
    eventually("it is parked", || story(&fender, &letter)["letter"]["state"] == "parked");
    let told = story(&fender, &letter);
    let attempts = told["letter"]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{told}");
    assert_eq!(told["letter"]["parked_by"]["key"], "upstream.api.dead_letter.replay.max_attempts");
    let logged = fender.logged("letter parked")["request_id"].as_str().unwrap().to_owned();
    assert_eq!(attempts[1]["request_id"].as_str(), Some(logged.as_str()), "{told}");
    for attempt in attempts {
        assert_eq!(attempt["endpoint"], upstream.address().to_string(), "{told}");
        assert_eq!(attempt["verdict"], "refused", "{told}");
    }
    assert_ne!(attempts[0]["request_id"], attempts[1]["request_id"]);
    insta::assert_snapshot!("a_turn", settled(&why(&fender, &logged)));
    insta::assert_snapshot!("a_letter_parked_at_last", settled(&why(&fender, &letter)));
}

#[test]
fn the_same_write_again_is_not_told_as_another_letter() {
    let (upstream, _well) = patient();
    let (setup, _folder) = keeping(&upstream.as_api(&FAST.replace("50ms", "1h")));
    let fender = setup.start();
    let keyed = |body: &[u8]| fender.post("/send", "idempotency-key: k\r\n", body);
    let (first, again, other) = (keyed(b"x"), keyed(b"x"), keyed(b"y"));
    assert_eq!((first.status(), again.status(), other.status()), (202, 202, 422));
    assert_eq!(first.field("fender-letter"), again.field("fender-letter"));
    insta::assert_snapshot!("the_same_again", settled(&why(&fender, &id_of(&again))));
    insta::assert_snapshot!("the_same_key_for_another", settled(&why(&fender, &id_of(&other))));
    let captured: f64 = fender
        .metrics()
        .iter()
        .filter(|(name, _)| name.starts_with("fender_dead_letters_captured_total"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(captured, 1.0, "one letter was made");
    assert_eq!(story(&fender, &first.field("fender-letter"))["id"], id_of(&first), "the first has made it");
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
