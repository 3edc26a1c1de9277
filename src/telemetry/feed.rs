//! What operators are told as it happens: the last events, numbered, for as many readers as there are.
//!
//! One bounded ring for all: a reader holds nothing but the number of the last event that it has seen, so one that is slow
//! costs nobody anything. What it missed then is a gap in the numbers, and told as such.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::story::Stories;
use crate::clock;
use crate::memory::{Lease, Memory};

/// An event as the feed tells it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its word: `breaker.opened`, `letter.parked`…
    pub kind: &'static str,
    /// Whom it is about; `None`: the process.
    pub upstream: Option<String>,
    /// What else is worth telling: an object without secrets.
    pub about: Value,
}

/// An event in the feed.
#[derive(Debug)]
pub struct Entry {
    /// From 1, without a gap.
    pub number: u64,
    /// When it came about, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its word.
    pub kind: &'static str,
    /// Whom it is about; `None`: the process.
    pub upstream: Option<String>,
    /// The event as JSON.
    pub text: String,
}

/// The last events of the process.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Ring>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    /// Told when a breaker or a check turns.
    turned: Notify,
    /// Tells this process's numbers from another's.
    life: u64,
    /// What is told of single requests, when it is asked for.
    stories: Stories,
}

#[derive(Debug)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    lease: Lease,
}

/// What a reader has not seen yet.
#[derive(Debug, Default)]
pub struct News {
    /// So many events have gone since: they are not in the ring any more.
    pub missed: u64,
    /// Those that are, the oldest first.
    pub entries: Vec<Arc<Entry>>,
}

impl Feed {
    /// Nothing has happened yet. What it keeps is counted in `memory`.
    #[must_use]
    pub fn new(memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            ring: Mutex::new(Ring { entries: VecDeque::new(), lease: memory.lease() }),
            newest: watch::Sender::new(0),
            turned: Notify::new(),
            life: clock::unix_ms(),
            stories: Stories::new(memory),
        })
    }

    /// Takes an event in.
    pub fn push(&self, told: Told) {
        let Told { kind, upstream, about } = told;
        let mut ring = self.ring();
        let number = *self.newest.borrow() + 1;
        let at_ms = clock::unix_ms();
        let mut text = serde_json::json!({ "event": kind, "at": clock::rfc3339_ms(at_ms) });
        if let (Value::Object(members), Value::Object(about)) = (&mut text, about) {
            members.extend(upstream.as_ref().map(|name| ("upstream".to_owned(), Value::from(name.as_str()))));
            members.extend(about);
        }
        ring.push(Entry { number, at_ms, kind, upstream, text: text.to_string() });
        self.newest.send_replace(number);
        drop(ring);
        if kind.starts_with("breaker.") || kind.starts_with("health.") {
            self.turned.notify_one();
        }
    }

    /// The number of the newest event; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// To be woken by the next events.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Waits until a breaker or an active check has turned since the last time that one waited.
    pub async fn turned(&self) {
        self.turned.notified().await;
    }

    /// What came after event `seen`, at most `max` of it.
    #[must_use]
    pub fn after(&self, seen: u64, max: usize) -> News {
        let ring = self.ring();
        let newest = *self.newest.borrow();
        let oldest = ring.entries.front().map_or(newest + 1, |entry| entry.number);
        let from = seen.saturating_add(1).max(oldest);
        let skipped = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        News {
            missed: from.saturating_sub(seen.saturating_add(1)),
            entries: ring.entries.iter().skip(skipped).take(max).cloned().collect(),
        }
    }

    /// The events about this letter, the oldest first, as JSON.
    #[must_use]
    pub fn about_letter(&self, letter: &str) -> Vec<Arc<Entry>> {
        let named = format!("\"letter\":\"{letter}\"");
        let ring = self.ring();
        let about = |entry: &&Arc<Entry>| entry.kind.starts_with("letter.") && entry.text.contains(&named);
        ring.entries.iter().filter(about).cloned().collect()
    }

    /// How a reader names the last event that it has seen, to go on from there.
    #[must_use]
    pub fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.life)
    }

    /// The number of an event by its [`Feed::id`]; `None` for what is no id, or one of another life of the process.
    #[must_use]
    pub fn number(&self, id: &str) -> Option<u64> {
        let (life, number) = id.split_once('-')?;
        let own = u64::from_str_radix(life, 16).ok()? == self.life;
        let number = number.parse::<u64>().ok()?;
        (own && number <= self.newest()).then_some(number)
    }

    /// The stories of single requests.
    #[must_use]
    pub const fn stories(&self) -> &Stories {
        &self.stories
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Where there is no room, the oldest go; where memory is short, the new one itself is not kept.
    fn push(&mut self, entry: Entry) {
        let bytes = size(&entry);
        while self.entries.len() >= ENTRIES_MAX || self.lease.bytes() + bytes > BYTES_MAX {
            if !self.drop_oldest() {
                break;
            }
        }
        while !self.lease.grow(bytes) {
            if !self.drop_oldest() {
                return;
            }
        }
        self.entries.push_back(Arc::new(entry));
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.entries.pop_front() else { return false };
        self.lease.resize(self.lease.bytes().saturating_sub(size(&oldest)))
    }
}

/// What an event costs, with what keeps it.
fn size(entry: &Entry) -> u64 {
    let text = entry.text.len() + entry.upstream.as_ref().map_or(0, String::len);
    (text + size_of::<Entry>() + 2 * size_of::<Arc<Entry>>()) as u64
}

/// So many events are kept…
pub const ENTRIES_MAX: usize = 1_024;

/// …of so many bytes together.
pub const BYTES_MAX: u64 = 512 * 1024;
