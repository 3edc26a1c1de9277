//! The streams: a source that stamps each event with the time, and clients that read the stamps.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::subject::itself;

pub(crate) const STREAMS: usize = 200;
pub(crate) const EVENTS: usize = 200;

/// Between two events of a stream.
const GAP: Duration = Duration::from_millis(20);

/// What one run came to.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Of a thousand events, those that came in one read with the one before.
    pub(crate) together: f64,
    pub(crate) cpu: f64,
}

const BEFORE: &str = r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":""#;
const BEHIND: &str = "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const STAMP: &[u8] = b"\"content\":\"";
const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// The role: answers `/1` with a byte, all else with a stream.
pub(crate) fn emit(listen: SocketAddr) {
    runtime().block_on(async {
        let listener = TcpListener::bind(listen).await.expect("the port is free");
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a TCP socket");
                tokio::spawn(serve(stream));
            }
        }
    });
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.ok().filter(|count| *count > 0)?;
        filled += count;
        if memchr::memmem::find(&buffer[..filled], b"\r\n\r\n").is_none() {
            continue;
        }
        if buffer.starts_with(b"GET /1 ") {
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
            return stream.write_all(answer).await.ok();
        } else {
            stream_events(&mut stream).await?;
        }
        filled = 0;
    }
}

async fn stream_events(stream: &mut TcpStream) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.ok()?;
    // Not all at once: each stream has its own moment.
    tokio::time::sleep(GAP.mul_f64(fastrand::f64())).await;
    let mut tick = interval(GAP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..EVENTS {
        tick.tick().await;
        stream.write_all(chunk(&format!("{BEFORE}{}{BEHIND}", now())).as_bytes()).await.ok()?;
    }
    let end = format!("{}{}0\r\n\r\n", chunk(LAST), chunk(DONE));
    stream.write_all(end.as_bytes()).await.ok()
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

/// Reads streams from a process of its own.
pub(crate) fn spawn(target: SocketAddr) -> Figures {
    let output = itself(&["follow", &target.to_string()]).stderr(Stdio::inherit()).output();
    let output = output.expect("the clients start");
    assert!(output.status.success(), "a stream fell short");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [p50, p99, together] = figures[..] else { panic!("not the three figures: {text:?}") };
    Figures { p50, p99, together, cpu: 0.0 }
}

/// The role: reads all streams to their ends, then prints p50 and p99 in microseconds, and how many came together.
pub(crate) fn follow(target: SocketAddr) {
    let (mut latencies, together) = runtime().block_on(async {
        let tasks: Vec<_> = (0..STREAMS).map(|_| tokio::spawn(read(target))).collect();
        let mut all = (Vec::new(), 0);
        for task in tasks {
            let (latencies, together) = task.await.expect("no stream fails");
            assert_eq!(latencies.len(), EVENTS, "events are missing");
            all.0.extend(latencies);
            all.1 += together;
        }
        all
    });
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    let micros = |nanos: u128| nanos as f64 / 1e3;
    println!("{} {} {}", micros(at(50)), micros(at(99)), together as f64 * 1e3 / latencies.len() as f64);
}

async fn read(target: SocketAddr) -> (Vec<u128>, usize) {
    let mut stream = TcpStream::connect(target).await.expect("the target accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    let request = "GET /v1/chat/completions HTTP/1.1\r\nhost: bench\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it takes a request");
    let mut buffer = vec![0; 64 * 1024];
    let (mut filled, mut seen, mut latencies, mut together) = (0, 0, Vec::new(), 0);
    while memchr::memmem::find(&buffer[..filled], DONE.as_bytes()).is_none() {
        if buffer.len() - filled < 4096 {
            buffer.copy_within(seen..filled, 0);
            filled -= seen;
            seen = 0;
        }
        let count = stream.read(&mut buffer[filled..]).await.expect("it answers");
        assert!(count > 0, "the stream was cut");
        let now = now();
        filled += count;
        let mut events = 0;
        while let Some(at) = memchr::memmem::find(&buffer[seen..filled], STAMP) {
            let from = seen + at + STAMP.len();
            let Some(end) = memchr::memchr(b'"', &buffer[from..filled]) else { break };
            let stamp = std::str::from_utf8(&buffer[from..from + end]).expect("digits");
            latencies.push(now.saturating_sub(stamp.parse().expect("a time")));
            seen = from + end;
            events += 1;
        }
        together += usize::saturating_sub(events, 1);
    }
    (latencies, together)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
