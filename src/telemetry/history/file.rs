//! The long past on disk: a line with its sum, then JSON. Written anew as a whole, so that what is there is whole.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::buckets::{Bucket, Buckets};
use super::figures::{CELLS, Figures};

/// What the file begins with, and the form of what follows.
const MARK: &str = "fender-report 1 ";

/// No file that was written here is larger: a thousand upstreams, always busy.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a file tells nothing.
#[derive(Debug)]
pub(super) enum Unread {
    Absent,
    /// It is not what was written.
    Broken(String),
    /// It cannot be looked into.
    Failed(io::Error),
}

/// What stands below the first line.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// In seconds since 1970.
    since: Option<u64>,
    tiers: Vec<KeptTier>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptTier {
    /// In seconds.
    width: u64,
    buckets: Vec<KeptBucket>,
}

/// Its beginning in seconds since 1970, the milliseconds in which somebody counted, the figures by name.
#[derive(Debug, Serialize, Deserialize)]
struct KeptBucket(u64, u32, Vec<(String, [u32; CELLS])>);

pub(super) fn text(buckets: &Buckets) -> String {
    let bucket = |(start, bucket): (&u64, &Bucket)| {
        let upstreams = bucket.upstreams.iter().map(|(name, figures)| (name.to_string(), figures.cells()));
        KeptBucket(*start, bucket.covered_ms, upstreams.collect())
    };
    let tiers = buckets.tiers.iter();
    let tiers =
        tiers.map(|tier| KeptTier { width: tier.width, buckets: tier.buckets.iter().map(bucket).collect() });
    let body =
        serde_json::to_string(&Kept { since: buckets.since, tiers: tiers.collect() }).unwrap_or_default();
    format!("{MARK}{}\n{body}", sum(&body))
}

fn sum(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn read(path: &Path) -> Result<Buckets, Unread> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Unread::Absent),
        Err(error) => return Err(Unread::Failed(error)),
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(Unread::Failed)?;
    parse(&text).map_err(Unread::Broken)
}

fn parse(bytes: &[u8]) -> Result<Buckets, String> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err("it is larger than any that was written".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
    let (head, body) = text.split_once('\n').ok_or("it has no first line")?;
    let told = head.strip_prefix(MARK).ok_or("its first line is of no form that is known here")?;
    if told != sum(body) {
        return Err("its sum is wrong".to_owned());
    }
    let kept: Kept = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let mut buckets = Buckets { since: kept.since, ..Buckets::default() };
    let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
    for kept in kept.tiers {
        // Of a width that is not used any more nothing is taken.
        let Some(tier) = buckets.tiers.iter_mut().find(|tier| tier.width == kept.width) else { continue };
        for KeptBucket(start, covered_ms, upstreams) in kept.buckets {
            if start % kept.width != 0 {
                return Err("a bucket begins where none does".to_owned());
            }
            let bucket = tier.buckets.entry(start).or_default();
            bucket.covered_ms = covered_ms;
            for (name, cells) in upstreams {
                let known = names.get(name.as_str()).cloned();
                let name = known.unwrap_or_else(|| Arc::from(name));
                bucket.count(&name, &Figures::of(cells));
                names.insert(name);
            }
        }
    }
    Ok(buckets)
}

/// Beside it, under its name and this.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Puts a file out of the way that tells nothing; whether that was done.
pub(super) fn set_aside(path: &Path) -> bool {
    fs::rename(path, beside(path, ".damaged")).is_ok()
}

/// All of it or nothing, also if the power goes.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let fresh = beside(path, ".new");
    let written = write_to(&fresh, text).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        // Half a file on a full disk helps nobody; where it cannot be removed either, the next one takes its place.
        drop(fs::remove_file(&fresh));
    }
    written?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write_to(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn some() -> Buckets {
        let mut buckets = Buckets::default();
        let figures = Figures::of(std::array::from_fn(|at| u32::try_from(at).unwrap()));
        for at in 0..1000 {
            let news = [("api", figures), ("ümlaut \"quoted\"", figures)];
            buckets.add(at * 300_000, Duration::from_secs(300), news.into_iter());
        }
        buckets
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.db.report");
        assert!(matches!(read(&path), Err(Unread::Absent)));
        let text = text(&some());
        write(&path, &text).unwrap();
        write(&path, &text).unwrap();
        assert_eq!(super::text(&read(&path).unwrap()), text);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays");
    }

    #[test]
    fn what_is_damaged_is_seen() {
        let text = text(&some()).into_bytes();
        for at in (0..text.len()).step_by(97) {
            let mut broken = text.clone();
            broken[at] ^= 0x20;
            assert!(parse(&broken).is_err(), "{at}");
            assert!(parse(&text[..at]).is_err(), "{at}");
        }
        assert!(parse(b"").is_err());
        assert!(parse(&[text, b" ".to_vec()].concat()).is_err());
    }

    #[test]
    fn a_right_sum_makes_no_sense_of_nonsense() {
        for body in [
            "",
            "[]",
            "{\"tiers\":[{\"width\":300,\"buckets\":[[7,1,[]]]}]}",
            "{\"tiers\":[{\"width\":0,\"buckets\":[[-1]]}]}",
        ] {
            assert!(parse(format!("{MARK}{}\n{body}", sum(body)).as_bytes()).is_err(), "{body}");
        }
        let other = "{\"tiers\":[{\"width\":7,\"buckets\":[[7,1,[]]]}]}";
        assert!(parse(format!("{MARK}{}\n{other}", sum(other)).as_bytes()).is_ok());
    }
}
