//! A connection that went stale, or an endpoint that is dead, costs a client nothing where a second send is safe.

use std::sync::mpsc::sync_channel;

use crate::support::{Connection, Fender, PATIENCE, Setup, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Its first connection answers once, and hangs up when it hears the next request; later ones are sound.
fn stale_once() -> Upstream {
    Upstream::scripted(|connection: &mut Connection| {
        let mut answered = 0;
        while let Some(_received) = connection.request() {
            if connection.number == 1 && answered == 1 {
                return;
            }
            connection.send(OK);
            answered += 1;
        }
    })
}

fn one_worker(upstream: &Upstream) -> Fender {
    Setup::new(upstream.as_api("")).server("workers = 1").start()
}

#[test]
fn a_get_on_a_stale_connection_is_sent_once_more() {
    let upstream = stale_once();
    let fender = one_worker(&upstream);
    fender.get("/first");
    let answer = fender.get("/second");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    let lines: Vec<_> =
        upstream.requests().into_iter().map(|received| received.head.target().to_owned()).collect();
    assert_eq!(lines, ["/first", "/second", "/second"]);
}

#[test]
fn a_post_that_may_have_arrived_is_not_sent_again() {
    let upstream = stale_once();
    let fender = one_worker(&upstream);
    fender.get("/first");
    fender.post("/second", "", b"x").is_problem(502, "reset");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_post_with_an_idempotency_key_is_sent_once_more() {
    let upstream = stale_once();
    let fender = one_worker(&upstream);
    fender.get("/first");
    let answer = fender.post("/second", "idempotency-key: k-1\r\n", b"body");
    assert_eq!(answer.status(), 200);
    let resent = upstream.request(3);
    assert_eq!((resent.text().as_str(), resent.field("idempotency-key").as_deref()), ("body", Some("k-1")));
}

#[test]
fn the_key_may_have_a_name_of_the_configs_own() {
    let upstreams = [stale_once(), stale_once()];
    for (upstream, field, sent) in [(&upstreams[0], "x-once", 3), (&upstreams[1], "idempotency-key", 2)] {
        let lines = upstream.as_api("idempotency_header = \"X-Once\"");
        let fender = Setup::new(lines).server("workers = 1").start();
        fender.get("/first");
        let answer = fender.post("/second", &format!("{field}: k-1\r\n"), b"body");
        assert_eq!(answer.status(), if sent == 3 { 200 } else { 502 }, "{field}");
        assert_eq!(upstream.requests().len(), sent, "{field}");
    }
}

#[test]
fn a_post_meets_a_connection_that_closed_while_idle() {
    let (closed, wait) = sync_channel(8);
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        connection.send(OK);
        connection.close();
        closed.send(()).ok();
    });
    let fender = one_worker(&upstream);
    for _ in 0..5 {
        assert_eq!(fender.post("/", "", b"x").status(), 200);
        wait.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(upstream.requests().len(), 5, "each was sent once");
}

#[test]
fn an_upstream_that_hangs_up_each_time_is_not_asked_for_ever() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
    });
    let fender = one_worker(&upstream);
    fender.get("/").is_problem(502, "reset");
    assert!(upstream.requests().len() <= 4, "asked {} times", upstream.requests().len());
}

#[test]
fn a_dead_endpoint_among_several_costs_nothing() {
    let alive = Upstream::ok("ok");
    let fender = Fender::start(format!(
        "[upstream.api]\nurls = [\"{}\", \"{}\"]\nroute = \"/\"",
        Upstream::nobody(),
        alive.url()
    ));
    for _ in 0..20 {
        assert_eq!(fender.post("/", "", b"x").status(), 200);
    }
    assert_eq!(alive.requests().len(), 20);
}

#[test]
fn sound_endpoints_share_the_load() {
    let (one, other) = (Upstream::ok("1"), Upstream::ok("2"));
    let fender = Fender::start(format!(
        "[upstream.api]\nurls = [\"{}\", \"{}\"]\nroute = \"/\"",
        one.url(),
        other.url()
    ));
    for _ in 0..40 {
        fender.get("/");
    }
    let (one, other) = (one.requests().len(), other.requests().len());
    assert!(one + other == 40 && one >= 5 && other >= 5, "{one} and {other}");
}

#[test]
fn an_idle_connection_is_let_go_in_time() {
    let (closed, wait) = sync_channel(1);
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        connection.send(OK);
        connection.until_closed();
        closed.send(()).ok();
    });
    let fender = Fender::start(upstream.as_api("[upstream.api.pool]\nidle_timeout = \"300ms\""));
    fender.get("/");
    wait.recv_timeout(PATIENCE).expect("the idle connection is closed");
}

#[test]
fn a_key_that_does_not_go_up_protects_nothing() {
    for (lines, header) in [
        ("headers.remove = [\"idempotency-key\"]", "idempotency-key: k-1\r\n"),
        ("", "connection: idempotency-key\r\nidempotency-key: k-1\r\n"),
    ] {
        let upstream = stale_once();
        let fender = Setup::new(upstream.as_api(lines)).server("workers = 1").start();
        fender.get("/first");
        fender.post("/second", header, b"x").is_problem(502, "reset");
        assert_eq!(upstream.requests().len(), 2, "{lines}");
    }
}

#[test]
fn a_connection_serves_again_after_trailers() {
    let upstream = Upstream::scripted(|connection| {
        while connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\n\r\n");
        }
    });
    let fender = one_worker(&upstream);
    let mut client = fender.client();
    for _ in 0..5 {
        assert_eq!(client.request("GET", "/", "te: trailers\r\n", b"").text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}
