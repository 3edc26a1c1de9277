//! Fender, with all of its policies set.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Setup, config};

/// The binary under measurement: what `FENDER_BENCH_BINARY` names, else what cargo built for this bench. The latter has the features
/// that the tests' dependencies ask of shared crates; the shipped one has not.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("FENDER_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_fender").into(), PathBuf::from)
}

/// Which of them, and how large.
pub(super) fn told() -> String {
    let bytes = std::fs::metadata(binary()).map_or(0, |meta| meta.len());
    let whose = if std::env::var_os("FENDER_BENCH_BINARY").is_some() { "as shipped" } else { "as for tests" };
    format!("{whose}, {:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

pub(super) fn command(folder: &Path, address: SocketAddr, setup: &Setup<'_>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments(folder, address, setup));
    command
}

/// Of a run with one upstream, its config written to the folder.
pub(crate) fn arguments(folder: &Path, address: SocketAddr, setup: &Setup<'_>) -> [String; 3] {
    let streams = if setup.streams { STREAMS } else { "" };
    let upstream =
        UPSTREAM.replace("NAME", "bench").replace("ROUTE", "route = \"/\"").replace("STREAMS", streams);
    run(folder, address, setup, &upstream)
}

fn run(folder: &Path, address: SocketAddr, setup: &Setup<'_>, tables: &str) -> [String; 3] {
    let file = config(folder, "fender.toml", &format!("{SERVER}{tables}"), address, setup);
    ["run".to_owned(), "--config".to_owned(), file.to_string_lossy().into_owned()]
}

/// Of a run with `upstreams` upstreams and `routes` routes: `/t/0`, `/t/1` … each of the upstream whose turn it is.
pub(crate) fn arguments_of_many(
    folder: &Path,
    address: SocketAddr,
    setup: &Setup<'_>,
    routes: usize,
    upstreams: usize,
) -> [String; 3] {
    let mut tables = String::new();
    for nth in 0..upstreams {
        let name = format!("u{nth}");
        tables.push_str(&UPSTREAM.replace("NAME", &name).replace("ROUTE", "").replace("STREAMS", ""));
    }
    for nth in 0..routes {
        let upstream = nth % upstreams;
        tables.push_str(&format!("[[route]]\npath = \"/t/{nth}\"\nupstream = \"u{upstream}\"\n"));
    }
    // Answers when the driver looks whether it serves.
    tables.push_str("[[route]]\npath = \"/\"\nupstream = \"u0\"\n");
    run(folder, address, setup, &tables)
}

pub(super) fn command_of_many(
    folder: &Path,
    address: SocketAddr,
    setup: &Setup<'_>,
    (routes, upstreams): (usize, usize),
) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments_of_many(folder, address, setup, routes, upstreams));
    command
}

const SERVER: &str = r#"
[server]
listen = ["OWN"]
workers = WORKERS
max_connections = 10100
drain_quiet = "0s"
drain_timeout = "1s"
[admin]
listen = "ADMIN"
"#;

const UPSTREAM: &str = r#"
[upstream.NAME]
url = "http://UPSTREAM"
ROUTE
STREAMS
timeout = { connect = "2s", attempt = "15s", total = "60s", idle = "60s" }
retry = { max_attempts = 3, max_body = "1MiB", budget = { ratio = 0.2, min_per_second = 1.0, window = "10s" } }
breaker = { enabled = true, window = "30s", failure_rate = 0.5, consecutive_failures = 5, open_for = "10s" }
concurrency = { max = 256, queue = 256, queue_timeout = "1s" }
throttle = { adapt = true }
[[upstream.NAME.rate_limit]]
requests = 1000000
per = "1s"
"#;

const STREAMS: &str = r#"
dialect = "openai"
stream = { first_content = "30s", end_mark = true }
"#;
