//! The commands, one file each, thin.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod check;
pub mod defaults;
pub mod schema;

/// The resilience proxy that stands beside a service.
#[derive(Debug, Parser)]
#[command(name = "fender", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Defaults(defaults::Args),
    Schema(schema::Args),
}

/// Runs the command that the arguments name.
pub fn run(cli: &Cli) -> ExitCode {
    match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Defaults(args) => defaults::run(args),
        Command::Schema(args) => schema::run(args),
    }
}
