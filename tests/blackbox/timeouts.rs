//! Every wait for an upstream ends.

use std::time::{Duration, Instant};

use crate::support::{End, Fender, Setup, Upstream};

fn silent() -> Upstream {
    Upstream::scripted(|connection| {
        if let Some(head) = connection.head() {
            connection.remember_head(head);
            connection.until_closed();
        }
    })
}

fn with(upstream: &Upstream, timeout: &str) -> Fender {
    Fender::start(upstream.as_api(&format!("[upstream.api.timeout]\n{timeout}")))
}

#[track_caller]
fn takes(least: u64, most: u64, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    let (took, range) = (start.elapsed(), Duration::from_millis(least)..Duration::from_millis(most));
    assert!(range.contains(&took), "took {took:?}, not {range:?}");
}

#[test]
fn an_attempt_that_is_not_answered_is_504() {
    let upstream = silent();
    let fender = with(&upstream, "attempt = \"300ms\"\ntotal = \"20s\"");
    takes(290, 5000, || fender.post("/", "", b"x").is_problem(504, "timeout"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_total_bounds_all_attempts() {
    let upstream = silent();
    let fender = with(&upstream, "attempt = \"300ms\"\ntotal = \"400ms\"");
    takes(290, 5000, || fender.get("/").is_problem(504, "timeout"));
}

#[test]
fn a_client_may_ask_for_less_time_but_not_for_more() {
    let upstream = silent();
    let fender = with(&upstream, "attempt = \"1s\"\ntotal = \"1s\"");
    takes(190, 900, || {
        fender.client().request("GET", "/", "fender-timeout: 200ms\r\n", b"").is_problem(504, "timeout");
    });
    takes(990, 5000, || {
        fender.client().request("GET", "/", "fender-timeout: 60s\r\n", b"").is_problem(504, "timeout");
    });
    takes(190, 900, || {
        fender.client().request("POST", "/", "grpc-timeout: 200m\r\n", b"x").is_problem(504, "timeout");
    });
    assert_eq!(upstream.request(1).field("fender-timeout"), None);
}

#[test]
fn the_time_that_is_left_is_told_where_configured() {
    let upstream = Upstream::ok("");
    let fender = with(&upstream, "total = \"5s\"\nattempt = \"5s\"\npropagate = \"x-time-left\"");
    fender.get("/");
    let left: u64 =
        upstream.request(1).field("x-time-left").and_then(|left| left.parse().ok()).expect("milliseconds");
    assert!((4000..=5000).contains(&left), "{left}");
}

#[test]
fn a_body_that_stalls_is_cut() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        connection.until_closed();
    });
    let fender = with(&upstream, "idle = \"300ms\"");
    takes(290, 5000, || {
        let answer = fender.get("/");
        assert_eq!((answer.text().as_str(), answer.status()), ("half", 200));
        assert_ne!(answer.end, End::Clean);
    });
}

#[test]
fn a_slow_body_that_moves_is_not_cut() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n");
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(100));
            connection.send("x");
        }
    });
    let fender = with(&upstream, "idle = \"500ms\"\nattempt = \"500ms\"\ntotal = \"500ms\"");
    takes(700, 9000, || {
        let answer = fender.get("/");
        assert_eq!((answer.text().as_str(), answer.end), ("xxxxxxxx", End::Clean));
    });
}

#[test]
fn a_whole_stream_may_have_a_limit() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while connection.send("1\r\nx\r\n") {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let fender = with(&upstream, "stream = \"400ms\"");
    takes(390, 5000, || assert_ne!(fender.get("/").end, End::Clean));
}

#[test]
fn an_upgraded_connection_outlives_every_timeout_of_a_request() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n");
        while let Some(byte) = connection.exactly(1) {
            connection.send(byte);
        }
    });
    let fender = with(&upstream, "attempt = \"300ms\"\ntotal = \"300ms\"");
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 101);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(150));
        client.send("x");
        assert_eq!(client.exactly(1).unwrap(), b"x");
    }
}

#[test]
fn a_routes_connect_timeout_beats_its_upstreams() {
    // Nothing answers there: a backlog of one that is full.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let address = full.local_addr().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    let fender = Fender::start(format!(
        "[upstream.api]\nurl = \"http://{address}\"\ntimeout.connect = \"8s\"\n\
         [[route]]\npath = \"/\"\nupstream = \"api\"\ntimeout.connect = \"300ms\""
    ));
    let begun = Instant::now();
    fender.get("/").is_problem(502, "connect");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn the_stream_limit_holds_for_a_reader_that_is_slower_than_its_upstream() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while connection.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000))) {}
    });
    let fender = Fender::start(upstream.as_api("timeout.stream = \"1s\""));
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    let begun = Instant::now();
    while client.chunk().is_some_and(|chunk| !chunk.is_empty()) {
        std::thread::sleep(Duration::from_millis(5));
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on and on");
    }
}

#[test]
fn the_beginning_of_what_could_be_http2_has_its_time_too() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("header_timeout = \"400ms\"").start();
    for begun in ["P", "PRI * HT"] {
        takes(390, 3000, || fender.raw(begun).0.is_problem(408, "header_timeout"));
    }
    let mut post = fender.client();
    post.send("P");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(post.request("OST", "/", "", b"x").status(), 200);
}

#[test]
fn a_tunnel_on_which_nothing_passes_is_cut_after_the_idle_time() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n");
        while let Some(byte) = connection.exactly(1) {
            connection.send(byte);
        }
    });
    let fender = with(&upstream, "idle = \"2s\"");
    for pause in [100, 1400] {
        let mut client = fender.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n");
        assert_eq!(client.head().unwrap().status(), 101);
        std::thread::sleep(Duration::from_millis(pause));
        client.send("x");
        assert_eq!(client.exactly(1).unwrap(), b"x");
        takes(1950, 2300, || assert_eq!(client.until_closed(), End::Cut));
    }
}
