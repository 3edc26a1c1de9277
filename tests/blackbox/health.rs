//! The active check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Fender, Setup, Upstream, eventually};

#[test]
fn an_upstream_that_fails_its_check_is_left_alone_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "503 Down" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let lines = "headers.set = { x-own = \"1\" }\n\
        health = { path = \"/up?deep\", interval = \"50ms\", unhealthy_after = 2, healthy_after = 2 }\n\
        breaker = { open_for = \"60s\", half_open_probes = 1 }";
    let fender = Fender::start(upstream.as_api(lines));
    let up = |fender: &Fender| fender.metric("fender_health_check_up", &[("upstream", "api")]);
    assert_eq!(up(&fender), 1.0);
    let check = upstream.request(1);
    assert_eq!((check.head.target(), check.field("x-own").as_deref()), ("/up?deep", Some("1")));
    assert_eq!(fender.get("/").status(), 200);
    well.store(false, Ordering::SeqCst);
    eventually("it is down", || up(&fender) == 0.0);
    fender.get("/").is_problem(503, "breaker_open");
    assert_eq!(fender.admin_get("/health").json()["upstreams"]["api"], "unhealthy");
    well.store(true, Ordering::SeqCst);
    // The breaker would stay open for a minute; the check wakes it.
    eventually("it is up", || up(&fender) == 1.0);
    assert_eq!(fender.get("/").status(), 200);
    assert!(fender.metric("fender_health_checks_total", &[("result", "failed")]) >= 2.0);
    assert!(fender.metric("fender_health_checks_total", &[("result", "ok")]) >= 2.0);
}

/// A check that a reload takes away leaves nothing behind: no gauge, and no breaker that waits for its word.
#[test]
fn a_check_that_is_taken_away_holds_nothing_down() {
    let upstream = Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let status = if received.head.target() == "/up" { "503 Down" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let lines = |health: &str| {
        upstream.as_api(&format!(
            "{health}breaker = {{ open_for = \"1h\", max_open_for = \"1h\", half_open_probes = 1 }}"
        ))
    };
    let checked = "health = { path = \"/up\", interval = \"50ms\", unhealthy_after = 2 }\n";
    let fender = Setup::new(lines(checked)).start();
    eventually("it is down", || fender.metric("fender_health_check_up", &[("upstream", "api")]) == 0.0);
    fender.get("/").is_problem(503, "breaker_open");
    fender.rewrite_config(&Setup::new(lines("")));
    fender.sighup();
    fender.logged("config reloaded");
    eventually("it answers", || fender.get("/").status() == 200);
    let gauge = |series: &String| series.starts_with("fender_health_check_up");
    assert!(!fender.metrics().keys().any(gauge), "the gauge is gone");
    assert_eq!(fender.admin_get("/health").json()["upstreams"]["api"], "healthy");
}
