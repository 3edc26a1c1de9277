//! `fender schema`: the JSON Schema of the config.

use std::process::ExitCode;

use super::check::say;
use crate::config;

/// Prints the JSON Schema of the config, for editors.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints it.
pub fn run(_: &Args) -> ExitCode {
    say(config::SCHEMA)
}
