//! What dialects promise beyond single answers: whose pause it is, what never leaves or is stored, what is no delivery.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::letters::{call, keeping, letters};
use crate::support::turns::Step::{self, Answer, End as Ends, Hang, Piece, Reset, Stream};
use crate::support::turns::in_turns;
use crate::support::{End, Fender, Setup, Upstream, eventually};

const ONCE: &str = "retry = { max_attempts = 1 }\nbreaker.enabled = false\n";
const JSON: &str = "content-type: application/json";

fn slack(error: &str) -> Vec<Step> {
    vec![Answer("200 OK", JSON, format!(r#"{{"ok":false,"error":"{error}","more":"{}"}}"#, "x".repeat(3000)))]
}

#[test]
fn an_answer_is_judged_also_where_memory_is_short() {
    let upstream = in_turns(vec![slack("fatal_error")]);
    let fender = Setup::new(upstream.as_api(&format!("dialect = \"slack\"\n{ONCE}")))
        .server("buffer_memory = \"1KiB\"")
        .start();
    assert_eq!(fender.post("/chat.postMessage", "", b"{}").status(), 200);
    assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "transient")]), 1.0);
    assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "success")]), 0.0);
}

#[test]
fn a_wait_is_its_credentials_wherever_that_stands() {
    let told = r#"{"ok":false,"error_code":429,"parameters":{"retry_after":60}}"#;
    let busy = vec![Answer("429 Slow", JSON, told.to_owned())];
    let fine = vec![Answer("200 OK", JSON, r#"{"ok":true,"result":true}"#.to_owned())];
    for (dialect, first, second, fields) in [
        ("telegram", "/bot111:AAA/sendMessage", "/bot222:BBB/sendMessage", ["", ""]),
        (
            "gemini",
            "/v1beta/models/m:generateContent?key=ONE",
            "/v1beta/models/m:generateContent?key=TWO",
            ["", ""],
        ),
        (
            "gemini",
            "/v1beta/models/m:generateContent",
            "/v1beta/models/m:generateContent",
            ["x-goog-api-key: ONE\r\n", "x-goog-api-key: TWO\r\n"],
        ),
    ] {
        let busy = if dialect == "gemini" {
            let retry =
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"60s"}]}}"#;
            vec![Answer("429 Slow", JSON, retry.to_owned())]
        } else {
            busy.clone()
        };
        let upstream = in_turns(vec![busy, fine.clone()]);
        let fender = Fender::start(upstream.as_api(&format!("dialect = \"{dialect}\"\n{ONCE}")));
        let ask = |path: &str, fields: &str| fender.post(path, fields, b"{}").status();
        assert_eq!(ask(first, fields[0]), 429, "{dialect}");
        assert_eq!(ask(second, fields[1]), 200, "{dialect}: another one's wait");
        assert_eq!(ask(first, fields[0]), 429, "{dialect}");
        assert_eq!(upstream.requests().len(), 2, "{dialect}: the one that was told waits");
    }
}

#[test]
fn no_credential_of_the_apis_own_goes_to_a_fallback() {
    for (dialect, path, fields) in [
        ("gemini", "/v1beta/models/m:generateContent", "x-goog-api-key: SECRET\r\n"),
        ("gemini", "/v1beta/models/m:generateContent?key=SECRET", ""),
        ("telegram", "/bot1:SECRET/getMe", ""),
        ("telegram", "/%62ot1:SECRET/getMe", ""),
    ] {
        for rewritten in ["", ", path = \"/again/{rest}\""] {
            let (down, other) = (Upstream::in_turn(&["503 Busy"]), Upstream::ok("ok"));
            let config = format!(
                "{}fallback = [{{ upstream = \"other\"{rewritten} }}]\n[upstream.other]\nurl = \"{}\"\ndialect = \"{dialect}\"\n",
                down.as_api(&format!("dialect = \"{dialect}\"\n{ONCE}")),
                other.url()
            );
            let fender = Fender::start(config);
            fender.client().request("GET", path, fields, b"");
            let seen = format!("{:?}", other.requests());
            assert!(!seen.contains("SECRET"), "{dialect} {path} {rewritten}: {seen}");
        }
    }
}

#[test]
fn while_a_quota_is_used_up_its_fallback_answers() {
    let spent = r#"{"error":{"message":"no","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let (upstream, other) =
        (in_turns(vec![vec![Answer("429 Slow", JSON, spent.to_owned())]]), Upstream::ok("ok"));
    let fallback = "fallback = [{ on = [\"quota\"], upstream = \"other\" }]\n";
    let fender = Fender::start(format!(
        "{}[upstream.other]\nurl = \"{}\"\ndialect = \"openai\"\n",
        upstream.as_api(&format!("dialect = \"openai\"\n{fallback}")),
        other.url()
    ));
    for _ in 0..3 {
        let answer = fender.post("/v1/chat/completions", "authorization: Bearer x\r\n", b"{}");
        assert_eq!((answer.status(), answer.field("fender-fallback").as_str()), (200, "other"));
    }
    assert_eq!((upstream.requests().len(), other.requests().len()), (1, 3));
}

#[test]
fn no_token_of_a_path_is_stored_or_logged_however_it_is_written() {
    let down = Upstream::nobody();
    let (setup, folder) = keeping(&format!(
        "[access_log]\nenabled = true\n[upstream.bot]\nurl = \"{down}\"\nroute = \"/tg\"\ndialect = \"telegram\"\n{ONCE}\
         dead_letter.mode = \"on_failure\"\n[upstream.green]\nurl = \"{down}\"\nroute = \"/green\"\ndialect = \"green-api\"\n{ONCE}\
         dead_letter.mode = \"on_failure\""
    ));
    let fender = setup.start();
    for path in [
        "/tg/bot1:SECRET/sendMessage",
        "/tg/%62ot1:SECRET/sendMessage",
        "/tg/bot1%3ASECRET/sendMessage",
        "/green/waInstance11/sendMessage/SECRET",
        "/green/w%61Instance11/sendMessage/SECRET",
        "/nowhere/bot1:SECRET/sendMessage",
        "/nowhere/%62ot1:SECRET/sendMessage",
    ] {
        fender.post(path, "content-type: application/json\r\n", br#"{"chat_id":1}"#);
    }
    let kept = letters(&fender);
    assert_eq!(kept.len(), 5);
    for letter in &kept {
        assert_eq!(letter["parked_because"], "credential", "{letter}");
        let id = letter["id"].as_str().unwrap();
        let (status, said) =
            call(&fender, "POST", &format!("/api/v1/letters/{id}/replay"), "operators-secret", &Value::Null);
        assert_eq!(status, 409, "without its credential it leads nowhere: {said}");
    }
    let mut everything = format!("{kept:?}{}{:?}", fender.log(), fender.metrics());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        everything += &String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(!everything.contains("SECRET"));
}

#[test]
fn what_leads_elsewhere_or_cannot_be_read_is_no_delivery() {
    let packed = "content-type: application/json\ncontent-encoding: gzip";
    for (answer, because) in [
        (Answer("302 Found", "location: http://elsewhere/", String::new()), "permanent"),
        (Answer("200 OK", packed, "not to be read".to_owned()), "ambiguous"),
    ] {
        let turns = vec![vec![Answer("429 Slow", "retry-after: 1", String::new())], vec![answer]];
        let upstream = in_turns(turns);
        let lines = format!("dialect = \"slack\"\n{ONCE}dead_letter.mode = \"on_failure\"");
        let (setup, _folder) = keeping(&upstream.as_api(&lines));
        let fender = setup.start();
        assert_eq!(fender.post("/chat.postMessage", "", b"{}").field("fender-letter").len(), 26);
        eventually("it is parked", || letters(&fender)[0]["state"] == "parked");
        assert_eq!(letters(&fender)[0]["parked_because"], because);
    }
}

#[test]
fn a_failure_is_told_while_the_client_is_still_sending() {
    let upstream = Upstream::scripted(|connection| {
        if let Some(head) = connection.head() {
            connection.remember_head(head);
            connection.send("HTTP/1.1 429 Slow\r\nretry-after: 60\r\ncontent-length: 2\r\n\r\n{}");
            connection.until_closed();
        }
    });
    let fender = Fender::start(upstream.as_api(&format!("dialect = \"openai\"\n{ONCE}")));
    let begun = Instant::now();
    let (answer, _client) = fender.raw(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"model\"",
    );
    assert_eq!(answer.status(), 429);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_head_is_no_stream() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let upstream = Upstream::answering(head);
    let fender = Fender::start(upstream.as_api("dialect = \"openai\""));
    let answer = fender.client().request("HEAD", "/v1/chat/completions", "", b"");
    assert_eq!((answer.status(), answer.field("fender-attempts").as_str()), (200, "1"));
}

#[test]
fn nobody_is_blamed_for_what_breaks_behind_the_end_mark() {
    let word =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    for end in [Reset, Hang] {
        let whole = vec![Stream, Piece(word.to_owned()), Piece("data: [DONE]\n\n".to_owned()), end];
        let upstream = in_turns(vec![whole]);
        let lines = "dialect = \"openai\"\ntimeout.idle = \"400ms\"\nbreaker.consecutive_failures = 1";
        let fender = Fender::start(upstream.as_api(lines));
        let answer = fender.get("/v1/chat/completions");
        assert!(answer.text().ends_with("[DONE]\n\n"), "{}", answer.text());
        assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "success")]), 1.0);
        assert_eq!(fender.metric("fender_stream_ends_total", &[("end", "complete")]), 1.0);
        assert_eq!(fender.get("/v1/chat/completions").status(), 200, "the breaker is closed");
    }
}

#[test]
fn a_quota_that_ends_a_stream_pauses_its_credential() {
    let word =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    let error = "data: {\"error\":{\"message\":\"no\",\"code\":\"insufficient_quota\"}}\n\n";
    let upstream = in_turns(vec![vec![Stream, Piece(word.to_owned()), Piece(error.to_owned()), Ends]]);
    let fender = Fender::start(upstream.as_api("dialect = \"openai\""));
    let answer = fender.get("/v1/chat/completions");
    assert_eq!((answer.status(), answer.end), (200, End::Clean));
    let answer = fender.get("/v1/chat/completions");
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (429, "throttled"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_stream_that_a_drain_cuts_says_so() {
    let word =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    let upstream = in_turns(vec![vec![Stream, Piece(word.to_owned()), Hang]]);
    let setup = Setup::new(upstream.as_api("dialect = \"openai\""))
        .server("drain_timeout = \"600ms\"\ndrain_quiet = \"100ms\"");
    let fender = setup.start();
    let mut client = fender.client();
    client.send("GET /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    assert_eq!(client.chunk().unwrap(), word.as_bytes());
    fender.sigterm();
    let last = String::from_utf8(client.chunk().unwrap()).unwrap();
    assert!(last.contains("\"error\"") && last.contains("shutting down"), "{last}");
    assert_eq!(client.until_closed(), End::Cut);
    assert!(fender.wait_exit(Duration::from_secs(5)).success());
}

#[test]
fn letters_are_ordered_by_what_their_api_orders_by() {
    let nobody = Upstream::nobody();
    let keeping_of = |name: &str, dialect: &str| {
        format!(
            "[upstream.{name}]\nurl = \"{nobody}\"\nroute = \"/{name}\"\ndialect = \"{dialect}\"\n{ONCE}\
             dead_letter = {{ mode = \"on_failure\", order_by = \"auto\" }}\n"
        )
    };
    let (setup, _folder) = keeping(&(keeping_of("slack", "slack") + &keeping_of("sms", "twilio")));
    let fender = setup.start();
    let json = "content-type: application/json\r\n";
    fender.post("/slack/chat.postMessage", json, br#"{"channel":"C1","text":"x"}"#);
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    fender.post("/sms/2010-04-01/Accounts/AC/Messages.json", form, b"From=%2B1&To=%2B2&Body=x");
    let mut keys: Vec<String> =
        letters(&fender).iter().map(|letter| letter["order_key"].to_string()).collect();
    keys.sort();
    assert_eq!(keys, ["\"+2\"", "\"C1\""]);
}

/// What was read ahead to be judged has a length: the client has all of it, and nobody says that it hung up.
#[test]
fn an_answer_that_was_read_to_be_judged_is_told_as_complete() {
    let body = "{\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}";
    let answer = format!(
        "HTTP/1.1 500 Oops\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::answering(answer);
    let lines = "dialect = \"openai\"\nretry = { max_attempts = 1 }\n[access_log]\nenabled = true";
    let fender = Fender::start(upstream.as_api(lines));
    let mut client = fender.client();
    for _ in 0..3 {
        let answer =
            client.request("POST", "/v1/chat/completions", "content-type: application/json\r\n", b"{}");
        assert_eq!((answer.status(), answer.text().as_str()), (500, body));
    }
    let line = fender.logged_where("an access line", |line| line["end"].is_string());
    assert_eq!(line["end"], "complete", "{line}");
}
