//! Fender under callgrind, led step by step: this thread is its client and its upstream.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;

use crate::peers::{Setup, fender_arguments, fender_binary, fender_of_many};
use crate::subject::{ENDS_WITH_DRIVER, free};
use crate::upstream::field;
use crate::wire::{Answer, request};

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Get,
    Post,
    Fresh,
    Event,
    /// Each by the next of so many routes, to the next of so many upstreams.
    Many(usize, usize),
}

/// For each step; callgrind makes a program some fifty times slower.
const PATIENCE: Duration = Duration::from_secs(30);

const EVENT: &str = r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}"#;
const LAST: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// All instructions in user space of a whole run with so many requests or events. `keep`: where a copy of what callgrind wrote goes,
/// for callgrind_annotate; a binary with symbols (`--profile fast`) tells more.
pub(crate) fn run_counted(kind: Kind, count: usize, keep: Option<&Path>) -> Result<u64, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let counted = folder.path().join("callgrind.out");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let upstream = listener.local_addr().map_err(|error| error.to_string())?;
    let setup = Setup { upstream, workers: 1, cores: None, streams: kind == Kind::Event };
    let address = free();
    let mut command = Command::new("setpriv");
    command.args(ENDS_WITH_DRIVER).arg("valgrind");
    command.args(["--tool=callgrind", &format!("--callgrind-out-file={}", counted.display())]);
    command.arg(fender_binary()).args(match kind {
        Kind::Many(routes, upstreams) => fender_of_many(folder.path(), address, &setup, routes, upstreams),
        _ => fender_arguments(folder.path(), address, &setup),
    });
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut fender = Running(command.spawn().map_err(|error| format!("setpriv: {error}"))?);
    fender.wait_for(address)?;
    let led = lead(kind, count, address, &listener).map_err(|error| format!("a step failed: {error}"));
    led.and_then(|()| fender.end())?;
    let text = fs::read_to_string(&counted).map_err(|error| format!("callgrind wrote nothing: {error}"))?;
    if let Some(keep) = keep {
        fs::write(keep, &text).map_err(|error| format!("{}: {error}", keep.display()))?;
    }
    let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    totals.and_then(|totals| totals.trim().parse().ok()).ok_or_else(|| "callgrind told no total".to_owned())
}

fn lead(kind: Kind, count: usize, address: SocketAddr, listener: &TcpListener) -> std::io::Result<()> {
    if kind == Kind::Event {
        return lead_stream(count, address, listener);
    }
    let (routes, upstreams) =
        if let Kind::Many(routes, upstreams) = kind { (routes, upstreams) } else { (1, 1) };
    let (bytes, close) = (if kind == Kind::Post { 4096 } else { 1024 }, kind == Kind::Fresh);
    let asked: Vec<Vec<u8>> = (0..routes)
        .map(|nth| match kind {
            Kind::Post => request("/post/4096", close),
            Kind::Many(..) => request(&format!("/t/{nth}/1024"), close),
            Kind::Get | Kind::Fresh | Kind::Event => request("/1024", close),
        })
        .collect();
    let answer = sized(bytes);
    let mut client = Client { stream: connect(address)?, buffer: vec![0; 64 * 1024] };
    let mut connections = Vec::new();
    // Each route and each upstream once, before those that count.
    for nth in 0..routes + count {
        if close && nth > 0 {
            let end = client.stream.read(&mut client.buffer)?;
            assert_eq!(end, 0, "nothing follows the answer");
            client.stream = connect(address)?;
        }
        client.stream.write_all(&asked[nth % routes])?;
        if nth < upstreams {
            connections.push(accepted(listener)?);
        }
        let upstream: &mut TcpStream = &mut connections[nth % upstreams];
        heard(upstream)?;
        upstream.write_all(answer.as_bytes())?;
        let mut answer = Answer::default();
        while !answer.take(&mut client.stream, &mut client.buffer)? {}
    }
    Ok(())
}

fn lead_stream(count: usize, address: SocketAddr, listener: &TcpListener) -> std::io::Result<()> {
    let mut client = Client { stream: connect(address)?, buffer: vec![0; 64 * 1024] };
    client.stream.write_all(&request("/v1/chat/completions", false))?;
    let mut upstream = accepted(listener)?;
    heard(&mut upstream)?;
    upstream.write_all(STREAM_HEAD.as_bytes())?;
    for _ in 0..count {
        upstream.write_all(chunk(EVENT).as_bytes())?;
        client.until(b"\n\n\r\n")?;
    }
    upstream.write_all(format!("{}{}0\r\n\r\n", chunk(LAST), chunk("data: [DONE]")).as_bytes())?;
    client.until(b"0\r\n\r\n")
}

/// The connection that Fender opens to its upstream.
fn accepted(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Reads until what has come ends with this.
    fn until(&mut self, end: &[u8]) -> std::io::Result<()> {
        let mut came = Vec::new();
        while !came.ends_with(end) {
            let count = self.stream.read(&mut self.buffer)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            came.extend_from_slice(&self.buffer[..count]);
        }
        Ok(())
    }
}

/// Takes a whole request.
fn heard(upstream: &mut TcpStream) -> std::io::Result<()> {
    let mut came = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = upstream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        came.extend_from_slice(&buffer[..count]);
        if let Some(end) = memchr::memmem::find(&came, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&came[..end]);
            let body = field(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
            if came.len() >= end + 4 + body {
                return Ok(());
            }
        }
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn sized(bytes: usize) -> String {
    let body = "x".repeat(bytes);
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n{body}"
    )
}

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2)
}

/// The program under callgrind; killed if it does not end by itself.
struct Running(Child);

impl Running {
    fn wait_for(&mut self, address: SocketAddr) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(end)) = self.0.try_wait() {
                return Err(format!("Fender under callgrind did not start: {end}"));
            }
            if Instant::now() > until {
                return Err("Fender under callgrind does not listen".to_owned());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let id = Pid::from_raw(self.0.id().cast_signed()).ok_or("a process has an id")?;
        kill_process(id, Signal::TERM).map_err(|error| format!("SIGTERM: {error}"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait() {
                Ok(Some(end)) if end.success() => return Ok(()),
                Ok(Some(end)) => return Err(format!("Fender under callgrind ended badly: {end}")),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                _ => return Err("Fender under callgrind does not end".to_owned()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
