//! A program under measurement: started, watched through /proc with all its children, killed by their ids at the end.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) struct Subject {
    child: Child,
    _folder: Option<tempfile::TempDir>,
    pub(crate) address: SocketAddr,
    /// From the start of the process to its first 200.
    pub(crate) first_answer: Duration,
}

/// What each thread has run so far, in nanoseconds.
pub(crate) type Cpu = HashMap<u64, u64>;

impl Subject {
    /// Starts a program that listens at `address` and needs `folder`; on these cores, if any are named.
    pub(crate) fn start(
        command: Command,
        address: SocketAddr,
        folder: Option<tempfile::TempDir>,
        cores: Option<&str>,
    ) -> Result<Self, String> {
        let mut command = if let Some(cores) = cores { on_cores(&command, cores) } else { command };
        let start = Instant::now();
        let mut said = tempfile::tempfile().map_err(|error| error.to_string())?;
        let own_end = said.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(own_end).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let mut subject = Self { child, _folder: folder, address, first_answer: Duration::ZERO };
        while !answers(address) {
            let ended = subject.child.try_wait().is_ok_and(|end| end.is_some());
            if ended || start.elapsed() > Duration::from_secs(15) {
                let mut words = String::new();
                said.rewind().and_then(|()| said.read_to_string(&mut words)).ok();
                let how = if ended { "ended" } else { "does not answer" };
                return Err(format!("{command:?} {how}: {words}"));
            }
            thread::sleep(Duration::from_micros(200));
        }
        subject.first_answer = start.elapsed();
        Ok(subject)
    }

    /// This program in a role that takes its address alone.
    pub(crate) fn role(role: &str, cores: &str) -> Self {
        let address = free();
        let command = itself(&[role, &address.to_string()]);
        Self::start(command, address, None, Some(cores)).expect("the driver's own roles serve")
    }

    /// The process and all its descendants.
    fn tree(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                // The name in parentheses may hold anything.
                let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
                Some((id, parent))
            })
            .collect();
        let mut tree = vec![self.child.id()];
        let mut seen = 0;
        while let Some(&id) = tree.get(seen) {
            tree.extend(parents.iter().filter(|(_, parent)| *parent == id).map(|(id, _)| *id));
            seen += 1;
        }
        tree
    }

    /// User and system time of all threads of the whole tree, in the kernel's nanoseconds rather than its ticks.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::new();
        for id in self.tree() {
            for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
                let thread = task.file_name().to_str().and_then(|name| name.parse().ok());
                let ran = fs::read_to_string(task.path().join("schedstat")).ok();
                let ran = ran.and_then(|text| text.split(' ').next()?.parse().ok());
                if let (Some(thread), Some(ran)) = (thread, ran) {
                    cpu.insert(thread, ran);
                }
            }
        }
        cpu
    }

    /// What it has run since, in seconds. What a thread that ended meanwhile ran is lost; none of those measured ends any.
    pub(crate) fn cpu_since(&self, before: &Cpu) -> f64 {
        let nanos = self
            .cpu()
            .iter()
            .map(|(thread, ran)| ran.saturating_sub(*before.get(thread).unwrap_or(&0)))
            .sum::<u64>();
        nanos as f64 / 1e9
    }

    /// Resident memory in MiB: of a single process what the kernel tells, of a tree each shared page once.
    pub(crate) fn resident(&self) -> f64 {
        let tree = self.tree();
        let kib: f64 = match tree.as_slice() {
            [alone] => value(&format!("/proc/{alone}/status"), "VmRSS:"),
            several => several.iter().map(|id| value(&format!("/proc/{id}/smaps_rollup"), "Pss:")).sum(),
        };
        kib / 1024.0
    }

    /// Of it what is its own: neither pages of its file nor of libraries.
    pub(crate) fn anonymous(&self) -> f64 {
        let of = |id: &u32| value(&format!("/proc/{id}/smaps_rollup"), "Pss_Anon:");
        self.tree().iter().map(of).sum::<f64>() / 1024.0
    }
}

impl Drop for Subject {
    /// The root stands still meanwhile: nginx's starts a worker anew that ends.
    fn drop(&mut self) {
        let signal = |id: u32, signal| Pid::from_raw(id.cast_signed()).map(|id| kill_process(id, signal));
        signal(self.child.id(), Signal::STOP);
        for id in self.tree().into_iter().skip(1) {
            signal(id, Signal::KILL);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn value(file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(file).expect("the subject is alive");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a live process has it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// What setpriv takes for a program that ends when the driver does, however that ends.
pub(crate) const ENDS_WITH_DRIVER: [&str; 3] = ["--pdeathsig", "TERM", "--"];

/// The same on these cores alone; it ends when the driver does, however that ends.
fn on_cores(command: &Command, cores: &str) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", cores, "setpriv"])
        .args(ENDS_WITH_DRIVER)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            pinned.env(name, value);
        }
    }
    pinned
}

/// This program in another role.
pub(crate) fn itself(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program knows its path"));
    command.arg("role").args(arguments);
    command
}

/// This program in another role, on these cores.
pub(crate) fn itself_on(cores: &str, arguments: &[&str]) -> Command {
    on_cores(&itself(arguments), cores)
}

/// An address that nothing has: without SO_REUSEADDR the kernel gives no port that an ended connection still holds, which some of
/// those measured could not bind. None is given twice, as what is started may take a moment to bind it.
pub(crate) fn free() -> SocketAddr {
    thread_local!(static GIVEN: RefCell<HashSet<SocketAddr>> = RefCell::default());
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        if GIVEN.with_borrow_mut(|given| given.insert(address)) {
            return address;
        }
    }
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
