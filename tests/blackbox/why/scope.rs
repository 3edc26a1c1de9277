//! Who may read a story, what is never in one, and how much is kept of them.

use serde_json::Value;

use super::{OPS, call, id_of, story};
use crate::blackbox::letters::{TOKENS_OF_ALL, keeping};
use crate::support::{Setup, Upstream, eventually};

#[test]
fn another_upstreams_story_is_not_there_for_a_token_that_does_not_reach_it() {
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let (setup, _folder) =
        keeping(&upstream.as_api("retry.max_attempts = 1\ndead_letter.mode = \"on_failure\""));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    let (request, letter) = (id_of(&answer), answer.field("fender-letter"));
    story(&fender, &request);
    for id in [&request, &letter, &"0".repeat(32), &"0".repeat(26), &"no id".replace(' ', "%20")] {
        let path = format!("/api/v1/requests/{id}");
        let (status, body) = call(&fender, "GET", &path, "others-secret", &Value::Null);
        assert_eq!(status, 404, "{id}: {body}");
        assert!(!body.to_string().contains("api"), "nothing of it is told: {body}");
        assert_eq!(call(&fender, "GET", &path, "nobodys-secret", &Value::Null).0, 401);
    }
    let (status, _) =
        call(&fender, "GET", &format!("/api/v1/requests/{request}"), "viewers-secret", &Value::Null);
    assert_eq!(status, 200, "a viewer may look");
}

#[test]
fn a_leg_at_an_upstream_that_the_token_does_not_reach_is_told_without_what_happened_there() {
    let upstream = Upstream::answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    let lines = "retry.max_attempts = 1\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"hidden\"\n\
                 [upstream.hidden]\nurl = \"http://127.0.0.1:9\"\nretry.max_attempts = 1\n";
    let token = "[[admin.token]]\nname = \"one\"\nrole = \"viewer\"\nsecret = \"ones-secret\"\nupstreams = [\"api\"]\n";
    let fender = Setup::new(upstream.as_api(lines)).admin(&format!("{TOKENS_OF_ALL}{token}")).start();
    let id = id_of(&fender.get("/"));
    let whole = story(&fender, &id);
    assert!(whole.to_string().contains("hidden"), "{whole}");
    let (status, told) = call(&fender, "GET", &format!("/api/v1/requests/{id}"), "ones-secret", &Value::Null);
    assert_eq!(status, 200);
    assert!(!told.to_string().contains("hidden") && !told.to_string().contains("127.0.0.1:9\""), "{told}");
    assert_eq!(told["steps"].as_array().unwrap().len(), whole["steps"].as_array().unwrap().len());
}

#[test]
fn nothing_secret_is_in_a_story() {
    let planted = "planted-secret-word";
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 500 Oops\r\nx-echo: {planted}\r\ncontent-length: {}\r\n\r\n{planted}",
        planted.len()
    ));
    let lines = "dialect = \"telegram\"\ndead_letter.mode = \"on_failure\"\nretry.max_attempts = 1\n\
                 headers.set = { x-own = \"planted-secret-word\" }";
    let (setup, _folder) = keeping(&upstream.as_api(lines));
    let fender = setup.start();
    let path = format!("/bot123456:{planted}/sendMessage?token={planted}");
    let fields = format!("authorization: Bearer {planted}\r\nx-any: {planted}\r\n");
    let answer = fender.post(&path, &fields, planted.as_bytes());
    let letter = answer.field("fender-letter");
    assert_eq!(letter.len(), 26, "{}", answer.text());
    let unrouted = Setup::new(upstream.as_api("").replace("route = \"/\"", "route = \"/x\""))
        .admin(TOKENS_OF_ALL)
        .start();
    let nowhere = unrouted.get(&path);
    let told = [
        story(&fender, &id_of(&answer)).to_string(),
        story(&fender, &letter).to_string(),
        super::why(&fender, &letter),
        super::why(&unrouted, &id_of(&nowhere)),
    ];
    for text in told {
        assert!(!text.contains(planted), "{text}");
        assert!(text.contains("sendMessage"), "the path is there, masked: {text}");
    }
}

#[test]
fn the_ring_turns_within_its_bytes_and_gives_room_to_bodies() {
    let fender = Setup::new(Upstream::ok("ok").as_api("").replace("route = \"/\"", "route = \"/x\""))
        .admin(TOKENS_OF_ALL)
        .server("buffer_memory = \"1MiB\"")
        .start();
    let first = id_of(&fender.get("/"));
    story(&fender, &first);
    let mut client = fender.client();
    let mut last = String::new();
    for number in 0..400 {
        let path = format!("/{}/{number}", "long".repeat(500));
        last = id_of(&client.request("GET", &path, "", b""));
    }
    let told = story(&fender, &last);
    let path = told["path"].as_str().unwrap();
    assert!(path.len() <= 520 && path.ends_with("… (cut)"), "{path}");
    assert_eq!(call(&fender, "GET", &format!("/api/v1/requests/{first}"), OPS, &Value::Null).0, 404);
    let held = fender.metric("fender_buffer_bytes", &[]);
    assert!(held > 0.0 && held <= f64::from(1 << 16), "a sixteenth of the memory: {held}");
}

#[test]
fn after_a_reload_the_line_is_that_of_the_config_in_force_and_that_is_said() {
    let upstream = Upstream::answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    let setup = |lines: &str| Setup::new(upstream.as_api(lines)).admin(TOKENS_OF_ALL);
    let fender = setup("retry.max_attempts = 1").start();
    let id = id_of(&fender.get("/"));
    let before = story(&fender, &id);
    assert_eq!(before["decided_by"]["value"], "1");
    assert!(before["config_reloaded_at"].is_null(), "{before}");
    let line = |told: &Value| {
        let place = told["decided_by"]["set_by"].as_str().unwrap();
        let mut parts = place.rsplit(':');
        parts.nth(1).unwrap().parse::<u32>().unwrap()
    };
    let was = line(&before);
    fender.rewrite_config(&setup("# one more line\n\nretry.max_attempts = 1"));
    fender.sighup();
    fender.logged("config reloaded");
    eventually("the line is the new one", || line(&story(&fender, &id)) == was + 2);
    assert!(story(&fender, &id)["config_reloaded_at"].is_string());
    assert!(super::why(&fender, &id).contains("the config was read again at 20"));
    // Without that upstream there is no such line any more.
    fender.rewrite_config(
        &Setup::new("[upstream.other]\nurl = \"http://127.0.0.1:9\"\nroute = \"/\"\n").admin(TOKENS_OF_ALL),
    );
    fender.sighup();
    eventually("its line is gone", || story(&fender, &id)["decided_by"]["set_by"].is_null());
    assert!(super::why(&fender, &id).contains("which the config in force does not have"));
}

/// What a request was refused, tried and stopped for, in every log line about it.
#[test]
fn every_log_line_about_a_request_bears_its_id() {
    let upstream = Upstream::answering("HTTP/1.1 429 Slow\r\nretry-after: 90\r\ncontent-length: 0\r\n\r\n");
    let (setup, _folder) = keeping(&upstream.as_api("dead_letter.mode = \"on_failure\""));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!(answer.status(), 202, "{}", answer.text());
    let id = id_of(&answer);
    for message in ["attempt failed", "paused at the upstream's word", "letter captured"] {
        assert_eq!(fender.logged(message)["request_id"], id.as_str(), "{message}");
    }
}
