//! What we were told.
//!
//! Promises: every problem of a config is found in one go, with its place and a way out; what `load` returns is complete,
//! within its bounds and free of contradictions. Never: shows a secret, starts anything, changes anything.

pub mod model;

use std::path::{Path, PathBuf};

pub use self::model::*;

/// A config that is in order, and what came with it.
#[derive(Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What is allowed but doubtful.
    pub warnings: Vec<Problem>,
    /// Every file to watch: config files, certificates, keys, secrets.
    pub files: Vec<PathBuf>,
}

/// One thing that is wrong with a config.
#[derive(Debug)]
pub struct Problem;

/// All that is wrong with a config.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

/// Reads a config file, or all `*.toml` of a folder in name order.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let _ = path;
    todo!()
}
