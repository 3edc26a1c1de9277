//! SIGTERM: unready at once, serving on, gone when quiet, and at the latest at the timeout.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::frames::{
    ACK, ASK, DATA, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, WHOLE, frame,
};
use crate::support::{Client, End, Fender, PATIENCE, Setup, Upstream, eventually};

fn draining(upstream: &Upstream, lines: &str) -> Fender {
    Setup::new(upstream.as_api("")).server(lines).start()
}

fn unready(fender: &Fender) {
    eventually("unready", || fender.admin_get("/health/ready").status() == 503);
}

#[test]
fn it_serves_while_it_drains_and_ends_when_quiet() {
    let upstream = Upstream::ok("ok");
    let fender = draining(&upstream, "drain_quiet = \"700ms\"\ndrain_timeout = \"20s\"");
    let mut kept = fender.client();
    assert_eq!(kept.request("GET", "/", "", b"").head.field("connection"), None);
    assert_eq!(fender.admin_get("/health/ready").status(), 200);

    let start = Instant::now();
    fender.sigterm();
    unready(&fender);
    assert_eq!(fender.admin_get("/health/live").status(), 200);
    let last = kept.request("GET", "/", "", b"");
    assert_eq!((last.status(), last.field("connection").as_str()), (200, "close"));
    assert_eq!(kept.until_closed(), End::Cut);
    assert_eq!(fender.get("/").status(), 200, "a new connection is served too");
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(700));
}

#[test]
fn it_waits_for_what_is_in_flight() {
    let (answer_now, wait) = sync_channel(1);
    let wait = Mutex::new(wait);
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let fender = draining(&upstream, "drain_quiet = \"100ms\"\ndrain_timeout = \"20s\"");
    let mut client = fender.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    upstream.request(1);
    fender.sigterm();
    unready(&fender);
    thread::sleep(Duration::from_millis(400));
    assert!(fender.running(), "it left a request behind");
    answer_now.send(()).unwrap();
    let answer = client.response("POST");
    assert_eq!((answer.text().as_str(), answer.end), ("ok", End::Clean));
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn streams_are_cut_visibly_at_the_timeout() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        connection.until_closed();
    });
    let fender = draining(&upstream, "drain_quiet = \"100ms\"\ndrain_timeout = \"800ms\"");
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status(), 200);
    assert_eq!(client.chunk().unwrap(), b"half");
    let start = Instant::now();
    fender.sigterm();
    assert_eq!(client.chunk(), None, "a cut, not a last chunk");
    assert!(start.elapsed() >= Duration::from_millis(750), "after {:?}", start.elapsed());
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn it_stays_for_the_least_time() {
    let upstream = Upstream::ok("ok");
    let fender = draining(&upstream, "drain_quiet = \"0s\"\ndrain_min = \"800ms\"");
    let start = Instant::now();
    fender.sigterm();
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(800));
}

#[test]
fn load_during_a_drain_loses_no_request() {
    let upstream = Upstream::ok("ok");
    let fender = draining(&upstream, "drain_quiet = \"500ms\"\ndrain_timeout = \"20s\"");
    let address = fender.server();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..200 {
                    let answer = client.request("POST", "/", "", b"x");
                    assert_eq!(answer.status(), 200);
                    if answer.field("connection").eq_ignore_ascii_case("close") {
                        client = Client::connect(address);
                    }
                }
            })
        })
        .collect();
    upstream.request(50);
    fender.sigterm();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(upstream.requests().len(), 1600);
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_storm_of_new_connections_during_a_drain_loses_none() {
    let upstream = Upstream::ok("ok");
    let fender = draining(&upstream, "drain_quiet = \"700ms\"\ndrain_timeout = \"20s\"");
    let address = fender.server();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..100 {
                    let answer = Client::connect(address).request("POST", "/", "", b"x");
                    assert_eq!((answer.status(), answer.end), (200, End::Clean));
                }
            })
        })
        .collect();
    upstream.request(50);
    fender.sigterm();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(upstream.requests().len(), 1600);
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
}

/// It never becomes quiet: at the timeout it ends all the same, and no client takes a part of an answer for the whole.
#[test]
fn a_storm_that_does_not_end_is_cut_at_the_timeout() {
    let upstream = Upstream::ok("an answer of some length");
    let fender = draining(&upstream, "drain_quiet = \"300ms\"\ndrain_timeout = \"1500ms\"");
    let address = fender.server();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut whole = 0;
                while let Some(mut client) = Client::try_connect(address) {
                    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                    match client.try_response("GET") {
                        Some(answer) if answer.end == End::Clean => {
                            assert_eq!(
                                (answer.status(), answer.text().as_str()),
                                (200, "an answer of some length")
                            );
                            whole += 1;
                        }
                        // Cut, and seen to be.
                        Some(_) | None => {}
                    }
                }
                whole
            })
        })
        .collect();
    upstream.request(50);
    let start = Instant::now();
    fender.sigterm();
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(5), "{took:?}");
    let whole: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(whole > 50, "{whole}");
}

#[test]
fn an_http2_client_is_told_to_leave_and_loses_no_stream() {
    let (answer_now, wait) = sync_channel(8);
    let wait = Mutex::new(wait);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let fender = draining(&upstream, "drain_quiet = \"300ms\"\ndrain_timeout = \"20s\"\nworkers = 1");
    let mut client = fender.client();
    client.send([PREFACE, SETTINGS, &frame(HEADERS, WHOLE, 1, ASK)].concat());
    upstream.request(1);
    fender.sigterm();
    let last = |payload: &[u8]| u32::from_be_bytes(payload[..4].try_into().unwrap());
    let first = client.frame_of(GOAWAY).expect("it is told to leave");
    assert_eq!((last(&first.payload), &first.payload[4..8]), (0x7fff_ffff, &[0; 4][..]));
    // Two that were on their way while the GOAWAY was: they are served.
    for stream in [3, 5] {
        client.send(frame(HEADERS, WHOLE, stream, ASK));
    }
    let ping = client.frame_of(PING).expect("it asks whether its word has come");
    upstream.request(3);
    client.send(frame(PING, ACK, 0, &ping.payload));
    let second = client.frame_of(GOAWAY).expect("it tells the last stream");
    assert_eq!((last(&second.payload), &second.payload[4..8]), (5, &[0; 4][..]));
    for _ in 0..3 {
        answer_now.send(()).unwrap();
    }
    let (mut heads, mut ends) = (Vec::new(), Vec::new());
    while let Some(frame) = client.frame() {
        match frame.kind {
            HEADERS => heads.push((frame.stream, frame.payload[0])),
            DATA if frame.flags & END_STREAM != 0 => ends.push(frame.stream),
            _ => {}
        }
    }
    heads.sort_unstable();
    ends.sort_unstable();
    assert_eq!(heads, [(1, 0x88), (3, 0x88), (5, 0x88)], "each is answered with 200");
    assert_eq!(ends, [1, 3, 5], "and its body ends");
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn what_a_slow_reader_has_still_to_take_is_waited_for() {
    // Somewhere among these the system's buffers are full and the rest waits in Fender, whose upstream is done.
    for kib in [2600, 2750, 2900, 3050] {
        let body = "x".repeat(kib * 1024);
        let upstream = Upstream::ok(&body);
        let fender = draining(&upstream, "drain_quiet = \"200ms\"\ndrain_timeout = \"20s\"");
        let mut client = Client::connect_narrow(fender.server());
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        upstream.request(1);
        thread::sleep(Duration::from_millis(300));
        fender.sigterm();
        thread::sleep(Duration::from_millis(700));
        let answer = client.response("GET");
        assert_eq!((answer.body.len(), answer.end), (body.len(), End::Clean));
        assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    }
}
