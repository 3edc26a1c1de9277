//! `fender run`: the proxy itself.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::Arc;

use super::check::say_error;
use super::{BAD_CONFIG, Log, RUNTIME_FAILURE, Source};
use crate::app::{App, Error};
use crate::config::{self, watch::Watcher};
use crate::telemetry::logging::{Format, Logging};

/// Runs the proxy until it is told to end.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
}

/// 0 after a drain, 1 if it cannot run, 2 if its config is wrong.
pub(super) fn run(args: &Args, log: &Log) -> ExitCode {
    let path = &args.source.config;
    let watcher = Watcher::new([path.clone()]);
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say_error(&problems.render(stderr().is_terminal()));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let by_profile = if loaded.config.profile.logs_as_text() { Format::Text } else { Format::Json };
    let logging = match Logging::start(log.log_format.unwrap_or(by_profile), &log.log_level) {
        Ok(logging) => Arc::new(logging),
        Err(error) => {
            say_error(&format!("error: {error}\n"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let Err(error) = App::new(loaded, path.clone(), watcher, Arc::clone(&logging)).and_then(App::run) else {
        return ExitCode::SUCCESS;
    };
    tracing::error!(%error, "cannot run");
    logging.close();
    ExitCode::from(match error {
        Error::Config(_) => BAD_CONFIG,
        Error::Listen { .. } | Error::Start(_) => RUNTIME_FAILURE,
    })
}
