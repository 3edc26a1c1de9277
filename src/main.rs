//! The command line.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    fender::cli::Cli::parse().execute()
}
