//! What is to be told, and when. Pure: time comes in, and nothing waits here.
//!
//! A breaker that flaps, or a thousand letters that are parked in a second, are one thing to whoever is called: the first event goes out
//! at once, those like it within [`WINDOW`] together after it, with their count. Events of one subject keep their order.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// Events of one kind and subject are told no more often than this.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// So many messages wait; beyond them the oldest gives way.
pub(super) const MESSAGES_MAX: usize = 256;

/// One thing to be told.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// `breaker.opened` and the like.
    pub(super) word: &'static str,
    /// Whom it is about.
    subject: String,
    /// The last of the events that it stands for.
    pub(super) about: Map<String, Value>,
    /// How many they are.
    pub(super) count: u64,
    /// When the first one was, as it is told.
    pub(super) since: Value,
    due: Instant,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This message goes out.
    Now(usize),
    /// Nothing until then.
    At(Instant),
    /// Nothing at all.
    Nothing,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    /// When something of this kind and subject went out last.
    sent: HashMap<(&'static str, String), Instant>,
    /// Events that were never told.
    pub(super) dropped: u64,
}

impl Queue {
    /// Takes an event in.
    pub(super) fn push(&mut self, word: &'static str, about: Map<String, Value>, now: Instant) {
        let subject = subject(word, &about);
        let last = self.messages.iter_mut().rev().find(|message| message.subject == subject);
        if let Some(last) = last.filter(|last| last.word == word) {
            last.about = about;
            last.count += 1;
            return;
        }
        if self.messages.len() >= MESSAGES_MAX
            && let Some(oldest) = self.messages.pop_front()
        {
            self.dropped += oldest.count;
        }
        self.sent.retain(|_, sent| now.saturating_duration_since(*sent) < WINDOW);
        let alike = |message: &&Message| message.word == word && message.subject == subject;
        let before = self.messages.iter().filter(alike).map(|message| message.due).max();
        let before = before.or_else(|| self.sent.get(&(word, subject.clone())).copied());
        let due = before.map_or(now, |before| before + WINDOW).max(now);
        let since = about.get("at").cloned().unwrap_or_default();
        self.messages.push_back(Message { word, subject, about, count: 1, since, due });
    }

    /// The first message whose time has come and that no other of its subject stands before.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut soonest = Next::Nothing;
        for (at, message) in self.messages.iter().enumerate() {
            if self.messages.iter().take(at).any(|other| other.subject == message.subject) {
                continue;
            }
            if message.due <= now {
                return Next::Now(at);
            }
            match soonest {
                Next::At(moment) if moment <= message.due => {}
                _ => soonest = Next::At(message.due),
            }
        }
        soonest
    }

    /// Takes one out, to be sent.
    pub(super) fn take(&mut self, at: usize, now: Instant) -> Option<Message> {
        let message = self.messages.remove(at)?;
        self.sent.insert((message.word, message.subject.clone()), now);
        Some(message)
    }

    /// Forgets what is of other words.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.messages.retain(|message| wanted(message.word));
    }

    /// The oldest, whether its time has come or not.
    pub(super) fn take_oldest(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// How many events wait.
    pub(super) fn events(&self) -> u64 {
        self.messages.iter().map(|message| message.count).sum()
    }
}

/// Whom an event is about, among those whose order matters to one another.
fn subject(word: &str, about: &Map<String, Value>) -> String {
    let group = word.split('.').next().unwrap_or_default();
    let text = |name: &str| about.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{group} {} {}", text("upstream"), text("route"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn event(upstream: &str, at: u64) -> Map<String, Value> {
        let event = serde_json::json!({ "upstream": upstream, "at": at });
        event.as_object().expect("an object").clone()
    }

    fn sent(queue: &mut Queue, now: Instant) -> Vec<(&'static str, u64)> {
        let mut sent = Vec::new();
        while let Next::Now(at) = queue.next(now) {
            let message = queue.take(at, now).expect("it is there");
            sent.push((message.word, message.count));
        }
        sent
    }

    #[test]
    fn the_first_goes_at_once_and_those_like_it_together() {
        let (mut queue, start) = (Queue::default(), clock::now());
        for number in 0..1000 {
            queue.push("letter.parked", event("a", number), start);
            if number == 0 {
                assert_eq!(sent(&mut queue, start), [("letter.parked", 1)]);
            }
        }
        assert_eq!(sent(&mut queue, start), []);
        assert_eq!(queue.next(start), Next::At(start + WINDOW));
        queue.push("letter.parked", event("b", 0), start);
        assert_eq!(sent(&mut queue, start), [("letter.parked", 1)], "another upstream's");
        assert_eq!(queue.messages[0].since, 1);
        assert_eq!(sent(&mut queue, start + WINDOW), [("letter.parked", 999)]);
        assert_eq!(queue.next(start + WINDOW), Next::Nothing);
    }

    #[test]
    fn what_one_breaker_does_is_told_in_its_order() {
        let (mut queue, start) = (Queue::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        queue.push("breaker.opened", event("a", 0), start);
        assert_eq!(sent(&mut queue, start).len(), 1);
        // It opens and closes again: nobody hears of the closing before the opening that came first.
        queue.push("breaker.opened", event("a", 1), at(3));
        queue.push("breaker.closed", event("a", 2), at(4));
        assert_eq!(sent(&mut queue, at(4)), []);
        assert_eq!(sent(&mut queue, at(10)), [("breaker.opened", 1), ("breaker.closed", 1)]);
        // A closing is never swallowed by the opening that follows it.
        for _ in 0..3 {
            queue.push("breaker.opened", event("a", 3), at(30));
            queue.push("breaker.closed", event("a", 4), at(30));
        }
        let all = [sent(&mut queue, at(30)), sent(&mut queue, at(40)), sent(&mut queue, at(50))].concat();
        assert_eq!(all.len(), 6, "{all:?}");
        assert!(all.chunks(2).all(|pair| (pair[0].0, pair[1].0) == ("breaker.opened", "breaker.closed")));
    }

    #[test]
    fn the_oldest_gives_way_and_is_counted() {
        let (mut queue, start) = (Queue::default(), clock::now());
        for number in 0..MESSAGES_MAX + 3 {
            queue.push("breaker.opened", event(&number.to_string(), 0), start);
        }
        assert_eq!((queue.dropped, queue.events()), (3, MESSAGES_MAX as u64));
        assert!(queue.sent.is_empty());
    }
}
