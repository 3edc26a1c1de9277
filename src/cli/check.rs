//! `fender check`: is this config in order, and what does it come to?

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::{BAD_CONFIG, Source};
use crate::app;
use crate::config::{self, Loaded};

/// Validates a config and tells every problem with its place.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub source: Source,
    /// Prints every key in force for this upstream, and who set it
    #[arg(long, value_name = "UPSTREAM")]
    pub explain: Option<String>,
}

/// 0 if it is in order, 2 if not.
pub fn run(args: &Args) -> ExitCode {
    match config::load(&args.source.config) {
        Ok(loaded) => match app::verify(&loaded.config) {
            Ok(()) => report(args, &loaded),
            Err(unusable) => {
                say_error(&format!("error: {unusable}\n"));
                ExitCode::from(BAD_CONFIG)
            }
        },
        Err(problems) => {
            say_error(&problems.render(std::io::stderr().is_terminal()));
            ExitCode::from(BAD_CONFIG)
        }
    }
}

fn report(args: &Args, loaded: &Loaded) -> ExitCode {
    say_error(&config::render(&loaded.warnings, std::io::stderr().is_terminal()));
    if let Some(upstream) = &args.explain {
        let Some(text) = loaded.explain(upstream) else {
            let names: Vec<&str> = loaded.config.upstream.keys().map(String::as_str).collect();
            say_error(&format!("error: no upstream {upstream:?}; there are: {}\n", names.join(", ")));
            return ExitCode::from(BAD_CONFIG);
        };
        return say(&text);
    }
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    say(&format!(
        "{} is in order: {}, {}, {}, {}\n",
        args.source.config.display(),
        count(loaded.config_files, "file"),
        count(loaded.config.upstream.len(), "upstream"),
        count(loaded.config.route.len(), "route"),
        count(loaded.warnings.len(), "warning"),
    ))
}

/// A reader that has gone away, such as `head`, is no failure.
pub(super) fn say(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

pub(super) fn say_error(text: &str) {
    // Nobody is left to tell when stderr is gone.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
