//! `fender dialect`: how the APIs speak.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::BAD_CONFIG;
use super::check::{say, say_error};
use crate::config::{self, Loaded, nearest};
use crate::dialect::builtin;

/// Lists the dialects, or prints one as TOML.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// A config whose own dialects are listed and shown too
    #[arg(long, global = true, value_name = "FILE", env = "FENDER_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Each dialect on a line
    List,
    /// One dialect as TOML, in the words of [dialect.NAME]
    Show { name: String },
}

/// 0 if it is there, 2 if not, or if the config is not in order.
pub fn run(args: &Args) -> ExitCode {
    let loaded = match args.config.as_deref().map(config::load).transpose() {
        Ok(loaded) => loaded,
        Err(problems) => {
            say_error(&problems.render(std::io::stderr().is_terminal()));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match &args.command {
        Command::List => say(&list(loaded.as_ref())),
        Command::Show { name } => show(name, loaded.as_ref()),
    }
}

fn list(loaded: Option<&Loaded>) -> String {
    let own: Vec<(&str, &str)> = loaded.into_iter().flat_map(Loaded::own_dialects).collect();
    let changed = |name: &str| own.iter().any(|(other, _)| *other == name);
    let built_in = builtin::names().filter(|name| !changed(name)).filter_map(builtin::dialect);
    let mut lines: Vec<(String, String)> =
        built_in.map(|dialect| (dialect.name().to_owned(), dialect.about().to_owned())).collect();
    lines.extend(own.iter().map(|(name, about)| ((*name).to_owned(), format!("{about} (of the config)"))));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    lines.iter().map(|(name, about)| format!("{name:width$}  {about}\n")).collect()
}

fn show(name: &str, loaded: Option<&Loaded>) -> ExitCode {
    if let Some(own) = loaded.and_then(|loaded| loaded.own_dialect(name)) {
        return say(own.trim_start());
    }
    if let Some(text) = builtin::text(name) {
        return say(text);
    }
    let mut names: Vec<&str> = builtin::names().collect();
    names.extend(loaded.into_iter().flat_map(Loaded::own_dialects).map(|(name, _)| name));
    let help = match nearest(name, &names) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are: {}", names.join(", ")),
    };
    say_error(&format!("error: no dialect {name:?}; {help}\n"));
    ExitCode::from(BAD_CONFIG)
}
