//! `fender defaults`: what every key comes to when nobody sets it.

use std::process::ExitCode;

use clap::ValueEnum;

use super::check::say;
use crate::config::{self, defaults};

/// Prints all defaults as TOML: the commented file, or what a preset and a profile make of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What an upstream of this preset starts from
    #[arg(long)]
    pub preset: Option<Preset>,
    /// What this profile starts from
    #[arg(long)]
    pub profile: Option<Profile>,
}

/// A set of defaults for one kind of service.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Preset {
    /// Language models
    Ai,
    /// Messaging APIs
    Messaging,
    /// A service of one's own
    Internal,
}

/// A set of defaults for one kind of environment.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Profile {
    /// The defaults as they are
    Production,
    /// Text logs, quick breakers
    Development,
    /// One attempt, short timeouts
    Testing,
}

/// Prints them.
pub fn run(args: &Args) -> ExitCode {
    if args.preset.is_none() && args.profile.is_none() {
        return say(defaults::TEXT);
    }
    let preset = match args.preset {
        Some(Preset::Ai) => config::Preset::Ai,
        Some(Preset::Messaging) => config::Preset::Messaging,
        Some(Preset::Internal) | None => config::Preset::Internal,
    };
    let profile = match args.profile {
        Some(Profile::Development) => config::Profile::Development,
        Some(Profile::Testing) => config::Profile::Testing,
        Some(Profile::Production) | None => config::Profile::Production,
    };
    say(&defaults::resolved(preset, profile))
}
