//! Writes that could not be delivered: who owns them, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Fender, Setup, Upstream, eventually};

pub(super) const TOKENS: &str = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"operators-secret\"\n\
    [[admin.token]]\nname = \"eyes\"\nrole = \"viewer\"\nsecret = \"viewers-secret\"\n\
    [[admin.token]]\nname = \"other\"\nrole = \"operator\"\nsecret = \"others-secret\"\nupstreams = [\"other\"]\n";

/// As [`TOKENS`], where there is no upstream `other`.
pub(super) const TOKENS_OF_ALL: &str = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"operators-secret\"\n\
    [[admin.token]]\nname = \"eyes\"\nrole = \"viewer\"\nsecret = \"viewers-secret\"\n";

const FAST: &str = "retry = { max_attempts = 1 }\nbreaker = { open_for = \"200ms\", half_open_probes = 1 }\n\
    dead_letter.mode = \"on_failure\"\n\
    dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"100ms\", jitter = \"none\" }, per_second = 1000.0 }";

/// A store in a folder that lives as long as what is returned.
pub(super) fn keeping(upstreams: &str) -> (Setup, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.db");
    let setup = Setup::new(format!(
        "[dead_letter]\npath = {path:?}\n{upstreams}\n[upstream.other]\nurl = \"http://127.0.0.1:9\"\n"
    ))
    .admin(TOKENS);
    (setup, folder)
}

/// Fails with this status until it is told to be well.
fn patient(status: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { status };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    (upstream, well)
}

pub(crate) fn call(fender: &Fender, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let fields = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let answer = Client::connect(fender.admin()).request(method, path, &fields, text.as_bytes());
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status(), body)
}

fn get(fender: &Fender, path: &str) -> Value {
    let (status, body) = call(fender, "GET", path, "operators-secret", &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

pub(super) fn letters(fender: &Fender) -> Vec<Value> {
    get(fender, "/api/v1/letters")["letters"].as_array().unwrap().clone()
}

fn state_of(fender: &Fender, id: &str) -> String {
    get(fender, &format!("/api/v1/letters/{id}"))["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_refused_write_is_accepted_and_delivered_when_the_upstream_is_well() {
    let (upstream, well) = patient("503 Busy\r\nretry-after: 0");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let body = b"\x00binary\xff\xfe";
    let answer = fender.post("/send?q=1", "x-own: kept\r\ncontent-type: application/x-own\r\n", body);
    assert_eq!(answer.status(), 202, "{}", answer.text());
    let told = answer.json();
    let id = told["letter"].as_str().unwrap().to_owned();
    assert_eq!(answer.field("fender-letter"), id);
    assert_eq!(answer.field("fender-reason"), "exhausted");
    assert_eq!(
        told,
        json!({"status": "queued_for_retry", "letter": id, "upstream": "api", "reason": "exhausted", "durable": "full"})
    );
    assert_eq!(fender.metric("fender_requests_total", &[("source", "dead_letter"), ("code", "202")]), 1.0);
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || state_of(&fender, &id) == "delivered");
    let last = upstream.requests().last().cloned().unwrap();
    assert_eq!((last.head.target(), last.body.bytes.as_slice()), ("/send?q=1", &body[..]));
    assert_eq!(last.field("x-own").as_deref(), Some("kept"));
    let letter = get(&fender, &format!("/api/v1/letters/{id}"));
    assert_eq!(letter["verdict"], "refused");
    assert_eq!(letter["attempts"].as_array().unwrap().last().unwrap()["outcome"], "success");
    assert_eq!(fender.metric("fender_dead_letters", &[("state", "delivered")]), 1.0);
    assert_eq!(fender.metric("fender_dead_letter_store_healthy", &[]), 1.0);
}

#[test]
fn a_write_that_meets_nobody_is_accepted() {
    let lines = format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\n{FAST}", Upstream::nobody());
    let (setup, _folder) = keeping(&lines);
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (202, "connect"));
    assert_eq!(fender.get("/").status(), 502, "a read is not kept");
}

#[test]
fn an_ambiguous_write_is_parked_and_its_client_hears_the_failure() {
    let (upstream, _well) = patient("500 Oops");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (500, "ambiguous"));
    let id = answer.field("fender-letter");
    let letter = get(&fender, &format!("/api/v1/letters/{id}"));
    assert_eq!(
        (letter["state"].as_str(), letter["parked_because"].as_str()),
        (Some("parked"), Some("ambiguous"))
    );
    // With a key that the API honours a second send is harmless.
    let keyed = fender.post("/", "idempotency-key: k1\r\n", b"x");
    assert_eq!(keyed.status(), 202);
    let again = fender.post("/", "idempotency-key: k1\r\n", b"x");
    assert_eq!(again.field("fender-letter"), keyed.field("fender-letter"));
    assert_eq!(fender.post("/", "idempotency-key: k1\r\n", b"another").status(), 422);
}

#[test]
fn a_credential_that_nothing_supplies_keeps_the_write_with_its_client() {
    let (upstream, _well) = patient("429 Slow");
    let (setup, folder) = keeping(&upstream.as_api(&format!("throttle = {{ adapt = false }}\n{FAST}")));
    let fender = setup.start();
    let answer = fender.post("/", "authorization: Bearer very-secret\r\n", b"x");
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (429, "credential"));
    assert!(!answer.field("fender-letter").is_empty());
    assert_eq!(letters(&fender)[0]["parked_because"], "credential");
    drop(fender);
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        let found = bytes.windows(b"very-secret".len()).any(|window| window == b"very-secret");
        assert!(!found, "{} holds the credential", file.path().display());
    }
}

#[test]
fn a_supplied_credential_is_borne_again_at_replay() {
    let (upstream, well) = patient("429 Slow");
    let lines =
        format!("throttle = {{ adapt = false }}\nheaders.set = {{ authorization = \"Bearer own\" }}\n{FAST}");
    let (setup, _folder) = keeping(&upstream.as_api(&lines));
    let fender = setup.start();
    let answer = fender.post("/", "authorization: Bearer clients\r\n", b"x");
    assert_eq!(answer.status(), 202);
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || state_of(&fender, &answer.field("fender-letter")) == "delivered");
    assert_eq!(upstream.requests().last().unwrap().field("authorization").as_deref(), Some("Bearer own"));
}

#[test]
fn an_outbox_answers_at_once_and_delivers_in_its_order() {
    let upstream = Upstream::ok("fine");
    let lines = FAST.replace("on_failure", "outbox") + "\ndead_letter.order_by = \"json:/to\"";
    let (setup, _folder) = keeping(&upstream.as_api(&lines));
    let fender = setup.start();
    for number in 0..20 {
        let answer = fender.post("/", "", format!(r#"{{"to":"a","n":{number}}}"#).as_bytes());
        assert_eq!((answer.status(), answer.json()["status"].as_str()), (202, Some("accepted")));
    }
    eventually("all are delivered", || {
        fender.metric("fender_dead_letters", &[("state", "delivered")]) == 20.0
    });
    let sent: Vec<_> = upstream.whole().iter().map(crate::support::Received::text).collect();
    let wanted: Vec<_> = (0..20).map(|number| format!(r#"{{"to":"a","n":{number}}}"#)).collect();
    assert_eq!(sent, wanted);
    let large = fender.post("/", "", &vec![b'x'; 2 << 20]);
    large.is_problem(413, "body_too_large");
}

#[test]
fn a_write_of_a_key_that_waits_goes_behind_it() {
    let (upstream, well) = patient("503 Busy\r\nretry-after: 0");
    let lines = format!("{FAST}\ndead_letter.order_by = \"header:x-to\"");
    let (setup, _folder) = keeping(&upstream.as_api(&lines));
    let fender = setup.start();
    let first = fender.post("/1", "x-to: a\r\n", b"");
    assert_eq!(first.status(), 202);
    let before = upstream.requests().iter().filter(|received| received.head.target() == "/2").count();
    let second = fender.post("/2", "x-to: a\r\n", b"");
    assert_eq!((second.status(), before), (202, 0));
    well.store(true, Ordering::SeqCst);
    eventually("both are delivered", || state_of(&fender, &second.field("fender-letter")) == "delivered");
    let order: Vec<String> =
        upstream.requests().iter().map(|received| received.head.target().to_owned()).collect();
    let first_delivery = order.iter().position(|target| target == "/2").unwrap();
    assert!(order[..first_delivery].iter().all(|target| target == "/1"), "{order:?}");
}

#[test]
fn a_hang_up_lets_the_attempt_end_and_stores_what_nobody_heard_of() {
    let upstream = Upstream::scripted(|connection| {
        while connection.request().is_some() {
            std::thread::sleep(Duration::from_millis(300));
            connection.send("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (setup, _folder) = keeping(&upstream.as_api(&format!("throttle = {{ adapt = false }}\n{FAST}")));
    let fender = setup.start();
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    upstream.request(1);
    drop(client);
    eventually("it is stored", || !letters(&fender).is_empty());
    let letter = &letters(&fender)[0];
    assert_eq!(
        (letter["state"].as_str(), letter["parked_because"].as_str()),
        (Some("parked"), Some("unanswered"))
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn respond_error_tells_the_failure_and_parks_the_letter() {
    let (upstream, _well) = patient("429 Slow");
    let (setup, _folder) = keeping(
        &upstream.as_api(&format!("throttle = {{ adapt = false }}\ndead_letter.respond = \"error\"\n{FAST}")),
    );
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!(answer.status(), 429);
    assert_eq!(letters(&fender)[0]["parked_because"], "unanswered");
    assert_eq!(answer.field("fender-letter"), letters(&fender)[0]["id"].as_str().unwrap());
}

#[test]
fn a_permanent_answer_is_the_clients_and_at_replay_parks_at_once() {
    let (upstream, well) = patient("404 None");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.field("fender-letter").as_str()), (404, ""));
    drop(fender);
    let upstream2 = Upstream::in_turn(&["429 Slow", "404 None"]);
    let (setup, _folder) = keeping(&upstream2.as_api(&format!("throttle = {{ adapt = false }}\n{FAST}")));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    eventually("it is parked", || state_of(&fender, &answer.field("fender-letter")) == "parked");
    let letter = get(&fender, &format!("/api/v1/letters/{}", answer.field("fender-letter")));
    assert_eq!(letter["parked_because"], "permanent");
    drop(well);
}

#[test]
fn after_a_kill_what_was_accepted_is_delivered() {
    let (upstream, well) = patient("503 Busy\r\nretry-after: 0");
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.clone().start();
    let ids: Vec<String> = (0..10)
        .map(|number| fender.post("/", "", format!("{number}").as_bytes()).field("fender-letter"))
        .collect();
    assert!(ids.iter().all(|id| !id.is_empty()));
    drop(fender); // kill -9
    well.store(true, Ordering::SeqCst);
    let fender = setup.start();
    eventually("all are delivered", || {
        fender.metric("fender_dead_letters", &[("state", "delivered")]) == 10.0
    });
    for id in ids {
        assert_eq!(state_of(&fender, &id), "delivered");
    }
    drop(folder);
}

#[test]
fn the_api_acts_within_role_and_scope() {
    let (upstream, _well) = patient("500 Oops");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let ids: Vec<String> = (0..3).map(|_| fender.post("/", "", b"body").field("fender-letter")).collect();
    let path = |rest: &str| format!("/api/v1/letters/{}{rest}", ids[0]);
    let status = |method: &str, path: &str, token: &str| call(&fender, method, path, token, &Value::Null).0;
    assert_eq!(status("GET", "/api/v1/letters", "nobody"), 401);
    assert_eq!(status("GET", &path(""), "viewers-secret"), 200);
    assert_eq!(status("GET", &path("/body"), "viewers-secret"), 403);
    assert_eq!(status("POST", &path("/replay"), "viewers-secret"), 403);
    assert_eq!(status("GET", &path(""), "others-secret"), 403);
    assert_eq!(
        call(&fender, "GET", "/api/v1/letters", "others-secret", &Value::Null).1["letters"],
        json!([])
    );
    assert_eq!(status("GET", "/api/v1/letters?state=lost", "operators-secret"), 400);
    assert_eq!(status("GET", "/api/v1/letters/nonsense", "operators-secret"), 404);
    let body = Client::connect(fender.admin()).request(
        "GET",
        &path("/body"),
        "authorization: Bearer operators-secret\r\n",
        b"",
    );
    assert_eq!(body.text(), "body");

    let page = get(&fender, "/api/v1/letters?limit=2");
    assert_eq!(page["letters"].as_array().unwrap().len(), 2);
    let rest = get(&fender, &format!("/api/v1/letters?limit=2&cursor={}", page["next"].as_str().unwrap()));
    assert_eq!((rest["letters"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));

    let etag = get(&fender, &path(""))["etag"].as_str().unwrap().to_owned();
    let with = |etag: &str| {
        let fields =
            format!("authorization: Bearer operators-secret\r\nif-match: {etag}\r\ncontent-length: 0\r\n");
        Client::connect(fender.admin()).request("POST", &path("/discard"), &fields, b"").status()
    };
    assert_eq!((with("\"other\""), with(&etag)), (412, 200));
    assert_eq!(
        status("POST", &path("/replay"), "operators-secret"),
        409,
        "a discarded letter is not replayed"
    );

    let (code, bulk) = call(
        &fender,
        "POST",
        "/api/v1/letters/discard",
        "operators-secret",
        &json!({"filter": {"state": "parked"}, "limit": 10}),
    );
    assert_eq!((code, bulk["done"].as_array().unwrap().len()), (200, 2), "{bulk}");
    let stats = get(&fender, "/api/v1/letters/stats");
    assert_eq!(stats["by_state"]["discarded"], 3);
    let (code, purged) = call(&fender, "POST", "/api/v1/letters/purge", "operators-secret", &Value::Null);
    assert_eq!((code, purged["purged"].as_u64()), (200, Some(3)));
    assert!(fender.log().contains("audit"));
    assert_eq!(fender.admin_get("/health/dead-letters").json()["enabled"], true);
}

#[test]
fn an_operator_replays_what_was_parked() {
    let (upstream, well) = patient("500 Oops");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let id = fender.post("/", "", b"x").field("fender-letter");
    well.store(true, Ordering::SeqCst);
    let (code, _) =
        call(&fender, "POST", &format!("/api/v1/letters/{id}/replay"), "operators-secret", &Value::Null);
    assert_eq!(code, 200);
    eventually("it is delivered", || state_of(&fender, &id) == "delivered");
}

#[test]
fn at_the_end_of_a_drain_a_write_in_flight_is_stored() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let setup = setup.server("drain_timeout = \"400ms\"\ndrain_quiet = \"100ms\"\n");
    let fender = setup.clone().start();
    let (mut plain, mut keyed) = (fender.client(), fender.client());
    plain.send("POST /plain HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    keyed.send("POST /keyed HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\ncontent-length: 1\r\n\r\nx");
    upstream.request(2);
    fender.sigterm();
    let (plain, keyed) = (plain.response("POST"), keyed.response("POST"));
    assert_eq!((plain.status(), plain.field("fender-reason").as_str()), (503, "ambiguous"));
    assert_eq!(keyed.status(), 202);
    assert!(fender.wait_exit(Duration::from_secs(10)).success());
    assert_eq!(fender.logged("drained")["letters_pending"], 1);
    let fender = setup.start();
    assert_eq!(state_of(&fender, &plain.field("fender-letter")), "parked");
    assert!(["pending", "sending"].contains(&state_of(&fender, &keyed.field("fender-letter")).as_str()));
    drop(folder);
}

fn command(arguments: &[&str]) -> (bool, String) {
    let output = crate::support::binary().arg("letters").args(arguments).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn the_command_works_through_the_api_and_on_the_file() {
    let (upstream, well) = patient("500 Oops");
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    let ids: Vec<String> = (0..3).map(|_| fender.post("/path", "", b"body").field("fender-letter")).collect();
    let token = folder.path().join("token");
    std::fs::write(&token, "operators-secret\n").unwrap();
    let (admin, token) = (format!("http://{}", fender.admin()), token.display().to_string());
    let remote = |more: &[&str]| command(&[&["--admin", &admin, "--token-file", &token], more].concat());
    let (fine, listed) = remote(&["list", "--json"]);
    assert!(fine, "{listed}");
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        listed.iter().map(|letter| letter["id"].as_str().unwrap()).collect::<Vec<_>>(),
        [&ids[2], &ids[1], &ids[0]]
    );
    let (fine, shown) = remote(&["show", &ids[0]]);
    assert!(fine && shown.contains("ambiguous"), "{shown}");
    let (fine, told) = command(&["--admin", &admin, "list"]);
    assert!(!fine && told.contains("401"), "{told}");
    let (fine, told) = remote(&["discard", &ids[0], "00000000000000000000000000"]);
    assert!(!fine && told.contains("1 done, 1 failed"), "{told}");
    well.store(true, Ordering::SeqCst);
    let (fine, told) = remote(&["replay", "--all", "--upstream", "api", "--state", "parked"]);
    assert!(fine && told.contains("2 done, 0 failed"), "{told}");
    eventually("both are delivered", || {
        fender.metric("fender_dead_letters", &[("state", "delivered")]) == 2.0
    });
    let (fine, exported) = remote(&["export"]);
    assert!(fine);
    assert_eq!(exported.lines().count(), 3);

    let store = folder.path().join("letters.db").display().to_string();
    let (fine, told) = command(&["--store", &store, "list"]);
    assert!(!fine && told.contains("in use"), "one Fender a file: {told}");
    drop(fender);
    let (fine, again) = command(&["--store", &store, "export"]);
    assert!(fine);
    assert_eq!(again, exported, "the file says what the API said");
    let lines = folder.path().join("lines.jsonl");
    std::fs::write(&lines, &exported).unwrap();
    let lines = lines.display().to_string();
    let (fine, told) = command(&["--store", &store, "import", &lines]);
    assert!(fine && told.contains("0 done, 3 there already"), "{told}");
    let (fine, told) = command(&["--store", &store, "purge"]);
    assert!(fine && told.contains("3"), "{told}");
    let (fine, told) = command(&["--store", &store, "import", &lines]);
    assert!(fine && told.contains("3 done"), "{told}");
    assert_eq!(command(&["--store", &store, "export"]).1, exported);
    let elsewhere = folder.path().join("restored.db").display().to_string();
    let (fine, told) = command(&["--store", &elsewhere, "import", &lines]);
    assert!(fine && told.contains("3 done"), "{told}");
    assert_eq!(command(&["--store", &elsewhere, "export"]).1, exported);
    assert!(command(&["--store", &store, "verify"]).0);
    let (fine, told) = command(&["--store", "/nowhere/letters.db", "list"]);
    assert!(!fine && told.contains("no such file"), "{told}");
}

#[test]
fn a_credential_that_is_refused_at_replay_pauses_the_letters_and_nobody_else() {
    let upstream = Upstream::in_turn(&["429 Slow", "401 Who", "200 OK"]);
    let lines = format!(
        "throttle = {{ adapt = false }}\n{}",
        FAST.replace("base = \"100ms\"", "base = \"100ms\", max = \"300ms\"")
    );
    let (setup, _folder) = keeping(&upstream.as_api(&lines));
    let fender = setup.start();
    let id = fender.post("/", "", b"x").field("fender-letter");
    eventually("it was tried", || {
        fender.metric("fender_dead_letter_replays_total", &[("outcome", "quota")]) == 1.0
    });
    assert_eq!(fender.get("/live").status(), 200, "live requests go on");
    eventually("it is delivered", || state_of(&fender, &id) == "delivered");
    let trail = get(&fender, &format!("/api/v1/letters/{id}"))["attempts"].clone();
    let outcomes: Vec<_> =
        trail.as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["throttled", "quota", "success"]);
}

#[test]
fn a_full_store_leaves_the_write_with_its_client_and_traffic_alone() {
    let (upstream, _well) = patient("429 Slow");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.db");
    let lines = format!("throttle = {{ adapt = false }}\n{FAST}");
    let store = format!("[dead_letter]\npath = {path:?}\nmax_bytes = \"16MiB\"\n");
    let fender = Setup::new(format!("{store}{}", upstream.as_api(&lines))).start();
    let body = vec![b'x'; 1_000_000];
    let mut kept = 0;
    let refused = loop {
        let answer = fender.post("/", "", &body);
        if answer.status() != 202 {
            break answer;
        }
        kept += 1;
        assert!(kept < 40, "16 MiB hold no 40 MB");
    };
    assert_eq!((refused.status(), refused.field("fender-letter").as_str()), (429, ""), "after {kept}");
    assert!(kept >= 3, "{kept}");
    assert_eq!(fender.get("/").status(), 429, "reads go on");
    assert!(fender.metric("fender_dead_letters_refused_total", &[("reason", "full")]) >= 1.0);
    assert_eq!(fender.metric("fender_dead_letter_store_healthy", &[]), 0.0);
    let bytes = fender.metric("fender_dead_letter_store_bytes", &[]);
    assert!(bytes <= f64::from(16 << 20), "{bytes}");
}

#[test]
fn letters_are_delivered_after_a_reload_that_changes_their_upstream() {
    let (upstream, well) = patient("429 Slow");
    let lines = format!("throttle = {{ adapt = false }}\n{FAST}");
    let (setup, folder) = keeping(&upstream.as_api(&lines));
    let fender = setup.start();
    let id = fender.post("/", "", b"x").field("fender-letter");
    let path = folder.path().join("letters.db");
    let changed = format!(
        "[dead_letter]\npath = {path:?}\n{}\n[upstream.other]\nurl = \"http://127.0.0.1:9\"\n",
        upstream.as_api(&format!("timeout = {{ attempt = \"7s\" }}\n{lines}"))
    );
    fender.rewrite_config(&Setup::new(changed).admin(TOKENS));
    fender.sighup();
    fender.logged("config reloaded");
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || state_of(&fender, &id) == "delivered");
}

/// Whenever its client goes, a write that is stored first makes one letter, which is not sent as well.
#[test]
fn a_hang_up_while_a_write_is_stored_first_makes_one_letter_of_it() {
    let upstream = Upstream::ok("done");
    let lines = "dead_letter.mode = \"outbox\"";
    let (setup, _folder) = keeping(&upstream.as_api(lines));
    let fender = setup.start();
    for number in 0..80_u64 {
        let mut client = fender.client();
        client.send(format!("POST /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx"));
        std::thread::sleep(Duration::from_micros(50 * (number % 40)));
        drop(client);
    }
    // Of one that was gone before its head was read nothing is known.
    eventually("all are seen to, and each makes one letter", || {
        let of = |name| fender.metric(name, &[]);
        let all = fender.metric("fender_requests_total", &[("upstream", "api")]);
        of("fender_connections") + of("fender_in_flight") == 0.0
            && all > 70.0
            && all == of("fender_dead_letters_captured_total")
    });
    let made = fender.metric("fender_dead_letters_captured_total", &[]);
    let page = get(&fender, "/api/v1/letters?limit=1000");
    let mut paths: Vec<_> =
        page["letters"].as_array().unwrap().iter().map(|one| one["path"].to_string()).collect();
    paths.sort();
    let all = paths.len();
    paths.dedup();
    assert_eq!((paths.len(), all as f64), (all, made), "each makes one letter, and is counted once");
    let gone = fender.metric("fender_requests_total", &[("upstream", "api"), ("code", "499")]);
    assert!(gone > 10.0, "only {gone} were gone in time");
    let mut sent: Vec<_> = upstream.requests().iter().map(|one| one.head.target().to_owned()).collect();
    let all = sent.len();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), all, "none is sent beside its letter");
}

/// What was under way when the process had to end was sent: the letter says so, though it may be sent again under its key.
#[test]
fn a_write_that_the_end_of_the_process_breaks_off_is_no_write_that_was_never_sent() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let (setup, _folder) =
        keeping(&upstream.as_api("dead_letter = { mode = \"on_failure\", replay = { enabled = false } }"));
    let setup = setup.server("drain_timeout = \"500ms\"\ndrain_quiet = \"0s\"");
    let again = setup.clone();
    let fender = setup.start();
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: k\r\ncontent-length: 1\r\n\r\nx");
    upstream.request(1);
    fender.sigterm();
    client.response("POST");
    fender.wait_exit(crate::support::PATIENCE);
    let fender = again.start();
    let letter = get(&fender, &format!("/api/v1/letters/{}", letters(&fender)[0]["id"].as_str().unwrap()));
    assert_eq!(letter["verdict"], "ambiguous", "{letter}");
    let attempts = letter["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), attempts[0]["outcome"].as_str()), (1, Some("cancelled")), "{letter}");
}

#[test]
fn a_hang_up_during_a_wait_begins_nothing_more() {
    let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 1", "200 OK"]);
    let lines = "dead_letter.mode = \"on_failure\"\nthrottle = { adapt = false }";
    let (setup, _folder) = keeping(&upstream.as_api(lines));
    let fender = setup.start();
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    upstream.request(1);
    drop(client);
    eventually("it is stored", || !letters(&fender).is_empty());
    let letter = &letters(&fender)[0];
    assert_eq!(
        (letter["state"].as_str(), letter["parked_because"].as_str()),
        (Some("parked"), Some("unanswered"))
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn nothing_is_accepted_that_would_not_be_replayed_by_itself() {
    for lines in [
        FAST.replace("replay = {", "replay = { enabled = false,"),
        FAST.replace("replay = {", "replay = { expire_after = \"2s\","),
    ] {
        let upstream = Upstream::in_turn(&["429 Slow\nretry-after: 3600"]);
        let (setup, _folder) = keeping(&upstream.as_api(&format!("throttle = {{ adapt = false }}\n{lines}")));
        let fender = setup.start();
        let answer = fender.post("/", "", b"x");
        assert_eq!(answer.status(), 429, "{lines}");
        assert_eq!(state_of(&fender, &answer.field("fender-letter")), "parked");
    }
    let (upstream, _well) = patient("500 Oops");
    let (setup, _folder) =
        keeping(&upstream.as_api(&FAST.replace("replay = {", "replay = { enabled = false,")));
    let fender = setup.start();
    let first = fender.post("/", "idempotency-key: k\r\n", b"x");
    let again = fender.post("/", "idempotency-key: k\r\n", b"x");
    assert_eq!((first.status(), again.status()), (500, 500));
    assert_eq!(first.field("fender-letter"), again.field("fender-letter"));
}

#[test]
fn fixed_words_answer_a_write_only_once_it_is_fenders() {
    let words = "[[upstream.api.fallback]]\non = [\"exhausted\", \"5xx\"]\nresponse = { status = 200, body = \"thanks\" }";
    let (upstream, well) = patient("429 Slow");
    let (setup, _folder) =
        keeping(&upstream.as_api(&format!("throttle = {{ adapt = false }}\n{FAST}\n{words}")));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "thanks"));
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || state_of(&fender, &answer.field("fender-letter")) == "delivered");
    let (upstream, _well) = patient("500 Oops");
    let (setup, _folder) = keeping(&upstream.as_api(&format!("{FAST}\n{words}")));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (500, "ambiguous"));
    assert_eq!(fender.get("/").text(), "thanks", "a read is no write");
}

#[test]
fn a_letter_that_is_always_refused_does_not_starve_the_others() {
    let replaying = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&replaying);
    let upstream = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let status = match received.text().as_str() {
                _ if !begun.load(Ordering::SeqCst) => "429 Slow",
                "poison" => "403 No",
                _ => "200 OK",
            };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let lines = FAST.replace("base = \"100ms\"", "base = \"100ms\", max = \"600ms\"");
    let (setup, _folder) = keeping(&upstream.as_api(&format!("throttle = {{ adapt = false }}\n{lines}")));
    let fender = setup.start();
    for body in ["poison", "a", "b", "c"] {
        assert_eq!(fender.post("/", "", body.as_bytes()).status(), 202);
    }
    replaying.store(true, Ordering::SeqCst);
    eventually("the others are delivered", || {
        fender.metric("fender_dead_letters", &[("state", "delivered")]) == 3.0
    });
    assert_eq!(
        fender.metric("fender_dead_letters", &[("state", "pending")])
            + fender.metric("fender_dead_letters", &[("state", "sending")]),
        1.0
    );
}

#[test]
fn what_an_upstream_echoes_of_fenders_own_secrets_is_not_stored() {
    let upstream = Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let echo = received.field("authorization").unwrap_or_default();
            connection.send(format!(
                "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: {}\r\n\r\n{echo}",
                echo.len()
            ));
        }
    });
    let lines = format!(
        "headers.set = {{ authorization = \"Bearer own-secret-value\" }}\nthrottle = {{ adapt = false }}\n{FAST}"
    );
    let (setup, folder) = keeping(&upstream.as_api(&lines));
    let fender = setup.start();
    let id = fender.post("/", "", b"x").field("fender-letter");
    eventually("it was tried again", || fender.metric("fender_dead_letter_replays_total", &[]) >= 2.0);
    assert!(!get(&fender, &format!("/api/v1/letters/{id}")).to_string().contains("own-secret-value"));
    drop(fender);
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(16).any(|window| window == b"own-secret-value"), "{}", file.path().display());
    }
}

#[test]
fn a_recovery_wakes_letters_that_wait_for_their_own_backoff() {
    let (upstream, well) = patient("503 Busy\r\nretry-after: 0");
    let lines = "retry = { max_attempts = 1 }\ndead_letter.mode = \"on_failure\"\n\
        breaker = { consecutive_failures = 1, open_for = \"60s\", half_open_probes = 1 }\n\
        health = { path = \"/up\", interval = \"50ms\", unhealthy_after = 1, healthy_after = 1 }\n\
        dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"1h\", max = \"1h\", jitter = \"none\" }, expire_after = \"72h\" }";
    let (setup, _folder) = keeping(&upstream.as_api(lines));
    let fender = setup.start();
    eventually("it is down", || fender.metric("fender_health_check_up", &[("upstream", "api")]) == 0.0);
    let id = fender.post("/", "", b"x").field("fender-letter");
    assert_eq!(state_of(&fender, &id), "pending");
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || state_of(&fender, &id) == "delivered");
}

#[test]
fn a_drain_begins_no_replays_and_leaves_none_half_sent() {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "429 Slow" };
            if status == "200 OK" {
                std::thread::sleep(Duration::from_millis(200));
            }
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let lines = format!(
        "throttle = {{ adapt = false }}\n{}",
        FAST.replace("per_second", "concurrency = 1, per_second")
    );
    let (setup, _folder) = keeping(&upstream.as_api(&lines));
    let setup = setup.server("drain_timeout = \"10s\"\ndrain_quiet = \"600ms\"\n");
    let fender = setup.clone().start();
    for _ in 0..8 {
        assert_eq!(fender.post("/", "", b"x").status(), 202);
    }
    well.store(true, Ordering::SeqCst);
    eventually("one is delivered", || fender.metric("fender_dead_letters", &[("state", "delivered")]) >= 1.0);
    fender.sigterm();
    assert!(fender.wait_exit(Duration::from_secs(10)).success());
    assert!(fender.logged("drained")["letters_pending"].as_u64().unwrap() >= 4, "replays went on");
    let fender = setup.start();
    eventually("all are delivered", || {
        fender.metric("fender_dead_letters", &[("state", "delivered")]) == 8.0
    });
    assert_eq!(fender.metric("fender_dead_letters", &[("state", "parked")]), 0.0, "one was left half-sent");
}

#[test]
fn a_letter_waits_as_long_as_its_own_upstream_told_whatever_a_fallback_said() {
    let (first, second) = (
        Upstream::in_turn(&["429 Slow\nretry-after: 600"]),
        Upstream::in_turn(&["429 Slow\nretry-after: 1"]),
    );
    let lines = format!(
        "throttle = {{ adapt = false }}\n{FAST}\n[[upstream.api.fallback]]\non = [\"throttled\"]\nupstream = \"second\""
    );
    let more = format!("[upstream.second]\nurl = \"{}\"\nretry = {{ max_attempts = 1 }}", second.url());
    let (setup, _folder) = keeping(&format!("{}\n{more}", first.as_api(&lines)));
    let fender = setup.start();
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), second.requests().len()), (202, 1));
    let letter = get(&fender, &format!("/api/v1/letters/{}", answer.field("fender-letter")));
    assert_eq!(letter["upstream"], "api");
    let minutes = |name: &str| {
        let text = letter[name].as_str().unwrap();
        text[11..13].parse::<u32>().unwrap() * 60 + text[14..16].parse::<u32>().unwrap()
    };
    let waits = (minutes("next_attempt_at") + 1440 - minutes("created_at")) % 1440;
    assert!((9..=11).contains(&waits), "{waits} minutes");
}

#[test]
fn of_a_write_that_a_later_fallback_delivers_no_letter_stays() {
    let first = Upstream::in_turn(&["429 Slow"]);
    let (second, well) = patient("500 Oops");
    let lines = format!(
        "throttle = {{ adapt = false }}\n{FAST}\n[[upstream.api.fallback]]\non = [\"throttled\"]\nresponse = {{ status = 200, body = \"kept\" }}\n\
         [[upstream.api.fallback]]\non = [\"throttled\"]\nupstream = \"second\""
    );
    let more = format!("[upstream.second]\nurl = \"{}\"\nretry = {{ max_attempts = 1 }}", second.url());
    let (setup, _folder) = keeping(&format!("{}\n{more}", first.as_api(&lines)));
    let fender = setup.start();
    // Nothing supplies its credential, so that it cannot be Fender's and the fixed words are not said.
    let secret = "authorization: Bearer own\r\n";
    well.store(true, Ordering::SeqCst);
    let answer = fender.post("/", secret, b"x");
    assert_eq!((answer.status(), answer.field("fender-fallback").as_str()), (200, "second"));
    assert_eq!(answer.field("fender-letter"), "");
    assert_eq!(letters(&fender), Vec::<Value>::new(), "an operator would send it a second time");
    // Where nobody takes it a copy is kept all the same.
    let shaky = Upstream::nobody();
    let lines = lines.replace("\"second\"", "\"nobody\"");
    let more = format!("[upstream.nobody]\nurl = \"{shaky}\"\nretry = {{ max_attempts = 1 }}");
    let (setup, _folder) = keeping(&format!("{}\n{more}", first.as_api(&lines)));
    let fender = setup.start();
    let answer = fender.post("/", secret, b"x");
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (429, "credential"));
    assert_eq!(letters(&fender)[0]["parked_because"], "credential");
    // One that can be Fender's is answered with the fixed words, and stored.
    let answer = fender.post("/", "", b"x");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "kept"));
    assert_eq!(state_of(&fender, &answer.field("fender-letter")), "pending");
}

#[test]
fn an_import_tells_each_line_that_it_does_not_take_by_its_number() {
    let (upstream, _well) = patient("500 Oops");
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let fender = setup.start();
    fender.post("/", "", b"body");
    let token = folder.path().join("token");
    std::fs::write(&token, "operators-secret\n").unwrap();
    let (admin, token) = (format!("http://{}", fender.admin()), token.display().to_string());
    let remote = |more: &[&str]| command(&[&["--admin", &admin, "--token-file", &token], more].concat());
    let good = remote(&["export"]).1.trim_end().to_owned();
    // Twelve lines of a mebibyte go in more than one call.
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(1 << 20));
    let mut lines = vec![good.clone(), "[".repeat(5000), "\u{0}".to_owned(), String::new()];
    lines.extend(std::iter::repeat_n(long, 12));
    lines.extend([good.replace("\"priority\":0", "\"priority\":1e400"), good.clone(), "{}".to_owned()]);
    let file = folder.path().join("lines.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.display().to_string();
    let (fine, told) = remote(&["--json", "import", &file]);
    assert!(!fine);
    let told: Value = serde_json::from_str(&told).unwrap();
    let failed = told["failed"].as_array().unwrap();
    let numbers: Vec<u64> = failed.iter().map(|failed| failed["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3].into_iter().chain(5..=17).chain([19]).collect::<Vec<u64>>());
    assert!(
        failed.iter().all(|failed| failed["error"].as_str().unwrap().starts_with("not a letter: ")),
        "{failed:?}"
    );
    assert_eq!((&told["already"], &told["done"]), (&json!(2), &json!(0)));
    let (_, told) = remote(&["import", &file]);
    assert!(told.contains("line 19: not a letter: ") && told.contains("16 failed"), "{told}");
    assert_eq!(letters(&fender).len(), 1);
}

/// The store may come later than the traffic: its folder is a volume that is not there yet.
#[test]
fn a_store_that_cannot_be_opened_at_the_start_stops_no_traffic() {
    let (upstream, well) = patient("503 Busy\r\nretry-after: 0");
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let volume = folder.path().join("volume");
    let path = volume.join("letters.db");
    let fender = setup.with_store(&path).start();
    let healthy = || fender.metric("fender_dead_letter_store_healthy", &[]);
    assert_eq!(healthy(), 0.0);
    assert_eq!(fender.admin_get("/health/ready").status(), 200);
    assert_eq!(fender.admin_get("/health").json()["level"], "minor");
    // A write that needs it hears its own failure.
    assert_eq!(fender.post("/", "", b"lost").status(), 503);
    well.store(true, Ordering::SeqCst);
    eventually("the breaker closes", || fender.post("/", "", b"fine").status() == 200);
    // Once the volume is there, writes are kept.
    std::fs::create_dir(&volume).unwrap();
    eventually("the store is open", || healthy() == 1.0);
    fender.logged("store opened");
    well.store(false, Ordering::SeqCst);
    assert_eq!(fender.post("/", "", b"kept").status(), 202);
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || letters(&fender).iter().all(|letter| letter["state"] == "delivered"));
}

/// A rolling change: the new process starts before the old one has ended, on the same volume.
#[test]
fn a_second_fender_waits_for_the_store_and_takes_over() {
    let (upstream, well) = patient("503 Busy\r\nretry-after: 0");
    let (setup, _folder) = keeping(&upstream.as_api(FAST));
    let setup = setup.server("drain_quiet = \"0s\"\n");
    let first = setup.clone().start();
    let answer = first.post("/", "", b"kept");
    assert_eq!(answer.status(), 202);
    let second = setup.start();
    assert_eq!(second.metric("fender_dead_letter_store_healthy", &[]), 0.0);
    let refused = second.logged("the store cannot be opened: no letter is taken until it can");
    assert!(
        refused["error"].as_str().is_some_and(|error| error.contains("in use by another Fender")),
        "{refused}"
    );
    first.sigterm();
    assert!(first.wait_exit(Duration::from_secs(10)).success());
    eventually("it takes over", || second.metric("fender_dead_letter_store_healthy", &[]) == 1.0);
    well.store(true, Ordering::SeqCst);
    let id = answer.field("fender-letter");
    eventually("the letter is delivered by the second", || state_of(&second, &id) == "delivered");
}

/// Whatever is done to its files, a write that was answered 202 is on disk under the store's name.
#[test]
fn a_store_whose_files_are_removed_accepts_nothing_until_it_has_begun_again() {
    let (upstream, _well) = patient("503 Busy\r\nretry-after: 600");
    let (setup, folder) = keeping(&upstream.as_api(&FAST.replace("on_failure", "outbox")));
    let fender = setup.start();
    let healthy = || fender.metric("fender_dead_letter_store_healthy", &[]);
    assert_eq!(fender.post("/", "", b"before").status(), 202);
    for name in ["letters.db", "letters.db-wal", "letters.db-shm", "letters.db.lock", "letters.db.reserve"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let refused = fender.post("/", "", b"lost");
    assert_eq!((refused.status(), refused.field("fender-reason").as_str()), (503, "store_unavailable"));
    let said = fender.logged("the store's files are not what they were: it lets go of them");
    assert!(said["what"].as_str().is_some_and(|what| what.contains("letters.db.lock was removed")), "{said}");
    eventually("it begins again", || healthy() == 1.0);
    let kept = fender.post("/", "", b"after");
    assert_eq!(kept.status(), 202);
    drop(fender); // kill -9
    let db = folder.path().join("letters.db").display().to_string();
    let (fine, told) = command(&["--store", &db, "--json", "list"]);
    assert!(fine, "{told}");
    assert!(told.contains(&kept.field("fender-letter")), "{told}");
}

/// Nobody asks the store, and the gauge tells the truth.
#[test]
fn a_store_whose_folder_is_removed_is_unhealthy_without_traffic() {
    let (upstream, _well) = patient("503 Busy\r\nretry-after: 0");
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let volume = folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let fender = setup.with_store(&volume.join("letters.db")).start();
    let healthy = || fender.metric("fender_dead_letter_store_healthy", &[]);
    assert_eq!(healthy(), 1.0);
    std::fs::remove_dir_all(&volume).unwrap();
    eventually("the gauge says so", || healthy() == 0.0);
    let said = fender.logged("the store cannot be opened: no letter is taken until it can");
    assert!(said["error"].as_str().is_some_and(|error| error.contains("does not exist")), "{said}");
    std::fs::create_dir(&volume).unwrap();
    eventually("it begins again", || healthy() == 1.0);
    assert_eq!(fender.post("/", "", b"kept").status(), 202);
}

/// A rollback meets a store that a newer Fender wrote: requests flow, and the store is left alone.
#[test]
fn a_store_of_a_newer_fender_stops_no_traffic() {
    let upstream = Upstream::ok("fine");
    let (setup, folder) = keeping(&upstream.as_api(FAST));
    let path = folder.path().join("letters.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "PRAGMA application_id = 0x466e6472; PRAGMA user_version = 99; CREATE TABLE letters (x)",
        )
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let fender = setup.start();
    assert_eq!(fender.get("/").status(), 200);
    assert_eq!(fender.metric("fender_dead_letter_store_healthy", &[]), 0.0);
    let said = fender.logged("the store cannot be opened: no letter is taken until it can");
    assert!(said["error"].as_str().is_some_and(|error| error.contains("schema 99")), "{said}");
    assert!(std::fs::read(&path).unwrap() == before);
}
