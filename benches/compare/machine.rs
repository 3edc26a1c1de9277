//! What the comparison runs on.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

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
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        format!(
            "{cores} cores of {model}, {:.0} GiB, Linux {}, {:.0} % busy before the start",
            kib / 1024.0 / 1024.0,
            kernel.trim(),
            busy() * 100.0
        )
    }
}

/// The part of all cores' time that others use now: beside much of it figures of time say little.
fn busy() -> f64 {
    let times = || {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // The first eight; guests are counted in user and nice already. Idle is the fourth, waiting for a disk the fifth.
        (ticks.iter().take(8).sum::<f64>(), ticks.iter().skip(3).take(2).sum::<f64>())
    };
    let (all, idle) = times();
    thread::sleep(Duration::from_secs(1));
    let (all_later, idle_later) = times();
    1.0 - (idle_later - idle) / (all_later - all)
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
