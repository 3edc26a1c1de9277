//! Who is compared: found, configured like for like, started.

mod envoy;
mod fender;
mod haproxy;
mod nginx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use fender::{
    arguments as fender_arguments, arguments_of_many as fender_of_many, binary as fender_binary,
};

use crate::machine::says;
use crate::options::Options;
use crate::subject::{Subject, free, itself};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Peer {
    Fender,
    Nginx,
    Haproxy,
    Envoy,
    /// HAProxy as a TCP proxy: what any hop costs.
    Splice,
    /// Forwarders of `benches/proxy`, without any resilience: floors, not products.
    Lean,
    Plain,
}

const ALL: [Peer; 7] =
    [Peer::Fender, Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::Splice, Peer::Lean, Peer::Plain];

/// How a peer is to run.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) upstream: SocketAddr,
    pub(crate) workers: usize,
    /// Unset where the start itself is measured: what pins costs time too.
    pub(crate) cores: Option<&'a str>,
    /// It carries event streams.
    pub(crate) streams: bool,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fender => "fender",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Splice => "splice",
            Self::Lean => "lean",
            Self::Plain => "plain",
        }
    }

    fn program(self) -> Result<PathBuf, String> {
        match self {
            Self::Fender => Ok(fender::binary()),
            Self::Nginx => installed("nginx"),
            Self::Haproxy | Self::Splice => installed("haproxy"),
            Self::Envoy => envoy::binary(),
            Self::Lean | Self::Plain => std::env::current_exe().map_err(|error| error.to_string()),
        }
    }

    /// Its program and version, for the table's reader.
    pub(crate) fn version(self) -> String {
        let program = match self.program() {
            Ok(program) => program.to_string_lossy().into_owned(),
            Err(why) => return why,
        };
        let said = |argument| says(&program, argument).unwrap_or_else(|| "unknown".to_owned());
        match self {
            Self::Fender => format!("{} ({})", said("--version"), fender::told()),
            Self::Nginx => said("-v").replace("nginx version: ", ""),
            Self::Haproxy => said("-v"),
            Self::Splice => "HAProxy in TCP mode".to_owned(),
            Self::Envoy => said("--version").replace(&program, "").replace("version: ", "").trim().to_owned(),
            Self::Lean => "hyper and hyper-util's client, one runtime a core".to_owned(),
            Self::Plain => "hyper and hyper-util's client, tokio's multi-thread runtime".to_owned(),
        }
    }

    /// Started and answering.
    pub(crate) fn start(self, setup: &Setup<'_>) -> Subject {
        let address = free();
        let folder = tempfile::tempdir().expect("a folder for the config");
        let program = self.found();
        let command = match self {
            Self::Fender => fender::command(folder.path(), address, setup),
            Self::Nginx => nginx::command(&program, folder.path(), address, setup),
            Self::Haproxy => haproxy::command(&program, folder.path(), address, setup, haproxy::HTTP),
            Self::Splice => haproxy::command(&program, folder.path(), address, setup, haproxy::TCP),
            Self::Envoy => envoy::command(&program, folder.path(), address, setup),
            Self::Lean | Self::Plain => {
                itself(&[self.name(), &address.to_string(), &setup.upstream.to_string()])
            }
        };
        self.started(command, address, folder, setup)
    }

    /// With so many routes and upstreams; `None`: nobody wrote that for it.
    pub(crate) fn start_with(self, setup: &Setup<'_>, routes: usize, upstreams: usize) -> Option<Subject> {
        let address = free();
        let folder = tempfile::tempdir().expect("a folder for the config");
        let many = (routes, upstreams);
        let command = match self {
            Self::Fender => fender::command_of_many(folder.path(), address, setup, many),
            Self::Nginx => nginx::command_of_many(&self.found(), folder.path(), address, setup, many),
            _ => return None,
        };
        Some(self.started(command, address, folder, setup))
    }

    fn found(self) -> PathBuf {
        self.program().expect("it was found before")
    }

    fn started(
        self,
        command: Command,
        address: SocketAddr,
        folder: tempfile::TempDir,
        setup: &Setup<'_>,
    ) -> Subject {
        Subject::start(command, address, Some(folder), setup.cores)
            .unwrap_or_else(|why| panic!("{} does not start: {why}", self.name()))
    }
}

/// Those that are wanted: who is at hand, and why the others are not.
pub(crate) fn at_hand(options: &Options) -> Result<(Vec<Peer>, Vec<String>), String> {
    if let Some(name) = options.named_peers().iter().find(|name| ALL.iter().all(|peer| peer.name() != *name))
    {
        return Err(format!("{name} is no peer"));
    }
    let (mut peers, mut lacking) = (Vec::new(), Vec::new());
    for peer in ALL.into_iter().filter(|peer| options.wants_peer(peer.name())) {
        match peer.program() {
            Ok(_) => peers.push(peer),
            Err(why) => lacking.push(format!("{}: {why}", peer.name())),
        }
    }
    if peers.is_empty() { Err("no peer is at hand".to_owned()) } else { Ok((peers, lacking)) }
}

/// A program of a package, also where only root looks.
fn installed(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| format!("{name} is not installed; benches/compare/install does it"))
}

/// Writes a config with its addresses filled in.
fn config(folder: &Path, name: &str, template: &str, address: SocketAddr, setup: &Setup<'_>) -> PathBuf {
    let text = template
        .replace("OWN_PORT", &address.port().to_string())
        .replace("OWN", &address.to_string())
        .replace("ADMIN_PORT", &free().port().to_string())
        .replace("ADMIN", &free().to_string())
        .replace("UPSTREAM_PORT", &setup.upstream.port().to_string())
        .replace("UPSTREAM", &setup.upstream.to_string())
        .replace("WORKERS", &setup.workers.to_string())
        .replace("FOLDER", &folder.to_string_lossy());
    let file = folder.join(name);
    std::fs::write(&file, text).expect("the config is written");
    file
}

fn run(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
