//! HTTP/2 on either side, and TLS with what it settles.

use http::{HeaderMap, HeaderValue};

use crate::support::{Authority, Client, Fender, H2Client, H2End, Protocol, Service, Setup, Upstream};

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-check".parse().unwrap(), HeaderValue::from_static("7"))])
}

fn upstream_over_http2(service: &Service) -> String {
    format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\nhttp = \"2\"", service.url())
}

#[test]
fn a_client_with_prior_knowledge_reaches_an_http1_upstream() {
    let upstream = Upstream::ok("hello");
    let fender = Fender::start(upstream.as_api(""));
    let mut client = H2Client::connect(fender.server());
    for number in 1..=3 {
        let answer = client.get("/a?b");
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_slice(), answer.end),
            (200, &b"hello"[..], H2End::Clean)
        );
        assert!(!answer.field("fender-request-id").is_empty());
        let received = upstream.request(number);
        assert_eq!(received.head.line, "GET /a?b HTTP/1.1");
        assert_eq!(received.field("x-forwarded-host").as_deref(), Some("app.test"));
        assert!(received.field("via").is_some_and(|via| via.starts_with("2 ") || via.starts_with("2.0 ")));
    }
}

#[test]
fn an_http1_client_reaches_an_http2_upstream() {
    let service = Service::start(Protocol::Http2);
    let fender = Fender::start(upstream_over_http2(&service));
    let answer = fender.post("/echo", "x-hop: 1\r\nconnection: x-hop\r\n", b"hello");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    let received = &service.requests()[0];
    assert_eq!(received.version, http::Version::HTTP_2);
    assert!(!received.headers.contains_key("x-hop") && !received.headers.contains_key("connection"));
}

#[test]
fn a_call_with_trailers_passes_over_http2_on_both_sides() {
    let service = Service::start(Protocol::Http2);
    let fender = Setup::new(upstream_over_http2(&service)).server("workers = 1").start();
    let mut client = H2Client::connect(fender.server());
    let echoed = client.post("/echo", b"message", Some(trailers()));
    assert_eq!(echoed.body, b"message");
    assert_eq!(echoed.trailers["x-check"], "7");
    let answer = client.post("/grpc", b"message", None);
    assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, &b"message"[..]));
    assert_eq!(answer.field("content-type"), "application/grpc");
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(answer.trailers["grpc-message"], "fine");
    assert_eq!(answer.end, H2End::Clean);
    assert!(
        service
            .requests()
            .iter()
            .all(|received| received.headers.get("te").is_some_and(|te| te == "trailers"))
    );
    assert_eq!(service.connections(), 1, "streams share a connection");
}

#[test]
fn an_upstream_that_does_not_speak_http2_is_502_protocol() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api("http = \"2\""));
    fender.get("/").is_problem(502, "protocol");
}

#[test]
fn fenders_own_answers_are_the_same_over_http2() {
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/api\"", Upstream::nobody()));
    let mut client = H2Client::connect(fender.server());
    for (path, status, reason) in [("/other", 404, "no_route"), ("/api", 502, "connect")] {
        let answer = client.get(path);
        assert_eq!((answer.status.as_u16(), answer.field("fender-reason").as_str()), (status, reason));
        assert_eq!(answer.field("content-type"), "application/problem+json");
    }
}

#[test]
fn tls_inbound_speaks_what_alpn_settles() {
    let authority = Authority::new();
    let own = authority.sign("localhost");
    let upstream = Upstream::ok("hello");
    let fender = Setup::new(upstream.as_api(""))
        .server(&format!("[server.tls]\ncert_file = {:?}\nkey_file = {:?}", own.certificate, own.key))
        .start();
    let mut two =
        H2Client::connect_tls(fender.server(), "localhost", authority.client(None, &["h2"])).unwrap();
    assert_eq!(two.get("/").body, b"hello");
    let mut one = Client::connect_tls(fender.server(), "localhost", authority.client(None, &["http/1.1"]));
    assert_eq!(one.request("GET", "/", "", b"").text(), "hello");
    assert_eq!(upstream.request(1).field("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn client_certificates_are_asked_for_where_configured() {
    let authority = Authority::new();
    let (own, friend) = (authority.sign("localhost"), authority.sign("friend.test"));
    let stranger = Authority::new().sign("stranger.test");
    let upstream = Upstream::ok("hello");
    let tls = format!(
        "[server.tls]\ncert_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}",
        own.certificate,
        own.key,
        authority.certificate()
    );
    let fender = Setup::new(upstream.as_api("")).server(&tls).start();
    let mut known = Client::connect_tls(fender.server(), "localhost", authority.client(Some(&friend), &[]));
    assert_eq!(known.request("GET", "/", "", b"").text(), "hello");
    drop(stranger);
    let mut unknown = Client::connect_tls(fender.server(), "localhost", authority.client(None, &[]));
    unknown.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(unknown.try_response("GET").is_none());
    assert_eq!(upstream.requests().len(), 1);
}

fn over_tls(service: &Service, lines: &str) -> String {
    format!(
        "[upstream.api]\nurl = \"https://localhost:{}\"\nroute = \"/\"\n{lines}",
        service.address().port()
    )
}

#[test]
fn tls_outbound_trusts_its_own_authority_and_takes_http2_where_offered() {
    let authority = Authority::new();
    let own = authority.sign("localhost");
    let service = Service::start(Protocol::Tls(authority.server(&own, &["h2", "http/1.1"], false)));
    let trust = format!("[upstream.api.tls]\nca_file = {:?}", authority.certificate());
    let fender = Fender::start(over_tls(&service, &trust));
    assert_eq!(fender.post("/echo", "", b"hello").text(), "hello");
    assert_eq!(service.requests()[0].version, http::Version::HTTP_2);
    let fender = Fender::start(over_tls(&service, &format!("http = \"1\"\n{trust}")));
    assert_eq!(fender.get("/").text(), "ok");
    assert_eq!(service.requests()[1].version, http::Version::HTTP_11);
}

#[test]
fn tls_outbound_refuses_an_authority_that_it_does_not_trust() {
    let authority = Authority::new();
    let own = authority.sign("localhost");
    let service = Service::start(Protocol::Tls(authority.server(&own, &[], false)));
    Fender::start(over_tls(&service, "")).get("/").is_problem(502, "tls");
    let trust =
        format!("[upstream.api.tls]\nca_file = {:?}\nserver_name = \"other.test\"", authority.certificate());
    Fender::start(over_tls(&service, &trust)).get("/").is_problem(502, "tls");
    assert!(service.requests().is_empty());
}

#[test]
fn tls_outbound_shows_its_certificate() {
    let authority = Authority::new();
    let (own, client) = (authority.sign("localhost"), authority.sign("fender.test"));
    let service = Service::start(Protocol::Tls(authority.server(&own, &["http/1.1"], true)));
    let trust = format!("[upstream.api.tls]\nca_file = {:?}\n", authority.certificate());
    let shown = format!("client_cert_file = {:?}\nclient_key_file = {:?}", client.certificate, client.key);
    assert_eq!(Fender::start(over_tls(&service, &format!("{trust}{shown}"))).get("/").text(), "ok");
    let alone = "[upstream.api.breaker]\nenabled = false\n[upstream.api.retry]\nmax_attempts = 1";
    let fender = Fender::start(over_tls(&service, &format!("{trust}{alone}")));
    for number in 0..20 {
        let refused = if number % 2 == 0 { fender.get("/") } else { fender.post("/", "", b"body") };
        refused.is_problem(502, "tls");
    }
}

#[test]
fn an_event_reaches_an_http2_client_before_the_next_is_written() {
    let (upstream, arrived) = Upstream::events();
    let fender = Fender::start(upstream.as_api(""));
    let mut client = H2Client::connect(fender.server());
    let mut next = client.stream("/");
    for number in 0..3 {
        assert_eq!(next().unwrap(), format!("data: {number}\n\n").into_bytes());
        arrived.send(()).unwrap();
    }
    assert_eq!(next().unwrap_or_default().len(), 0);
}

#[test]
fn the_limits_of_a_body_hold_over_http2_too() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("max_request_body = \"1KiB\"").start();
    let mut client = H2Client::connect(fender.server());
    let refused = client.post("/", &[b'x'; 1025], None);
    assert_eq!((refused.status.as_u16(), refused.field("fender-reason").as_str()), (413, "body_too_large"));
    let passed = client.post("/", &[b'x'; 1024], None);
    assert_eq!(passed.status.as_u16(), 200, "the connection goes on: {:?}", passed.headers);
    assert_eq!(upstream.whole().len(), 1);
}
