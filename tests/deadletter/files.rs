//! The files: one owner, no other program's, none of a later Fender.

use std::fs;
use std::path::{Path, PathBuf};

use fender::deadletter::{Because, Captured, Draft, Filter, OpenError, State, Store, StoreError};

use super::{Bench, draft, runtime, settings};
use crate::support::eventually;

fn refused(bench: &Bench) -> OpenError {
    Store::open(&bench.settings).map(|_| ()).unwrap_err()
}

/// Runs SQL on a closed store's file, as another program would.
fn sql(bench: &Bench, text: &str) {
    let connection = rusqlite::Connection::open(bench.path()).unwrap();
    connection.execute_batch(text).unwrap();
}

#[test]
fn a_second_opener_is_told_who_has_the_file() {
    let mut bench = Bench::new();
    let error = refused(&bench);
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains("in use by another Fender (process "), "{error}");
    bench.reopen();
}

#[test]
fn a_newer_file_is_left_alone() {
    let mut bench = Bench::new();
    bench.close();
    sql(&bench, "PRAGMA user_version = 99");
    let error = refused(&bench);
    assert!(matches!(error, OpenError::Newer { found: 99, known: 2, .. }), "{error}");
    sql(&bench, "PRAGMA user_version = 2");
    assert!(!bench.open().created);
}

/// All files of a folder but the lock, and what is in them.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// A store that waits for the file as the process does, over several tries, leaves all of the folder as it is; what it says.
fn waits_and_touches_nothing(path: &Path) -> String {
    let before = contents(path.parent().unwrap());
    let (store, opened) = Store::open_or_wait(&settings(path), |_| {}).unwrap();
    let said = opened.unwrap_err().to_string();
    runtime().block_on(async {
        // Each call is one more try, once a second.
        let until = std::time::Instant::now() + std::time::Duration::from_millis(2500);
        while std::time::Instant::now() < until {
            assert!(matches!(store.capture(draft("x")).await, Err(StoreError::Unavailable(_))));
            assert!(store.list(Filter::default(), 1, None).await.is_err());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(!store.figures().healthy);
        store.close().await;
    });
    assert!(contents(path.parent().unwrap()) == before, "{path:?} was touched");
    said
}

#[test]
fn another_programs_database_is_left_alone() {
    for prepare in [
        "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)",
        "PRAGMA journal_mode = wal; CREATE TABLE theirs (x)",
        "PRAGMA application_id = 7; PRAGMA user_version = 1",
        "PRAGMA user_version = 3",
        "VACUUM",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(prepare).unwrap();
        let said = waits_and_touches_nothing(&path);
        assert!(said.contains("another program"), "{prepare}: {said}");
    }
}

#[test]
fn another_programs_database_is_left_alone_with_its_wal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.db");
    let theirs = rusqlite::Connection::open(&path).unwrap();
    theirs.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE theirs (x)").unwrap();
    // As a kill leaves it.
    let killed = tempfile::tempdir().unwrap();
    for name in ["theirs.db", "theirs.db-wal"] {
        fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
    }
    let said = waits_and_touches_nothing(&killed.path().join("theirs.db"));
    assert!(said.contains("another program"), "{said}");
}

#[test]
fn a_file_that_nothing_shows_to_have_been_a_store_is_left_alone() {
    let bytes: Vec<u8> = (0..9000_u32).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    let headed = [b"SQLite format 3\0", bytes.as_slice()].concat();
    for (content, wal) in [(&bytes, false), (&bytes, true), (&headed, false), (&headed, true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.raw");
        fs::write(&path, content).unwrap();
        if wal {
            fs::write(folder.path().join("photo.raw-wal"), b"theirs too").unwrap();
        }
        let said = waits_and_touches_nothing(&path);
        assert!(said.contains("name another file"), "{said}");
    }
}

#[test]
fn a_store_says_whose_it_is_before_it_has_ever_been_checkpointed() {
    let bench = Bench::new();
    let id = bench.capture(draft("x"));
    // As a kill leaves it, and with its reserve given up to a full disk.
    let killed = tempfile::tempdir().unwrap();
    for name in ["letters.db", "letters.db-wal"] {
        fs::copy(bench.folder.path().join(name), killed.path().join(name)).unwrap();
    }
    assert!(fs::metadata(killed.path().join("letters.db-wal")).unwrap().len() > 0);
    let (store, opened) = Store::open(&settings(&killed.path().join("letters.db"))).unwrap();
    assert_eq!((opened.created, opened.set_aside), (false, None));
    let runtime = runtime();
    assert_eq!(runtime.block_on(store.letter(id)).unwrap().state, State::Pending);
    runtime.block_on(store.close());
}

#[test]
fn a_newer_store_is_waited_for_and_left_alone() {
    let mut bench = Bench::new();
    let id = bench.capture(draft("x"));
    bench.close();
    sql(&bench, "PRAGMA user_version = 99");
    let said = waits_and_touches_nothing(&bench.path());
    assert!(said.contains("newer Fender (schema 99"), "{said}");
    // Once it is one that can be read it is taken, without a restart.
    let (store, opened) = Store::open_or_wait(&bench.settings, |_| {}).unwrap();
    assert!(matches!(opened, Err(OpenError::Newer { .. })), "{opened:?}");
    sql(&bench, "PRAGMA user_version = 2");
    eventually("it is open", || store.figures().healthy);
    assert_eq!(bench.runtime.block_on(store.letter(id)).unwrap().state, State::Pending);
    bench.runtime.block_on(store.close());
}

/// What is done, and whether the letters from before it stay.
type Loss = (&'static str, fn(&Path), bool);

/// Each way to take the files from under a store that runs; what of the letters before it is still there after it.
const LOST: [Loss; 9] = [
    ("the database is removed", |db| fs::remove_file(db).unwrap(), false),
    ("the WAL is removed", |db| fs::remove_file(beside(db, "-wal")).unwrap(), true),
    ("the WAL's index is removed", |db| fs::remove_file(beside(db, "-shm")).unwrap(), true),
    ("the lock file is removed", |db| fs::remove_file(beside(db, ".lock")).unwrap(), true),
    (
        "the lock file is another's",
        |db| {
            fs::write(beside(db, ".new"), "").unwrap();
            fs::rename(beside(db, ".new"), beside(db, ".lock")).unwrap();
        },
        true,
    ),
    (
        "the WAL is replaced",
        |db| {
            fs::write(beside(db, ".new"), "not a WAL").unwrap();
            fs::rename(beside(db, ".new"), beside(db, "-wal")).unwrap();
        },
        true,
    ),
    (
        "all of them are removed",
        |db| {
            ["", "-wal", "-shm", ".lock", ".reserve"]
                .iter()
                .for_each(|of| drop(fs::remove_file(beside(db, of))));
        },
        false,
    ),
    (
        "the folder is removed, and made anew",
        |db| {
            let folder = db.parent().unwrap();
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        },
        false,
    ),
    (
        "an empty file takes the place of the database",
        |db| {
            fs::write(beside(db, ".new"), "").unwrap();
            fs::rename(beside(db, ".new"), db).unwrap();
        },
        false,
    ),
];

fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A store in a folder that can be removed.
fn removable() -> Bench {
    let mut bench = Bench::new();
    bench.close();
    let volume = bench.folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    bench.settings.path = volume.join("letters.db");
    bench.open();
    bench
}

#[test]
fn nothing_is_accepted_into_files_that_are_gone_and_the_store_begins_again() {
    for (how, take, stays) in LOST {
        let mut bench = removable();
        let before = bench.capture(draft("before"));
        assert_eq!(bench.letter(before).state, State::Pending, "a reader has it open");
        take(&bench.path());
        let refused = bench.ask(async |store| store.capture(draft("meanwhile")).await);
        let Err(StoreError::Unavailable(what)) = refused else { panic!("{how}: {refused:?}") };
        assert!(what.contains("was removed") || what.contains("was replaced"), "{how}: {what}");
        assert!(!bench.store().figures().healthy, "{how}");
        eventually("it begins again", || bench.store().figures().healthy);
        let after = bench.capture(draft("after"));
        assert_eq!(bench.letter(after).state, State::Pending, "{how}: readers follow");
        let known = bench.ask(async |store| store.letter(before).await);
        assert_eq!(known.is_ok(), stays, "{how}: {known:?}");
        assert_eq!(bench.store().figures().total(State::Pending), 1 + u64::from(stays), "{how}");
        // What was accepted is in the file that has the name.
        bench.reopen();
        assert_eq!(bench.letter(after).state, State::Pending, "{how}");
        let report = bench.ask(async |store| store.verify().await).unwrap();
        assert_eq!((report.file.len(), report.damaged.len()), (0, 0), "{how}");
    }
}

#[test]
fn a_store_that_nobody_asks_notices_too() {
    let bench = Bench::new();
    bench.capture(draft("x"));
    fs::remove_file(bench.path()).unwrap();
    eventually("it says so", || !bench.store().figures().healthy);
    eventually("it begins again", || bench.store().figures().healthy);
    assert_eq!(bench.store().figures().total(State::Pending), 0);
    assert!(bench.path().exists());
}

#[test]
fn while_its_folder_is_gone_a_store_waits_for_it() {
    let bench = removable();
    bench.capture(draft("x"));
    let volume = bench.path().parent().unwrap().to_owned();
    let away = bench.folder.path().join("away");
    fs::rename(&volume, &away).unwrap();
    eventually("it says so", || !bench.store().figures().healthy);
    let refused =
        |bench: &Bench| bench.ask(async |store| store.capture(draft("no")).await).unwrap_err().to_string();
    eventually("it says what it waits for", || refused(&bench).contains("does not exist"));
    // It was unmounted, and comes back with what was on it.
    fs::rename(&away, &volume).unwrap();
    eventually("it is open again", || bench.store().figures().healthy);
    bench.capture(draft("y"));
    assert_eq!(bench.store().figures().total(State::Pending), 2);
}

#[test]
fn who_lost_the_lock_lets_go_and_waits() {
    let bench = Bench::new();
    let first = bench.capture(draft("first"));
    fs::remove_file(beside(&bench.path(), ".lock")).unwrap();
    // Another takes the store at once, as it may: nothing says that it is in use.
    let (other, opened) = Store::open(&bench.settings).unwrap();
    assert!(!opened.created);
    let refused = bench.ask(async |store| store.capture(draft("no")).await);
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(what)) if what.contains("lock file")),
        "{refused:?}"
    );
    eventually("it says whose the file is", || {
        let refused = bench.ask(async |store| store.capture(draft("no")).await).unwrap_err();
        refused.to_string().contains("in use by another Fender")
    });
    let captured = bench.runtime.block_on(other.capture(draft("second"))).unwrap();
    let Captured::New(receipt) = captured else { panic!("{captured:?}") };
    bench.runtime.block_on(other.close());
    drop(other);
    eventually("it takes over", || bench.store().figures().healthy);
    for id in [first, receipt.id()] {
        assert_eq!(bench.letter(id).state, State::Pending);
    }
    assert_eq!(bench.store().figures().total(State::Pending), 2, "nothing of what was refused");
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&settings(&folder.path().join("volume/letters.db"))).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("volume"), "{error}");
    assert!(!folder.path().join("volume").exists());
}

#[test]
fn what_was_being_sent_at_a_crash_is_judged_at_the_next_start() {
    let mut bench = Bench::new();
    let careful = bench.capture(draft("once"));
    let repeatable = bench.capture(Draft { repeatable: true, ..draft("twice") });
    bench.begin(careful).unwrap();
    bench.begin(repeatable).unwrap();
    let opened = bench.reopen();
    assert_eq!((opened.parked, opened.resumed), (vec![careful], vec![repeatable]));
    let parked = bench.letter(careful);
    assert_eq!((parked.state, parked.parked_because), (State::Parked, Some(Because::Ambiguous)));
    assert_eq!(bench.due("api", false), [repeatable]);
}

#[test]
fn a_store_of_sync_normal_says_so() {
    let mut bench = Bench::with(|settings| settings.sync = fender::config::model::Sync::Normal);
    let captured = bench.ask(async |store| store.capture(draft("x")).await).unwrap();
    assert!(matches!(captured, Captured::New(receipt) if receipt.durable() == "normal"));
    bench.reopen();
    let page = bench.ask(async |store| store.list(Filter::default(), 5, None).await).unwrap();
    assert_eq!(page.letters.len(), 1);
}

#[test]
fn a_file_that_another_program_holds_is_tried_again_until_it_lets_go() {
    let bench = Bench::new();
    let waits = bench.capture(draft("before"));
    let other = rusqlite::Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = bench.ask(async |store| store.capture(draft("meanwhile")).await);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(!bench.store().figures().healthy);
    let at_once = std::time::Instant::now();
    assert!(bench.ask(async |store| store.capture(draft("meanwhile")).await).is_err());
    assert!(at_once.elapsed() < std::time::Duration::from_secs(3));
    assert_eq!(bench.letter(waits).state, State::Pending, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    eventually("it is healthy again by itself", || bench.store().figures().healthy);
    bench.capture(draft("after"));
    assert_eq!(bench.store().figures().total(State::Pending), 2, "what was refused is not there");
}

/// Left marked as being sent, it would be so until the next start.
#[test]
fn a_replay_that_was_not_made_is_taken_back_once_the_store_can() {
    let bench = Bench::new();
    let id = bench.capture(draft("x"));
    bench.begin(id).unwrap();
    let other = rusqlite::Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (done, was_unhealthy) = bench.ask(async |store| {
        let lets_go = async {
            while store.figures().healthy {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            other.execute_batch("ROLLBACK").unwrap();
            true
        };
        let both = async { tokio::join!(store.postpone(id, 7), lets_go) };
        tokio::time::timeout(crate::support::PATIENCE, both).await.expect("both end")
    });
    assert_eq!((done, was_unhealthy), (Ok(()), true));
    let letter = bench.letter(id);
    assert_eq!((letter.state, letter.next_attempt_at_ms), (State::Pending, Some(7)));
}

#[test]
fn a_store_whose_making_was_cut_short_is_made_anew() {
    let mut bench = Bench::new();
    bench.close();
    let half = fs::read(bench.path()).unwrap();
    fs::remove_file(bench.path()).unwrap();
    fs::write(beside(&bench.path(), ".fresh"), &half[..half.len() / 2]).unwrap();
    fs::write(beside(&bench.path(), ".fresh-journal"), "half").unwrap();
    let opened = bench.open();
    assert_eq!((opened.created, opened.set_aside), (true, None));
    bench.capture(draft("x"));
    assert!(!beside(&bench.path(), ".fresh").exists());
    assert!(!beside(&bench.path(), ".fresh-journal").exists());
}

#[test]
fn a_file_that_rots_while_it_is_open_is_set_aside_and_what_can_be_read_taken_over() {
    let bench = Bench::new();
    for number in 0..200 {
        bench.capture(draft(format!("{number}{}", "-".repeat(9000))));
    }
    // Home from the WAL, then under the store's feet: the later half of its pages.
    let other = rusqlite::Connection::open(bench.path()).unwrap();
    let _: i64 = other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0)).unwrap();
    let pages: u32 = other.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    drop(other);
    let file = fs::OpenOptions::new().write(true).open(bench.path()).unwrap();
    for page in pages / 2..pages {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], u64::from(page) * 4096).unwrap();
    }
    let report = bench.ask(async |store| store.verify().await);
    assert!(report.as_ref().is_ok_and(|report| !report.damaged.is_empty()) || report.is_err(), "{report:?}");
    eventually("captures are taken again", || {
        bench.ask(async |store| store.capture(draft("after")).await).is_ok()
    });
    let healthy = bench.store().figures();
    assert!(healthy.healthy && healthy.total(State::Pending) > 20, "{healthy:?}");
}
