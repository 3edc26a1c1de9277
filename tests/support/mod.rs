//! What the black-box tests are written with: the binary as a child, upstreams that do what they are told, byte by
//! byte or well behaved, and clients that notice how an answer ended. Every wait has a bound.

mod client;
mod fender;
pub(crate) mod frames;
mod h2;
mod service;
mod tls;
pub(crate) mod turns;
mod upstream;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Response};
pub(crate) use fender::{Fender, Setup, binary, check};
pub(crate) use h2::{H2Client, H2End};
pub(crate) use service::{Protocol, Service};
pub(crate) use tls::Authority;
pub(crate) use upstream::{Connection, Received, Upstream};
pub(crate) use wire::End;

/// The bound of every wait for something that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again until it holds. Only for what announces itself in no other way, such as a gauge.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A harness that cannot tell a cut from an end proves nothing.
mod the_harness {
    use super::{Client, End, H2Client, H2End, Protocol, Service, Upstream};

    fn ended(bytes: &'static str, abrupt: bool) -> End {
        let upstream = Upstream::scripted(move |connection| {
            connection.request();
            connection.send(bytes);
            if abrupt {
                std::thread::sleep(std::time::Duration::from_millis(100));
                connection.reset();
            }
        });
        Client::connect(upstream.address()).request("GET", "/", "", b"").end
    }

    #[test]
    fn tells_a_cut_and_a_reset_from_an_end() {
        let (sized, chunked) = (
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        let with =
            |head: &str, rest: &str| -> &'static str { Box::leak(format!("{head}{rest}").into_boxed_str()) };
        assert_eq!(ended(with(sized, "full"), false), End::Clean);
        assert_eq!(ended(with(sized, "cut"), false), End::Cut);
        assert_eq!(ended(with(sized, "cut"), true), End::Reset);
        assert_eq!(ended(with(chunked, "1\r\na\r\n0\r\n\r\n"), false), End::Clean);
        assert_eq!(ended(with(chunked, "1\r\na\r\n0\r\n"), false), End::Cut);
        assert_eq!(ended(with(chunked, "1\r\na\r\n"), true), End::Reset);
    }

    #[test]
    fn records_what_a_client_sent() {
        let upstream = Upstream::ok("fine");
        let mut client = Client::connect(upstream.address());
        let answer = client.request("POST", "/a?b", "x: 1\r\nX: 2\r\n", b"hello");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "fine"));
        let received = upstream.request(1);
        assert_eq!((received.head.target(), received.text().as_str()), ("/a?b", "hello"));
        assert_eq!(received.field("x").as_deref(), Some("1, 2"));
        assert_eq!(upstream.connections(), 1);
    }

    #[test]
    fn serves_what_a_path_asks_for() {
        let service = Service::start(Protocol::Http1);
        let mut client = Client::connect(service.address());
        assert_eq!(client.request("GET", "/bytes/200000", "", b"").body.len(), 200_000);
        assert_eq!(client.request("POST", "/echo", "", b"hello").text(), "hello");
        assert_ne!(client.request("GET", "/cut", "", b"").end, End::Clean);

        let mut client = H2Client::connect(Service::start(Protocol::Http2).address());
        assert_eq!(client.post("/grpc", b"hello", None).trailers["grpc-status"], "0");
        assert_eq!(client.get("/cut").end, H2End::Reset);
    }
}

/// The names of the files in a folder that hold these bytes.
pub(crate) fn files_that_hold(folder: &std::path::Path, bytes: &[u8]) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    // One that is gone meanwhile holds nothing.
    let holds = |path: &std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|text| memchr::memmem::find(&text, bytes).is_some())
    };
    files.filter(holds).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}
