//! A refusal by an open breaker, from end to end: one client on one connection, against the binary.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

const REQUESTS: usize = 5_000;

/// The median time to a refusal; prints it, and what it cost the upstream.
pub(crate) fn measure() -> Duration {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = failing(&asked);
    let (address, admin) = (free(), free());
    let folder = tempfile::tempdir().expect("a folder for the config");
    let config = folder.path().join("fender.toml");
    let text = format!(
        "[server]\nlisten = [\"{address}\"]\n[admin]\nlisten = \"{admin}\"\n[upstream.bench]\nurl = \"http://{upstream}\"\n\
         route = \"/\"\nretry = {{ max_attempts = 1 }}\nbreaker = {{ open_for = \"1h\", max_open_for = \"1h\" }}\n"
    );
    fs::write(&config, text).expect("the config is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fender"));
    command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stderr(Stdio::null());
    let _fender = Running(command.spawn().expect("fender starts"));
    let mut stream = connected(address);
    while ask(&mut stream) != 503 {}
    let before = asked.load(Ordering::SeqCst);
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(ask(&mut stream), 503);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let more = asked.load(Ordering::SeqCst) - before;
    println!(
        "\na refusal by an open breaker: p50 {:?}, p99 {:?}; it cost the upstream {more} requests",
        at(50),
        at(99)
    );
    assert_eq!(more, 0, "an open breaker let something through");
    at(50)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Answers 500 to all, and counts.
fn failing(asked: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let asked = Arc::clone(asked);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0; 4096];
            while matches!(stream.read(&mut buffer), Ok(1..)) {
                asked.fetch_add(1, Ordering::SeqCst);
                if stream.write_all(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").is_err() {
                    break;
                }
            }
        }
    });
    address
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

fn connected(address: SocketAddr) -> TcpStream {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(stream) = TcpStream::connect(address) {
            stream.set_nodelay(true).expect("a TCP socket");
            return stream;
        }
        assert!(Instant::now() < until, "fender does not listen");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ask(stream: &mut TcpStream) -> u16 {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").expect("fender listens");
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).expect("fender answers");
        assert!(count > 0, "fender hung up");
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let answer = String::from_utf8_lossy(&text);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        }
    }
}
