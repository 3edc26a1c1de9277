//! The power is cut at random moments: under `sync = "full"` nothing is lost that there was a receipt for.
//!
//! The disk is an ext4 or an xfs of its own, which its shutdown ioctl stops in the middle of whatever it does: while letters come
//! and go, while what is done with is removed and its space given back, while a store is made. `FENDER_POWER_ROUNDS` says how
//! often the power goes in each of these; `just power` does it three hundred times. What a disk's own cache may lose is not seen here.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use fender::config::model::{DeadLetter, Sync};
use fender::deadletter::{
    Because, Captured, Content, Draft, Filter, Letter, LetterId, Opened, Settled, State, Store,
};
use fender::policy::outcome::Outcome;

use super::disk::{Disk, System};
use super::{Bench, attempt, draft, runtime, settings};
use crate::support::PATIENCE;

/// The environment variables that make this test's executable the one whose machine goes out.
const STORE: &str = "FENDER_TEST_STORE_WHOSE_POWER_IS_CUT";
const SYNC: &str = "FENDER_TEST_STORE_SYNC";

/// Set where what is done with is removed all the while.
const SWEEPS: &str = "FENDER_TEST_STORE_SWEEPS";

/// Rounds where nobody says how many.
const ROUNDS: u64 = 15;

/// So many rounds share a disk; then one begins with an empty one, so that the making of a store is cut too.
const ROUNDS_OF_A_DISK: u64 = 5;

const WRITERS: u32 = 24;

/// A small store checkpoints, and so flushes, after almost every commit: a larger one shows what is not flushed.
fn settings_of(path: &Path, sync: Sync) -> DeadLetter {
    let max_bytes = if sync == Sync::Full { 32 << 20 } else { 256 << 20 };
    DeadLetter { sync, max_bytes, ..settings(path) }
}

fn body(writer: u32, number: u64) -> Vec<u8> {
    let mut body = format!("{writer} {number} ").into_bytes();
    body.resize(40 + usize::try_from(number * 977 % 9000).unwrap(), b'.');
    body
}

/// Works until nothing can be written any more.
#[test]
fn the_process_whose_machine_goes_out() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let normal = std::env::var_os(SYNC).is_some_and(|sync| sync == "normal");
    let sync = if normal { Sync::Normal } else { Sync::Full };
    say("\nopening\n");
    let sweeps = std::env::var_os(SWEEPS).is_some();
    let mut settings = settings_of(path.as_ref(), sync);
    if sweeps {
        settings.retain_delivered = Duration::ZERO;
    }
    let (store, _) = Store::open(&settings).unwrap();
    runtime().block_on(async {
        if sweeps {
            tokio::spawn(sweep(store.clone()));
        }
        let writers: tokio::task::JoinSet<_> =
            (0..WRITERS).map(|writer| write(store.clone(), writer)).collect();
        writers.join_all().await;
    });
}

/// Removes what is done with, and gives its space back, by turns.
async fn sweep(store: Store) {
    while store.purge(Filter::default()).await.is_ok() {
        while store.retain(super::now_ms()).await.is_ok_and(|retained| retained.more) {}
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Captures, delivers, parks and discards; tells each thing that it was told is done.
async fn write(store: Store, writer: u32) {
    for number in 0_u64.. {
        let draft = Draft { repeatable: number % 2 == 0, ..draft(body(writer, number)) };
        let Ok(Captured::New(receipt)) = store.capture(draft).await else { return };
        let id = receipt.id();
        tell("kept", id, &format!(" {writer} {number}"));
        let end = match number % 4 {
            0 => continue,
            1 => {
                if store.discard(id, None).await.is_err() {
                    return;
                }
                tell("discarded", id, "");
                continue;
            }
            2 => Settled::Delivered,
            _ => Settled::Parked(Because::Permanent),
        };
        // Whether the mark is on disk is not known before it is told.
        tell("begins", id, "");
        if !matches!(store.begin(id, 1).await, Ok(Some(_))) {
            return;
        }
        tell("sending", id, "");
        if store.settle(id, attempt(Outcome::Success), end).await.is_err() {
            return;
        }
        tell(if end == Settled::Delivered { "delivered" } else { "parked" }, id, "");
    }
}

/// A line for whoever reads; in one piece.
fn tell(word: &str, id: LetterId, rest: &str) {
    say(&format!("\n{word} {id}{rest}\n"));
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// What the process was told of its letters.
#[derive(Default)]
struct Ledger {
    kept: HashMap<LetterId, (u32, u64)>,
    /// The last thing that was told of each, and what was asked for after it.
    last: HashMap<LetterId, String>,
    begun: HashSet<LetterId>,
    opening: bool,
}

impl Ledger {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["kept", id, writer, number] => {
                self.kept.insert(id.parse().unwrap(), (writer.parse().unwrap(), number.parse().unwrap()));
            }
            ["begins", id] => drop(self.begun.insert(id.parse().unwrap())),
            [word @ ("sending" | "discarded" | "delivered" | "parked"), id] => {
                self.last.insert(id.parse().unwrap(), (*word).to_owned());
            }
            ["opening"] => self.opening = true,
            _ => {}
        }
    }

    /// Whether the letter may be gone where what is done with is removed.
    fn lets_go(&self, id: LetterId) -> bool {
        let (_, number) = self.kept[&id];
        matches!(number % 4, 1 | 2)
    }

    /// What was said after the order to cut: of a flush that the cut meets, ext4 may say that it succeeded though it did not (so
    /// it does with a bare file), which no machine without power says. So nothing follows from it but what was asked for.
    fn read_in_the_dark(&mut self, line: &str) {
        if line.starts_with("begins ") {
            self.read(line);
        }
    }

    /// Whether the letter stands no earlier than was told.
    fn allows(&self, letter: &Letter) -> bool {
        let (_, number) = self.kept[&letter.id];
        let judged = || match (letter.state, letter.parked_because) {
            (State::Pending, _) => letter.repeatable,
            (State::Parked, Some(Because::Ambiguous)) => !letter.repeatable,
            _ => false,
        };
        let end = match number % 4 {
            0 => State::Pending,
            1 => State::Discarded,
            2 => State::Delivered,
            _ => State::Parked,
        };
        // Its last step may be on disk though nobody was told so any more.
        match self.last.get(&letter.id).map(String::as_str) {
            None => {
                let began = self.begun.contains(&letter.id) && judged();
                letter.state == State::Pending || letter.state == end || began
            }
            Some("sending") => letter.state == end || judged(),
            Some(_) => letter.state == end,
        }
    }
}

/// A process at work, and what it says.
struct Working {
    child: Child,
    lines: Receiver<String>,
}

impl Working {
    fn start(path: &Path, sync: &str, work: Work) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["deadletter::power::the_process_whose_machine_goes_out", "--exact", "--nocapture"])
            .envs([(STORE, path.as_os_str()), (SYNC, sync.as_ref())])
            .envs((work == Work::Sweep).then_some((SWEEPS, "1")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (say, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { child, lines }
    }

    fn listen_until(&self, ledger: &mut Ledger, kept: usize) {
        while ledger.kept.len() < kept {
            ledger.read(&self.lines.recv_timeout(PATIENCE).expect("it goes on"));
        }
    }

    fn listen_until_it_opens(&self, ledger: &mut Ledger) {
        ledger.opening = false;
        while !ledger.opening {
            ledger.read(&self.lines.recv_timeout(PATIENCE).expect("it begins"));
        }
    }

    /// Hears all that it has said by now.
    fn listen(&self, ledger: &mut Ledger) {
        self.lines.try_iter().for_each(|line| ledger.read(&line));
    }

    /// Ends it, and hears what else it said: that is in the pipe.
    fn end(mut self, ledger: &mut Ledger) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().for_each(|line| ledger.read_in_the_dark(&line));
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // It would hold the disk.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What goes on when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Letters come and go.
    Write,
    /// They do, and what is done with is removed.
    Sweep,
    /// A store is made, another one each time.
    Open,
    /// One of the first schema is brought up to the present one, another one each time.
    Migrate,
}

impl Work {
    /// Whether each round has a store of its own.
    const fn begins_anew(self) -> bool {
        matches!(self, Self::Open | Self::Migrate)
    }
}

/// A store of the first schema.
fn of_before() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deadletter/files_of_before/schema-1.db")
}

/// One cut after another on one disk; `left` looks at what is there after each. Gives what was told in all of them; `None` where
/// there can be no such disk.
fn cuts(
    rounds: u64,
    (system, work): (System, Work),
    sync: &str,
    dice: &mut fastrand::Rng,
    mut left: impl FnMut(&Bench, &Opened, &Ledger),
) -> Option<Ledger> {
    let mut disk = Disk::ample(system)?;
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let mut folder = disk.path();
        if work.begins_anew() {
            folder = folder.join(round.to_string());
            std::fs::create_dir(&folder).unwrap();
            let sync = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all()).unwrap();
            if work == Work::Migrate {
                std::fs::copy(of_before(), folder.join("letters.db")).unwrap();
                sync(&folder.join("letters.db"));
                sync(&folder);
            }
            sync(&disk.path());
            ledger = Ledger::default();
        }
        let path = folder.join("letters.db");
        let switch = disk.switch()?;
        let working = Working::start(&path, sync, work);
        if work.begins_anew() {
            working.listen_until_it_opens(&mut ledger);
            thread::sleep(Duration::from_micros(dice.u64(0..40_000)));
        } else {
            // After some receipts, then some microseconds into whatever it does.
            let until = ledger.kept.len() + dice.usize(0..160);
            working.listen_until(&mut ledger, until);
            thread::sleep(Duration::from_micros(dice.u64(0..4000)));
        }
        working.listen(&mut ledger);
        if !switch.cut() {
            eprintln!("SKIPPED: this {system:?} cannot be shut down");
            return None;
        }
        working.end(&mut ledger);
        disk.power_on_again();
        let mut bench = Bench {
            folder: tempfile::tempdir().unwrap(),
            runtime: runtime(),
            settings: settings_of(&path, Sync::Full),
            store: None,
        };
        let opened = bench.open();
        left(&bench, &opened, &ledger);
    }
    Some(ledger)
}

fn all(bench: &Bench) -> HashMap<LetterId, Letter> {
    let (mut all, mut cursor) = (HashMap::new(), None);
    loop {
        let page = bench.ask(async |store| store.list(Filter::default(), 1000, cursor).await).unwrap();
        all.extend(page.letters.into_iter().map(|letter| (letter.id, letter)));
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// What is there is whole, whatever became of the rest.
fn whole(bench: &Bench, opened: &Opened, when: &str) {
    assert_eq!(opened.set_aside, None, "{when}");
    let report = bench.ask(async |store| store.verify().await).unwrap();
    assert_eq!((report.damaged, report.file), (vec![], vec![]), "{when}");
    assert_eq!(bench.store().figures().total(State::Sending), 0, "{when}");
}

/// What the letters of [`of_before`] bear.
fn contents_of_before() -> Vec<(LetterId, Content)> {
    let mut bench = Bench::new();
    bench.close();
    std::fs::copy(of_before(), bench.path()).unwrap();
    bench.open();
    let letters = all(&bench).into_keys();
    let read = |id| (id, bench.ask(async |store| store.content(id).await).unwrap());
    let contents: Vec<_> = letters.map(read).collect();
    assert!(!contents.is_empty());
    contents
}

fn rounds() -> u64 {
    std::env::var("FENDER_POWER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// Cuts the power as often as is asked for; says how many letters were kept. `None` where there can be no such disk.
fn nothing_is_lost(system: System, work: Work) -> Option<usize> {
    let rounds = rounds();
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut kept, mut done, mut under_way, mut gone, mut anew, mut migrated) = (0, 0, 0, 0, 0, 0);
    let before = if work == Work::Migrate { contents_of_before() } else { Vec::new() };
    for disk in 0..rounds.div_ceil(ROUNDS_OF_A_DISK) {
        let mut round = 0;
        let of_disk = ROUNDS_OF_A_DISK.min(rounds - disk * ROUNDS_OF_A_DISK);
        let played = cuts(of_disk, (system, work), "full", &mut dice, |bench, opened, ledger| {
            round += 1;
            let when = format!("{system:?}, {work:?}, disk {disk}, round {round}, seed {seed}");
            whole(bench, opened, &when);
            under_way += opened.resumed.len() + opened.parked.len();
            anew += u32::from(opened.created);
            if work.begins_anew() {
                kept += ledger.kept.len();
            }
            let letters = all(bench);
            if work == Work::Migrate {
                assert!(!opened.created, "{when}");
                migrated += u32::from(opened.migrated_from.is_none());
                for (id, content) in &before {
                    assert_eq!(
                        bench.ask(async |store| store.content(*id).await).as_ref(),
                        Ok(content),
                        "{when}: {id}"
                    );
                }
            }
            for (id, (writer, number)) in &ledger.kept {
                let Some(letter) = letters.get(id) else {
                    let may = work == Work::Sweep && ledger.lets_go(*id);
                    assert!(may, "{when}: {id} was accepted and is gone");
                    gone += 1;
                    continue;
                };
                let last = ledger.last.get(id);
                assert!(ledger.allows(letter), "{when}: {last:?} was told of {letter:?}, number {number}");
                let content = bench.ask(async |store| store.content(*id).await).unwrap();
                assert_eq!(content.body, body(*writer, *number), "{when}: {id}");
            }
        })?;
        if !work.begins_anew() {
            kept += played.kept.len();
        }
        done += played.last.len();
    }
    eprintln!(
        "{system:?}, {work:?}: {rounds} cuts: {kept} letters were kept, {done} had gone on, {under_way} were under way, \
         {gone} times one was found removed, {anew} times there was no store yet, {migrated} times its schema had changed"
    );
    assert_eq!(gone > 0, work == Work::Sweep, "{gone} letters were removed");
    Some(kept)
}

#[test]
fn nothing_that_was_accepted_is_lost_when_the_power_goes() {
    if let Some(kept) = nothing_is_lost(System::Ext4, Work::Write) {
        assert!(kept > 30 * usize::try_from(rounds()).unwrap(), "{kept} letters in {} rounds", rounds());
    }
}

#[test]
fn nothing_that_was_accepted_is_lost_when_the_power_of_an_xfs_goes() {
    if let Some(kept) = nothing_is_lost(System::Xfs, Work::Write) {
        assert!(kept > 30 * usize::try_from(rounds()).unwrap(), "{kept} letters in {} rounds", rounds());
    }
}

#[test]
fn nothing_else_is_lost_when_the_power_goes_while_what_is_done_with_is_removed() {
    for system in [System::Ext4, System::Xfs] {
        nothing_is_lost(system, Work::Sweep);
    }
}

#[test]
fn a_store_in_the_making_is_made_anew_when_the_power_goes() {
    for system in [System::Ext4, System::Xfs] {
        nothing_is_lost(system, Work::Open);
    }
}

#[test]
fn a_schema_in_the_changing_is_one_or_the_other_when_the_power_goes() {
    for system in [System::Ext4, System::Xfs] {
        nothing_is_lost(system, Work::Migrate);
    }
}

/// The same harness sees losses where there may be some: it can fail.
#[test]
fn without_a_flush_letters_are_lost_when_the_power_goes_and_the_rest_is_whole() {
    let mut dice = fastrand::Rng::new();
    let (mut kept, mut lost) = (0, 0);
    for _ in 0..ROUNDS {
        let played = cuts(1, (System::Ext4, Work::Write), "normal", &mut dice, |bench, opened, ledger| {
            whole(bench, opened, "sync = normal");
            let letters = all(bench);
            kept += ledger.kept.len();
            lost += ledger.kept.keys().filter(|id| !letters.contains_key(id)).count();
        });
        if played.is_none() {
            return;
        }
        if lost > 0 {
            eprintln!("{lost} of {kept} letters were lost");
            return;
        }
    }
    panic!("{kept} letters were kept without a flush, and none was lost");
}
