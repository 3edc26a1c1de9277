//! `fender demo`: flaky upstreams, one of them with outages, the proxy and a traffic source in one process, on loopback, leaving nothing behind.

mod figures;
mod policies;
mod traffic;
mod upstreams;

use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::figures::Figures;
use self::upstreams::Upstreams;
use super::check::{say, say_error};
use super::{Log, RUNTIME_FAILURE, why};
use crate::admin::newest_story;
use crate::app::App;
use crate::clock;
use crate::config::{self, watch::Watcher};
use crate::drain::{Drain, Phase};
use crate::telemetry::logging::{Format, Logging};
use crate::telemetry::story::{Fact, Step, Story};
use crate::units;

/// Shows it at work: flaky upstreams, the proxy and a traffic source on loopback, in one process.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ends by itself after so long, such as 20s; otherwise Ctrl-C ends it
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
}

/// Towards its end nothing is asked and nothing is down any more, so that what was kept can be delivered.
const CALM: Duration = Duration::from_secs(3);

/// How often the live line is drawn.
const REDRAW: Duration = Duration::from_millis(500);

/// 0 after its end, with a summary.
pub(super) fn run(args: &Args, log: &Log) -> ExitCode {
    match show(args, log) {
        Ok(summary) => say(&summary),
        Err(error) => {
            say_error(&format!("error: {error}\n"));
            ExitCode::from(RUNTIME_FAILURE)
        }
    }
}

fn show(args: &Args, log: &Log) -> Result<String, String> {
    // Failures are what it shows: the log would only repeat the summary, unless someone asks for it.
    let level = if log.log_level == super::DEFAULT_LEVEL { "error" } else { &log.log_level };
    let logging = Arc::new(Logging::start(log.log_format.unwrap_or(Format::Text), level)?);
    let calm = Arc::new(AtomicBool::new(false));
    let upstreams = Upstreams::start(&calm).map_err(|error| error.to_string())?;
    let folder = Folder::new()?;
    let token = format!("{:016x}", fastrand::u64(..));
    let text = upstreams.config(&folder.0.join("letters.db"), &token);
    let loaded = config::load_text("demo.toml", &text).map_err(|problems| problems.to_string())?;
    let nowhere = PathBuf::from("demo.toml");
    let app = App::new(loaded, nowhere, Watcher::new([]), logging).map_err(|error| error.to_string())?;
    let server = app.server_addresses().into_iter().next().ok_or("no address")?;
    let admin = app.admin_address().ok_or("no address")?;
    let figures = Arc::new(Figures::new(upstreams.names()));
    introduce(server, admin, &text, &token)?;
    let begun = clock::now();
    traffic::start(server, &figures, &app.drain(), &calm).map_err(|error| error.to_string())?;
    let watching = {
        let (drain, figures, length) = (app.drain(), Arc::clone(&figures), args.duration);
        thread::spawn(move || watch(&drain, &figures, begun, length, &calm))
    };
    let (metrics, admin) = (app.metrics(), app.admin());
    app.run().map_err(|error| error.to_string())?;
    // A thread that only draws has nothing to say at its end.
    drop(watching.join());
    let seen = figures.summary(clock::now().saturating_duration_since(begun));
    let table = format!("{seen}\n{}", policies::summary(&upstreams.names(), &metrics));
    Ok(match newest_story(&admin, worth_telling) {
        Some(told) => {
            format!("{table}\none request's story, as `fender why ID` tells it:\n\n{}", why::page(&told))
        }
        None => table,
    })
}

/// One that was tried again: of a letter only the store would know the end, and it is closed by then.
fn worth_telling(story: &Story) -> bool {
    let again = |step: &Step| matches!(step.fact, Fact::Again { .. });
    story.letter().is_none() && story.steps.iter().any(again)
}

/// Where the letters of the show are; gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("fender-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say_error(&format!("{} could not be removed: {error}\n", self.0.display()));
        }
    }
}

fn introduce(server: SocketAddr, admin: SocketAddr, text: &str, token: &str) -> Result<(), String> {
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    let words = format!(
        "\nFender stands between a busy application and three flaky APIs, all of them in this process.\n\
         Two of them are down for two seconds out of every six; failed messages are kept and sent again.\n\n\
         {indented}\n\
         try       curl -i http://{server}/ai/hello\n\
         \x20         curl -iN http://{server}/ai/stream\n\
         \x20         curl -i -d '{{}}' http://{server}/messages/send\n\
         dashboard http://{admin}/   with the token {token}\n\
         metrics   http://{admin}/metrics\n\
         health    http://{admin}/health\n\n"
    );
    stdout().write_all(words.as_bytes()).map_err(|error| error.to_string())
}

/// Draws the live line, and ends the show when its time is up.
#[expect(clippy::disallowed_methods, reason = "a thread of its own that has nothing else to do")]
fn watch(drain: &Drain, figures: &Figures, begun: Instant, length: Option<Duration>, calm: &AtomicBool) {
    let live = stdout().is_terminal();
    while drain.phase() == Phase::Serving {
        let passed = clock::now().saturating_duration_since(begun);
        let left = length.map(|length| length.saturating_sub(passed));
        if left.zip(length).is_some_and(|(left, length)| left <= CALM.min(length / 5)) {
            calm.store(true, Ordering::Relaxed);
        }
        if left == Some(Duration::ZERO) {
            drain.advance(Phase::Draining);
            break;
        }
        if live {
            // A terminal that went away does not end the show.
            drop(stdout().write_all(figures.line(passed).as_bytes()).and_then(|()| stdout().flush()));
        }
        thread::sleep(left.unwrap_or(REDRAW).min(REDRAW));
    }
    if live {
        drop(stdout().write_all(b"\r\x1b[K"));
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| error.to_string())
}
