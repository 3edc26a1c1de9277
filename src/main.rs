//! The command line.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// Cheaper than the system's where many requests are under way (docs/adr/0025).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    fender::cli::Cli::parse().execute()
}
