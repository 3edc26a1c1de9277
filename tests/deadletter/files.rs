//! The files: one owner, no other program's, none of a later Fender.

use fender::deadletter::{Because, Draft, Filter, OpenError, State, Store, StoreError};

use super::{Bench, draft, settings};
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
    assert!(matches!(error, OpenError::Newer { found: 99, known: 1, .. }), "{error}");
    sql(&bench, "PRAGMA user_version = 1");
    assert!(!bench.open().created);
}

#[test]
fn another_programs_database_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder.path().join("theirs.db"));
    rusqlite::Connection::open(&settings.path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = Store::open(&settings).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    let tables: i64 = rusqlite::Connection::open(&settings.path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
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
    assert!(matches!(captured, fender::deadletter::Captured::New(receipt) if receipt.durable() == "normal"));
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
    let file = std::fs::OpenOptions::new().write(true).open(bench.path()).unwrap();
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
