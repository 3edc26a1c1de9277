//! A process under measurement: started, watched through /proc, killed at the end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

pub(crate) struct Subject {
    child: Child,
    _folder: Option<tempfile::TempDir>,
    pub(crate) address: SocketAddr,
    /// From the start of the process to its first answer.
    pub(crate) first_answer: Duration,
}

impl Subject {
    pub(crate) fn upstream() -> Self {
        Self::role("upstream")
    }

    /// This program in a role of its own, that takes its address alone.
    pub(crate) fn role(role: &str) -> Self {
        let address = free();
        Self::start(itself(&[role, &address.to_string()]), address, None)
    }

    /// `role`: plain or lean.
    pub(crate) fn forwarder(role: &str, upstream: &Self) -> Self {
        let address = free();
        let arguments = [role, &address.to_string(), &upstream.address.to_string()];
        Self::start(itself(&arguments), address, None)
    }

    pub(crate) fn fender(upstream: &Self) -> Self {
        let upstream = format!("[upstream.bench]\nurl = \"http://{}\"\nroute = \"/\"\n", upstream.address);
        Self::fender_with(free(), &upstream)
    }

    /// With this admin listener and these upstreams, of which one answers at `/`.
    pub(crate) fn fender_with(admin: SocketAddr, upstreams: &str) -> Self {
        let address = free();
        let folder = tempfile::tempdir().expect("a folder for the config");
        let config = folder.path().join("fender.toml");
        let text = format!("[server]\nlisten = [\"{address}\"]\n[admin]\nlisten = \"{admin}\"\n{upstreams}");
        fs::write(&config, text).expect("the config is written");
        // What ships is a static binary: `FENDER_BENCH_BINARY` names it; else what cargo built for this bench.
        let binary = std::env::var_os("FENDER_BENCH_BINARY");
        let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_fender").into()));
        command.args(["run", "--config"]).arg(config);
        Self::start(command, address, Some(folder))
    }

    /// A program that listens at `address`, and needs `folder`.
    pub(crate) fn start(
        mut command: Command,
        address: SocketAddr,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the subject starts");
        let mut subject = Self { child, _folder: folder, address, first_answer: Duration::ZERO };
        while !answers(address) {
            assert!(start.elapsed() < Duration::from_secs(10), "no answer from {address}");
            assert!(
                subject.child.try_wait().is_ok_and(|end| end.is_none()),
                "the subject at {address} ended"
            );
            thread::sleep(Duration::from_micros(200));
        }
        subject.first_answer = start.elapsed();
        subject
    }

    /// User and system time of all its threads, in the kernel's nanoseconds rather than its ticks.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the subject is alive");
        let nanos = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    pub(crate) fn rss_mib(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the subject is alive");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a live process has VmRSS");
        let kib: f64 =
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS is a number");
        kib / 1024.0
    }

    /// The most memory that it held while the other process ran.
    pub(crate) fn rss_while(&self, other: impl FnOnce() -> Child) -> f64 {
        let mut other = other();
        let mut most = self.rss_mib();
        while other.try_wait().is_ok_and(|end| end.is_none()) {
            most = most.max(self.rss_mib());
            thread::sleep(Duration::from_millis(5));
        }
        assert!(other.wait().is_ok_and(|end| end.success()), "a stream fell short");
        most
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// This program in another role.
pub(crate) fn itself(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program knows its path"));
    command.arg("role").args(arguments);
    command
}

pub(crate) fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /1 HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
