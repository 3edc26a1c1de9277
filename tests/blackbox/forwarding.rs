//! What passes through, what is handled, and what goes no further.

use crate::support::{Connection, End, Fender, Setup, Upstream};

fn to(upstream: &Upstream) -> Fender {
    Fender::start(upstream.as_api(""))
}

#[test]
fn hop_by_hop_fields_go_no_further() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-answer-hop\r\nx-answer-hop: 1\r\nkeep-alive: timeout=9\r\nx-stays: yes\r\ncontent-length: 2\r\n\r\nok",
    );
    let fender = to(&upstream);
    let fields = "connection: keep-alive, x-hop, X-Other-Hop\r\nx-hop: 1\r\nx-other-hop: 2\r\nkeep-alive: timeout=5\r\n\
                  proxy-connection: keep-alive\r\nte: gzip\r\nupgrade: h2c\r\nx-stays: yes\r\n";
    let answer = fender.client().request("GET", "/", fields, b"");

    let received = upstream.request(1);
    for name in ["x-hop", "x-other-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(received.field(name), None, "{name} was sent on");
    }
    assert_ne!(received.field("te").as_deref(), Some("gzip"));
    assert_eq!(received.field("x-stays").as_deref(), Some("yes"));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    for name in ["x-answer-hop", "keep-alive"] {
        assert_eq!(answer.head.field(name), None, "{name} came back");
    }
    assert_eq!(answer.field("x-stays"), "yes");
}

#[test]
fn an_upstream_is_told_whence_a_request_came() {
    let upstream = Upstream::ok("");
    let fender = to(&upstream);
    fender.get("/");
    let received = upstream.request(1);
    assert!(received.field("via").is_some_and(|via| via.starts_with("1.1 ")), "{:?}", received.head);
    assert_eq!(received.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(received.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(received.field("x-forwarded-host").as_deref(), Some("app.test"));
}

#[test]
fn a_trusted_client_says_whence_it_came_itself() {
    let upstream = Upstream::ok("");
    let fender = to(&upstream);
    fender.client().request("GET", "/", "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n", b"");
    let received = upstream.request(1);
    assert_eq!(received.field("x-forwarded-for").as_deref(), Some("192.0.2.7, 127.0.0.1"));
    assert_eq!(received.field("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn an_untrusted_client_is_not_believed() {
    let upstream = Upstream::ok("");
    let fender = Setup::new(upstream.as_api("")).server("trust_client_headers = \"never\"").start();
    fender.client().request("GET", "/", "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n", b"");
    let received = upstream.request(1);
    assert_eq!(received.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(received.field("x-forwarded-proto").as_deref(), Some("http"));
}

#[test]
fn a_trace_goes_on_and_one_is_begun_where_none_is() {
    let upstream = Upstream::ok("");
    let fender = to(&upstream);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    fender.client().request("GET", "/", &format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\n"), b"");
    fender.get("/");
    let parts = |number| {
        let parent = upstream.request(number).field("traceparent").expect("a traceparent is sent on");
        parent.split('-').map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(parts(1)[1], trace);
    let begun = parts(2);
    assert_eq!(begun.iter().map(String::len).collect::<Vec<_>>(), [2, 32, 16, 2], "{begun:?}");
    assert_ne!(begun[1], "0".repeat(32));
}

#[test]
fn host_is_the_upstreams_own() {
    let upstream = Upstream::ok("");
    to(&upstream).get("/");
    assert_eq!(upstream.request(1).head.all("host"), [upstream.address().to_string()]);
}

#[test]
fn a_request_id_is_sent_on_and_told() {
    let upstream = Upstream::ok("");
    let fender = to(&upstream);
    let made = fender.get("/");
    assert_eq!(upstream.request(1).field("x-request-id"), Some(made.field("fender-request-id")));
    assert_eq!(made.field("fender-attempts"), "1");
    assert_eq!(made.head.field("fender-reason"), None);

    fender.client().request("GET", "/", "x-request-id: its-own\r\n", b"");
    assert_eq!(upstream.request(2).field("x-request-id").as_deref(), Some("its-own"));
}

#[test]
fn configured_headers_are_set_and_removed_and_fenders_own_are_kept_back() {
    let upstream = Upstream::ok("");
    let lines = "[upstream.api.headers]\nset = { authorization = \"Bearer ours\", x-new = \"1\" }\nremove = [\"x-internal\"]";
    let fender = Fender::start(upstream.as_api(lines));
    let fields =
        "authorization: Bearer theirs\r\nx-internal: 1\r\nfender-timeout: 5s\r\nfender-policy: no-retry\r\n";
    fender.client().request("GET", "/", fields, b"");
    let received = upstream.request(1);
    assert_eq!(received.head.all("authorization"), ["Bearer ours"]);
    assert_eq!(received.head.all("x-new"), ["1"]);
    for name in ["x-internal", "fender-timeout", "fender-policy"] {
        assert_eq!(received.field(name), None, "{name} was sent on");
    }
}

#[test]
fn a_routes_prefix_is_cut_and_the_urls_base_put_before() {
    let upstream = Upstream::ok("");
    let url = upstream.url();
    let fender = Fender::start(format!(
        "[upstream.api]\nurl = \"{url}/base\"\nroute = \"/openai\"\n\n[[route]]\npath = \"/kept\"\nupstream = \"api\"\nstrip_prefix = false"
    ));
    for (number, (asked, sent)) in [
        ("/openai/v1/chat?stream=true", "/base/v1/chat?stream=true"),
        ("/kept/v1", "/base/kept/v1"),
        ("/openai/a//b", "/base/a//b"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(fender.get(asked).status(), 200, "{asked}");
        assert_eq!(upstream.request(number + 1).head.target(), sent, "{asked}");
    }
    fender.get("/openaix").is_problem(404, "no_route");
}

#[test]
fn dot_segments_are_resolved_before_a_route_is_chosen_and_never_sent_on() {
    let upstream = Upstream::ok("");
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/openai\"", upstream.url()));
    for (number, (asked, sent)) in [
        ("/openai/a/../b", "/b"),
        ("/openai/a/./b/.", "/a/b/"),
        ("/x/../openai/c", "/c"),
        ("/openai/a/%2e%2E/d", "/d"),
        ("/openai/%2e/e", "/e"),
        ("/openai/a/.%2e/f", "/f"),
        ("/openai/g%2Fh/..%2fi/%7Ej", "/g%2Fh/..%2fi/%7Ej"),
        ("/openai/...?q=/../", "/...?q=/../"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(fender.get(asked).status(), 200, "{asked}");
        assert_eq!(upstream.request(number + 1).head.target(), sent, "{asked}");
    }
    for outside in
        ["/openai/../admin", "/openai/%2e%2e/admin", "/openai/a/../../admin", "/openai/..", "/../../admin"]
    {
        fender.get(outside).is_problem(404, "no_route");
    }
    assert_eq!(upstream.requests().len(), 8);
}

#[test]
fn a_query_goes_on_as_it_came() {
    let upstream = Upstream::ok("");
    let fender = to(&upstream);
    let target = "/a?b=%7e&&=c%2F../d&e=%zz?f;g+h";
    assert_eq!(fender.get(target).status(), 200);
    assert_eq!(upstream.request(1).head.target(), target);
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let upstream = Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            connection.send(match received.head.target() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            });
        }
    });
    let fender = to(&upstream);
    let mut client = fender.client();
    assert_eq!(client.request("GET", "/204", "", b"").status(), 204);
    let unchanged = client.request("GET", "/304", "", b"");
    assert_eq!((unchanged.status(), unchanged.field("etag").as_str()), (304, "\"a\""));
    assert_eq!(client.request("HEAD", "/head", "", b"").field("content-length"), "5");
    assert_eq!(client.request("GET", "/", "", b"").text(), "ok");
}

#[test]
fn early_hints_pass() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let answer = to(&upstream).get("/");
    assert_eq!(answer.text(), "ok");
    let hints = answer.informational.first().expect("the 103 passes");
    assert_eq!((hints.status(), hints.field("link").as_deref()), (103, Some("</a.css>; rel=preload")));
}

#[test]
fn a_client_that_expects_100_hears_it_from_the_upstream() {
    let upstream = Upstream::scripted(|connection| {
        let head = connection.head().expect("the head comes before the body");
        assert_eq!(head.field("expect").as_deref(), Some("100-continue"));
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        let received = connection.body(head);
        connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}", received.text()));
    });
    let fender = to(&upstream);
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.head().expect("an interim answer").status(), 100);
    client.send("hello");
    assert_eq!(client.response("POST").text(), "hello");
}

#[test]
fn a_client_that_expects_100_hears_a_refusal_before_it_sends() {
    let upstream = Upstream::scripted(|connection| {
        if let Some(head) = connection.head() {
            connection.remember_head(head);
            connection.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
        }
    });
    let fender = to(&upstream);
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 500000\r\n\r\n");
    let answer = client.response("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (401, "no"));
    assert!(answer.informational.is_empty(), "it was told to go on: {:?}", answer.informational);
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let upstream = Upstream::scripted(|connection| {
        while connection.request().is_some() {
            connection.send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nx-sum: 42\r\n\r\n",
            );
        }
    });
    let fender = to(&upstream);
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-check\r\n\r\n");
    client.send("5;name=value\r\nhello\r\n1\r\n!\r\n0\r\nx-check: 7\r\n\r\n");
    let answer = client.response("POST");
    let received = upstream.request(1);
    assert_eq!(received.text(), "hello!");
    assert_eq!(received.body.trailers, [("x-check".to_owned(), "7".to_owned())]);
    assert_eq!((answer.text().as_str(), answer.end), ("abcd", End::Clean));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "42".to_owned())]);
}

#[test]
fn a_length_stays_a_length() {
    let upstream = Upstream::ok("ok");
    to(&upstream).post("/", "", b"hello");
    let received = upstream.request(1);
    assert_eq!(received.field("content-length").as_deref(), Some("5"));
    assert_eq!(received.field("transfer-encoding"), None);
    assert_eq!(received.text(), "hello");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.0 200 OK\r\n\r\nto the end");
    });
    let answer = to(&upstream).get("/");
    assert_eq!((answer.text().as_str(), answer.end), ("to the end", End::Clean));
}

#[test]
fn connections_to_an_upstream_are_reused() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("workers = 1").start();
    let mut client = fender.client();
    for _ in 0..20 {
        assert_eq!(client.request("POST", "/", "", b"x").status(), 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    let upstream = Upstream::scripted(|connection: &mut Connection| {
        let received = connection.request().expect("the request to upgrade");
        assert_eq!(received.field("upgrade").as_deref(), Some("websocket"));
        assert!(received.field("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")));
        assert_eq!(received.field("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: x\r\n\r\nfirst",
        );
        while let Some(byte) = connection.exactly(1) {
            connection.send([byte[0].to_ascii_uppercase()]);
        }
    });
    let fender = to(&upstream);
    let mut client = fender.client();
    client.send(
        "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = client.head().expect("an answer");
    assert_eq!((head.status(), head.field("upgrade").as_deref()), (101, Some("websocket")));
    assert_eq!(client.exactly(5).as_deref(), Some(&b"first"[..]));
    for bytes in [&b"a"[..], b"bc", b"\0\xff"] {
        client.send(bytes);
        assert_eq!(client.exactly(bytes.len()), Some(bytes.to_ascii_uppercase()));
    }
    client.half_close();
    assert_eq!(client.until_closed(), End::Cut, "the end is passed on");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let upstream =
        Upstream::answering("HTTP/1.1 426 Upgrade Required\r\nupgrade: other\r\ncontent-length: 2\r\n\r\nno");
    let fender = to(&upstream);
    let answer = fender.client().request("GET", "/", "upgrade: websocket\r\nconnection: upgrade\r\n", b"");
    assert_eq!((answer.status(), answer.text().as_str()), (426, "no"));
}

#[test]
fn routes_choose_by_host_length_and_method() {
    let (short, long, hosted) = (Upstream::ok("short"), Upstream::ok("long"), Upstream::ok("hosted"));
    let fender = Fender::start(format!(
        "[upstream.short]\nurl = \"{}\"\nroute = \"/a\"\n[upstream.long]\nurl = \"{}\"\n[upstream.hosted]\nurl = \"{}\"\n\
         [[route]]\npath = \"/a/b\"\nmethods = [\"GET\"]\nupstream = \"long\"\n\
         [[route]]\npath = \"/\"\nhost = \"special.test\"\nupstream = \"hosted\"\n",
        short.url(),
        long.url(),
        hosted.url()
    ));
    assert_eq!(fender.get("/a/b/c").text(), "long");
    assert_eq!(fender.get("/a/bc").text(), "short");
    assert_eq!(fender.post("/a/b/c", "", b"x").text(), "short");
    let (answer, _) = fender.raw("GET /a/b HTTP/1.1\r\nhost: SPECIAL.test:80\r\n\r\n");
    assert_eq!(answer.text(), "hosted");
}

#[test]
fn a_target_may_be_absolute() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/api\"", upstream.url()));
    let (answer, _) = fender.raw("GET http://other.test/api/a/../b?c HTTP/1.1\r\nhost: app.test\r\n\r\n");
    assert_eq!(answer.status(), 200);
    let received = upstream.request(1);
    assert_eq!(received.head.target(), "/b?c");
    assert_eq!(
        received.field("x-forwarded-host").as_deref(),
        Some("other.test"),
        "the target beats the field"
    );
}

#[test]
fn no_tunnel_is_dug() {
    let upstream = Upstream::ok("ok");
    let fender = to(&upstream);
    let (answer, _) = fender.raw("CONNECT internal.test:22 HTTP/1.1\r\nhost: internal.test:22\r\n\r\n");
    assert!((400..502).contains(&answer.status()), "{:?}", answer.head);
    assert!(upstream.requests().is_empty());
}
