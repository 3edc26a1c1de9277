//! The text of one config file, and places in it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

/// One config file. Printing it shows its name alone: the text may bear secrets.
pub struct Source {
    /// How the user named it.
    pub name: String,
    /// What relative paths in it start from.
    pub(super) folder: PathBuf,
    pub(super) text: String,
    /// What is never shown: the values of secrets, by byte range.
    pub(super) hidden: Vec<Range<usize>>,
}

/// A range of bytes in a config file.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) source: Arc<Source>,
    pub(super) span: Range<usize>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// Line and column, from one; columns count characters.
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.span.start).unwrap_or(&self.source.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
        (line, column)
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    pub(super) fn same_line(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.line_and_column().0 == other.line_and_column().0
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.span == other.span
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

/// The files that a path stands for: itself, or the `*.toml` of a folder in name order.
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).map_err(|error| format!("cannot list {}: {error}", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "toml") && file.is_file())
        .collect();
    files.sort();
    match files.len() {
        0 => Err(format!("{} holds no *.toml file", path.display())),
        1..=FILES_MAX => Ok(files),
        _ => Err(format!("{} holds more than {FILES_MAX} *.toml files", path.display())),
    }
}

/// The text of a config file, or why there is none.
pub(super) fn read(path: &Path) -> Result<String, String> {
    // This one may be a pipe: `--config <(…)`.
    let read =
        File::open(path).map_err(|error| error.to_string()).and_then(|file| read_all(file, CONFIG_MAX));
    let bytes = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = good.filter(|byte| **byte == b'\n').count() + 1;
        format!("{} is not UTF-8 text (line {line})", path.display())
    })
}

/// All of a file that a config names, if it is no larger than that. A pipe or a device is none: who reads it may wait for ever,
/// and while a reload waits nobody hears signals or probes.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return Err("is no regular file".to_owned());
    }
    read_all(file, bytes_max)
}

/// All of a file, if it is no larger than that.
fn read_all(file: File, bytes_max: u64) -> Result<Vec<u8>, String> {
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err("is a folder".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(format!("it is larger than {}", crate::units::format_size(bytes_max)));
    }
    Ok(bytes)
}

pub(super) const CONFIG_MAX: u64 = 4 << 20; // A config is written by people.
const FILES_MAX: usize = 1000;
