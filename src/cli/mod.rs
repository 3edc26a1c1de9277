//! The commands, one file each, thin.

pub mod check;
pub mod defaults;
mod demo;
mod dialect;
mod healthcheck;
mod letters;
mod remote;
mod run;
pub mod schema;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::logging::Format;

/// The resilience proxy that stands beside a service.
#[derive(Debug, Parser)]
#[command(name = "fender", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: Log,
}

/// How the log looks.
#[derive(Debug, Clone, clap::Args)]
struct Log {
    /// Log lines for machines or for people; by default what the config's profile says
    #[arg(long, global = true, value_enum)]
    log_format: Option<Format>,
    /// A level, or a filter such as info,hyper=warn
    #[arg(long, global = true, env = "RUST_LOG", default_value = DEFAULT_LEVEL)]
    log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Why(why::Args),
    Letters(Box<letters::Args>),
    Healthcheck(healthcheck::Args),
    Check(check::Args),
    Defaults(defaults::Args),
    Dialect(dialect::Args),
    Schema(schema::Args),
}

/// Where the config is.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// The config file, or a folder whose *.toml are merged in name order
    #[arg(long, value_name = "FILE", env = "FENDER_CONFIG")]
    pub config: PathBuf,
}

const DEFAULT_LEVEL: &str = "info";

/// Exit codes: runtime failure, bad arguments or config.
const RUNTIME_FAILURE: u8 = 1;
const BAD_CONFIG: u8 = 2;

impl Cli {
    /// Does what the command line says.
    #[must_use]
    pub fn execute(&self) -> ExitCode {
        match &self.command {
            Command::Run(args) => run::run(args, &self.log),
            Command::Demo(args) => demo::run(args, &self.log),
            Command::Why(args) => why::run(args),
            Command::Letters(args) => letters::run(args),
            Command::Healthcheck(args) => healthcheck::run(args),
            Command::Check(args) => check::run(args),
            Command::Defaults(args) => defaults::run(args),
            Command::Dialect(args) => dialect::run(args),
            Command::Schema(args) => schema::run(args),
        }
    }
}
