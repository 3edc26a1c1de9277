//! Whether any file that the config names has changed: asked every second or two, it must be cheap and miss nothing.
//!
//! A file is read again only when its inode, size or one of its times (to the nanosecond) differs, so an edit of the
//! same size within one second, an atomic rename and the symlink swap of a Kubernetes ConfigMap are all seen.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files that a config came from, as they were when last looked at.
#[derive(Debug)]
pub struct Watcher {
    files: Vec<(PathBuf, Seen)>,
}

impl Watcher {
    /// Watches these files and folders from their present state on. Symlinks are followed.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files = files.into_iter().map(|path| {
            let seen = Seen::of(&path);
            (path, seen)
        });
        Self { files: files.collect() }
    }

    /// Watches these instead: those that were watched already, from the state on that they were known in. So what is
    /// watched before it is read, and told of in full only by reading it, is never left unwatched in between.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut known = std::mem::take(&mut self.files);
        let kept = files.into_iter().map(|path| {
            let at = known.iter().position(|(watched, _)| *watched == path);
            at.map(|at| known.swap_remove(at)).unwrap_or_else(|| {
                let seen = Seen::of(&path);
                (path, seen)
            })
        });
        self.files = kept.collect();
    }

    /// Whether any content has changed since the last call; each change is told once.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            changed |= seen.look_again(path);
        }
        changed
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    stat: Option<Stat>,
    content: Option<u64>,
}

/// What differs whenever a file was written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(path: &Path) -> Self {
        // The stat comes first: if the file changes in between, the next look sees another stat.
        let stat = std::fs::metadata(path).ok().map(|metadata| Stat::of(&metadata));
        Self { stat, content: content(path) }
    }

    fn look_again(&mut self, path: &Path) -> bool {
        let stat = std::fs::metadata(path).ok().map(|metadata| Stat::of(&metadata));
        if stat == self.stat {
            return false;
        }
        let content = content(path);
        let changed = content != self.content;
        *self = Self { stat, content };
        changed
    }
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A hash of what a file holds, or of what a folder lists; `None` when it cannot be read.
fn content(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    if path.is_dir() {
        let mut names: Vec<_> =
            std::fs::read_dir(path).ok()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort();
        for name in names.iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "toml")) {
            hasher.write(name.as_encoded_bytes());
            hasher.write_u8(0);
        }
        return Some(hasher.finish());
    }
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return None; // Who reads a pipe may wait for ever.
    }
    let mut file = std::fs::File::open(path).ok()?.take(READ_MAX);
    let mut chunk = vec![0; 16 << 10];
    loop {
        match file.read(&mut chunk).ok()? {
            0 => return Some(hasher.finish()),
            length => hasher.write(chunk.get(..length)?),
        }
    }
}

const READ_MAX: u64 = 16 << 20; // No file that a config may name is larger.
