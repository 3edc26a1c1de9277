//! The process's log: JSON for machines, text for people, on standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{Handle, Layer};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::sink::Sink;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Text,
}

/// Keeps the log's writer; [`Logging::close`] writes what is queued.
#[derive(Debug)]
pub struct Logging {
    sink: Sink,
    filter: Handle<Targets, Registry>,
}

impl Logging {
    /// Starts the log. `level`: a level or a filter (`info,hyper=warn`).
    ///
    /// # Errors
    /// A filter that cannot be read, or a log that was started already.
    pub fn start(format: Format, level: &str) -> Result<Self, String> {
        let level = if level.trim().is_empty() { "info" } else { level };
        let filter: Targets = level.parse().map_err(|error| format!("--log-level {level:?}: {error}"))?;
        let sink = Sink::new("fender-log", std::io::stderr());
        let (filter, handle) = Layer::new(filter);
        let registry = tracing_subscriber::registry().with(filter);
        let layer = tracing_subscriber::fmt::layer().with_writer(sink.clone()).with_target(false);
        let started = match format {
            Format::Json => registry
                .with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false))
                .try_init(),
            Format::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
        };
        started.map_err(|error: TryInitError| error.to_string())?;
        Ok(Self { sink, filter: handle })
    }

    /// The filter in force.
    #[must_use]
    pub fn level(&self) -> String {
        self.filter.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Another level or filter, from now on.
    ///
    /// # Errors
    /// A filter that cannot be read.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let filter: Targets = level.parse().map_err(|error: ParseError| error.to_string())?;
        self.filter.reload(filter).map_err(|error| error.to_string())
    }

    /// Lines lost to a reader that did not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Writes what is queued. Later lines are lost.
    pub fn close(&self) {
        self.sink.close();
    }
}
