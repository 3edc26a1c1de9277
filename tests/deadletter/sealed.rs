//! Letters sealed at rest: what lies on disk, who opens it, and what becomes of it when keys change.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fender::config::model::Secret;
use fender::deadletter::{
    Act, Attempt, Because, Begin, Captured, Credentials, Draft, Filter, Imported, Keys, LetterId, Sealing,
    Settled, State, Store, StoreError,
};
use fender::policy::outcome::Outcome;

use super::lines::{exported, import};
use super::{Bench, LATE, attempt, draft, keyed};
use crate::support::files_that_hold;

/// Three keys.
pub(super) const KEYS: [&str; 3] = [
    "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
];

/// What must not be found in any file: it is part of each thing that a letter may bear.
const PLANTED: &[u8] = b"planted";

pub(super) fn with_keys(keys: &[usize]) -> Bench {
    Bench::with(|settings| set_keys(settings, keys))
}

/// The first one is written with.
pub(super) fn set_keys(settings: &mut fender::config::model::DeadLetter, keys: &[usize]) {
    let mut keys = keys.iter().map(|key| Secret::from(KEYS[*key].to_owned()));
    settings.encryption_key = keys.next();
    settings.old_encryption_keys = keys.collect();
}

impl Bench {
    /// Closes the store and opens it with these keys.
    pub(super) fn reopen_with(&mut self, keys: &[usize]) {
        self.close();
        set_keys(&mut self.settings, keys);
        self.open();
    }

    /// Other keys, as a reload brings them.
    fn rekey(&mut self, keys: &[usize]) {
        set_keys(&mut self.settings, keys);
        self.store().rekey(Keys::of(&self.settings));
    }

    /// Does all that the keys leave to be done; how many letters were sealed anew.
    pub(super) fn tend(&self) -> u64 {
        let mut sealed = 0;
        for _ in 0..10_000 {
            let tended = self.ask(async |store| store.tend().await).unwrap();
            sealed += tended.resealed;
            if !tended.more {
                return sealed;
            }
        }
        panic!("there is no end to it");
    }

    /// Letters by what their key is to the config.
    fn keys(&self) -> Vec<(&'static str, u64)> {
        let stats = self.ask(async |store| store.stats(Filter::default()).await).unwrap();
        stats.keys.iter().map(|found| (found.sealing.as_str(), found.letters)).collect()
    }

    /// The files in which something planted is found.
    fn found(&self) -> Vec<String> {
        files_that_hold(self.path().parent().unwrap(), PLANTED)
    }

    fn sql(&self, sql: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

/// A write that bears what must not be found wherever it can.
fn planted(body: &str) -> Draft {
    Draft {
        path: "/v1/planted-path?q=planted-query".to_owned(),
        headers: vec![("x-planted-name".to_owned(), b"planted-header".to_vec())],
        order_key: Some("planted-order".to_owned()),
        idempotency_key: Some(format!("planted-once-{body}")),
        key_header: Some(("idempotency-key".to_owned(), format!("planted-once-{body}"))),
        credentials: Some(credentials()),
        attempts: vec![planted_attempt()],
        ..draft(format!("planted-body {body}"))
    }
}

fn planted_attempt() -> Attempt {
    Attempt {
        error: Some("planted-error".to_owned()),
        answer: Some("planted-answer".to_owned()),
        ..attempt(Outcome::Transient)
    }
}

fn credentials() -> Credentials {
    Credentials {
        path: Some("/v1/planted-path?q=planted-secret".to_owned()),
        headers: vec![("authorization".to_owned(), b"Bearer planted-\xff".to_vec())],
    }
}

#[test]
fn nothing_that_a_letter_bears_lies_in_the_clear() {
    let mut bench = with_keys(&[0]);
    let ids: Vec<LetterId> =
        (0..30).map(|number| bench.capture(planted(&format!("{number:0>200}")))).collect();
    assert_eq!(bench.found(), [""; 0], "captured");
    let letter = bench.letter(ids[0]);
    assert_eq!(letter.path, "/v1/planted-path?q=planted-query");
    assert_eq!(letter.order_key.as_deref(), Some("planted-order"));
    assert_eq!(letter.attempts, [planted_attempt()]);
    assert!(letter.sealed.is_some_and(|sealed| !sealed.locked));
    let (_, content) = bench.begin(ids[0]).unwrap();
    assert_eq!((content.headers, content.credentials), (planted("").headers, Some(credentials())));
    bench.ask(async |store| store.settle(ids[0], planted_attempt(), Settled::Delivered).await).unwrap();
    for id in &ids[1..10] {
        bench.ask(async |store| store.discard(*id, None).await).unwrap();
    }
    bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
    bench.ask(async |store| store.retain(LATE).await).unwrap();
    assert_eq!(bench.found(), [""; 0], "settled and purged");
    bench.reopen();
    assert_eq!(bench.tend(), 0);
    assert_eq!(bench.found(), [""; 0], "closed and opened");
    let by_key = Filter { key: Some("planted-order".to_owned()), ..Filter::default() };
    let page = bench.ask(async |store| store.list(by_key, 100, None).await).unwrap();
    assert_eq!(page.letters.len(), 20);
    assert_eq!(bench.keys(), [("current", 20)]);
    // What a list tells shows no credential, and an export says which ones it leaves out.
    let lines = exported(&bench).join("\n");
    assert!(
        lines.contains("planted-query") && !lines.contains("planted-secret") && !lines.contains("Bearer")
    );
    assert!(lines.contains(r#""credentials_left_out":[":path","authorization"]"#));
    assert!(!format!("{:?}", planted("x")).contains("planted-secret"));
}

#[test]
fn no_part_opens_as_another_letters() {
    let swaps =
        [("contents", "headers"), ("contents", "body"), ("contents", "credentials"), ("letters", "head")];
    for (table, column) in swaps {
        let mut bench = with_keys(&[0]);
        let (first, second) = (bench.capture(planted("1")), bench.capture(planted("2")));
        bench.close();
        bench.sql(&format!(
            "CREATE TEMP TABLE was AS SELECT n, {column} AS part FROM {table};
             UPDATE {table} SET {column} = (SELECT part FROM was WHERE was.n <> {table}.n)"
        ));
        bench.open();
        for id in [first, second] {
            let read = bench.ask(async |store| store.content(id).await);
            assert_eq!(read, Err(StoreError::Damaged(id)), "{table}.{column}");
        }
        let report = bench.ask(async |store| store.verify().await).unwrap();
        assert_eq!(report.damaged, [first, second], "{table}.{column}");
        assert_eq!(bench.letter(first).parked_because, Some(Because::Damaged));
    }
}

#[test]
fn a_letter_turned_to_another_upstream_does_not_open() {
    for change in ["upstream = 'evil'", "method = 'PUT'"] {
        let mut bench = with_keys(&[0]);
        let id = bench.capture(planted("1"));
        bench.close();
        bench.sql(&format!("UPDATE letters SET {change}"));
        bench.open();
        assert_eq!(
            bench.ask(async |store| store.content(id).await),
            Err(StoreError::Damaged(id)),
            "{change}"
        );
    }
}

#[test]
fn letters_of_a_key_that_is_missing_wait_and_others_go_on() {
    let mut bench = with_keys(&[0]);
    let lost: Vec<LetterId> = (0..40).map(|number| bench.capture(planted(&format!("{number}")))).collect();
    let unordered = bench.capture(Draft { order_key: None, ..planted("unordered") });
    let before = exported(&bench);
    bench.reopen_with(&[1]);
    assert_eq!(bench.keys().iter().filter(|(word, _)| *word == "missing").count(), 1);
    let own = bench.capture(Draft { order_key: None, idempotency_key: None, ..planted("own") });
    assert_eq!(bench.due("api", false), [own], "what cannot be opened is nobody's turn");
    bench.deliver(own);
    assert_eq!(bench.due("api", false), []);
    assert_eq!(bench.begin(lost[0]), None);
    let letter = bench.letter(lost[0]);
    let key = letter.sealed.unwrap();
    assert_eq!((letter.state, letter.path.as_str(), key.locked), (State::Pending, "(sealed)", true));
    let locked = StoreError::Locked { id: lost[0], key: key.key };
    assert_eq!(bench.ask(async |store| store.content(lost[0]).await).unwrap_err(), locked);
    assert_eq!(bench.ask(async |store| store.replay(lost[0], None).await).unwrap_err(), locked);
    let told = locked.to_string();
    assert_eq!(told, format!("the letter is sealed with key {}, which is not configured", key.key));
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert_eq!((report.damaged, report.locked.get(&key.key)), (vec![], Some(&41)));
    // An export says so, and what it tells of them is refused elsewhere.
    let line = exported(&bench).into_iter().next().unwrap();
    assert!(line.contains(&told), "{line}");
    let refused = import(&with_keys(&[2]), &line).unwrap_err().to_string();
    assert!(refused.contains(&told), "{refused}");
    // Whether it is the same write, or of the same order, nobody can say.
    let bare = Draft { order_key: None, idempotency_key: None, ..planted("7") };
    for one in
        [planted("7"), keyed("of an order", "any"), Draft { idempotency_key: Some("x".to_owned()), ..bare }]
    {
        let error = bench.ask(async |store| store.capture(one).await).unwrap_err();
        assert!(error.to_string().contains("sealed with a key that is not configured"), "{error}");
    }
    bench.tend();
    assert_eq!(bench.keys(), [("current", 1), ("missing", 41)]);
    bench.rekey(&[1, 0]);
    bench.capture(Draft { order_key: None, ..draft("a batch, in which the keys are put into force") });
    let again = bench.ask(async |store| store.capture(planted("7")).await);
    assert_eq!(again, Ok(Captured::Already { id: lost[7], state: State::Pending }));
    bench.tend();
    assert_eq!(bench.keys(), [("current", 43), ("old", 0)]);
    let due = bench.due("api", false);
    assert_eq!(due[..2], [lost[0], unordered], "the first of its key is the first again");
    for id in &lost {
        assert_eq!(bench.due("api", false)[0], *id);
        bench.deliver(*id);
    }
    let after = exported(&bench);
    assert_eq!(before[40], after[40], "what was not touched is as it was");
}

#[test]
fn a_letter_whose_key_is_missing_holds_up_its_line_only_where_a_parked_one_would() {
    let mut bench = with_keys(&[0]);
    let locked = bench.capture(planted("locked"));
    bench.reopen_with(&[1, 0]);
    let next = bench.capture(planted("next"));
    bench.reopen_with(&[1]);
    assert_eq!(bench.due("api", true), []);
    assert_eq!(bench.due("api", false), [next]);
    assert_eq!(bench.due("api", true), [], "it stepped aside, and holds its key where that is asked for");
    let waiting = async |store: &Store| store.waiting("api", "planted-order", false).await;
    assert_eq!(bench.ask(waiting), Ok(true));
    bench.deliver(next);
    bench.reopen_with(&[1, 0]);
    assert_eq!(bench.tend(), 1);
    assert_eq!(bench.due("api", true), [locked]);
}

#[test]
fn an_old_key_is_retired_once_all_is_sealed_anew() {
    let mut bench = with_keys(&[0]);
    let first = bench.capture(planted("first"));
    bench.begin(first).unwrap();
    bench.settle(first, Settled::Again { next_attempt_at_ms: 1 });
    for number in 0..80 {
        bench.capture(planted(&format!("{number}")));
    }
    let before = exported(&bench);
    bench.rekey(&[1, 0]);
    let last = bench.capture(planted("last"));
    assert_eq!(bench.due("api", false), [first], "a rotation parts no order");
    let again = bench.ask(async |store| store.capture(planted("7")).await).unwrap();
    assert!(matches!(again, Captured::Already { .. }), "the key of a write is known across keys: {again:?}");
    assert_eq!(bench.tend(), 81);
    assert_eq!(bench.tend(), 0);
    assert_eq!(bench.keys(), [("current", 82), ("old", 0)]);
    bench.reopen_with(&[1]);
    assert_eq!(bench.keys(), [("current", 82)]);
    assert_eq!(exported(&bench)[..81], before);
    let (_, content) = bench.begin(first).unwrap();
    assert_eq!(content.credentials, Some(credentials()));
    assert_eq!(bench.found(), [""; 0]);
    let other = Draft { body: "another".into(), ..planted("last") };
    let again = bench.ask(async |store| store.capture(other).await).unwrap();
    assert_eq!(again, Captured::OtherBody { id: last });
    // The key that is gone opens nothing any more.
    bench.close();
    set_keys(&mut bench.settings, &[0]);
    bench.open();
    assert!(bench.ask(async |store| store.content(last).await).is_err());
}

#[test]
fn a_store_of_the_first_schema_is_sealed_whole_and_nothing_stays_in_the_clear() {
    let mut bench = Bench::new();
    bench.close();
    for beside in ["", "-wal", "-shm", ".reserve"] {
        let mut name = bench.path().into_os_string();
        name.push(beside);
        fs::remove_file(name).ok();
    }
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deadletter/files_of_before/schema-1.db");
    fs::copy(first, bench.path()).unwrap();
    assert_eq!(bench.open().migrated_from, Some(1));
    let before = exported(&bench);
    assert_eq!(before.len(), 14);
    assert_eq!(bench.keys(), [("clear", 14)]);
    let due = bench.due("api", false);
    assert!(
        bench.found().contains(&"letters.db".to_owned()),
        "letters, and some that are gone, lie in the clear"
    );
    bench.rekey(&[0]);
    let behind = bench.capture(planted("behind"));
    assert_eq!(bench.due("api", false), due, "who comes sealed goes behind who waits in the clear");
    assert_eq!(bench.tend(), 14);
    assert_eq!(bench.found(), [""; 0]);
    assert_eq!(exported(&bench)[..14], before);
    assert_eq!(bench.keys(), [("current", 15)]);
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert_eq!((report.letters, report.damaged, report.file), (15, vec![], vec![]));
    for id in due {
        bench.deliver(id);
    }
    bench.reopen_with(&[0]);
    let parked = Filter { state: Some(State::Parked), ..Filter::default() };
    bench.ask(async |store| store.bulk(parked, 10, Act::Discard).await).unwrap();
    while let [next, ..] = bench.due("api", false)[..] {
        bench.deliver(next);
        assert!(next != behind || bench.due("api", false).is_empty(), "it is the last of its key");
    }
    assert_eq!(bench.letter(behind).state, State::Delivered);
    assert_eq!(bench.found(), [""; 0]);
}

/// A letter is read as it was before or as it is after.
#[test]
fn no_letter_looks_damaged_while_it_is_sealed_anew() {
    let bench = Bench::new();
    for number in 0..300_usize {
        bench.capture(draft(vec![b'a'; 100 + number * 37 % 3000]));
    }
    let (mut verified, mut sealed) = (0, 0);
    for round in 0..6 {
        let mut settings = bench.settings.clone();
        set_keys(&mut settings, &[round % 2, (round + 1) % 2]);
        bench.store().rekey(Keys::of(&settings));
        let at_work = std::cell::Cell::new(true);
        let (damaged, anew) = bench.ask(async |store| {
            let tend = async {
                let mut anew = 0;
                loop {
                    let tended = store.tend().await.unwrap();
                    anew += tended.resealed;
                    if !tended.more {
                        break;
                    }
                }
                at_work.set(false);
                anew
            };
            let verify = async {
                let mut damaged = Vec::new();
                while at_work.get() {
                    let report = store.verify().await.unwrap();
                    damaged.extend(report.damaged);
                    verified += report.letters;
                }
                damaged
            };
            tokio::join!(verify, tend)
        });
        assert_eq!(damaged, []);
        sealed += anew;
    }
    assert_eq!(sealed, 6 * 300);
    assert!(verified >= 6 * 300, "{verified}");
}

/// Of the words that name a letter's key one may rot: then it is damaged, and does not wait for a key that nobody has.
#[test]
fn a_seal_that_names_another_key_than_its_letter_is_damaged() {
    let other = "(SELECT substr(s, 1, 1) || x'010203040506' || substr(s, 8) FROM (SELECT CAST({column} AS BLOB) AS s))";
    let rot = [
        "UPDATE letters SET key_id = '010203040506'".to_owned(),
        format!("UPDATE letters SET head = CAST({} AS BLOB)", other.replace("{column}", "head")),
        format!("UPDATE contents SET body = CAST({} AS BLOB)", other.replace("{column}", "body")),
    ];
    for rot in rot {
        let mut bench = with_keys(&[0]);
        let id = bench.capture(planted("1"));
        bench.close();
        bench.sql(&rot);
        bench.open();
        let read = bench.ask(async |store| store.content(id).await);
        assert_eq!(read, Err(StoreError::Damaged(id)), "{rot}");
        let report = bench.ask(async |store| store.verify().await).unwrap();
        assert_eq!((report.damaged, report.locked.len()), (vec![id], 0), "{rot}");
        assert_eq!(bench.letter(id).parked_because, Some(Because::Damaged), "{rot}");
    }
}

/// Many letters of all sizes: pages split and merge as they are sealed.
#[test]
fn a_backlog_in_the_clear_leaves_nothing_behind_once_it_is_sealed() {
    let mut bench = Bench::new();
    for number in 0..600_usize {
        let mut one = planted(&format!("{number}{}", "-".repeat(number * 37 % 3000)));
        one.credentials = None;
        let id = bench.capture(one);
        if number % 7 == 0 {
            bench.ask(async |store| store.discard(id, None).await).unwrap();
        }
        if number % 100 == 0 {
            bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
        }
    }
    let before = exported(&bench);
    bench.reopen_with(&[2]);
    assert_eq!(bench.tend(), before.len() as u64);
    assert_eq!(bench.found(), [""; 0]);
    assert_eq!(exported(&bench), before);
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert_eq!((report.damaged, report.file), (vec![], vec![]));
}

#[test]
fn damage_in_the_clear_stays_damage_under_the_seal() {
    let mut bench = Bench::new();
    let (good, bad) = (bench.capture(draft("good")), bench.capture(draft("rotten")));
    bench.close();
    bench.sql("UPDATE contents SET body = x'00' WHERE body = CAST('rotten' AS BLOB)");
    bench.reopen_with(&[0]);
    assert_eq!(bench.tend(), 2);
    assert_eq!(bench.ask(async |store| store.content(bad).await), Err(StoreError::Damaged(bad)));
    assert!(bench.begin(good).is_some());
}

#[test]
fn what_does_not_open_stays_and_is_not_tried_for_ever() {
    let mut bench = with_keys(&[0]);
    let (bad, good) = (bench.capture(planted("bad")), bench.capture(planted("good")));
    bench.close();
    bench.sql("UPDATE letters SET head = x'01' WHERE n = 1");
    bench.reopen_with(&[1, 0]);
    assert_eq!(bench.tend(), 1);
    assert_eq!(bench.keys(), [("current", 1), ("old", 1)]);
    let again = bench.ask(async |store| store.tend().await).unwrap();
    assert_eq!((again.resealed, again.more), (0, false));
    assert_eq!(bench.ask(async |store| store.content(bad).await), Err(StoreError::Damaged(bad)));
    bench.ask(async |store| store.discard(bad, None).await).unwrap();
    bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
    assert_eq!(bench.keys(), [("current", 1), ("old", 0)]);
    bench.reopen_with(&[1]);
    assert!(bench.begin(good).is_some());
}

#[test]
fn without_a_key_no_credential_is_stored() {
    let bench = Bench::new();
    let error = bench.ask(async |store| store.capture(planted("x")).await).unwrap_err();
    assert!(error.to_string().contains("no key to seal"), "{error}");
    assert_eq!((bench.found(), exported(&bench).len()), (vec![], 0));
}

#[test]
fn a_key_taken_out_leaves_what_is_sealed_and_writes_in_the_clear() {
    let mut bench = with_keys(&[0]);
    let sealed = bench.capture(keyed("sealed", "k"));
    bench.reopen_with(&[]);
    let clear = bench.capture(Draft { order_key: None, ..draft("clear") });
    assert_eq!(bench.keys(), [("clear", 1), ("missing", 1)]);
    assert_eq!(bench.due("api", false), [clear]);
    bench.tend();
    bench.reopen_with(&[0]);
    assert_eq!(bench.tend(), 1);
    assert_eq!(bench.due("api", false), [sealed, clear]);
    assert_eq!(bench.keys(), [("current", 2)]);
    assert!(Sealing::ALL.map(Sealing::as_str).contains(&"clear"));
}

#[test]
fn an_export_of_sealed_letters_is_taken_in_and_sealed_again() {
    let (from, to) = (with_keys(&[0]), with_keys(&[1]));
    from.capture(Draft { credentials: None, ..planted("1") });
    let bare = from.capture(planted("2"));
    let parked =
        from.capture(Draft { begin: Begin::Parked(Because::Ambiguous), order_key: None, ..planted("3") });
    let lines = exported(&from);
    for line in &lines {
        assert!(matches!(import(&to, line), Ok(Imported::New(_))));
    }
    assert_eq!(exported(&to)[0], lines[0], "byte for byte");
    assert_eq!(to.letter(bare).parked_because, Some(Because::Credential), "it would go without it");
    assert_eq!(to.letter(parked).parked_because, Some(Because::Ambiguous));
    assert_eq!(to.found(), [""; 0]);
}

#[test]
fn a_damaged_file_gives_its_sealed_letters_up_without_their_key() {
    let mut bench = with_keys(&[0]);
    let ids: Vec<LetterId> = (0..50).map(|number| bench.capture(planted(&format!("{number}")))).collect();
    bench.close();
    // The root page of an index is no page any more.
    let connection = rusqlite::Connection::open(bench.path()).unwrap();
    let root: i64 = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'listed'", [], |row| row.get(0))
        .unwrap();
    drop(connection);
    let mut bytes = fs::read(bench.path()).unwrap();
    let at = usize::try_from((root - 1) * 4096).unwrap();
    bytes[at..at + 4096].fill(0xee);
    fs::write(bench.path(), bytes).unwrap();
    set_keys(&mut bench.settings, &[1]);
    let opened = bench.open();
    assert_eq!((opened.salvaged, opened.set_aside.is_some()), (50, true));
    bench.reopen_with(&[0]);
    assert_eq!(bench.tend(), 0);
    assert_eq!(bench.due("api", false), [ids[0]]);
    let (_, content) = bench.begin(ids[0]).unwrap();
    assert_eq!(content.credentials, Some(credentials()));
    let again = bench.ask(async |store| store.capture(planted("7")).await).unwrap();
    assert_eq!(again, Captured::Already { id: ids[7], state: State::Pending }, "tags mean what they meant");
}

#[test]
fn what_was_answered_to_a_sealed_letter_is_not_kept_once_its_key_is_gone() {
    let mut bench = with_keys(&[0]);
    let id = bench.capture(planted("1"));
    bench.begin(id).unwrap();
    bench.rekey(&[]);
    let again = Settled::Again { next_attempt_at_ms: 1 };
    bench.ask(async |store| store.settle(id, planted_attempt(), again).await).unwrap();
    assert_eq!(bench.found(), [""; 0]);
    let attempts = bench.letter(id).attempts;
    let bare = Attempt { error: None, answer: None, ..planted_attempt() };
    assert_eq!(attempts, [bare.clone(), bare], "it is told that there was one");
}

#[test]
fn a_key_without_the_one_before_it_parts_no_order_and_makes_no_second_letter() {
    let mut bench = with_keys(&[0]);
    let first = bench.capture(planted("1"));
    bench.rekey(&[1]);
    let other = bench.capture(draft("without keys"));
    assert!(bench.ask(async |store| store.capture(planted("1")).await).is_err());
    bench.rekey(&[1, 0]);
    let again = bench.ask(async |store| store.capture(planted("1")).await);
    assert_eq!(again, Ok(Captured::Already { id: first, state: State::Pending }));
    bench.capture(planted("2"));
    bench.tend();
    assert_eq!(bench.due("api", false), [first, other], "the second of an order waits for the first");
}

#[test]
fn where_nothing_hangs_on_a_lost_key_any_more_its_tags_are_given_up() {
    let mut bench = with_keys(&[0]);
    let lost = bench.capture(planted("1"));
    bench.reopen_with(&[1]);
    assert!(bench.ask(async |store| store.capture(planted("2")).await).is_err());
    bench.ask(async |store| store.discard(lost, None).await).unwrap();
    bench.ask(async |store| store.purge(Filter::default()).await).unwrap();
    let id = bench.capture(planted("2"));
    let again = bench.ask(async |store| store.capture(planted("2")).await);
    assert_eq!(again, Ok(Captured::Already { id, state: State::Pending }));
}

#[test]
fn who_only_looks_leaves_no_trace_of_a_key() {
    let mut bench = with_keys(&[0]);
    bench.capture(planted("1"));
    bench.close();
    let rows = |bench: &Bench| -> Vec<(String, i64, Option<Vec<u8>>)> {
        let conn = rusqlite::Connection::open(bench.path()).unwrap();
        let mut statement = conn.prepare("SELECT key_id, letters, tags FROM seals").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let before = rows(&bench);
    for keys in [&[1][..], &[1, 0], &[]] {
        set_keys(&mut bench.settings, keys);
        bench.store = Some(Store::open_to_look(&bench.settings).unwrap().0);
        assert_eq!(exported(&bench).len(), 1);
        assert!(bench.ask(async |store| store.capture(draft("x")).await).is_err());
        bench.close();
        assert_eq!(rows(&bench), before, "{keys:?}");
    }
}

#[test]
fn who_reads_the_file_holds_up_no_capture_while_old_text_is_overwritten() {
    let mut bench = Bench::new();
    bench.capture(draft("planted"));
    bench.reopen_with(&[0]);
    let reader = rusqlite::Connection::open(bench.path()).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |reader: &rusqlite::Connection| -> i64 {
        reader.query_row("SELECT count(*) FROM letters", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&reader), 1);
    let start = Instant::now();
    assert_eq!(bench.tend(), 1);
    assert_eq!(bench.tend(), 0);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(!bench.found().is_empty(), "the reader has it still");
    reader.execute_batch("COMMIT").unwrap();
    let steps = bench.ask(async |store| store.tend().await).unwrap();
    assert!(!steps.more, "the WAL alone is left, and is cut off in one step");
    assert_eq!(bench.found(), [""; 0]);
}

#[test]
fn a_write_from_before_credentials_were_sealed_is_known_behind_the_seal() {
    let mut bench = Bench::new();
    let masked = Draft { credentials: None, ..planted("1") };
    let id = bench.capture(masked);
    bench.reopen_with(&[0]);
    for sealed in [0, 1] {
        let again = bench.ask(async |store| store.capture(planted("1")).await);
        assert_eq!(again, Ok(Captured::Already { id, state: State::Pending }), "{sealed}");
        bench.tend();
    }
}
