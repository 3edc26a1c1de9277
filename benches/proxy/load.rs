//! The load: HTTP/1.1 by hand on kept connections, each asking again as soon as it is answered.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::subject::itself;

/// What one slice came to.
pub(crate) struct Figures {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) cpu: Option<f64>,
}

/// Loads from a process of its own.
pub(crate) fn spawn(target: SocketAddr, path: &str, connections: usize, slice: Duration) -> Figures {
    let arguments =
        ["load", &target.to_string(), path, &connections.to_string(), &slice.as_millis().to_string()];
    let output = itself(&arguments).stderr(Stdio::inherit()).output().expect("the load starts");
    assert!(output.status.success(), "a request failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [requests, per_second, p50, p99] = figures[..] else { panic!("not the four figures: {text:?}") };
    Figures { requests, per_second, p50, p99, cpu: None }
}

pub(crate) fn spawn_stream(target: SocketAddr, path: &str, connections: usize) -> Child {
    itself(&["stream", &target.to_string(), path, &connections.to_string()]).spawn().expect("the load starts")
}

/// The role: asks for a while, then prints requests, requests per second, p50 and p99 in microseconds.
pub(crate) fn run(target: SocketAddr, path: &str, connections: usize, slice: Duration) {
    let request = request(path);
    let start = Instant::now();
    let mut latencies: Vec<u32> = runtime().block_on(async {
        let tasks: Vec<_> =
            (0..connections).map(|_| tokio::spawn(ask(target, request.clone(), start + slice))).collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.expect("no request fails"));
        }
        all
    });
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    println!("{} {} {} {}", latencies.len(), latencies.len() as f64 / seconds, at(50), at(99));
}

/// The role: takes one great answer on each connection.
pub(crate) fn stream(target: SocketAddr, path: &str, connections: usize) {
    let request = request(path);
    runtime().block_on(async {
        let tasks: Vec<_> =
            (0..connections).map(|_| tokio::spawn(ask(target, request.clone(), Instant::now()))).collect();
        for task in tasks {
            task.await.expect("no stream falls short");
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// `GET path`, or a POST of so many bytes to `/post/BYTES`.
pub(crate) fn request(path: &str) -> Vec<u8> {
    match path.strip_prefix("/post/") {
        Some(bytes) => {
            let body = "x".repeat(bytes.parse().expect("a size"));
            format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {bytes}\r\n\r\n{body}")
                .into_bytes()
        }
        None => format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes(),
    }
}

/// At least one request, then more until the time is over; the latency of each in microseconds.
async fn ask(target: SocketAddr, request: Vec<u8>, until: Instant) -> Vec<u32> {
    let mut stream = TcpStream::connect(target).await.expect("the target accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut buffer = vec![0; 128 * 1024];
    let mut latencies = Vec::new();
    loop {
        let start = Instant::now();
        stream.write_all(&request).await.expect("the target takes a request");
        answer(&mut stream, &mut buffer).await;
        latencies.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
        if Instant::now() >= until {
            return latencies;
        }
    }
}

async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    let mut left = loop {
        let count = stream.read(&mut buffer[filled..]).await.expect("the target answers");
        assert!(count > 0, "the target hung up");
        filled += count;
        if let Some(head) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n") {
            break length(&buffer[..head], "HTTP/1.1 200") - (filled - head - 4);
        }
    };
    while left > 0 {
        let count = stream.read(buffer).await.expect("the target answers");
        assert!(count > 0, "the answer was cut");
        left -= count;
    }
}

/// The length of an answer with this head; `expected` is how it has to begin.
pub(crate) fn length(head: &[u8], expected: &str) -> usize {
    let head = std::str::from_utf8(head).expect("a head is ASCII");
    assert!(head.starts_with(expected), "{head}");
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    value.and_then(|value| value.trim().parse().ok()).expect("answers have lengths")
}
