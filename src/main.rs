//! Arguments to commands, and their exit codes.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    fender::cli::run(&fender::cli::Cli::parse())
}
