//! What SQLite does not tell of a WAL: it reads it up to the first frame whose checksum fails, and drops the rest without a word.
//!
//! After a crash that is right: the frame is of a commit that nobody had an answer for. Where later commits stand behind it, it is
//! rot, and letters that were accepted are lost: that is told, and the WAL kept.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What of a WAL cannot be read though it was once written whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Commits behind the first one that is broken.
    pub(super) commits: u64,
}

const HEADER: usize = 32;
const FRAME: usize = 24;
const PAGE: usize = 4096;

/// Reads the WAL as SQLite will, and on where it stops. What is not there, or is no WAL, has lost nothing.
pub(super) fn lost(path: &Path) -> io::Result<Lost> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lost::default()),
        file => file?,
    };
    let mut file = BufReader::with_capacity(64 << 10, file);
    let mut header = [0; HEADER];
    if !filled(&mut file, &mut header)? {
        return Ok(Lost::default());
    }
    let mark = word(&header, 0);
    let big_end = mark == 0x377f_0683;
    let (told, _) = header.split_at(24);
    let mut sums = sum(told, big_end, (0, 0));
    let headed = (big_end || mark == 0x377f_0682) && sums == (word(&header, 24), word(&header, 28));
    let mut salts = headed.then(|| (word(&header, 16), word(&header, 20)));
    // Of a header that makes no sense not even the length of a page is believed.
    let mut frame = vec![0; FRAME + PAGE];
    let (mut reads, mut behind, mut before) = (headed, 0_u64, None);
    while filled(&mut file, &mut frame)? {
        let (head, page) = frame.split_at(FRAME);
        let its = (word(head, 8), word(head, 12));
        if salts.is_none() && before == Some(its) {
            salts = Some(its);
        }
        before = Some(its);
        if salts != Some(its) {
            // An older WAL's, which this one has not reached yet; or it is broken itself.
            reads = false;
            continue;
        }
        if reads {
            let (what, _) = head.split_at(8);
            sums = sum(page, big_end, sum(what, big_end, sums));
            reads = sums == (word(head, 16), word(head, 20));
        }
        behind += u64::from(!reads && word(head, 4) != 0);
    }
    // The commit that is broken itself may be the one that a crash cut short.
    Ok(Lost { commits: behind.saturating_sub(1) })
}

/// Whether there was as much as that.
fn filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_be_bytes)
}

/// SQLite's checksum of a WAL, over words in the order that the header's mark names.
fn sum(bytes: &[u8], big_end: bool, (mut first, mut second): (u32, u32)) -> (u32, u32) {
    let read = if big_end { u32::from_be_bytes } else { u32::from_le_bytes };
    for pair in bytes.chunks_exact(8) {
        let (left, right) = pair.split_at(4);
        let of = |word: &[u8]| word.try_into().map_or(0, read);
        first = first.wrapping_add(of(left)).wrapping_add(second);
        second = second.wrapping_add(of(right)).wrapping_add(first);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A WAL of five commits, as a kill leaves it.
    fn wal() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("a.db")).unwrap();
        conn.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = wal; CREATE TABLE t (x)").unwrap();
        for number in 0..4 {
            conn.execute("INSERT INTO t VALUES (?1)", [number]).unwrap();
        }
        let path = folder.path().join("killed-wal");
        std::fs::copy(folder.path().join("a.db-wal"), &path).unwrap();
        (folder, path)
    }

    fn with(change: impl FnOnce(&mut Vec<u8>)) -> Lost {
        let (_folder, path) = wal();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        lost(&path).unwrap()
    }

    const WHOLE: usize = FRAME + 4096;

    #[test]
    fn a_whole_wal_has_lost_nothing_nor_has_one_that_a_crash_cut_short() {
        assert_eq!(with(|_| {}), Lost::default());
        assert_eq!(with(Vec::clear), Lost::default());
        assert_eq!(with(|bytes| bytes.truncate(bytes.len() - 100)), Lost::default());
        let torn = |bytes: &mut Vec<u8>| {
            let end = bytes.len();
            bytes[end - 2000..].fill(0);
        };
        assert_eq!(with(torn), Lost::default());
        assert_eq!(lost(Path::new("/nowhere/at/all-wal")).unwrap(), Lost::default());
    }

    /// As it is done where letters were sealed that lay in the clear before.
    #[test]
    fn a_wal_that_was_brought_home_and_cut_off_has_lost_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("a.db")).unwrap();
        conn.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = wal; CREATE TABLE t (x)").unwrap();
        let wal = folder.path().join("a.db-wal");
        let length = || std::fs::metadata(&wal).unwrap().len();
        assert!(length() > 0);
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        assert_eq!((length(), lost(&wal).unwrap()), (0, Lost::default()));
        for number in 0..4 {
            conn.execute("INSERT INTO t VALUES (?1)", [number]).unwrap();
        }
        assert!(length() > 0);
        assert_eq!(lost(&wal).unwrap(), Lost::default());
    }

    #[test]
    fn commits_behind_a_broken_one_are_lost() {
        let last = |bytes: &Vec<u8>| (bytes.len() - HEADER) / WHOLE - 1;
        // The third commit from the end is broken: two were whole behind it.
        let broken = with(|bytes| {
            let at = HEADER + (last(bytes) - 2) * WHOLE + FRAME + 7;
            bytes[at] ^= 1;
        });
        assert_eq!(broken.commits, 2);
        // Without its header none of it is read.
        let headless = with(|bytes| bytes[..HEADER].fill(0));
        assert!(headless.commits >= 3, "{headless:?}");
    }
}
