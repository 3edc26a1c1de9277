//! Many connections, most of them at rest: each serves on as if it were alone, and rests on little memory.

use std::fs;

use crate::support::{Client, Connection, End, Fender, Upstream};

/// Enough that those which rest are let go of.
const CROWD: usize = 300;

/// Answers with what it was sent; `/ws` leaves HTTP, and `/early` is answered without its body.
fn upstream() -> Upstream {
    Upstream::scripted(|connection: &mut Connection| {
        while let Some(head) = connection.head() {
            if head.target() == "/ws" {
                connection.remember_head(head);
                connection.send(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
                );
                while let Some(byte) = connection.exactly(1) {
                    connection.send([byte[0].to_ascii_uppercase()]);
                }
                return;
            }
            let body = connection.body(head).body;
            if body.end != End::Clean {
                return;
            }
            let length = body.bytes.len();
            connection.send(
                [format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes(), &body.bytes]
                    .concat(),
            );
        }
    })
}

fn crowd(fender: &Fender, size: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..size).map(|_| fender.client()).collect();
    for client in &mut clients {
        assert_eq!(client.request("GET", "/", "", b"").status(), 200);
    }
    clients
}

#[test]
fn a_connection_that_rested_serves_whatever_comes_next() {
    let upstream = upstream();
    let fender = Fender::start(upstream.as_api(""));
    let _crowd = crowd(&fender, CROWD);
    let mut client = fender.client();
    // Each finds the connection as another has left it.
    for round in 0..3 {
        let answer = client.request("POST", "/", "", b"a body");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "a body"), "round {round}");
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.send("2\r\nde\r\n0\r\n\r\n");
        assert_eq!(client.response("POST").text(), "abcde");
        // Two at once, and half of a third.
        client.send(
            "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxyGET /3 HT",
        );
        assert_eq!(client.response("GET").text(), "");
        assert_eq!(client.response("POST").text(), "xy");
        client.send("TP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response("GET").status(), 200);
        assert_eq!(client.request("HEAD", "/", "", b"").status(), 200);
        let large = vec![b'x'; 300_000];
        assert_eq!(client.request("POST", "/", "", &large).body.len(), large.len());
    }
    client.send("GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
    assert_eq!(client.head().expect("an answer").status(), 101);
    client.send(b"abc");
    assert_eq!(client.exactly(3).as_deref(), Some(&b"ABC"[..]));
}

#[test]
fn a_connection_that_rested_is_judged_as_strictly_and_ends_as_ever() {
    let upstream = upstream();
    let fender = Fender::start(upstream.as_api(""));
    let mut crowd = crowd(&fender, CROWD);
    let mut client = crowd.pop().unwrap();
    client.send("GET / HTTP/1.1\nhost: a\r\n\r\n");
    client.response("GET").is_problem(400, "bad_request");
    assert_eq!(client.until_closed(), End::Cut);
    let mut client = crowd.pop().unwrap();
    assert_eq!(client.request("GET", "/", "connection: close\r\n", b"").status(), 200);
    assert_eq!(client.until_closed(), End::Cut);
    let mut client = crowd.pop().unwrap();
    client.half_close();
    assert_eq!(client.until_closed(), End::Cut, "who leaves while at rest is let go");
    let mut client = crowd.pop().unwrap();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.half_close();
    assert_eq!(client.response("GET").status(), 200, "who has asked and only listens is answered");
}

#[test]
fn a_thousand_connections_at_rest_cost_little() {
    let upstream = upstream();
    let fender = Fender::start(upstream.as_api(""));
    let few = crowd(&fender, CROWD);
    let before = own_kib(&fender);
    let many = crowd(&fender, 1_000);
    let each = (own_kib(&fender) - before) / 1_000.0;
    assert!(each < 8.0, "{each:.1} KiB for each connection at rest");
    drop((few, many));
}

/// Memory of its own, resident.
fn own_kib(fender: &Fender) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", fender.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
