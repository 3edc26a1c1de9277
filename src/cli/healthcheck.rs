//! `fender healthcheck`: is the Fender there ready? For container health checks in images without a shell.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::timeout;

use super::check::{say, say_error};
use super::remote::{Remote, Where};
use super::{BAD_CONFIG, RUNTIME_FAILURE};

/// Asks a running Fender whether it is ready: exit code 0 if it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    to: Where,
}

/// A health check that waits longer tells nothing that its caller's own patience does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// 0 if it is ready, 1 if it is not or nobody answers, 2 if the arguments make no sense.
pub(super) fn run(args: &Args) -> ExitCode {
    let remote = match Remote::new(&args.to) {
        Ok(remote) => remote,
        Err(why) => {
            say_error(&format!("error: {why}\n"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let asked = remote.call(Method::GET, "/health/ready", Bytes::new());
        runtime
            .block_on(async { timeout(PATIENCE, asked).await })
            .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
    });
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => say("ready\n"),
        Ok(answer) => {
            say_error(&format!(
                "not ready: {} {}\n",
                answer.status.as_u16(),
                String::from_utf8_lossy(&answer.body)
            ));
            ExitCode::from(RUNTIME_FAILURE)
        }
        Err(why) => {
            say_error(&format!("error: {why}\n"));
            ExitCode::from(RUNTIME_FAILURE)
        }
    }
}
