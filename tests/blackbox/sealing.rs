//! Letters sealed at rest, as operators and upstreams meet them: what is on disk, what comes back, what a change of keys does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use serde_json::{Value, json};

use super::letters::{TOKENS_OF_ALL, call};
use crate::support::{Fender, Setup, Upstream, binary, check, eventually, files_that_hold};

const KEYS: [&str; 2] =
    ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="];

const FAST: &str = "idempotent = \"yes\"\nretry = { max_attempts = 1 }\nbreaker = { enabled = false }\n\
    dead_letter = { mode = \"on_failure\", credentials = \"seal\", redact = [\"x-session\"], \
    replay = { backoff = { strategy = \"fixed\", base = \"100ms\", jitter = \"none\" }, per_second = 1000.0, max_attempts = 10000 } }";

/// The lines of keys; the first one is written with.
fn keys(which: &[usize]) -> String {
    let text = |key: &usize| format!("\"{}\"", KEYS[*key]);
    let Some((current, old)) = which.split_first() else { return String::new() };
    let old: Vec<String> = old.iter().map(text).collect();
    format!("encryption_key = {}\nold_encryption_keys = [{}]\n", text(current), old.join(", "))
}

fn setup(store: &Path, which: &[usize], upstream: &Upstream, lines: &str) -> Setup {
    let api = upstream.as_api(lines);
    Setup::new(format!("[dead_letter]\npath = {store:?}\n{}{api}", keys(which))).admin(TOKENS_OF_ALL)
}

/// Fails until it is told to be well; repeats in its answers what it was let in with.
fn repeating() -> (Upstream, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "500 Oops" };
            let said = received.field("authorization").unwrap_or_default();
            let body = format!("{{\"you\":\"{said}\",\"called\":\"{}\"}}", received.head.target());
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        }
    });
    (upstream, well)
}

fn get(fender: &Fender, path: &str) -> Value {
    let (status, body) = call(fender, "GET", path, "operators-secret", &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn post(fender: &Fender, path: &str) -> Value {
    call(fender, "POST", path, "operators-secret", &Value::Null).1
}

fn letter(fender: &Fender, id: &str) -> Value {
    get(fender, &format!("/api/v1/letters/{id}"))
}

/// How many letters hang on keys that are this to the config.
fn hang_on(fender: &Fender, sealing: &str) -> u64 {
    let stats = get(fender, "/api/v1/letters/stats");
    let keys = stats["keys"].as_array().unwrap();
    keys.iter().filter(|key| key["sealing"] == sealing).map(|key| key["letters"].as_u64().unwrap()).sum()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("letters.db");
    (folder, store)
}

#[test]
fn credentials_come_back_byte_for_byte_and_nothing_lies_on_disk() {
    let (upstream, well) = repeating();
    let (folder, store) = folder();
    let clean = |when: &str| assert_eq!(files_that_hold(folder.path(), b"planted"), [""; 0], "{when}");
    let setup = setup(&store, &[0], &upstream, &format!("dialect = \"telegram\"\n{FAST}"))
        .server("drain_quiet = \"50ms\"");
    let fender = setup.clone().start();
    let target = "/bot123456:planted-token/sendMessage?q=planted-query";
    let fields = "authorization: Bearer planted-auth\r\ncookie: a=planted-cookie; b=c\r\ncookie: d=planted-too\r\n\
        x-session: planted\u{e9}session\r\nx-own: planted-header\r\n";
    let body = b"{\"chat_id\":\"planted-chat\",\"text\":\"planted-text\"}";
    let answer = fender.post(target, fields, body);
    assert_eq!(answer.status(), 200, "the API's own success: {}", answer.text());
    let id = answer.field("fender-letter");
    clean("captured");
    eventually("it was tried", || !letter(&fender, &id)["attempts"][1]["answer"].is_null());
    clean("tried");
    let told = letter(&fender, &id);
    assert_eq!(told["path"], "/bot***/sendMessage?q=planted-query");
    let shown = [
        told.to_string(),
        get(&fender, "/api/v1/letters").to_string(),
        get(&fender, "/api/v1/letters/stats").to_string(),
        fender.log(),
        export(&fender),
    ]
    .join("\n");
    for secret in ["planted-token", "planted-auth", "planted-cookie", "planted-too", "session\":"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    drop(fender);
    clean("killed");
    let fender = setup.start();
    clean("opened again");
    well.store(true, Ordering::SeqCst);
    eventually("it is delivered", || letter(&fender, &id)["state"] == "delivered");
    let first = &upstream.requests()[0];
    let last = upstream.requests().last().cloned().unwrap();
    assert_eq!((last.head.target(), last.body.bytes.as_slice()), (target, &body[..]));
    for name in ["authorization", "cookie", "x-session", "x-own"] {
        assert!(!first.head.all(name).is_empty());
        assert_eq!(first.head.all(name), last.head.all(name), "{name}");
    }
    assert_eq!(last.field("authorization").as_deref(), Some("Bearer planted-auth"));
    clean("delivered");
    post(&fender, "/api/v1/letters/purge");
    clean("purged");
    fender.sigterm();
    assert!(fender.wait_exit(Duration::from_secs(20)).success());
    clean("at the end");
}

fn export(fender: &Fender) -> String {
    let fields = "authorization: Bearer operators-secret\r\n";
    let answer =
        crate::support::Client::connect(fender.admin()).request("GET", "/api/v1/letters/export", fields, b"");
    assert_eq!(answer.status(), 200);
    answer.text()
}

#[test]
fn what_fender_sets_itself_wins_over_what_was_sealed() {
    let (upstream, well) = repeating();
    let (_folder, store) = folder();
    let lines = format!("headers.set = {{ authorization = \"Bearer own\" }}\n{FAST}");
    let fender = setup(&store, &[0], &upstream, &lines).start();
    let answer = fender.post("/", "authorization: Bearer clients\r\nx-api-key: also\r\n", b"x");
    assert_eq!(answer.status(), 202);
    well.store(true, Ordering::SeqCst);
    let id = answer.field("fender-letter");
    eventually("it is delivered", || letter(&fender, &id)["state"] == "delivered");
    let last = upstream.requests().last().cloned().unwrap();
    assert_eq!(last.field("authorization").as_deref(), Some("Bearer own"));
    assert_eq!(last.field("x-api-key").as_deref(), Some("also"));
}

#[test]
fn a_rotation_by_reload_seals_all_anew_and_the_old_key_can_go() {
    let (upstream, well) = repeating();
    let (folder, store) = folder();
    let with = |which: &[usize]| setup(&store, which, &upstream, FAST);
    let fender = with(&[0]).start();
    let send = |number: usize| {
        let answer = fender.post(&format!("/{number}"), "authorization: Bearer planted\r\n", b"planted");
        assert_eq!(answer.status(), 202, "{}", answer.text());
    };
    (0..40).for_each(send);
    let sealed_with = || {
        let answer = fender.post("/1000", "authorization: Bearer planted\r\n", b"planted");
        letter(&fender, &answer.field("fender-letter"))["sealed_with"].clone()
    };
    let first = sealed_with();
    fender.rewrite_config(&with(&[1, 0]));
    eventually("the other key is in force", || sealed_with() != first);
    eventually("nothing hangs on the old key", || hang_on(&fender, "old") == 0);
    fender.rewrite_config(&with(&[1]));
    eventually("the old key is gone", || {
        get(&fender, "/api/v1/config").to_string().contains(r#""old_encryption_keys":[]"#)
    });
    assert_eq!(post(&fender, "/api/v1/letters/verify")["locked"], json!({}));
    assert_eq!(files_that_hold(folder.path(), b"planted"), [""; 0]);
    well.store(true, Ordering::SeqCst);
    eventually("all are delivered", || fender.metric("fender_dead_letters", &[("state", "pending")]) == 0.0);
    assert_eq!(fender.metric("fender_dead_letters", &[("state", "parked")]), 0.0);
    assert!(
        upstream.requests().iter().all(|one| one.field("authorization").as_deref() == Some("Bearer planted"))
    );
}

#[test]
fn a_missing_key_is_told_and_costs_no_letter_and_nobody_else() {
    let (upstream, well) = repeating();
    let (_folder, store) = folder();
    let with = |which: &[usize]| setup(&store, which, &upstream, FAST);
    let fender = with(&[0]).start();
    let lost = fender.post("/lost", "authorization: Bearer planted\r\n", b"lost").field("fender-letter");
    let key = letter(&fender, &lost)["sealed_with"].as_str().unwrap().to_owned();
    drop(fender);
    let fender = with(&[1]).start();
    let told = fender.logged("letters are sealed with a key that is not configured: they wait until it is");
    assert_eq!((told["key"].as_str(), told["letters"].as_u64()), (Some(key.as_str()), Some(1)));
    let other = fender.post("/other", "", b"other").field("fender-letter");
    well.store(true, Ordering::SeqCst);
    eventually("the other one is delivered", || letter(&fender, &other)["state"] == "delivered");
    let locked = letter(&fender, &lost);
    let words = format!("the letter is sealed with key {key}, which is not configured");
    assert_eq!(
        (locked["state"].as_str(), locked["locked"].as_str()),
        (Some("pending"), Some(words.as_str()))
    );
    assert_eq!(post(&fender, "/api/v1/letters/verify")["locked"], json!({ key.as_str(): 1 }));
    let refused =
        call(&fender, "POST", &format!("/api/v1/letters/{lost}/replay"), "operators-secret", &Value::Null);
    assert_eq!(refused.0, 409);
    assert!(refused.1.to_string().contains(&words), "{}", refused.1);
    assert!(!upstream.requests().iter().skip(2).any(|one| one.head.target() == "/lost"));
    fender.rewrite_config(&with(&[1, 0]));
    eventually("its key is back, and it is delivered", || letter(&fender, &lost)["state"] == "delivered");
    assert_eq!(upstream.requests().last().unwrap().field("authorization").as_deref(), Some("Bearer planted"));
}

#[test]
fn killed_while_it_seals_a_backlog_it_loses_nothing() {
    let (upstream, well) = repeating();
    let (folder, store) = folder();
    let lines = FAST.replace("credentials = \"seal\", ", "");
    let fender = setup(&store, &[], &upstream, &lines).start();
    for number in 0..300 {
        let text = format!("planted {number} {}", "-".repeat(number * 31 % 2500));
        assert_eq!(fender.post(&format!("/{number}"), "", text.as_bytes()).status(), 202);
    }
    drop(fender);
    assert!(files_that_hold(folder.path(), b"planted").contains(&"letters.db".to_owned()));
    for round in 0..8 {
        let fender = setup(&store, &[0], &upstream, &lines).start();
        fender.logged("store opened");
        // Not waited for: this is the moment at which it is killed.
        thread::sleep(Duration::from_millis(round * 23));
        drop(fender);
    }
    let fender = setup(&store, &[0], &upstream, &lines).start();
    eventually("all are sealed", || hang_on(&fender, "current") == 300 && hang_on(&fender, "clear") == 0);
    eventually("and nothing is left", || files_that_hold(folder.path(), b"planted").is_empty());
    let report = post(&fender, "/api/v1/letters/verify");
    assert_eq!(report, json!({"letters": 300, "damaged": [], "file": [], "locked": {}}));
    well.store(true, Ordering::SeqCst);
    eventually("all are delivered", || {
        fender.metric("fender_dead_letters", &[("state", "delivered")]) == 300.0
    });
}

#[test]
fn killed_while_the_schema_changes_it_loses_nothing() {
    let before = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deadletter/files_of_before/schema-1.db");
    let (_folder, store) = folder();
    let list = || {
        let mut command = binary();
        command.args(["letters", "list", "--json", "--store"]).arg(&store);
        command
    };
    for round in 0..25 {
        fs::copy(&before, &store).unwrap();
        for beside in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{beside}", store.display())).ok();
        }
        let mut child = list().stdout(std::process::Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(round));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = list().output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(0), 14), "after {round} ms: {text}");
    }
}

#[test]
fn the_command_reads_a_file_with_its_keys_and_says_what_it_cannot_read() {
    let (upstream, _) = repeating();
    let (folder, store) = folder();
    let fender = setup(&store, &[0], &upstream, FAST).start();
    let id = fender.post("/planted-path", "", b"planted-body").field("fender-letter");
    drop(fender);
    let key = folder.path().join("key");
    fs::write(&key, format!("{}\n", KEYS[0])).unwrap();
    let run = |words: &[&str], keys: &[&Path]| {
        let mut command = binary();
        command.arg("letters").args(words).arg("--store").arg(&store);
        for key in keys {
            command.arg("--key-file").arg(key);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).join("\n");
        (output.status.code().unwrap(), text)
    };
    let (code, text) = run(&["list"], &[]);
    assert!(code == 0 && text.contains(&id) && text.contains("(sealed)"), "{text}");
    assert!(text.contains("1 of them sealed with a key that is not at hand"), "{text}");
    let (code, text) = run(&["export"], &[]);
    assert!(code == 1 && text.contains("1 of them sealed with a key that is not at hand"), "{text}");
    let (code, text) = run(&["verify"], &[]);
    assert!(code == 1 && text.contains("\"locked\""), "{text}");
    let (code, lines) = run(&["export"], &[&key]);
    assert!(code == 0 && lines.contains("planted-path"), "{lines}");
    let lines_file = folder.path().join("lines");
    fs::write(&lines_file, &lines).unwrap();
    let (code, text) = run(&["import", lines_file.to_str().unwrap()], &[]);
    assert!(code == 1 && text.contains("--key-file"), "{text}");
    let (code, text) = run(&["import", lines_file.to_str().unwrap()], &[&key]);
    assert!(code == 0 && text.contains("1 there already"), "{text}");
    for (end, wanted) in [("", 0), ("\n", 0), ("\r\n", 0), ("\n\n", 2), ("\r", 2)] {
        fs::write(&key, format!("{}{end}", KEYS[0])).unwrap();
        assert_eq!(run(&["list"], &[&key]).0, wanted, "{end:?}");
    }
    fs::write(&key, "no key").unwrap();
    let (code, text) = run(&["list"], &[&key]);
    assert!(code == 2 && text.contains("must hold 32 bytes in base64") && !text.contains("no key"), "{text}");
}

#[test]
fn what_is_no_key_is_told_with_its_place_and_without_itself() {
    let toml = |keys: &str| {
        format!(
            "[dead_letter]\npath = \"/tmp/x.db\"\n{keys}\n[upstream.a]\nurl = \"http://a\"\nroute = \"/\"\n"
        )
    };
    let same =
        format!("encryption_key = \"{0}\"\nold_encryption_keys = [\"{1}\", \"{0}\"]", KEYS[0], KEYS[1]);
    let cases = [
        ("encryption_key = \"!hunter2!\"", "must be 32 bytes in base64", "encryption_key"),
        ("encryption_key = \"aHVudGVyMg==\"", "must be 32 bytes in base64", "encryption_key"),
        ("old_encryption_keys = [\"aHVudGVyMg==\"]", "must be 32 bytes in base64", "old_encryption_keys"),
        (same.as_str(), "is the same key as one above it", "old_encryption_keys"),
    ];
    for (keys, wanted, key) in cases {
        let output = check(&toml(keys));
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).join("\n");
        assert_eq!(output.status.code(), Some(2), "{keys}: {said}");
        assert!(said.contains(wanted) && said.contains(key), "{keys}: {said}");
        for secret in ["hunter2", "aHVudGVyMg", KEYS[0], KEYS[1]] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}
