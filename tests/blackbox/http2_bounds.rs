//! What an HTTP/2 client may cost: hostile frames, endless ones, and none at all.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use crate::support::frames::{
    ASK, CONTINUATION, DATA, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, SETTINGS_KIND, WHOLE,
    frame,
};
use crate::support::{Fender, H2Client, Setup, Upstream};

#[test]
fn hostile_frames_end_their_connection_and_nothing_else() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let garbage = [0xff; 4096];
    let unknown_index = frame(HEADERS, WHOLE, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let on_stream_zero = frame(DATA, 0, 0, b"data");
    let settings_of_one_byte = frame(SETTINGS_KIND, 0, 0, &[1]);
    for bytes in [&garbage[..], &unknown_index, &on_stream_zero, &settings_of_one_byte] {
        let mut client = fender.client();
        client.send([PREFACE, SETTINGS, bytes].concat());
        client.until_closed();
    }
    assert_eq!(H2Client::connect(fender.server()).get("/").body, b"ok");
    assert!(upstream.requests().len() == 1 && !fender.log().contains("panicked"));
}

#[test]
fn headers_that_never_end_are_cut_off() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let before = fender.rss_kib();
    let mut client = fender.client();
    client.send([PREFACE, SETTINGS, &frame(HEADERS, 0, 1, &[0x82, 0x84, 0x86])].concat());
    // A literal field of 8 KiB, neither indexed nor compressed, over and over.
    let field = [&[0, 1, b'x', 0x7f, 0x81, 0x3f][..], &[b'y'; 8192]].concat();
    let more = frame(CONTINUATION, 0, 1, &field);
    let sent = (0..20_000).take_while(|_| client.send(&more)).count();
    assert!(sent < 20_000, "it takes headers without end");
    assert!(fender.rss_kib() < before + 8 * 1024, "it keeps them");
    assert_eq!(fender.get("/").status(), 200);
}

#[test]
fn streams_opened_and_reset_at_once_do_not_reach_an_upstream_without_end() {
    let upstream = Upstream::scripted(|connection| while connection.request().is_some() {});
    let fender = Fender::start(upstream.as_api(""));
    let before = fender.rss_kib();
    let mut client = fender.client();
    client.send([PREFACE, SETTINGS].concat());
    for stream in (1..40_000).step_by(2) {
        if !client
            .send([frame(HEADERS, WHOLE, stream, ASK), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
        {
            break;
        }
    }
    drop(client);
    assert!(fender.rss_kib() < before + 32 * 1024, "from {before} to {} KiB", fender.rss_kib());
    crate::support::eventually("nothing is left in flight", || fender.metric("fender_in_flight", &[]) == 0.0);
    assert_eq!(fender.admin_get("/health/live").status(), 200);
}

#[test]
fn a_head_that_is_too_large_is_431_over_http2_too() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let mut client = H2Client::connect(fender.server());
    let fields = |count: usize, length: usize| -> HeaderMap {
        let field = |number| {
            (format!("x-{number}").parse().unwrap(), HeaderValue::try_from("v".repeat(length)).unwrap())
        };
        (0..count).map(field).collect()
    };
    // The authority is a field too, as Host is.
    for (count, length, status) in
        [(99, 1, 200), (100, 1, 431), (64, 1000, 200), (64, 1024, 431), (2, 40_000, 431)]
    {
        let answer = client.get_with("/", fields(count, length));
        assert_eq!(answer.status.as_u16(), status, "{count} fields of {length}");
        if status == 431 {
            assert_eq!(answer.field("fender-reason"), "headers_too_large", "{count} fields of {length}");
            assert_eq!(answer.field("content-type"), "application/problem+json");
        }
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_cookie_in_many_crumbs_is_one_field() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let crumbs: HeaderMap = (0..150)
        .map(|number| (http::header::COOKIE, HeaderValue::try_from(format!("c{number}=1")).unwrap()))
        .collect();
    assert_eq!(H2Client::connect(fender.server()).get_with("/", crumbs).status.as_u16(), 200);
    assert_eq!(upstream.request(1).field("cookie").unwrap().matches("=1").count(), 150);
}

#[test]
fn a_header_block_that_is_not_finished_in_time_ends_its_connection() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("header_timeout = \"600ms\"").start();
    let open = frame(HEADERS, 0, 1, ASK);
    let half = &frame(HEADERS, WHOLE, 1, ASK)[..11];
    for begun in [&open[..], half] {
        let mut client = fender.client();
        client.send([PREFACE, SETTINGS, begun].concat());
        let start = Instant::now();
        client.until_closed();
        let took = start.elapsed();
        assert!((Duration::from_millis(550)..Duration::from_secs(3)).contains(&took), "{took:?}");
    }
    let mut rests = fender.client();
    rests.send([PREFACE, SETTINGS].concat());
    std::thread::sleep(Duration::from_millis(1200));
    rests.send(
        [frame(HEADERS, 0, 1, ASK), frame(CONTINUATION, 4, 1, &[]), frame(DATA, END_STREAM, 1, b"")].concat(),
    );
    assert!(rests.frame_of(HEADERS).is_some(), "a connection may rest, and a block may come in pieces");
}

#[test]
fn a_client_that_never_says_hello_is_cut_off() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("header_timeout = \"600ms\"").start();
    let mut client = fender.client();
    client.send(PREFACE);
    let start = Instant::now();
    client.until_closed();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn frames_that_ask_for_answers_which_nobody_reads_are_not_taken_without_end() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS_KIND, 0, 0, &[0, 3, 0, 0, 0, 9])] {
        let before = fender.rss_kib();
        let mut client = fender.client();
        client.send([PREFACE, SETTINGS].concat());
        client.sender().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let many = flood.repeat(10_000);
        let sent = (0..1000).take_while(|_| client.send(&many)).count();
        assert!(sent < 1000, "it takes them without end");
        assert!(fender.rss_kib() < before + 4 * 1024, "from {before} to {} KiB", fender.rss_kib());
        assert_eq!(fender.get("/").status(), 200);
    }
}

#[test]
fn a_client_with_great_windows_that_reads_nothing_is_not_hoarded_for() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while connection.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000))) {}
    });
    let fender = Setup::new(upstream.as_api("")).server("workers = 1").start();
    fender.admin_get("/metrics");
    let before = fender.rss_kib();
    let mut client = fender.client();
    // A window of 2^31 - 1 for each stream, and for the connection.
    client.send([PREFACE, &frame(SETTINGS_KIND, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])].concat());
    client.send(frame(8, 0, 0, &[0x7f, 0xfe, 0, 0]));
    for stream in (1..400).step_by(2) {
        client.send(frame(HEADERS, WHOLE, stream, ASK));
    }
    upstream.request(200);
    std::thread::sleep(Duration::from_secs(2));
    let most = fender.rss_kib();
    assert!(most < before + 80 * 1024, "from {before} to {most} KiB");
}
