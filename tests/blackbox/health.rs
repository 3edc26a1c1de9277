//! The active check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Fender, Upstream, eventually};

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
