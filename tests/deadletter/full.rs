//! No space: by quota, and on a disk that is full.

use std::fs;
use std::path::Path;

use fender::deadletter::{Act, Captured, Draft, Filter, LetterId, Settled, State, StoreError};

use super::disk::Disk;
use super::{Bench, draft, now_ms};
use crate::support::eventually;

/// What lies in the folder, in bytes.
fn occupied(bench: &Bench) -> u64 {
    let files = fs::read_dir(bench.path().parent().unwrap()).unwrap();
    files
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().to_string_lossy().starts_with("letters.db"))
        .map(|file| file.metadata().unwrap().len())
        .sum()
}

fn try_capture(bench: &Bench, draft: Draft) -> Result<LetterId, StoreError> {
    bench.ask(async |store| store.capture(draft).await).map(|captured| match captured {
        Captured::New(receipt) => receipt.id(),
        other => panic!("{other:?}"),
    })
}

/// Captures until it is refused; says how often it was not.
fn fill(bench: &Bench, bytes: usize, mut each: impl FnMut(&Bench)) -> Vec<LetterId> {
    let mut ids = Vec::new();
    loop {
        match try_capture(bench, draft(vec![b'x'; bytes])) {
            Ok(id) => ids.push(id),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                return ids;
            }
        }
        each(bench);
    }
}

#[test]
fn all_files_together_stay_within_the_quota() {
    for (max, body) in [(1 << 20, 900), (4 << 20, 3000), (16 << 20, 200_000)] {
        let bench = Bench::with(|settings| settings.max_bytes = max);
        let within = |bench: &Bench| {
            let occupied = occupied(bench);
            assert!(occupied <= max, "{occupied} of {max}");
            assert!(bench.store().figures().bytes <= max);
        };
        let ids = fill(&bench, body, within);
        let stored = (ids.len() * body) as u64;
        assert!(stored > max / 6, "only {stored} of {max} hold bodies");
        assert!(bench.store().figures().full && bench.store().figures().healthy);
        // What delivers and deletes goes on, within the quota too.
        for id in ids.iter().rev().take(40) {
            bench.begin(*id).unwrap();
            bench.settle(*id, Settled::Again { next_attempt_at_ms: 1 });
            bench.ask(async |store| store.discard(*id, None).await).unwrap();
            within(&bench);
        }
        bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
        within(&bench);
        try_capture(&bench, draft(vec![b'y'; body])).unwrap();
        within(&bench);
    }
}

#[test]
fn delivered_letters_give_way_oldest_first_and_no_other_does() {
    let bench = Bench::with(|settings| settings.max_bytes = 4 << 20);
    let ids = fill(&bench, 3000, |_| {});
    let (first, second, third) = (ids[3], ids[1], ids[2]);
    for id in [first, second, third] {
        bench.deliver(id);
    }
    let mut gone = Vec::new();
    while try_capture(&bench, draft(vec![b'y'; 3000])).is_ok() {
        for id in [first, second, third] {
            let there = bench.ask(async |store| store.letter(id).await).is_ok();
            if !there && !gone.contains(&id) {
                gone.push(id);
            }
        }
    }
    assert_eq!(gone, [first, second, third]);
    let left = bench.store().figures();
    assert_eq!(left.total(State::Delivered), 0);
    for id in ids.iter().filter(|id| ![first, second, third].contains(id)) {
        assert_eq!(bench.letter(*id).state, State::Pending);
    }
}

/// Takes all that the disk has left, to the last page.
fn exhaust(path: &Path) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
}

#[test]
fn on_a_full_disk_captures_are_refused_and_the_rest_goes_on() {
    [Disk::in_memory("16M"), Disk::ext4("16M")].iter().flatten().for_each(refuses_captures_and_goes_on);
}

fn refuses_captures_and_goes_on(disk: &Disk) {
    let bench = Bench::with(|settings| settings.path = disk.path().join("letters.db"));
    let ids: Vec<LetterId> = (0..300).map(|_| bench.capture(draft(vec![b'x'; 10_000]))).collect();
    let reserve = disk.path().join("letters.db.reserve");
    assert!(reserve.exists());
    let others = disk.path().join("others");
    exhaust(&others);
    // The WAL's old length may still take some.
    fill(&bench, 10_000, |_| {});
    assert!(!reserve.exists(), "it went");
    let figures = bench.store().figures();
    assert!(figures.full && figures.healthy);
    for id in &ids[..100] {
        bench.deliver(*id);
    }
    for id in &ids[100..150] {
        bench.ask(async |store| store.discard(*id, None).await).unwrap();
    }
    let parked = bench.ask(async |store| store.bulk(Filter::default(), 50, Act::Discard).await).unwrap();
    assert_eq!(parked.done.len(), 50);
    assert_eq!(bench.ask(async |store| store.purge(Filter::default()).await), Ok(200));
    assert_eq!(try_capture(&bench, draft("x")), Err(StoreError::Full));
    // All that was accepted goes out, while the disk is as full as before.
    for id in &ids[150..250] {
        bench.deliver(*id);
    }
    assert_eq!((bench.store().figures().total(State::Delivered), bench.store().figures().full), (100, true));
    fs::remove_file(others).unwrap();
    eventually("the reserve is back", || reserve.exists());
    eventually("it says so before anybody asks", || bench.store().takes_letters());
    eventually("captures are taken again", || try_capture(&bench, draft(vec![b'z'; 10_000])).is_ok());
    assert!(!bench.store().figures().full);
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert_eq!((report.damaged, report.file), (vec![], vec![]));
}

#[test]
fn a_disk_that_letters_filled_is_freed_by_deleting_them() {
    [Disk::in_memory("16M"), Disk::ext4("16M")].iter().flatten().for_each(is_freed_by_deleting);
}

fn is_freed_by_deleting(disk: &Disk) {
    let bench = Bench::with(|settings| settings.path = disk.path().join("letters.db"));
    let ids = fill(&bench, 20_000, |_| {});
    assert!(ids.len() > 300, "{}", ids.len());
    for id in &ids[..ids.len() / 2] {
        bench.ask(async |store| store.discard(*id, None).await).unwrap();
    }
    bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
    eventually("captures are taken again", || {
        bench.ask(async |store| store.retain(now_ms()).await).unwrap();
        try_capture(&bench, draft(vec![b'z'; 10_000])).is_ok()
    });
    assert!(disk.path().join("letters.db.reserve").exists());
}

#[test]
fn a_disk_that_is_full_while_letters_wait_to_be_sealed_is_freed_by_deleting_them() {
    [Disk::in_memory("16M"), Disk::ext4("16M")].iter().flatten().for_each(is_freed_while_sealing);
}

fn is_freed_while_sealing(disk: &Disk) {
    let mut bench = Bench::with(|settings| settings.path = disk.path().join("letters.db"));
    let mut ids: Vec<LetterId> = (0..100).map(|_| bench.capture(draft(vec![b'x'; 20_000]))).collect();
    bench.reopen_with(&[0]);
    ids.extend(fill(&bench, 20_000, |_| {}));
    // Of the letters in the clear most stay.
    for id in &ids[50..ids.len() - 50] {
        bench.ask(async |store| store.discard(*id, None).await).unwrap();
    }
    bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
    eventually("captures are taken again", || {
        bench.ask(async |store| store.retain(now_ms()).await).unwrap();
        bench.ask(async |store| store.tend().await).unwrap();
        try_capture(&bench, draft(vec![b'z'; 10_000])).is_ok()
    });
    bench.tend();
    assert_eq!(bench.ask(async |store| store.verify().await).unwrap().damaged, []);
}

#[test]
fn a_store_on_a_full_disk_opens_and_drains() {
    [Disk::in_memory("16M"), Disk::ext4("16M")].iter().flatten().for_each(opens_and_drains);
}

fn opens_and_drains(disk: &Disk) {
    let mut bench = Bench::with(|settings| settings.path = disk.path().join("letters.db"));
    let ids: Vec<LetterId> = (0..100).map(|_| bench.capture(draft(vec![b'x'; 10_000]))).collect();
    bench.close();
    exhaust(&disk.path().join("others"));
    bench.open();
    for id in ids {
        bench.deliver(id);
    }
    assert_eq!(bench.store().figures().total(State::Delivered), 100);
}

#[test]
fn failed_replays_do_not_fill_the_store_with_their_trails() {
    let max = 4 << 20;
    let bench = Bench::with(|settings| settings.max_bytes = max);
    let ids = fill(&bench, 3000, |_| {});
    let long = fender::deadletter::Attempt {
        answer: Some("x".repeat(2048)),
        ..super::attempt(fender::policy::outcome::Outcome::Transient)
    };
    for _ in 0..3 {
        for id in &ids {
            bench.begin(*id).unwrap();
            let again = Settled::Again { next_attempt_at_ms: 1 };
            let letter = bench.ask(async |store| store.settle(*id, long.clone(), again).await).unwrap();
            assert!(!letter.attempts.is_empty());
        }
        assert!(occupied(&bench) <= max, "{}", occupied(&bench));
    }
    ids.iter().for_each(|id| bench.deliver(*id));
    try_capture(&bench, draft("again")).unwrap();
}
