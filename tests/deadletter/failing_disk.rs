//! A folder whose calls fail where they are told to, under a process of the test's: see `failing_disk.c`.
//!
//! Unlike a tracer it counts the calls of all threads together, can make a write that is cut short or torn, begins and ends
//! while the process runs, and costs it next to nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Setup;

/// The calls that can fail, by their place in the file that both sides hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Write,
    Sync,
    Truncate,
    Rename,
    Open,
    Unlink,
    Read,
}

impl Call {
    pub(crate) const ALL: [Self; 7] =
        [Self::Write, Self::Sync, Self::Truncate, Self::Rename, Self::Open, Self::Unlink, Self::Read];

    /// What can befall it.
    pub(crate) const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Write => &[Kind::IoError, Kind::NoSpace, Kind::Short, Kind::Torn],
            Self::Sync | Self::Truncate => &[Kind::IoError, Kind::NoSpace],
            Self::Open => &[Kind::IoError, Kind::NoSpace, Kind::NoFiles],
            Self::Rename | Self::Unlink | Self::Read => &[Kind::IoError],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    IoError,
    NoSpace,
    /// Half of the bytes are written, and that is said.
    Short,
    /// Half of the bytes are written, and an error is told.
    Torn,
    /// The process has too many files open.
    NoFiles,
}

/// What fails, from which call on, and whether it goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) kind: Kind,
    /// Counted from 1, over all threads, from the moment on when it is armed.
    pub(crate) nth: u64,
    pub(crate) on: bool,
}

/// The library that stands between a process and its disk.
pub(crate) struct Shim {
    folder: tempfile::TempDir,
}

impl Shim {
    /// Compiles it; none where there is no compiler.
    pub(crate) fn compile() -> Option<Self> {
        let shim = Self { folder: tempfile::tempdir().unwrap() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deadletter/failing_disk.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
            .arg(shim.path())
            .arg(source)
            .arg("-ldl");
        let Ok(output) = cc.output() else {
            eprintln!("SKIPPED: there is no cc to make a failing disk with");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(shim)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("failing_disk.so")
    }
}

/// A folder of its own, with its switch.
pub(crate) struct FailingDisk {
    folder: tempfile::TempDir,
    shim: PathBuf,
    control: File,
}

/// Words of the file that both sides hold.
const ARMED: u64 = 0;
const HIT: u64 = 6;
const ALL: u64 = 7;

impl FailingDisk {
    pub(crate) fn new(shim: &Shim) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("disk")).unwrap();
        let control = folder.path().join("control");
        let control = File::options().read(true).write(true).create_new(true).open(control).unwrap();
        control.set_len(4096).unwrap();
        Self { folder, shim: shim.path(), control }
    }

    /// The folder that fails.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A process that has its disk here.
    pub(crate) fn under(&self, setup: Setup) -> Setup {
        let text = |path: &Path| path.to_str().expect("a temporary folder has a plain name").to_owned();
        setup
            .environment("LD_PRELOAD", &text(&self.shim))
            .environment("DISK_FOLDER", &text(&self.path()))
            .environment("DISK_CONTROL", &text(&self.folder.path().join("control")))
    }

    pub(crate) fn arm(&self, fault: Fault) {
        let Fault { call, kind, nth, on } = fault;
        let words = [call as u64, nth, if on { u64::MAX } else { nth }, kind as u64, 0, 0];
        for (at, word) in (1..).zip(words) {
            self.put(at, word);
        }
        self.put(ARMED, 1);
    }

    pub(crate) fn disarm(&self) {
        self.put(ARMED, 0);
    }

    /// How many calls have failed.
    pub(crate) fn hit(&self) -> u64 {
        self.get(HIT)
    }

    /// How often each call was made so far.
    pub(crate) fn counts(&self) -> [u64; 7] {
        Call::ALL.map(|call| self.get(ALL + call as u64))
    }

    fn put(&self, at: u64, word: u64) {
        self.control.write_all_at(&word.to_le_bytes(), at * 8).unwrap();
    }

    fn get(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.control.read_exact_at(&mut word, at * 8).unwrap();
        u64::from_le_bytes(word)
    }
}
