//! Bits that flip, pages that tear and files that are cut, all over the database and its WAL: what was stored comes back as it
//! was or is told as damaged; nothing else ever goes up in its place, and the store goes on.
//!
//! `FENDER_ROT` says how many places of each kind are tried; `just rot` tries two thousand.

use std::fs;
use std::path::Path;

use fender::config::model::DeadLetter;
use fender::deadletter::{Draft, Filter, Letter, LetterId, Opened, Settled, State, Store};

use super::{Bench, LATE, draft, keyed, runtime};

/// Places of each kind where nobody says how many.
const PLACES: usize = 60;

const PAGE: usize = 4096;

/// A store as it was before anything befell it.
struct Before {
    folder: tempfile::TempDir,
    letters: Vec<(Letter, Vec<u8>)>,
    due: Vec<LetterId>,
    database: Vec<u8>,
    wal: Vec<u8>,
    settings: DeadLetter,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// As if nothing had been.
    Unharmed,
    /// Something is amiss, and that is said.
    Told,
}

impl Before {
    /// Some pages of each kind; `killed`: with the last commits in the WAL alone.
    fn lay(killed: bool) -> Self {
        Self::lay_in(Bench::new(), killed)
    }

    fn lay_in(mut bench: Bench, killed: bool) -> Self {
        let mut ids = Vec::new();
        let sizes = [10, 700, 3000, 9000, 30_000];
        let body = |number: usize| vec![b'a' + u8::try_from(number % 26).unwrap(); sizes[number % 5]];
        for number in 0..60 {
            let mut draft = draft(body(number));
            if number % 4 == 1 {
                draft = keyed("", &format!("k{}", number % 3));
                draft.body = body(number).into();
            }
            draft.path = format!("/v1/letters/{number}");
            draft.idempotency_key = (number % 7 == 2).then(|| format!("key {number}"));
            draft.repeatable = number % 2 == 0;
            ids.push(bench.capture(draft));
            if killed && number == 19 {
                bench.reopen();
            }
        }
        for id in ids.iter().skip(2).step_by(10) {
            bench.begin(*id).unwrap();
            bench.settle(*id, Settled::Again { next_attempt_at_ms: 1 });
        }
        for id in ids.iter().skip(3).step_by(12) {
            bench.begin(*id).unwrap();
            bench.settle(*id, Settled::Delivered);
        }
        let letters = ids.iter().enumerate().map(|(number, id)| (bench.letter(*id), body(number))).collect();
        let due = bench.due("api", false);
        if !killed {
            bench.close();
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["letters.db", "letters.db-wal", "letters.db.reserve"] {
            if bench.folder.path().join(name).exists() {
                fs::copy(bench.folder.path().join(name), folder.path().join(name)).unwrap();
            }
        }
        let read = |name| fs::read(folder.path().join(name)).unwrap_or_default();
        let (database, wal) = (read("letters.db"), read("letters.db-wal"));
        assert!(
            database.len() > 20 * PAGE && (wal.len() > 50 * PAGE) == killed,
            "{} {}",
            database.len(),
            wal.len()
        );
        let settings = bench.settings.clone();
        Self { folder, letters, due, database, wal, settings }
    }

    /// Opens it with these bytes; `None`: it is not touched, and an operator hears why.
    fn open(&self, database: &[u8], wal: &[u8], what: &str) -> Option<(Bench, Opened)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.db");
        fs::copy(self.folder.path().join("letters.db.reserve"), folder.path().join("letters.db.reserve"))
            .unwrap();
        fs::write(&path, database).unwrap();
        if !wal.is_empty() {
            fs::write(folder.path().join("letters.db-wal"), wal).unwrap();
        }
        let settings = DeadLetter { path: path.clone(), ..self.settings.clone() };
        match Store::open(&settings) {
            Ok((store, opened)) => {
                Some((Bench { folder, runtime: runtime(), settings, store: Some(store) }, opened))
            }
            // Said to be another's, or a newer one's.
            Err(error) => {
                assert_eq!(fs::read(&path).unwrap(), database, "{what}: {error}");
                None
            }
        }
    }

    /// What becomes of it with these bytes; `what` names what was done to them.
    fn with(&self, database: &[u8], wal: &[u8], what: &str) -> After {
        let Some((bench, opened)) = self.open(database, wal, what) else { return After::Told };
        let told_at_once = opened.set_aside.is_some() || opened.kept_wal.is_some();
        let mut unharmed = true;
        let due = bench.ask(async |store| store.due("api", false, LATE, 100).await);
        unharmed &= due.is_ok_and(|due| due.iter().map(|due| due.id).eq(self.due.iter().copied()));
        for (letter, body) in &self.letters {
            let id = letter.id;
            let now = bench.ask(async |store| store.letter(id).await);
            let its_turn = self.due.contains(&id);
            unharmed &= now.as_ref().is_ok_and(|now| same(now, letter, its_turn));
            let twice = now.as_ref().is_ok_and(|now| now.repeatable && !letter.repeatable);
            assert!(!twice, "{what}: {id}: a second send is said to be harmless");
            match bench.ask(async |store| store.content(id).await) {
                Err(_) => unharmed = false,
                Ok(content) => {
                    // What goes up is this, or nothing.
                    let now = now.unwrap_or_else(|error| panic!("{what}: {id}: content, but {error}"));
                    assert_eq!(&content.body[..], &body[..], "{what}: {id}: another body");
                    assert_eq!(content.headers, draft("").headers, "{what}: {id}");
                    let where_to = |letter: &Letter| {
                        (letter.method.clone(), letter.path.clone(), letter.upstream.clone())
                    };
                    assert_eq!(where_to(&now), where_to(letter), "{what}: {id}");
                }
            }
        }
        let report = bench.ask(async |store| store.verify().await);
        let told = told_at_once
            || report.as_ref().is_ok_and(|report| !report.file.is_empty() || !report.damaged.is_empty())
            || report.is_err();
        assert!(told || unharmed, "{what}: something is amiss, and nothing says so");
        // It goes on: at once, or after it has set the file aside.
        crate::support::eventually(what, || {
            bench.ask(async |store| store.capture(draft("after")).await).is_ok()
        });
        if told { After::Told } else { After::Unharmed }
    }
}

/// Whether the letter stands where it stood. What only tells its story (its trail, its route) has no checksum, and its turn
/// (when it is tried, and before which others) has none as long as it has none.
fn same(now: &Letter, before: &Letter, its_turn: bool) -> bool {
    let parts = |letter: &Letter| {
        (
            letter.state,
            letter.parked_because,
            letter.order_key.clone(),
            its_turn.then_some((letter.next_attempt_at_ms, letter.priority)),
            letter.repeatable,
        )
    };
    parts(now) == parts(before)
}

fn places() -> usize {
    std::env::var("FENDER_ROT").ok().map_or(PLACES, |places| places.parse().expect("FENDER_ROT is a number"))
}

/// Says the seed, and how often what was done was told.
fn tried(
    before: &Before,
    mut places: impl FnMut(&mut fastrand::Rng) -> (Vec<u8>, Vec<u8>, String),
) -> (usize, usize) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut told, all) = (0, self::places());
    for _ in 0..all {
        let (database, wal, what) = places(&mut dice);
        told += usize::from(before.with(&database, &wal, &format!("seed {seed}: {what}")) == After::Told);
    }
    eprintln!("{told} of {all} were told; the others did no harm");
    (told, all)
}

/// Somewhere in a file, more often where a page says what it is.
fn somewhere(bytes: &[u8], dice: &mut fastrand::Rng) -> usize {
    let page = dice.usize(0..bytes.len() / PAGE) * PAGE;
    page + if dice.bool() { dice.usize(0..64) } else { dice.usize(0..PAGE) }
}

/// The database with one bit of it flipped, and which.
fn flipped(before: &Before, at: usize, dice: &mut fastrand::Rng) -> (Vec<u8>, Vec<u8>, String) {
    let mut bytes = before.database.clone();
    let bit = dice.u8(0..8);
    bytes[at] ^= 1 << bit;
    (bytes, Vec::new(), format!("bit {bit} of byte {at} ({} of page {})", at % PAGE, at / PAGE + 1))
}

fn flip_anywhere(before: &Before) {
    let (told, all) = tried(before, |dice| {
        let at = somewhere(&before.database, dice);
        flipped(before, at, dice)
    });
    assert!(told > all / 4, "{told} of {all}");
}

#[test]
fn a_flipped_bit_in_the_database_is_told_or_does_no_harm() {
    flip_anywhere(&Before::lay(false));
}

#[test]
fn a_flipped_bit_among_sealed_letters_is_told_or_does_no_harm() {
    flip_anywhere(&Before::lay_in(super::sealed::with_keys(&[1, 0]), false));
}

/// SQLite's own checks believe what the schema says: it is told all the same, and every letter comes over whole.
#[test]
fn a_flipped_bit_in_the_schema_is_told_and_costs_no_letter() {
    let before = Before::lay(false);
    let page_of = |at: usize| at / PAGE * PAGE;
    let mut pages: Vec<usize> = (0..before.database.len())
        .filter(|at| before.database[*at..].starts_with(b"CREATE "))
        .map(page_of)
        .collect();
    pages.push(0);
    pages.dedup();
    // The file's own head is another matter.
    let texts: Vec<usize> =
        pages.iter().flat_map(|page| *page..page + PAGE).filter(|at| *at >= 100).collect();
    let whole = schema_text(&before.database).expect("it is whole");
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut tried = 0;
    for _ in 0..places() {
        let at = texts[dice.usize(0..texts.len())];
        let (database, _, what) = flipped(&before, at, &mut dice);
        let what = format!("seed {seed}: {what}");
        if schema_text(&database).is_ok_and(|text| text == whole) {
            continue; // It lies where a page that was split left it.
        }
        tried += 1;
        assert_eq!(before.with(&database, &[], &what), After::Told, "{what}");
        let (_, opened) = before.open(&database, &[], &what).expect("taken to be ours");
        assert!(opened.set_aside.is_some() && opened.salvaged == 60, "{what}: {opened:?}");
    }
    assert!(tried > places() / 10, "{tried} of {}", places());
}

/// What a database says of its tables.
fn schema_text(database: &[u8]) -> rusqlite::Result<Vec<String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), database).unwrap();
    let conn = rusqlite::Connection::open(format!("file:{}?immutable=1", file.path().display()))?;
    let mut statement = conn.prepare("SELECT coalesce(sql, name) FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// The mark that lets a letter go up twice: every bit of it, and another letter's.
#[test]
fn no_flipped_bit_makes_a_second_send_harmless() {
    let mut bench = Bench::new();
    let careful = bench.capture(draft("careful"));
    let harmless = bench.capture(Draft { repeatable: true, ..draft("harmless") });
    let told = |bench: &Bench, id| {
        let read = bench.ask(async |store| store.content(id).await);
        (bench.letter(id).repeatable, read.is_err())
    };
    assert_eq!((told(&bench, careful), told(&bench, harmless)), ((false, false), (true, false)));
    bench.close();
    let path = bench.path();
    let conn = || rusqlite::Connection::open(&path).unwrap();
    let mark = |id: LetterId| -> i64 {
        let read = "SELECT repeatable FROM letters WHERE id = ?1";
        conn().query_row(read, [id.to_string()], |row| row.get(0)).unwrap()
    };
    let was = mark(careful);
    let others: Vec<i64> = (0..64).map(|bit| was ^ (1 << bit)).chain([mark(harmless)]).collect();
    for other in others {
        conn()
            .execute("UPDATE letters SET repeatable = ?1 WHERE id = ?2", (other, careful.to_string()))
            .unwrap();
        bench.open();
        assert_eq!(told(&bench, careful), (false, true), "{was:x} became {other:x}");
        bench.close();
    }
}

#[test]
fn a_torn_page_is_told_or_does_no_harm() {
    let before = Before::lay(false);
    let (told, all) = tried(&before, |dice| {
        let mut bytes = before.database.clone();
        let pages = bytes.len() / PAGE;
        let (to, from) = (dice.usize(0..pages), dice.usize(0..pages));
        let cut = [512, 1024, 2048, 3072][dice.usize(0..4)];
        // The half of another page, as of an older one; or nothing.
        let other = if dice.bool() { vec![0; PAGE] } else { bytes[from * PAGE..][..PAGE].to_vec() };
        bytes[to * PAGE + cut..(to + 1) * PAGE].copy_from_slice(&other[cut..]);
        (bytes, Vec::new(), format!("page {} torn at {cut}, from {}", to + 1, from + 1))
    });
    assert!(told > all / 2, "{told} of {all}");
}

#[test]
fn a_database_that_was_cut_is_told() {
    let before = Before::lay(false);
    let (told, all) = tried(&before, |dice| {
        let pages = before.database.len() / PAGE;
        let length =
            if dice.bool() { dice.usize(1..pages) * PAGE } else { dice.usize(1..before.database.len()) };
        (before.database[..length].to_vec(), Vec::new(), format!("cut to {length} bytes"))
    });
    assert_eq!(told, all);
}

#[test]
fn a_database_without_its_head_is_told() {
    let before = Before::lay(false);
    for length in [16, 100, PAGE, 3 * PAGE] {
        let mut bytes = before.database.clone();
        bytes[..length].fill(0);
        assert_eq!(before.with(&bytes, &[], &format!("{length} bytes of zeros")), After::Told);
    }
}

/// Of the last commit nobody can say whether it was broken later or cut short by a crash: all before it are.
#[test]
fn garbage_in_the_wal_is_told_or_touches_the_last_commit_alone() {
    let before = Before::lay(true);
    let frame = 24 + PAGE;
    let last = (before.wal.len() - 32) / frame - last_commit(&before.wal);
    let (told, all) = tried(&before, |dice| {
        let mut bytes = before.wal.clone();
        let (head, number) = (dice.u8(0..10) == 0, dice.usize(0..last));
        let at = if head { dice.usize(0..32) } else { 32 + number * frame + dice.usize(0..frame) };
        // Rot that reaches into the last commit takes what stands before it for the same.
        let room = 32 + last * frame - at;
        let length = if dice.bool() { 1 } else { dice.usize(1..2000).min(room) };
        // So does rot of the mark that ends the commit before it: both read as one commit then.
        let mark = 32 + (last - 1) * frame..32 + (last - 1) * frame + 24;
        let at = if at < mark.end && at + length > mark.start { mark.end } else { at };
        bytes[at..at + length].iter_mut().for_each(|byte| *byte = !*byte);
        (before.database.clone(), bytes, format!("{length} bytes of the WAL from {at} on, frame {number}"))
    });
    assert_eq!(told, all);
}

/// How many frames the last commit has, and those after it that an older WAL left.
fn last_commit(wal: &[u8]) -> usize {
    let frames: Vec<&[u8]> = wal[32..].chunks_exact(24 + PAGE).collect();
    let salts = &frames[0][8..16];
    let of_this = frames.iter().take_while(|frame| &frame[8..16] == salts).count();
    let commits: Vec<usize> = (0..of_this).filter(|at| frames[*at][4..8] != [0; 4]).collect();
    frames.len() - (commits[commits.len() - 2] + 1)
}

#[test]
fn a_wal_that_was_cut_keeps_what_is_before_the_cut() {
    let before = Before::lay(true);
    tried_quietly(&before);
}

/// A cut WAL looks like that of a crash: what is before the cut is there, whole, and nothing else is.
fn tried_quietly(before: &Before) {
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    for _ in 0..places().min(100) {
        let length = dice.usize(0..before.wal.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.db");
        fs::write(&path, &before.database).unwrap();
        fs::write(folder.path().join("letters.db-wal"), &before.wal[..length]).unwrap();
        fs::write(folder.path().join("letters.db.reserve"), "").unwrap();
        let mut bench = Bench { folder, runtime: runtime(), settings: super::settings(&path), store: None };
        let opened = bench.open();
        assert_eq!(opened.set_aside, None, "seed {seed}, {length}");
        let page = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap();
        assert!(page.letters.len() >= 19, "seed {seed}, {length}: what was brought home is there");
        for letter in &page.letters {
            let (_, body) =
                before.letters.iter().find(|(known, _)| known.id == letter.id).expect("a letter of ours");
            let content = bench.ask(async |store| store.content(letter.id).await).unwrap();
            assert_eq!(&content.body[..], &body[..], "seed {seed}, {length}");
        }
        let report = bench.ask(async |store| store.verify().await).unwrap();
        assert_eq!((report.file, report.damaged), (vec![], vec![]), "seed {seed}, {length}");
    }
}

/// Where the process ended in the middle of setting a damaged file aside, the next start goes on with it.
#[test]
fn an_exchange_that_was_cut_short_is_finished() {
    let mut bench = Bench::new();
    let kept = bench.capture(draft("kept"));
    bench.close();
    let place = bench.path();
    let beside = |suffix: &str| Path::new(&format!("{}{suffix}", place.display())).to_owned();
    // All that could be read stands ready, a half of a later try lies about, and the damaged file is still in its place.
    fs::rename(bench.path(), beside(".salvaged")).unwrap();
    fs::write(bench.path(), "rubbish").unwrap();
    fs::write(beside("-wal"), "rubbish").unwrap();
    fs::write(beside(".fresh"), "half").unwrap();
    let aside = bench.open().set_aside.expect("told");
    assert_eq!(fs::read(aside).unwrap(), b"rubbish");
    assert_eq!(bench.letter(kept).state, State::Pending);
    assert!(!beside(".salvaged").exists() && !beside(".fresh").exists());
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert!(
        report.file.iter().all(|line| line.contains("set aside")) && !report.file.is_empty(),
        "{report:?}"
    );
    // With the damaged file gone already.
    bench.close();
    fs::rename(bench.path(), beside(".salvaged")).unwrap();
    bench.open();
    assert_eq!(bench.letter(kept).state, State::Pending);
}
