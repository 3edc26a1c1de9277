//! Fender's own answers, and what an upstream must not do to it.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Fender, Upstream};

#[test]
fn no_route_is_404() {
    let upstream = Upstream::ok("");
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/api\"", upstream.url()));
    let answer = fender.get("/other");
    answer.is_problem(404, "no_route");
    assert!(upstream.requests().is_empty());
    assert_eq!(fender.metric("fender_requests_total", &[("code", "404"), ("source", "fender")]), 1.0);
}

#[test]
fn nobody_listening_is_502_connect() {
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"", Upstream::nobody()));
    let answer = fender.get("/");
    answer.is_problem(502, "connect");
    assert_eq!(answer.json()["upstream"], "api");
    assert!(fender.metric("fender_requests_total", &[("upstream", "api"), ("code", "502")]) >= 1.0);
}

#[test]
fn a_name_that_does_not_resolve_is_502_and_not_fatal() {
    let fender = Fender::start(
        "[upstream.api]\nurl = \"http://nowhere.invalid\"\nroute = \"/\"\n[upstream.api.timeout]\nconnect = \"1s\"\ntotal = \"30s\"",
    );
    let start = Instant::now();
    let answer = fender.get("/");
    answer.is_problem(502, "connect");
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    assert!(!answer.text().contains("nowhere.invalid"));
    assert!(fender.running());
}

#[test]
fn a_name_of_the_hosts_file_resolves() {
    let upstream = Upstream::ok("hello");
    let port = upstream.address().port();
    let fender = Fender::start(format!("[upstream.api]\nurl = \"http://localhost:{port}\"\nroute = \"/\""));
    assert_eq!(fender.get("/").text(), "hello");
    assert_eq!(upstream.request(1).field("host"), Some(format!("localhost:{port}")));
}

#[test]
fn a_port_that_speaks_no_tls_is_502_tls() {
    let plain = Upstream::scripted(|connection| {
        connection.send("220 mail.test ready\r\n");
        connection.until_closed();
    });
    let url = plain.url().replace("http:", "https:");
    let fender = Fender::start(format!(
        "[upstream.api]\nurl = \"{url}\"\nroute = \"/\"\n[upstream.api.timeout]\nconnect = \"1s\""
    ));
    fender.get("/").is_problem(502, "tls");
}

#[test]
fn an_upstream_that_hangs_up_before_it_answers_is_502_reset() {
    for abrupt in [false, true] {
        let upstream = Upstream::scripted(move |connection| {
            connection.request();
            if abrupt {
                connection.reset();
            }
        });
        Fender::start(upstream.as_api("")).post("/", "", b"x").is_problem(502, "reset");
    }
}

#[test]
fn an_upstream_that_speaks_nonsense_is_502_protocol() {
    for nonsense in [
        "220 mail.test ESMTP\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let upstream = Upstream::answering(nonsense);
        let fender = Fender::start(upstream.as_api(""));
        let answer = fender.post("/", "", b"x");
        assert_eq!(
            (answer.status(), answer.field("fender-reason").as_str()),
            (502, "protocol"),
            "{nonsense:?}"
        );
        answer.is_problem(502, "protocol");
        assert!(fender.running());
    }
}

#[test]
fn endless_headers_are_502_protocol() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n");
        let line = format!("x: {}\r\n", "y".repeat(8000));
        while connection.send(&line) {}
    });
    let fender = Fender::start(upstream.as_api(""));
    let before = fender.rss_kib();
    fender.post("/", "", b"x").is_problem(502, "protocol");
    assert!(fender.rss_kib() < before + 8 * 1024, "it kept them");
}

#[test]
fn an_endless_train_of_interim_answers_ends() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        while connection.send("HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n") {}
    });
    let fender = Fender::start(upstream.as_api("[upstream.api.timeout]\nattempt = \"2s\"\ntotal = \"2s\""));
    let start = Instant::now();
    let mut client = fender.client();
    let asking = thread::spawn(move || client.request("GET", "/", "", b""));
    let mut most = 0;
    while !asking.is_finished() {
        most = most.max(fender.rss_kib());
        thread::sleep(Duration::from_millis(20));
    }
    let (answer, took) = (asking.join().unwrap(), start.elapsed());
    answer.is_problem(504, "timeout");
    assert!(took < Duration::from_secs(4), "the attempt's limit does not hold: {took:?}");
    assert!(answer.informational.len() <= 32, "{} of them reach the client", answer.informational.len());
    assert!(most < 40 * 1024, "it hoards them: {most} KiB");
    assert!(fender.running());
}

#[test]
fn a_storm_of_strange_bytes_leaves_it_standing() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let address = fender.server();
    let storm: Vec<_> = (0..4_u64)
        .map(|seed| {
            thread::spawn(move || {
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                for _ in 0..50 {
                    let bytes: Vec<u8> = (0..200)
                        .map(|_| {
                            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            (state >> 33).to_le_bytes()[0]
                        })
                        .collect();
                    let mut client = crate::support::Client::connect(address);
                    client.send(
                        [&b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"[..], &bytes]
                            .concat(),
                    );
                    client.half_close();
                    client.until_closed();
                }
            })
        })
        .collect();
    for thread in storm {
        thread.join().unwrap();
    }
    assert_eq!(fender.get("/").status(), 200);
    assert!(!fender.log().contains("panicked"));
}

#[test]
fn a_response_head_that_is_larger_than_a_connection_holds_is_no_answer() {
    let answer = |bytes: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nx-big: {}\r\ncontent-length: 2\r\n\r\nok", "y".repeat(bytes));
        Fender::start(Upstream::answering(head).as_api("retry = { max_attempts = 1 }")).get("/")
    };
    assert_eq!(answer(30_000).status(), 200);
    answer(250_000).is_problem(502, "protocol");
}
