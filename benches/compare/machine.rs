//! What the comparison runs on.

use std::fs;
use std::process::Command;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Who runs on which cores.
pub(crate) struct Machine {
    /// Two for the proxy.
    pub(crate) proxy: String,
    /// For load and upstream: the others, if there are two more.
    pub(crate) others: String,
    /// One for the proxy alone, and one for load and upstream.
    pub(crate) one: String,
    pub(crate) another: String,
}

impl Machine {
    /// Of the cores that this process may use.
    pub(crate) fn look() -> Result<Self, String> {
        let cores = allowed();
        let [first, second, rest @ ..] = cores.as_slice() else {
            return Err("two cores are needed: one for the proxy, one for load and upstream".to_owned());
        };
        let both = format!("{first},{second}");
        let others = if rest.len() < 2 { both.clone() } else { joined(rest) };
        Ok(Self { proxy: both, others, one: first.to_string(), another: second.to_string() })
    }

    /// What a reader has to know of it, as Markdown.
    pub(crate) fn told() -> String {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name.trim());
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib =
            meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        format!(
            "{cores} cores of {model}, {:.0} GiB, Linux {}; load average at the start {load}",
            kib / 1024.0 / 1024.0,
            kernel.trim()
        )
    }
}

/// 10,000 connections and their upstream's need files.
pub(crate) fn raise_limits() {
    let wanted = Some(65_536);
    let both = Rlimit { current: wanted, maximum: wanted };
    if setrlimit(Resource::Nofile, both).is_err() {
        let hard = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).ok();
    }
}

fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0");
    let ends = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    line.trim().split(',').filter_map(ends).flatten().collect()
}

fn joined(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The first line that a command says, on either stream; none if it cannot be run.
pub(crate) fn says(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
