//! `/api/v1/report`: what was counted is told, and outlives reloads and restarts.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::letters::{call, keeping};
use crate::support::{Client, Fender, Setup, Upstream, eventually};

const OPS: &str = "operators-secret";

fn report(fender: &Fender, query: &str) -> Value {
    let (status, body) = call(fender, "GET", &format!("/api/v1/report{query}"), OPS, &Value::Null);
    assert_eq!(status, 200, "{query}: {body}");
    body
}

fn of(report: &Value, name: &str) -> Value {
    let all = report["upstreams"].as_array().expect("upstreams");
    all.iter()
        .find(|upstream| upstream["upstream"] == name)
        .unwrap_or_else(|| panic!("{name}: {report}"))
        .clone()
}

/// Answers what the path says: `/200`, `/503`.
fn obedient() -> Upstream {
    Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let status = received.head.target().rsplit('/').next().unwrap_or("200").to_owned();
            connection.send(format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n"));
        }
    })
}

const SETTINGS: &str = "retry = { max_attempts = 2, backoff = { base = \"1ms\" }, budget = { min_per_second = 100.0 } }\n\
    breaker = { consecutive_failures = 5, minimum_requests = 1000, open_for = \"60s\" }\ndead_letter.mode = \"on_failure\"";

fn house(upstream: &Upstream) -> (Setup, tempfile::TempDir, PathBuf) {
    let (setup, folder) = keeping(&upstream.as_api(SETTINGS));
    let setup = setup.server("drain_quiet = \"0s\"");
    let file = folder.path().join("letters.db.report");
    (setup, folder, file)
}

/// Seven well, one that a retry did not save, one parked; then the breaker opens and refuses one.
fn traffic(fender: &Fender) {
    for _ in 0..7 {
        assert_eq!(fender.get("/200").status(), 200);
    }
    assert_eq!(fender.get("/503").status(), 503);
    assert_eq!(fender.post("/500", "", b"once").status(), 500);
    assert_eq!(fender.get("/503").status(), 503);
    assert_eq!(fender.get("/503").field("fender-reason"), "breaker_open");
}

#[test]
fn each_upstream_is_told_by_what_was_counted() {
    let upstream = obedient();
    let (setup, _folder, _) = house(&upstream);
    let fender = setup.start();
    let before = report(&fender, "");
    assert_eq!(of(&before, "api")["availability"], Value::Null);
    traffic(&fender);
    let told = report(&fender, "?window=1h");
    assert_eq!(
        (&told["window"], &told["bucket_seconds"], &told["kept_in"]),
        (&json!("1h"), &json!(300), &json!("file"))
    );
    let api = of(&told, "api");
    assert_eq!(api["configured"], true, "{api}");
    // 503 twice with a retry each, the last of them cut short by the breaker or not: attempts are what the metrics say.
    let attempts =
        |outcome| fender.metric("fender_attempts_total", &[("upstream", "api"), ("outcome", outcome)]);
    assert_eq!(api["attempts"].as_f64(), Some(attempts("success") + attempts("transient")), "{api}");
    assert_eq!(api["attempts_failed"].as_f64(), Some(attempts("transient")), "{api}");
    assert_eq!(
        api["retries"].as_f64(),
        Some(fender.metric("fender_retries_total", &[("upstream", "api")])),
        "{api}"
    );
    assert!(api["retry_share"].as_f64().is_some_and(|share| share > 0.1 && share < 0.5), "{api}");
    assert_eq!((&api["requests"], &api["failed"]), (&json!(11), &json!(4)), "{api}");
    assert_eq!(
        api["answered_by"],
        json!({"upstream": 10, "fallback": 0, "fender": 1, "dead_letter": 0}),
        "{api}"
    );
    assert!((api["availability"].as_f64().unwrap() - 7.0 / 11.0).abs() < 1e-9, "{api}");
    assert_eq!(api["breaker_opened"], 1, "{api}");
    assert_eq!(api["letters"]["captured"], 1, "{api}");
    assert_eq!(api["letters"]["parked_now"], 1, "{api}");
    assert_eq!(of(&told, "other")["requests"], 0);
    // The time for which it stays open grows.
    eventually("a second of it", || {
        of(&report(&fender, ""), "api")["breaker_open_seconds"].as_f64().is_some_and(|open| open >= 1.0)
    });
    // What is told twice is told the same.
    assert_eq!(of(&report(&fender, ""), "api")["requests"], 11);
    // Nobody counted before it began, which is said.
    let day = report(&fender, "?window=24h");
    assert!(day["lacking_seconds"].as_f64().is_some_and(|lacking| lacking > 86_000.0), "{day}");
    // Nor in all of the bucket in which it did.
    let gaps = day["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{day}");
    let lacking = |of: &Value| of["lacking_seconds"].as_f64().unwrap_or_default();
    assert!((lacking(&gaps[0]) - lacking(&day)).abs() < 2.0, "{day}");
    assert_eq!(gaps[0]["to"], day["to"], "{day}");
    assert!(day["since"].is_string(), "{day}");
}

#[test]
fn a_window_that_makes_no_sense_is_told_the_way_out() {
    let upstream = obedient();
    let (setup, _folder, _) = house(&upstream);
    let fender = setup.start();
    for window in [
        "",
        "4m",
        "299s",
        "32d",
        "745h",
        "1y",
        "-1h",
        "1.5h",
        "24",
        "%00",
        "99999999999999999999d",
        "24h&window=7d",
        "24h&x=1",
    ] {
        let (status, problem) =
            call(&fender, "GET", &format!("/api/v1/report?window={window}"), OPS, &Value::Null);
        assert_eq!(status, 400, "{window}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("5m to 31d") || detail.contains("query"), "{window}: {detail}");
    }
    for (window, bucket) in [
        ("5m", 300),
        ("300s", 300),
        ("24h", 300),
        ("1d", 300),
        ("25h", 3600),
        ("7d", 3600),
        ("170h", 21_600),
        ("31d", 21_600),
    ] {
        let told = report(&fender, &format!("?window={window}"));
        assert_eq!((&told["bucket_seconds"], &told["window"]), (&json!(bucket), &json!(window)));
    }
}

#[test]
fn it_outlives_a_restart() {
    let upstream = obedient();
    let (setup, _folder, file) = house(&upstream);
    let fender = setup.clone().start();
    traffic(&fender);
    let before = of(&report(&fender, ""), "api");
    let since = report(&fender, "")["since"].clone();
    fender.sigterm();
    assert!(fender.wait_exit(Duration::from_secs(20)).success());
    assert!(fs::read_to_string(&file).unwrap().starts_with("fender-report 1 "));
    let fender = setup.start();
    let counted = || of(&report(&fender, ""), "api");
    eventually("the file is read", || counted()["requests"] == before["requests"]);
    let after = counted();
    for part in ["requests", "failed", "attempts", "retries", "breaker_opened", "availability", "answered_by"]
    {
        assert_eq!(after[part], before[part], "{part}: {after}");
    }
    assert_eq!(report(&fender, "")["since"], since);
    // And it goes on.
    assert_eq!(fender.get("/200").status(), 200);
    assert_eq!(counted()["requests"].as_u64(), before["requests"].as_u64().map(|requests| requests + 1));
}

/// A rolling update: the new process waits for the store, and must not touch what the old one still writes.
#[test]
fn who_waits_for_the_store_neither_reads_nor_writes_the_file_until_it_is_held() {
    let upstream = obedient();
    let (setup, _folder, file) = house(&upstream);
    let old = setup.clone().start();
    traffic(&old);
    let wait = || {
        let next = setup.clone().start();
        next.logged("the store cannot be opened: no letter is taken until it can");
        next
    };
    let gave_up = wait();
    gave_up.sigterm();
    assert!(gave_up.wait_exit(Duration::from_secs(20)).success());
    assert!(!file.exists(), "what it did not hold it did not write");
    let next = wait();
    assert_eq!(next.get("/200").status(), 200);
    old.sigterm();
    assert!(old.wait_exit(Duration::from_secs(20)).success());
    eventually("the old one's counts and its own", || of(&report(&next, ""), "api")["requests"] == 12);
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside_and_stops_nothing() {
    let upstream = obedient();
    let (setup, folder, file) = house(&upstream);
    for text in [
        &b""[..],
        b"fender-report 9 abc\n{}",
        &[0xff; 100],
        b"fender-report 1 00\n{\"since\":null,\"tiers\":[]}",
    ] {
        fs::write(&file, text).unwrap();
        let fender = setup.clone().start();
        let line = fender.logged("the report's file cannot be read: it begins anew");
        assert_eq!((&line["level"], &line["aside"]), (&json!("WARN"), &json!(true)), "{line}");
        assert_eq!(fs::read(folder.path().join("letters.db.report.damaged")).unwrap(), text);
        assert_eq!(fender.get("/200").status(), 200);
        assert_eq!(of(&report(&fender, ""), "api")["requests"], 1);
        fender.sigterm();
        assert!(fender.wait_exit(Duration::from_secs(20)).success());
        assert!(fs::read_to_string(&file).unwrap().starts_with("fender-report 1 "));
    }
}

#[test]
fn a_place_that_cannot_be_written_stops_nothing() {
    let upstream = obedient();
    let (setup, _folder, file) = house(&upstream);
    // What is there is a folder: it can be neither read nor replaced.
    fs::create_dir(&file).unwrap();
    let fender = setup.start();
    fender.logged("the report's file cannot be opened: the report lives in memory");
    assert_eq!(fender.get("/200").status(), 200);
    let told = report(&fender, "");
    assert_eq!((&told["kept_in"], &of(&told, "api")["requests"]), (&json!("memory"), &json!(1)));
    fender.sigterm();
    assert!(fender.wait_exit(Duration::from_secs(20)).success());
    assert!(file.is_dir());
}

#[test]
fn a_reload_forgets_nothing_and_one_that_is_gone_is_told_as_gone() {
    let upstream = obedient();
    let tokens = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"operators-secret\"\n";
    let with = Setup::new(upstream.as_api("")).admin(tokens);
    let without =
        Setup::new(format!("[upstream.next]\nurl = \"{}\"\nroute = \"/\"\n", upstream.url())).admin(tokens);
    let fender = with.clone().start();
    for _ in 0..3 {
        assert_eq!(fender.get("/200").status(), 200);
    }
    assert_eq!(report(&fender, "")["kept_in"], "memory");
    let reloaded = |setup: &Setup, name: &str| {
        fender.rewrite_config(setup);
        fender.sighup();
        eventually(name, || {
            report(&fender, "")["upstreams"].to_string().contains(&format!("\"{name}\",\"configured\":true"))
        });
    };
    reloaded(&without, "next");
    assert_eq!(fender.get("/200").status(), 200);
    let told = report(&fender, "");
    assert_eq!((&of(&told, "api")["requests"], &of(&told, "api")["configured"]), (&json!(3), &json!(false)));
    assert_eq!(of(&told, "next")["requests"], 1);
    reloaded(&with, "api");
    assert_eq!(fender.get("/200").status(), 200);
    let told = report(&fender, "");
    assert_eq!((&of(&told, "api")["requests"], &of(&told, "next")["configured"]), (&json!(4), &json!(false)));
}

/// Rates and charts for those who look: they fill by steps, and are told where upstreams are.
#[test]
fn lately_and_the_last_minutes_are_told() {
    let upstream = obedient();
    let (setup, _folder, _) = house(&upstream);
    let fender = setup.start();
    let listed = || {
        let (_, body) = call(&fender, "GET", "/api/v1/upstreams", OPS, &Value::Null);
        let all = body["upstreams"].as_array().unwrap().clone();
        all.into_iter().find(|upstream| upstream["name"] == "api").unwrap()
    };
    traffic(&fender);
    eventually("a step", || {
        listed()["lately"]["requests_per_second"].as_f64().is_some_and(|rate| rate > 1.0)
    });
    let api = listed();
    let (lately, history) = (&api["lately"], &api["history"]);
    assert!(lately["failed_per_second"].as_f64().is_some_and(|rate| rate > 0.4), "{api}");
    assert!(lately["latency_avg_ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 1_000.0), "{api}");
    assert!(lately["latency_p95_ms"].is_number(), "{api}");
    assert_eq!(history["step_seconds"], 5);
    for series in ["requests_per_second", "failed_per_second", "latency_p95_ms"] {
        assert_eq!(history[series].as_array().map(Vec::len), Some(1), "{series}: {history}");
    }
    // At a glance, and open, it is told too; whose token it is only to its holder.
    let open = Client::connect(fender.admin()).request("GET", "/health/detailed", "", b"").json();
    assert!(open["upstreams"][0]["lately"].is_object() && open["caller"].is_null(), "{open}");
    let (_, overview) = call(&fender, "GET", "/api/v1/overview", "others-secret", &Value::Null);
    assert_eq!(overview["caller"], json!({"name": "other", "role": "operator", "upstreams": ["other"]}));
    // Who sees one upstream is told of that one.
    let (_, told) = call(&fender, "GET", "/api/v1/report", "others-secret", &Value::Null);
    assert_eq!(told["upstreams"].as_array().map(Vec::len), Some(1), "{told}");
}
