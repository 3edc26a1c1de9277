//! Bodies that flow: nothing held back, nothing hoarded, and a cut that is seen as a cut.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use crate::support::{End, Fender, H2Client, H2End, PATIENCE, Protocol, Service, Upstream};

const MIB: usize = 1024 * 1024;

fn cut_after(bytes: &'static str, abrupt: bool) -> Upstream {
    Upstream::scripted(move |connection| {
        connection.request();
        connection.send(bytes);
        if abrupt {
            thread::sleep(Duration::from_millis(100)); // so that the bytes leave before the reset overtakes them
            connection.reset();
        }
    })
}

#[test]
fn a_cut_is_seen_as_a_cut() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\nand a",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n10\r\ndata: half\n\ndata\r\n",
    ] {
        for abrupt in [false, true] {
            let upstream = cut_after(bytes, abrupt);
            let fender = Fender::start(upstream.as_api(""));
            let answer = fender.get("/");
            assert_eq!(answer.status(), 200, "{bytes:?}");
            assert!(answer.text().contains("half"), "{bytes:?} gave {:?}", answer.text());
            assert_ne!(answer.end, End::Clean, "{bytes:?}, abrupt: {abrupt}");
        }
    }
}

#[test]
fn a_reset_that_ends_an_unframed_answer_is_no_clean_end() {
    let upstream = cut_after("HTTP/1.1 200 OK\r\n\r\nhalf", true);
    let fender = Fender::start(upstream.as_api(""));
    assert_ne!(fender.get("/").end, End::Clean);
}

#[test]
fn a_cut_is_a_reset_to_an_http2_client() {
    let upstream = cut_after("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false);
    let fender = Fender::start(upstream.as_api(""));
    let answer = H2Client::connect(fender.server()).get("/");
    assert_eq!((answer.status.as_u16(), answer.end), (200, H2End::Reset));
}

#[test]
fn a_cut_of_an_http2_upstream_is_seen_too() {
    let service = Service::start(Protocol::Http2);
    let fender =
        Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\nhttp = \"2\"", service.url()));
    let answer = fender.get("/cut");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "half"));
    assert_ne!(answer.end, End::Clean);
}

#[test]
fn an_event_arrives_before_the_next_is_written() {
    let (upstream, arrived) = Upstream::events();
    let fender = Fender::start(upstream.as_api(""));
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    for number in 0..3 {
        assert_eq!(client.chunk().unwrap(), format!("data: {number}\n\n").into_bytes());
        arrived.send(()).unwrap();
    }
    assert_eq!(client.chunk().unwrap(), b"", "and ends cleanly");
}

#[test]
fn a_request_body_arrives_as_it_is_sent() {
    let (arrived, wait) = sync_channel(1);
    let upstream = Upstream::scripted(move |connection| {
        let head = connection.head().unwrap();
        assert_eq!(connection.exactly(10).unwrap(), b"5\r\nfirst\r\n");
        arrived.send(()).unwrap();
        connection.body(head);
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let fender = Fender::start(upstream.as_api(""));
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    wait.recv_timeout(PATIENCE).expect("the first piece arrives before the second is sent");
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.response("POST").text(), "ok");
}

#[test]
fn an_answer_may_come_before_the_body_is_sent() {
    let upstream = Upstream::scripted(|connection| {
        if let Some(head) = connection.head() {
            connection.remember_head(head);
            connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            connection.until_closed();
        }
    });
    let fender = Fender::start(upstream.as_api(""));
    let (answer, _client) = fender.raw("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nhalf");
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
}

#[test]
fn a_client_that_hangs_up_cancels_its_request() {
    for begin in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let (ended, wait) = sync_channel(1);
        let upstream = Upstream::scripted(move |connection| {
            connection.request();
            connection.send(begin);
            connection.until_closed();
            ended.send(()).unwrap();
        });
        let fender = Fender::start(upstream.as_api(""));
        let mut client = fender.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        upstream.request(1);
        if !begin.is_empty() {
            client.head();
        }
        drop(client);
        wait.recv_timeout(PATIENCE).expect("the upstream's connection ends with the client's");
        crate::support::eventually("nothing is left in flight", || {
            fender.metric("fender_in_flight", &[]) == 0.0
        });
    }
}

#[test]
fn an_http2_client_that_resets_its_stream_cancels_its_request() {
    let (ended, wait) = sync_channel(1);
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        connection.until_closed();
        ended.send(()).ok();
    });
    let fender = Fender::start(upstream.as_api(""));
    let mut client = H2Client::connect(fender.server());
    client.start_and_drop("/");
    wait.recv_timeout(PATIENCE).expect("the upstream's connection ends with the stream");
}

#[test]
fn memory_stays_flat_while_eight_great_answers_stream() {
    let service = Service::start(Protocol::Http1);
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"", service.url()));
    fender.get("/");
    let before = fender.rss_kib();
    let streams: Vec<_> = (0..8)
        .map(|_| {
            let mut client = fender.client();
            thread::spawn(move || {
                client.send(format!("GET /bytes/{} HTTP/1.1\r\nhost: a\r\n\r\n", 50 * MIB));
                client.head();
                let mut left = 50 * MIB;
                while let Some(chunk) = client.chunk().filter(|chunk| !chunk.is_empty()) {
                    left -= chunk.len();
                }
                left
            })
        })
        .collect();
    let mut most = before;
    while streams.iter().any(|stream| !stream.is_finished()) {
        most = most.max(fender.rss_kib());
        thread::sleep(Duration::from_millis(20));
    }
    for stream in streams {
        assert_eq!(stream.join().unwrap(), 0, "bytes are missing");
    }
    assert!(most < before + 16 * 1024, "from {before} to {most} KiB");
}

#[test]
fn a_client_that_does_not_read_holds_its_upstream_back() {
    let service = Service::start(Protocol::Http1);
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"", service.url()));
    fender.get("/");
    let before = fender.rss_kib();
    let mut client = fender.client();
    client.send(format!("GET /bytes/{} HTTP/1.1\r\nhost: a\r\n\r\n", 200 * MIB));
    client.head();
    for _ in 0..20 {
        assert!(fender.rss_kib() < before + 8 * 1024, "it hoards what its client does not take");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_great_body_goes_up_and_comes_back() {
    let service = Service::start(Protocol::Http1);
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"", service.url()));
    let body: Vec<u8> = (0..=250).cycle().take(8 * MIB).collect();
    let mut client = fender.client();
    client.send(format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()));
    let mut sender = client.sender();
    let sent = body.clone();
    let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, &sent));
    let answer = client.response("POST");
    sending.join().unwrap().unwrap();
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
}

#[test]
fn an_upload_that_is_cut_never_arrives_whole() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for half in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ] {
        let mut client = fender.client();
        client.send(half);
        client.half_close();
        client.until_closed();
    }
    assert_eq!(fender.get("/").status(), 200);
    let whole: Vec<_> = upstream.whole().into_iter().map(|received| received.head.line).collect();
    assert_eq!(whole, ["GET / HTTP/1.1"]);
}

/// Answers without end.
fn endless() -> Upstream {
    Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while connection.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000))) {}
    })
}

#[test]
fn a_client_over_http2_that_takes_nothing_is_let_go() {
    let upstream = endless();
    let fender = Fender::start(upstream.as_api("timeout.idle = \"1s\""));
    let mut client = H2Client::connect(fender.server());
    let unread = client.unread("/");
    assert_eq!(unread.status(), 200);
    crate::support::eventually("it is let go", || {
        fender.metric("fender_in_flight", &[("upstream", "api")]) == 0.0
    });
    drop(unread);
}

#[test]
fn what_one_client_does_not_read_holds_up_no_other() {
    let service = Service::start(Protocol::Http2);
    let fender = crate::support::Setup::new(format!(
        "[upstream.api]\nurl = \"{}\"\nroute = \"/\"\nhttp = \"2\"",
        service.url()
    ))
    .server("workers = 1")
    .start();
    let mut clients: Vec<_> = (0..6).map(|_| H2Client::connect(fender.server())).collect();
    let unread: Vec<_> = clients.iter_mut().map(|client| client.unread("/bytes/50000000")).collect();
    assert!(unread.iter().all(|answer| answer.status() == 200));
    for _ in 0..4 {
        let answer = fender.get("/small");
        assert_eq!((answer.status(), answer.end), (200, End::Clean));
    }
}

#[test]
fn a_client_that_has_said_all_and_listens_on_gets_its_answer() {
    let upstream = Upstream::scripted(|connection| {
        while connection.request().is_some() {
            thread::sleep(Duration::from_millis(1500));
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha");
            thread::sleep(Duration::from_millis(300));
            connection.send("lf");
        }
    });
    let fender = Fender::start(upstream.as_api(""));
    for request in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let mut client = fender.client();
        client.send(request);
        client.half_close();
        let answer = client.response("GET");
        assert_eq!(
            (answer.status(), answer.text().as_str(), answer.end),
            (200, "half", End::Clean),
            "{request:?}"
        );
        assert_eq!(client.until_closed(), End::Cut);
    }
    let mut pipelined = fender.client();
    pipelined.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2));
    pipelined.half_close();
    for number in 1..=2 {
        let answer = pipelined.response("GET");
        assert_eq!((answer.text().as_str(), answer.end), ("half", End::Clean), "answer {number}");
    }
}
