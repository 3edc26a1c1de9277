//! One subject under load for one slice: the load runs in a process of its own, and the subject's CPU is read around it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use crate::load::Pace;
use crate::subject::{Subject, itself_on};

/// What is asked, and how.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) path: &'a str,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) slice: Duration,
    pub(crate) cores: &'a str,
}

/// What one slice came to. Latencies are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    /// Seconds per 100,000 requests.
    pub(crate) cpu: f64,
}

/// Loads the subject for one slice.
pub(crate) fn measure(subject: &Subject, load: &Load<'_>) -> Figures {
    let arguments = [
        "load",
        &subject.address.to_string(),
        load.path,
        &load.connections.to_string(),
        &load.pace.word(),
        &load.slice.as_millis().to_string(),
    ];
    let mut client = Client::start(load.cores, &arguments);
    let before = subject.cpu();
    client.go();
    let line = client.line();
    let cpu = subject.cpu_since(&before);
    client.end();
    let figures: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [requests, per_second, p50, p90, p99] = figures[..] else { panic!("not the five figures: {line:?}") };
    Figures { per_second, p50, p90, p99, cpu: cpu * 1e5 / requests }
}

/// What the subject holds while so many connections are open and idle, each after some answers; in MiB.
pub(crate) fn resident_with(subject: &Subject, connections: usize, settle: Duration, cores: &str) -> f64 {
    let client =
        Client::start(cores, &["hold", &subject.address.to_string(), "/1024", &connections.to_string()]);
    thread::sleep(settle);
    let mib = subject.resident();
    client.end();
    mib
}

/// A client in a process of its own that has said `ready`.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(cores: &str, arguments: &[&str]) -> Self {
        let mut command = itself_on(cores, arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("taskset and setpriv");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut client = Self { child, stdin, stdout };
        assert_eq!(client.line(), "ready", "a client failed before the load");
        client
    }

    fn go(&mut self) {
        self.stdin.as_mut().expect("it is open").write_all(b"go\n").expect("the client waits");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the client speaks");
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().is_ok_and(|end| end.success()), "a request failed");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
