//! The breaker, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Fender, Setup, Upstream, eventually};

const QUICK: &str = "retry = { max_attempts = 1 }\n\
    breaker = { consecutive_failures = 3, open_for = \"300ms\", half_open_probes = 1 }";

/// Fails until it is told to be well.
fn patient() -> (Upstream, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "500 Oops" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    (upstream, well)
}

fn state(fender: &Fender, state: &str) -> f64 {
    fender.metric("fender_breaker_state", &[("upstream", "api"), ("route", ""), ("state", state)])
}

#[test]
fn it_opens_refuses_probes_and_closes() {
    let (upstream, well) = patient();
    let fender = Fender::start(upstream.as_api(QUICK));
    assert_eq!(state(&fender, "closed"), 1.0);
    for _ in 0..3 {
        assert_eq!(fender.get("/").status(), 500);
    }
    let start = Instant::now();
    let refused = fender.get("/");
    refused.is_problem(503, "breaker_open");
    assert_eq!(refused.field("retry-after"), "1");
    assert_eq!(refused.field("fender-attempts"), "0");
    assert!(start.elapsed() < Duration::from_millis(250));
    assert_eq!((state(&fender, "open"), state(&fender, "closed")), (1.0, 0.0));
    assert_eq!(upstream.requests().len(), 3);
    well.store(true, Ordering::SeqCst);
    eventually("it closes", || fender.get("/").status() == 200);
    assert_eq!((state(&fender, "open"), state(&fender, "closed")), (0.0, 1.0));
    for (from, to) in [("closed", "open"), ("open", "half_open"), ("half_open", "closed")] {
        let turned = fender.metric("fender_breaker_transitions_total", &[("from", from), ("to", to)]);
        assert_eq!(turned, 1.0, "{from} to {to}");
    }
    assert!(fender.metric("fender_breaker_refused_total", &[]) >= 1.0);
    let open = fender.metric("fender_breaker_open_seconds_total", &[]);
    assert!((0.2..5.0).contains(&open), "{open}");
    let line = fender.logged("breaker changed");
    assert_eq!((line["from"].as_str(), line["to"].as_str()), (Some("closed"), Some("open")));
}

#[test]
fn throttled_and_the_clients_own_faults_are_no_failures() {
    for status in ["429 Slow", "404 None", "401 Who", "501 Never"] {
        let upstream = Upstream::in_turn(&[status]);
        let fender = Fender::start(upstream.as_api(QUICK));
        for _ in 0..6 {
            fender.get("/");
        }
        assert_eq!((state(&fender, "closed"), upstream.requests().len()), (1.0, 6), "{status}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_a_failure_though_its_head_was_fine() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    });
    let fender = Fender::start(upstream.as_api(QUICK));
    for _ in 0..3 {
        assert_eq!(fender.get("/").status(), 200);
    }
    eventually("it opens", || state(&fender, "open") == 1.0);
}

#[test]
fn a_client_that_hangs_up_is_no_failure_and_gives_its_probe_back() {
    let (upstream, well) = patient();
    let slow = Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            if received.head.target() == "/hang" {
                connection.until_closed();
                return;
            }
            let status = if well.load(Ordering::SeqCst) { "200 OK" } else { "500 Oops" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
            if received.head.target() == "/last" {
                well.store(true, Ordering::SeqCst);
            }
        }
    });
    drop(upstream);
    let fender = Fender::start(slow.as_api(QUICK));
    for target in ["/", "/", "/last"] {
        assert_eq!(fender.get(target).status(), 500);
    }
    eventually("half open", || state(&fender, "half_open") == 1.0);
    let probes = || fender.admin_get("/health/breakers").json()["breakers"][0]["probes"].clone();
    assert_eq!(probes(), 0, "the next request is the first");
    let mut client = fender.client();
    client.send("GET /hang HTTP/1.1\r\nhost: a\r\n\r\n");
    slow.request(4);
    assert_eq!(probes(), 1);
    fender.get("/").is_problem(503, "breaker_open"); // The one probe is under way.
    drop(client);
    eventually("the probe is given back", || fender.get("/").status() == 200);
    assert_eq!(state(&fender, "closed"), 1.0);
}

#[test]
fn each_key_has_a_breaker_of_its_own() {
    let upstream = Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let sick = received.field("x-tenant").as_deref() == Some("sick");
            let status = if sick || received.text().contains("sick") { "500 Oops" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let by = |key: &str| {
        format!("retry = {{ max_attempts = 1 }}\nbreaker = {{ consecutive_failures = 2, key = \"{key}\" }}")
    };
    let fender = Fender::start(upstream.as_api(&by("header:X-Tenant")));
    for _ in 0..2 {
        assert_eq!(fender.post("/", "x-tenant: sick\r\n", b"").status(), 500);
    }
    fender.post("/", "x-tenant: sick\r\n", b"").is_problem(503, "breaker_open");
    assert_eq!(fender.post("/", "x-tenant: well\r\n", b"").status(), 200);
    assert_eq!(state(&fender, "open"), 1.0, "the worst is shown");

    let fender = Fender::start(upstream.as_api(&by("json:/to/0")));
    for _ in 0..2 {
        assert_eq!(fender.post("/", "", br#"{"to":["sick"]}"#).status(), 500);
    }
    fender.post("/", "", br#"{"to":["sick"]}"#).is_problem(503, "breaker_open");
    let answer = fender.post("/", "", br#"{"to":["well"]}"#);
    assert_eq!(answer.status(), 200);
    assert_eq!(
        upstream.whole().last().map(crate::support::Received::text).as_deref(),
        Some(r#"{"to":["well"]}"#)
    );
}

#[test]
fn one_that_observes_refuses_nothing() {
    let (upstream, _well) = patient();
    let lines = QUICK.replace("consecutive_failures", "observe = true, consecutive_failures");
    let fender = Fender::start(upstream.as_api(&lines));
    for _ in 0..8 {
        assert_eq!(fender.get("/").status(), 500);
    }
    assert_eq!(fender.metric("fender_breaker_transitions_total", &[("from", "closed"), ("to", "open")]), 1.0);
}

#[test]
fn a_routes_own_breaker_leaves_the_others_alone() {
    let upstream = Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let status = if received.head.target().starts_with("/sick") { "500 Oops" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let route = "[[route]]\nname = \"own\"\npath = \"/sick\"\nstrip_prefix = false\nupstream = \"api\"\n\
                 breaker = { consecutive_failures = 2 }";
    let fender = Setup::new(format!("{}\n{route}", upstream.as_api(QUICK))).start();
    for _ in 0..2 {
        assert_eq!(fender.get("/sick").status(), 500);
    }
    fender.get("/sick").is_problem(503, "breaker_open");
    assert_eq!(fender.get("/well").status(), 200);
    let own = fender.metric("fender_breaker_state", &[("route", "own"), ("state", "open")]);
    assert_eq!((own, state(&fender, "closed")), (1.0, 1.0));
}

#[test]
fn a_reload_keeps_it_open() {
    let (upstream, _well) = patient();
    let lines = QUICK.replace("300ms", "60s");
    let setup = Setup::new(upstream.as_api(&lines));
    let fender = setup.start();
    for _ in 0..3 {
        assert_eq!(fender.get("/").status(), 500);
    }
    fender.get("/").is_problem(503, "breaker_open");
    let changed = Setup::new(upstream.as_api(&format!("{lines}\ntimeout = {{ attempt = \"7s\" }}")));
    fender.rewrite_config(&changed);
    fender.sighup();
    fender.logged("config reloaded");
    fender.get("/").is_problem(503, "breaker_open");
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn slow_answers_open_it_too() {
    let upstream = Upstream::scripted(|connection| {
        while connection.request().is_some() {
            std::thread::sleep(Duration::from_millis(30));
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let fender = Fender::start(upstream.as_api("breaker = { slow_call = \"10ms\", minimum_requests = 5 }"));
    for _ in 0..5 {
        assert_eq!(fender.get("/").status(), 200);
    }
    fender.get("/").is_problem(503, "breaker_open");
}
