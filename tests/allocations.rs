//! What the policies cost in allocations: two upstreams in one process, one without any policy and one with all of them, and
//! a count of all that is allocated while each is asked. No clock is in it. A binary of its own, since it counts all.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what went wrong by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fender::app::App;
use fender::config::{self, watch::Watcher};
use fender::dialect::{Form, Head, Reader, builtin};
use fender::drain::Phase;
use fender::telemetry::logging::{Format, Logging};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A request through no policy allocates no more than this, without a body and with one: what is told of requests that fail costs
/// those that do well nothing.
const NONE_MAX: [f64; 2] = [22.0, 26.0];

/// A request through all policies may allocate so much more than one through none.
const MORE_MAX: f64 = 6.0;

const REQUESTS: u32 = 200;

/// An upstream that allocates nothing: it says once to wait for a millisecond, and is well from then on.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                let mut filled = 0;
                while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]) {
                    filled += count;
                    let text = &buffer[..filled];
                    let Some(end) = find(text, b"\r\n\r\n") else { continue };
                    let body = if text.starts_with(b"POST") { BODY } else { 0 };
                    if filled < end + 4 + body {
                        continue;
                    }
                    let answer: &[u8] = if find(text, b"/wait").is_some() {
                        b"HTTP/1.1 429 Slow\r\nretry-after-ms: 1\r\ncontent-length: 0\r\n\r\n"
                    } else {
                        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                    };
                    filled = 0;
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

const BODY: usize = 1024;

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// One request on a connection that stays; allocates nothing. True if the answer is 200.
fn ask(stream: &mut TcpStream, request: &[u8]) -> bool {
    stream.write_all(request).unwrap();
    let mut buffer = [0; 16 * 1024];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).unwrap();
        assert!(count > 0, "fender hung up");
        filled += count;
        let text = &buffer[..filled];
        let Some(end) = find(text, b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&text[..end]).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if filled >= end + 4 + length.unwrap().parse::<usize>().unwrap() {
            return head.starts_with("HTTP/1.1 200");
        }
    }
}

/// Allocations a request: the least of some rounds, since now and then the process does something of its own.
fn allocations(stream: &mut TcpStream, request: &[u8]) -> f64 {
    let round = |stream: &mut TcpStream| {
        let before = dhat::HeapStats::get().total_blocks;
        (0..REQUESTS).for_each(|_| assert!(ask(stream, request)));
        dhat::HeapStats::get().total_blocks - before
    };
    round(stream);
    let least = (0..5).map(|_| round(stream)).min().unwrap();
    f64::from(u32::try_from(least).unwrap()) / f64::from(REQUESTS)
}

/// One count at a time.
static COUNTING: Mutex<()> = Mutex::new(());

/// A small event of each kind of stream, in one piece and in two, and what a head says.
#[test]
fn an_event_and_a_head_are_judged_without_allocating() {
    let _alone = COUNTING.lock().unwrap();
    let _counting = dhat::Profiler::builder().testing().build();
    let event = b"data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" \\\"there\\\"\"},\"finish_reason\":null}]}\n\n";
    for name in builtin::names() {
        let dialect = builtin::dialect(name).unwrap();
        let mut reader = Reader::new(&dialect, Form::Sse);
        let mut round = || {
            reader.read(event, |_| {});
            reader.read(&event[..40], |_| {});
            reader.read(&event[40..], |_| {});
            let head = Head { status: 200, field: &|_| None, unix_now: Duration::ZERO };
            std::hint::black_box(dialect.of_head(&head));
        };
        round(); // What an event's pieces are kept in is taken once.
        let before = dhat::HeapStats::get().total_blocks;
        (0..REQUESTS).for_each(|_| round());
        assert_eq!(dhat::HeapStats::get().total_blocks, before, "{name}");
    }
}

#[test]
fn all_policies_together_allocate_a_handful_more_than_none() {
    each_allocates_no_more_than_it_may("");
}

/// A collector that nobody is sent to: what is not sampled allocates nothing for it.
#[test]
fn a_request_that_is_not_sampled_allocates_no_more_than_without_traces() {
    each_allocates_no_more_than_it_may("[trace]\notlp_endpoint = \"http://127.0.0.1:9\"\nsample = 0.0\n");
}

fn each_allocates_no_more_than_it_may(more: &str) {
    let _alone = COUNTING.lock().unwrap();
    let _counting = dhat::Profiler::builder().testing().build();
    let upstream = upstream();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\ndrain_quiet = \"0s\"\ndrain_timeout = \"1s\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstream.none]\nurl = \"http://{upstream}\"\nroute = \"/none\"\nbreaker = {{ enabled = false }}\n\
         retry = {{ max_attempts = 1 }}\nthrottle = {{ adapt = false }}\n\
         [upstream.all]\nurl = \"http://{upstream}\"\nroute = \"/all\"\nbreaker = {{ slow_call = \"10s\" }}\n\
         concurrency = {{ max = 16, adaptive = true }}\n\
         [[upstream.all.rate_limit]]\nrequests = 1000000\nper = \"1s\"\nkey = \"header:x-user\"\n{more}"
    );
    let loaded = config::load_text("allocations.toml", &text).unwrap();
    let logging = Arc::new(Logging::start(Format::Text, "error").unwrap());
    let app = App::new(loaded, PathBuf::from("allocations.toml"), Watcher::new([]), logging).unwrap();
    let (address, drain) = (app.server_addresses()[0], app.drain());
    let running = thread::spawn(move || app.run().map_err(|error| error.to_string()));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();

    // From now on the upstream has asked to wait once: each request looks whether a pause is on.
    assert!(!ask(
        &mut stream,
        b"GET /all/wait HTTP/1.1\r\nhost: a\r\nx-user: u\r\nfender-policy: no-retry\r\n\r\n"
    ));
    while !ask(&mut stream, b"GET /all HTTP/1.1\r\nhost: a\r\nx-user: u\r\n\r\n") {}

    let body = "x".repeat(BODY);
    for (none_max, (name, method, fields, body)) in NONE_MAX.into_iter().zip([
        ("GET", "GET", String::new(), ""),
        ("POST 1 KiB", "POST", format!("content-length: {BODY}\r\n"), &body),
    ]) {
        let mut of = |route: &str| {
            let request = format!("{method} /{route} HTTP/1.1\r\nhost: a\r\nx-user: u\r\n{fields}\r\n{body}")
                .into_bytes();
            allocations(&mut stream, &request)
        };
        let (none, all) = (of("none"), of("all"));
        eprintln!("{name}: {none} without policies, {all} with all of them");
        assert!(none <= none_max, "{name}: {none} without policies");
        assert!(all - none <= MORE_MAX, "{name}: {all} with all policies, {none} without");
    }
    drop(stream);
    drain.advance(Phase::Draining);
    running.join().unwrap().unwrap();
}
