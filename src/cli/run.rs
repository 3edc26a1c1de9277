//! `fender run`: the proxy itself.

use std::process::ExitCode;
use std::sync::Arc;

use super::{BAD_CONFIG, Log, RUNTIME_FAILURE, Source};
use crate::app::{App, Error};
use crate::config;
use crate::telemetry::logging::{Format, Logging};

/// Runs until told to end.
#[expect(clippy::print_stderr, reason = "before the log runs there is nowhere else to tell it")]
pub(super) fn run(source: &Source, log: &Log) -> ExitCode {
    let loaded = match config::load(&source.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems:?}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let format = log.log_format.unwrap_or(if loaded.config.profile.logs_as_text() {
        Format::Text
    } else {
        Format::Json
    });
    let logging = match Logging::start(format, &log.log_level) {
        Ok(logging) => Arc::new(logging),
        Err(error) => {
            eprintln!("fender: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let ended = App::new(loaded, source.config.clone(), Arc::clone(&logging)).and_then(App::run);
    let code = match ended {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Error::Config(_)) => BAD_CONFIG,
        Err(Error::Listen { .. } | Error::Start(_)) => RUNTIME_FAILURE,
    };
    if let Err(error) = ended {
        tracing::error!(%error, "cannot start");
    }
    logging.close();
    ExitCode::from(code)
}
