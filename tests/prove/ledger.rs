//! What everyone did and heard, and whether it agrees.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

/// One write of a client's.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) id: String,
    /// It bears a key under which a second send is harmless.
    pub(crate) keyed: bool,
    pub(crate) hangs_up: bool,
}

/// What a client heard of its write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Accepted(String),
    Done,
    Failure,
    Nothing,
}

/// What the upstream does to a request.
pub(crate) enum Fate {
    Acts,
    Refuses,
    ActsAndFails,
    ActsAndHangsUp,
    ActsLate,
}

/// A letter, as far as it matters here.
#[derive(Debug)]
pub(crate) struct Letter {
    id: String,
    state: String,
    because: String,
    write: String,
}

impl Letter {
    pub(crate) fn of(letter: &Value) -> Self {
        let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
        let write = text("path").trim_start_matches('/').to_owned();
        Self { id: text("id"), state: text("state"), because: text("parked_because"), write }
    }
}

pub(crate) struct Ledger {
    dice: Mutex<fastrand::Rng>,
    trouble: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    next: u64,
    writes: Vec<(Write, Heard)>,
    acted: HashMap<String, u32>,
    /// Under a key: a second send of these is harmless.
    keyed: HashSet<String>,
}

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        eprintln!("seed {seed}");
        let dice = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { dice, trouble: AtomicBool::new(true), book: Mutex::default() }
    }

    /// Whether the upstream misbehaves from now on.
    pub(crate) fn trouble(&self, trouble: bool) {
        self.trouble.store(trouble, Ordering::SeqCst);
    }

    pub(crate) fn dice(&self, below: u64) -> u64 {
        self.dice.lock().unwrap().u64(..below)
    }

    /// Whether something goes wrong that does so often.
    pub(crate) fn troubled(&self, percent: u64) -> bool {
        self.trouble.load(Ordering::SeqCst) && self.dice(100) < percent
    }

    pub(crate) fn fate(&self) -> Fate {
        if !self.trouble.load(Ordering::SeqCst) {
            return Fate::Acts;
        }
        match self.dice(100) {
            0..35 => Fate::Acts,
            35..65 => Fate::Refuses,
            65..75 => Fate::ActsAndFails,
            75..85 => Fate::ActsAndHangsUp,
            _ => Fate::ActsLate,
        }
    }

    pub(crate) fn new_write(&self) -> Write {
        let mut book = self.book();
        book.next += 1;
        let write = Write::of(format!("w{}", book.next), self.dice(1000));
        if write.keyed {
            book.keyed.insert(write.id.clone());
        }
        write
    }

    pub(crate) fn heard(&self, write: Write, heard: Heard) {
        self.book().writes.push((write, heard));
    }

    pub(crate) fn acted(&self, id: &str) {
        *self.book().acted.entry(id.to_owned()).or_default() += 1;
    }

    /// [`Self::judge`], and from then on only whether any of them is done once more.
    pub(crate) fn close(&self, letters: &[Letter]) {
        self.judge(letters);
        self.book().writes.clear();
    }

    /// How many writes there were.
    pub(crate) fn writes(&self) -> u64 {
        self.book().next
    }

    /// Nothing is lost, nothing was done twice without leave.
    pub(crate) fn judge(&self, letters: &[Letter]) {
        let book = self.book();
        for (write, acted) in &book.acted {
            assert!(*acted <= 1 || book.keyed.contains(write), "{write} was done {acted} times");
        }
        let by_id: HashMap<&str, &Letter> =
            letters.iter().map(|letter| (letter.id.as_str(), letter)).collect();
        let by_write: HashMap<&str, &Letter> =
            letters.iter().map(|letter| (letter.write.as_str(), letter)).collect();
        let mut accepted = 0;
        for (write, heard) in &book.writes {
            let acted = book.acted.get(&write.id).copied().unwrap_or(0);
            let letter = by_write.get(write.id.as_str());
            let all = format!("{write:?} heard {heard:?}, acted {acted} times, {letter:?}");
            if !write.keyed {
                assert!(acted <= 1, "done twice: {all}");
            }
            match heard {
                Heard::Done => assert!(acted >= 1, "said to be done, and is not: {all}"),
                Heard::Accepted(id) => {
                    accepted += 1;
                    let letter = by_id.get(id.as_str()).unwrap_or_else(|| panic!("lost: {all}"));
                    match letter.state.as_str() {
                        "delivered" => assert!(acted >= 1, "delivered to nobody: {all}"),
                        // A crash in the middle of a send: an operator decides.
                        "parked" => {
                            assert_eq!((letter.because.as_str(), write.keyed), ("ambiguous", false), "{all}");
                        }
                        other => panic!("{other} after everything was delivered: {all}"),
                    }
                }
                // The client owns it. What Fender keeps of it, it does not send by itself.
                Heard::Failure if !write.keyed => {
                    assert!(
                        letter.is_none_or(|letter| letter.state == "parked"),
                        "sent behind its client's back: {all}"
                    );
                }
                Heard::Failure | Heard::Nothing => {}
            }
        }
        assert!(accepted > 0 || book.writes.len() < 50, "nothing was ever accepted: the harness is at fault");
        eprintln!("{} writes, {accepted} accepted, {} letters", book.writes.len(), letters.len());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}
