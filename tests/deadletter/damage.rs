//! Rot on disk costs what rotted, and nothing beside it.

use std::fs;

use fender::deadletter::{Because, Draft, Filter, LetterId, State, StoreError};

use super::{Bench, draft, keyed};

/// Overwrites each place where the closed file holds `old`: pages that were split hold copies that are not of use.
fn overwrite(bench: &Bench, old: &[u8], new: &[u8]) {
    let mut bytes = fs::read(bench.path()).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    fs::write(bench.path(), bytes).unwrap();
}

#[test]
fn a_letter_whose_body_rotted_is_parked_and_its_neighbours_are_served() {
    let mut bench = Bench::new();
    let body = |word: &str| format!("{word}{}", "-".repeat(20_000));
    let (before, rotten, after) = (
        bench.capture(keyed(&body("before"), "k")),
        bench.capture(draft(body("rotten"))),
        bench.capture(draft(body("after"))),
    );
    bench.close();
    overwrite(&bench, b"rotten", b"r0tten");
    assert_eq!(bench.open().set_aside, None);
    assert_eq!(bench.ask(async |store| store.content(rotten).await), Err(StoreError::Damaged(rotten)));
    assert_eq!(bench.ask(async |store| store.begin(rotten, 1).await), Err(StoreError::Damaged(rotten)));
    let letter = bench.letter(rotten);
    assert_eq!((letter.state, letter.parked_because), (State::Parked, Some(Because::Damaged)));
    for id in [before, after] {
        assert!(bench.begin(id).is_some());
    }
}

#[test]
fn a_verification_finds_and_parks_what_rotted() {
    let mut bench = Bench::new();
    let ids: Vec<LetterId> =
        (0..130).map(|number| bench.capture(draft(format!("letter{number:03}")))).collect();
    bench.close();
    overwrite(&bench, b"letter007", b"letter0O7");
    overwrite(&bench, b"letter123", b"lettEr123");
    bench.open();
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert_eq!((report.letters, report.damaged, report.file), (130, vec![ids[7], ids[123]], vec![]));
    assert_eq!(bench.letter(ids[7]).parked_because, Some(Because::Damaged));
    assert_eq!(bench.store().figures().total(State::Pending), 128);
}

#[test]
fn a_path_that_rotted_is_not_sent_to() {
    let mut bench = Bench::new();
    let id = bench.capture(Draft { path: "/v1/pay/0000".to_owned(), ..draft("x") });
    bench.close();
    overwrite(&bench, b"/v1/pay/0000", b"/v1/pay/0001");
    bench.open();
    assert_eq!(bench.ask(async |store| store.begin(id, 1).await), Err(StoreError::Damaged(id)));
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let mut bench = Bench::new();
    bench.capture(draft("x"));
    bench.close();
    fs::write(bench.path(), b"this is a letter to Santa, not a database").unwrap();
    let opened = bench.open();
    let aside = opened.set_aside.expect("told");
    assert!(aside.to_string_lossy().contains("letters.db.damaged-"));
    assert_eq!(fs::read(aside).unwrap(), b"this is a letter to Santa, not a database");
    bench.capture(draft("y"));
    assert_eq!(bench.store().figures().total(State::Pending), 1);
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_taken_over() {
    let mut bench = Bench::new();
    let ids: Vec<LetterId> =
        (0..200).map(|n| bench.capture(keyed(&format!("{n}{}", "-".repeat(3000)), "k"))).collect();
    bench.close();
    let mut bytes = fs::read(bench.path()).unwrap();
    // Some pages in the middle, whatever they hold.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 3 * 4096].fill(0xa5);
    fs::write(bench.path(), bytes).unwrap();
    let opened = bench.open();
    assert!(opened.set_aside.is_some_and(|aside| aside.exists()));
    assert!(opened.salvaged > 150, "{}", opened.salvaged);
    let figures = bench.store().figures();
    let kept = figures.total(State::Pending) + figures.total(State::Parked);
    assert_eq!(kept, opened.salvaged);
    let page = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap();
    assert!(page.letters.iter().all(|letter| ids.contains(&letter.id)));
    for letter in page.letters.iter().filter(|letter| letter.state == State::Pending) {
        let content = bench.ask(async |store| store.content(letter.id).await).unwrap();
        let number = ids.iter().position(|id| *id == letter.id).unwrap();
        assert!(content.body.starts_with(format!("{number}-").as_bytes()));
    }
}

#[test]
fn a_file_cut_short_is_set_aside() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.capture(draft(vec![1; 8000]));
    }
    bench.close();
    let bytes = fs::read(bench.path()).unwrap();
    fs::write(bench.path(), &bytes[..bytes.len() / 2]).unwrap();
    assert!(bench.open().set_aside.is_some());
    bench.capture(draft("goes on"));
}

#[test]
fn somebody_elses_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Bench::new().settings.clone();
    settings.path = folder.path().join("notes.txt");
    fs::write(&settings.path, b"not a database").unwrap();
    let refused = fender::deadletter::Store::open(&settings).map(drop).unwrap_err().to_string();
    assert!(refused.contains("no database"), "{refused}");
    assert_eq!(fs::read(&settings.path).unwrap(), b"not a database");
}

/// SQLite goes by the order of the numbers on a page: where it is damaged, the row after one may be one that was before it.
#[test]
fn numbers_out_of_order_do_not_lead_a_salvage_in_a_circle() {
    let mut bench = Bench::new();
    let ids: Vec<LetterId> = (0..5).map(|number| bench.capture(draft(format!("letter {number}")))).collect();
    bench.close();
    let root: u32 = rusqlite::Connection::open(bench.path())
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'letters'", [], |row| row.get(0))
        .unwrap();
    let mut bytes = fs::read(bench.path()).unwrap();
    let page = (root as usize - 1) * 4096;
    assert_eq!((bytes[page], bytes[page + 4]), (13, 5), "a leaf of a table with five rows");
    // The fourth of the cells: its length in two bytes, then its number.
    let pointer = page + 8 + 3 * 2;
    let cell = page + usize::from(u16::from_be_bytes([bytes[pointer], bytes[pointer + 1]]));
    assert_eq!(bytes[cell + 2], 4);
    bytes[cell + 2] = 1;
    fs::write(bench.path(), bytes).unwrap();
    let opened = bench.open();
    assert!(opened.set_aside.is_some() && opened.salvaged >= 3, "{opened:?}");
    for id in &ids[..3] {
        assert_eq!(bench.letter(*id).state, State::Pending);
    }
}
