//! Bytes that could be read in two ways are refused, and none of them reaches an upstream.

use crate::support::{Client, Fender, Setup, Upstream};

/// Each is refused with 400, the connection closes, and the upstream hears of nothing.
#[track_caller]
fn refused(cases: &[&str]) {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for case in cases {
        let mut client = fender.client();
        client.send(case);
        let answer = client.try_response("GET").unwrap_or_else(|| panic!("no answer to {case:?}"));
        assert_eq!(answer.status(), 400, "{case:?} was answered {:?}", answer.head.line);
        answer.is_problem(400, "bad_request");
        assert!(client.try_response("GET").is_none(), "the connection goes on after {case:?}");
    }
    let received: Vec<_> = upstream.requests().into_iter().map(|received| received.head.line).collect();
    assert!(received.is_empty(), "reached the upstream: {received:?}");
    assert_eq!(fender.get("/").status(), 200, "it serves on");
}

#[test]
fn a_length_and_chunks_together_are_refused() {
    refused(&[
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding : chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn lengths_that_are_not_one_number_are_refused() {
    refused(&[
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\nhello",
    ]);
}

#[test]
fn codings_other_than_chunked_alone_are_refused() {
    refused(&[
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn bare_line_feeds_are_refused() {
    refused(&[
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
    ]);
}

#[test]
fn folded_and_misshapen_fields_are_refused() {
    refused(&[
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n\tfolded\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\t: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\0y: 1\r\n\r\n",
    ]);
}

#[test]
fn a_request_names_one_host() {
    refused(&[
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
    ]);
}

#[test]
fn nonsense_is_refused() {
    refused(&[
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "G\0T / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a\x7fb HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    ]);
}

#[test]
fn chunks_that_are_misshapen_never_complete_a_request() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for chunks in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = fender.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
        if let Some(answer) = client.try_response("POST") {
            assert_eq!(answer.status(), 400, "{chunks:?}");
            answer.is_problem(400, "bad_request");
        }
        assert!(client.try_response("POST").is_none(), "the connection goes on after {chunks:?}");
    }
    assert!(upstream.whole().is_empty(), "{:?}", upstream.whole());
}

#[test]
fn a_request_hidden_in_a_refused_one_never_reaches_an_upstream() {
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for disguise in [
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            5 + hidden.len()
        ),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 40\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nZ\r\nQ\r\n\r\n".to_owned(),
    ] {
        let mut client = fender.client();
        client.send(format!("{disguise}{hidden}"));
        while client.try_response("POST").is_some() {}
    }
    assert!(upstream.requests().iter().all(|received| received.head.target() != "/hidden"));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let target = received.head.target();
            connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len()));
        }
    });
    let fender = Fender::start(upstream.as_api(""));
    let mut client = fender.client();
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nxGET /3 HTTP/1.1\r\nhost: a\r\n\r\n");
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.response("GET").text(), path);
    }
}

#[test]
fn headers_beyond_the_limit_are_refused_with_431() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("max_header_bytes = \"16KiB\"").start();
    let (answer, mut client) =
        fender.raw(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20 * 1024)));
    answer.is_problem(431, "headers_too_large");
    assert!(client.try_response("GET").is_none());
    let many: String = (0..2000).map(|number| format!("x-{number}: 1\r\n")).collect();
    fender.raw(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).0.is_problem(431, "headers_too_large");
    let inside = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(15 * 1024));
    assert_eq!(fender.raw(inside).0.status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn slow_headers_are_cut_with_408() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("header_timeout = \"300ms\"").start();
    let (answer, mut client) = fender.raw("GET / HTTP/1.1\r\nhost: a\r\nx:");
    answer.is_problem(408, "header_timeout");
    assert!(client.try_response("GET").is_none());
    assert!(upstream.requests().is_empty());
}

#[test]
fn slow_bodies_are_cut_with_408() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("body_idle_timeout = \"300ms\"").start();
    let (answer, mut client) = fender.raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
    answer.is_problem(408, "body_timeout");
    assert!(client.try_response("GET").is_none());
    assert!(upstream.whole().is_empty(), "half a body is not a request");
}

#[test]
fn bodies_beyond_the_limit_are_refused_with_413() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("max_request_body = \"1KiB\"").start();
    let (answer, mut client) = fender.raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1025\r\n\r\n");
    answer.is_problem(413, "body_too_large");
    assert!(client.try_response("GET").is_none());
    let chunk = format!("201\r\n{}\r\n", "x".repeat(0x201));
    let chunked =
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    fender.raw(chunked).0.is_problem(413, "body_too_large");
    assert!(upstream.whole().is_empty());
    assert_eq!(fender.post("/", "", &[b'x'; 1024]).status(), 200);
}

#[test]
fn connections_beyond_the_limit_are_told_503() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("max_connections = 2").start();
    let mut held: Vec<Client> = (0..2).map(|_| fender.client()).collect();
    for client in &mut held {
        assert_eq!(client.request("GET", "/", "", b"").status(), 200);
    }
    let answer = fender.get("/");
    answer.is_problem(503, "overload");
    assert!(answer.field("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    held.pop();
    crate::support::eventually("a freed place is given again", || fender.get("/").status() == 200);
}

#[test]
fn the_admin_listener_withstands_hostile_bytes_too() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for bytes in [
        "\x16\x03\x01\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut client = Client::connect(fender.admin());
        client.send(bytes);
        if let Some(answer) = client.try_response("GET") {
            assert!((400..500).contains(&answer.status()), "{bytes:?}: {:?}", answer.head.line);
        }
    }
    assert_eq!(fender.admin_get("/health/live").status(), 200);
}
