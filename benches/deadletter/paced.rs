//! A load that asks at a pace of its own, whatever becomes of the answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{length, request};
use crate::subject::itself;

/// What a load came to that asks so many times a second, whatever becomes of the answers; percentiles in microseconds.
pub(crate) struct Paced(Child);

impl Paced {
    /// From a process of its own; each answer's status has to begin with `status`.
    pub(crate) fn spawn(
        target: SocketAddr,
        path: &str,
        per_second: u32,
        status: &str,
        slice: Duration,
    ) -> Self {
        let per_second = per_second.to_string();
        let (target, millis) = (target.to_string(), slice.as_millis().to_string());
        let mut load = itself(&["paced", &target, path, &per_second, status, &millis]);
        Self(load.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the load starts"))
    }

    /// Answers, p50, p99.
    pub(crate) fn end(self) -> [f64; 3] {
        let output = self.0.wait_with_output().expect("the load ends");
        assert!(output.status.success(), "a request failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        figures.try_into().unwrap_or_else(|_| panic!("not the three figures: {text:?}"))
    }
}

/// The role: asks at its pace for a while, then prints how often, p50 and p99. An answer that is late delays no other request,
/// and what had to wait for its connection is counted from when it was due.
pub(crate) fn run(target: SocketAddr, path: &str, per_second: u32, status: &str, slice: Duration) {
    let request = request(path);
    let head = format!("HTTP/1.1 {status}");
    // One thread for each connection: a runtime's timer ticks once a millisecond.
    let apart = Duration::from_secs(1) / per_second;
    let start = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (request, head) = (request.clone(), head.clone());
            thread::spawn(move || {
                let mut stream = TcpStream::connect(target).expect("the target accepts");
                stream.set_nodelay(true).expect("a TCP socket");
                let (mut latencies, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
                let mut due = start + apart * number;
                while due < start + slice {
                    let free = Instant::now();
                    thread::sleep(due.saturating_duration_since(free));
                    // How late the system woke this thread is no matter of the target's.
                    let from = if free > due { due } else { Instant::now() };
                    stream.write_all(&request).expect("the target takes a request");
                    answer(&mut stream, &mut buffer, &head);
                    latencies.push(u32::try_from(from.elapsed().as_micros()).unwrap_or(u32::MAX));
                    due += apart * CONNECTIONS;
                }
                latencies
            })
        })
        .collect();
    let all = threads.into_iter().flat_map(|thread| thread.join().expect("no request fails"));
    let mut latencies: Vec<u32> = all.collect();
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    println!("{} {} {}", latencies.len(), at(50), at(99));
}

/// Connections of a paced load.
const CONNECTIONS: u32 = 16;

fn answer(stream: &mut TcpStream, buffer: &mut [u8], expected: &str) {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).expect("the target answers");
        assert!(count > 0, "the target hung up");
        filled += count;
        if let Some(head) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n")
            && filled >= head + 4 + length(&buffer[..head], expected)
        {
            return;
        }
    }
}
