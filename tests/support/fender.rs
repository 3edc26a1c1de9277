//! The binary under test, as a child with a config of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Client, PATIENCE};

/// What stands in the config; the listeners get ports of their own.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    head: String,
    server: String,
    admin: String,
    upstreams: String,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// `upstreams`: everything but `[server]` and `[admin]`.
    pub(crate) fn new(upstreams: impl Into<String>) -> Self {
        Self { upstreams: upstreams.into(), ..Self::default() }
    }

    /// Lines above all tables.
    pub(crate) fn head(mut self, lines: &str) -> Self {
        self.head.push_str(lines);
        self
    }

    /// Lines for `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self
    }

    /// Lines for `[admin]`, and tables below it.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        self.admin.push_str(lines);
        self
    }

    /// Lines for `[admin]`, above those that are there.
    pub(crate) fn admin_first(mut self, lines: &str) -> Self {
        self.admin = format!("{lines}\n{}", self.admin);
        self
    }

    /// The store that the upstreams' lines name, elsewhere.
    pub(crate) fn with_store(mut self, path: &Path) -> Self {
        let (head, rest) = self.upstreams.split_once("path = \"").expect("a store is named");
        let (_, rest) = rest.split_once('"').expect("its path ends");
        self.upstreams = format!("{head}path = {path:?}{rest}");
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn toml(&self) -> String {
        format!(
            "{}\n[server]\nlisten = [\"127.0.0.1:0\"]\n{}\n\n[admin]\nlisten = \"127.0.0.1:0\"\n{}\n\n{}\n",
            self.head, self.server, self.admin, self.upstreams
        )
    }

    pub(crate) fn start(self) -> Fender {
        let (folder, config) = self.written();
        self.start_at(folder, config)
    }

    /// Starts with a config that is already on disk, anywhere in `folder`.
    pub(crate) fn start_at(self, folder: tempfile::TempDir, config: PathBuf) -> Fender {
        self.spawn(binary(), folder, config)
    }

    /// Starts from a shell that runs this first.
    pub(crate) fn after(self, first: &str) -> Fender {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]).arg(binary().get_program());
        let (folder, config) = self.written();
        self.spawn(command, folder, config)
    }

    /// Starts as the last words of this command.
    pub(crate) fn start_by(self, mut command: Command) -> Fender {
        let (folder, config) = self.written();
        command.arg(binary().get_program());
        self.spawn(command, folder, config)
    }

    /// Starts where `/etc/hosts` is this file; none where the system grants no mount namespace.
    pub(crate) fn hosts(self, hosts: &Path) -> Option<Fender> {
        let bind = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let inside = |program: &std::ffi::OsStr| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", bind]).arg(hosts).arg(program);
            command
        };
        let granted = inside("true".as_ref()).output().is_ok_and(|output| output.status.success());
        granted.then(|| {
            let (folder, config) = self.written();
            self.spawn(inside(binary().get_program()), folder, config)
        })
    }

    fn written(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("fender.toml");
        fs::write(&config, self.toml()).unwrap();
        (folder, config)
    }

    fn spawn(self, mut command: Command, folder: tempfile::TempDir, config: PathBuf) -> Fender {
        let mut child = command
            .args(["run", "--log-format", "json", "--config"])
            .arg(&config)
            .envs(self.environment.clone())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Log::default().into();
        Log::follow(&log, child.stdout.take().expect("stdout is piped"));
        Log::follow(&log, child.stderr.take().expect("stderr is piped"));
        let fender = Fender { child: Mutex::new(child), _folder: folder, config, log };
        fender.logged("ready");
        fender
    }
}

/// `fender check` on a config text.
pub(crate) fn check(toml: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fender.toml");
    fs::write(&config, toml).unwrap();
    binary().args(["check", "--config"]).arg(config).output().unwrap()
}

/// As built beside this test, unless nextest runs both from an archive.
pub(crate) fn binary() -> Command {
    let beside = env!("CARGO_BIN_EXE_fender").into();
    let mut command = Command::new(std::env::var_os("NEXTEST_BIN_EXE_fender").unwrap_or(beside));
    command.env_remove("RUST_LOG").env_remove("FENDER_CONFIG").stdin(Stdio::null());
    command
}

/// A running Fender; killed when dropped.
pub(crate) struct Fender {
    child: Mutex<Child>,
    _folder: tempfile::TempDir, // gone with the child
    config: PathBuf,
    log: Arc<Log>,
}

impl Fender {
    /// `upstreams`: everything but `[server]` and `[admin]`.
    pub(crate) fn start(upstreams: impl Into<String>) -> Self {
        Setup::new(upstreams).start()
    }

    pub(crate) fn server(&self) -> SocketAddr {
        self.listener("server")
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.listener("admin")
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.listener("public")
    }

    /// A new file in the old one's place, by rename, as editors and orchestrators do.
    pub(crate) fn rewrite_config(&self, setup: &Setup) {
        let next = self.config.with_extension("next");
        fs::write(&next, setup.toml()).unwrap();
        fs::rename(next, &self.config).unwrap();
    }

    pub(crate) fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("the child is alive");
    }

    /// Its process, as /proc names it.
    pub(crate) fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    fn process(&self) -> Pid {
        Pid::from_child(&self.child.lock().unwrap())
    }

    pub(crate) fn running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// What it writes to closes when it ends; only then is it waited for.
    pub(crate) fn wait_exit(&self, limit: Duration) -> ExitStatus {
        self.log.wait(limit, "exit", |log| (log.open == 0).then_some(()));
        self.child.lock().unwrap().wait().unwrap()
    }

    /// The first log line with this message, waited for.
    pub(crate) fn logged(&self, message: &str) -> Value {
        self.logged_where(message, |line| line["message"] == message)
    }

    pub(crate) fn logged_where(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.log.wait(PATIENCE, what, |log| log.parsed().find(|line| holds(line)))
    }

    /// All that it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.log.state.lock().unwrap().lines.join("\n")
    }

    fn listener(&self, name: &str) -> SocketAddr {
        let line = self.logged_where(name, |line| line["message"] == "listening" && line["listener"] == name);
        line["address"]
            .as_str()
            .and_then(|address| address.parse().ok())
            .expect("a listener logs its address")
    }

    /// Every series by its full name, labels included.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = Client::connect(self.admin()).request("GET", "/metrics", "", b"");
        assert_eq!(answer.status(), 200);
        answer
            .text()
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("not a series: {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// The sum over the series of this name that bear all these `label="value"` pairs.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics()
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .filter(|(series, _)| {
                labels.iter().all(|(key, value)| series.contains(&format!("{key}=\"{value}\"")))
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// One of the texts that the system has on the process.
    pub(crate) fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.process().as_raw_nonzero())).unwrap()
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a live process has VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS is a number")
    }
}

impl Drop for Fender {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if child.try_wait().is_ok_and(|status| status.is_none()) {
            child.kill().ok();
            child.wait().ok();
        }
        drop(child);
        if thread::panicking() {
            eprintln!("-- the log of fender\n{}", self.log.lines());
        }
    }
}

/// The lines that a child writes to its outputs, as they come: its log, and its access log.
#[derive(Default)]
struct Log {
    state: Mutex<Written>,
    changed: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    open: usize,
}

impl Written {
    fn parsed(&self) -> impl Iterator<Item = Value> {
        self.lines.iter().filter_map(|line| serde_json::from_str(line).ok())
    }
}

impl Log {
    fn follow(log: &Arc<Self>, stream: impl std::io::Read + Send + 'static) {
        log.state.lock().unwrap().open += 1;
        let log = Arc::clone(log);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.state.lock().unwrap().lines.push(line);
                log.changed.notify_all();
            }
            log.state.lock().unwrap().open -= 1;
            log.changed.notify_all();
        });
    }

    fn lines(&self) -> String {
        self.state.lock().map(|state| state.lines.join("\n")).unwrap_or_default()
    }

    fn wait<T>(&self, limit: Duration, what: &str, mut look: impl FnMut(&Written) -> Option<T>) -> T {
        let until = Instant::now() + limit;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.open == 0 || left.is_zero() {
                let (lines, closed) = (state.lines.join("\n"), state.open == 0);
                drop(state);
                panic!("no {what} in the log (closed: {closed}):\n{lines}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}
