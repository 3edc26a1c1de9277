//! Upstreams that speak HTTP/2 frame by frame, and end streams and connections as the protocol allows.

use std::sync::mpsc::sync_channel;

use crate::support::frames::{
    ACK, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, SETTINGS_KIND, WHOLE, frame,
};
use crate::support::{Connection, Fender, PATIENCE, Protocol, Service, Setup, Upstream, eventually};

const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const NO_ERROR: [u8; 4] = [0; 4];

/// What is answered to a request that has come whole.
enum Answer {
    Ok,
    Refuse,
    /// A GOAWAY that names this as the last stream; then the connection closes, or waits for the other side to.
    Leave {
        last: u32,
        closes: bool,
    },
    /// A 200, and the connection closes behind it.
    OkAndClose,
    Close,
}

/// Speaks HTTP/2 and answers each whole request, told the numbers of its connection and of its stream.
fn upstream(answer: impl Fn(usize, u32) -> Answer + Send + Sync + 'static) -> Upstream {
    Upstream::scripted(move |connection| {
        assert_eq!(connection.exactly(PREFACE.len()).unwrap(), PREFACE);
        connection.send(SETTINGS);
        while let Some(stream) = next_request(connection) {
            let head = Default::default();
            connection.remember_head(head);
            let ok = frame(HEADERS, WHOLE, stream, &[0x88]); // :status 200
            match answer(connection.number, stream) {
                Answer::Ok => {
                    connection.send(ok);
                }
                Answer::OkAndClose => {
                    connection.send(ok);
                    return connection.close();
                }
                Answer::Refuse => {
                    connection.send(frame(RST_STREAM, 0, stream, &REFUSED_STREAM));
                }
                Answer::Leave { last, closes } => {
                    connection.send(frame(GOAWAY, 0, 0, &[last.to_be_bytes(), NO_ERROR].concat()));
                    if !closes {
                        connection.until_closed();
                    }
                    return;
                }
                Answer::Close => return connection.close(),
            }
        }
    })
}

/// Answers the second request of a connection after two seconds, the others at once.
pub(super) fn answering_at(address: &str) -> Upstream {
    Upstream::scripted_at(address, |connection| {
        assert_eq!(connection.exactly(PREFACE.len()).unwrap(), PREFACE);
        connection.send(SETTINGS);
        while let Some(stream) = next_request(connection) {
            connection.remember_head(Default::default());
            if stream == 3 {
                std::thread::sleep(std::time::Duration::from_secs(2));
            }
            connection.send(frame(HEADERS, WHOLE, stream, &[0x88]));
        }
    })
}

/// Reads on until a stream's request has ended; none at the end of the connection.
fn next_request(connection: &mut Connection) -> Option<u32> {
    loop {
        let came = connection.frame()?;
        if came.kind == SETTINGS_KIND && came.flags & ACK == 0 {
            connection.send(frame(SETTINGS_KIND, ACK, 0, &[]));
        }
        if came.stream != 0 && came.kind <= HEADERS && came.flags & END_STREAM != 0 {
            return Some(came.stream);
        }
    }
}

fn before(upstream: &Upstream) -> Fender {
    Setup::new(upstream.as_api("http = \"2\"")).server("workers = 1").start()
}

fn stale(fender: &Fender) -> f64 {
    fender.metric("fender_stale_connections_total", &[])
}

#[test]
fn a_refused_stream_is_tried_again_on_its_connection_which_is_sound() {
    let upstream = upstream(|_, stream| if stream == 3 { Answer::Refuse } else { Answer::Ok });
    let fender = before(&upstream);
    assert_eq!(fender.get("/").status(), 200);
    // Refused is not acted on: even a POST goes once more.
    let answer = fender.post("/", "", b"");
    assert_eq!((answer.status(), answer.field("fender-attempts").as_str()), (200, "2"));
    assert_eq!((upstream.requests().len(), upstream.connections(), stale(&fender)), (3, 1, 0.0));
}

#[test]
fn a_stream_above_the_last_one_of_a_goaway_is_sent_over_a_fresh_connection() {
    for closes in [true, false] {
        for method in ["GET", "POST"] {
            let upstream = upstream(move |connection, stream| match (connection, stream) {
                (1, 3) => Answer::Leave { last: 1, closes },
                _ => Answer::Ok,
            });
            let fender = before(&upstream);
            assert_eq!(fender.get("/").status(), 200);
            let answer = fender.client().request(method, "/", "", b"");
            assert_eq!(answer.status(), 200, "{method}, closes: {closes}: {}", answer.text());
            assert_eq!(
                (upstream.requests().len(), upstream.connections()),
                (3, 2),
                "{method}, closes: {closes}"
            );
            assert_eq!(stale(&fender), 1.0);
        }
    }
}

#[test]
fn a_post_that_a_goaway_counts_in_is_not_sent_again() {
    let upstream = upstream(|connection, stream| match (connection, stream) {
        (1, 3) => Answer::Leave { last: 3, closes: true },
        _ => Answer::Ok,
    });
    let fender = before(&upstream);
    assert_eq!(fender.get("/").status(), 200);
    fender.post("/", "", b"x").is_problem(502, "reset");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_shared_connection_that_closed_meanwhile_costs_nothing() {
    let (closed, wait) = sync_channel(8);
    let upstream = upstream(move |_, _| {
        closed.send(()).ok();
        Answer::OkAndClose
    });
    let fender = before(&upstream);
    for number in 1..=4 {
        assert_eq!(fender.get("/").status(), 200, "request {number}");
        wait.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (4, 4));
}

#[test]
fn a_get_on_a_shared_connection_that_closes_under_it_is_sent_once_more() {
    let upstream = upstream(|connection, stream| match (connection, stream) {
        (1, 3) => Answer::Close,
        _ => Answer::Ok,
    });
    let fender = before(&upstream);
    assert_eq!(fender.get("/").status(), 200);
    assert_eq!(fender.get("/").status(), 200);
    assert_eq!((upstream.requests().len(), upstream.connections()), (3, 2));
    eventually("it is counted", || stale(&fender) == 1.0);
}

#[test]
fn a_post_on_a_shared_connection_that_closes_under_it_is_not() {
    let upstream = upstream(|connection, stream| match (connection, stream) {
        (1, 3) => Answer::Close,
        _ => Answer::Ok,
    });
    let fender = before(&upstream);
    assert_eq!(fender.get("/").status(), 200);
    fender.post("/", "", b"x").is_problem(502, "reset");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn a_host_that_the_config_sets_is_the_authority() {
    let service = Service::start(Protocol::Http2);
    let set = "http = \"2\"\nheaders.set = { host = \"other.test:8443\" }";
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\n{set}", service.url()));
    assert_eq!(fender.get("/").status(), 200);
    let received = &service.requests()[0];
    assert_eq!(received.uri.authority().map(http::uri::Authority::as_str), Some("other.test:8443"));
    assert!(!received.headers.contains_key("host"));
}
