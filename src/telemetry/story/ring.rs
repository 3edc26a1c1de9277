//! The last stories, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Fact, Step, Story};
use crate::memory::{Lease, Memory};

/// The last requests that were no plain successes, whatever worker served them. What it keeps is counted in
/// `server.buffer_memory`.
#[derive(Debug)]
pub struct Stories {
    ring: Mutex<Ring>,
    bytes_max: u64,
}

/// What a story is of. Each sort has an equal part of the ring for sure: a flood of one pushes out no other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// It was sent and did not go well, or not at once.
    Tried,
    /// A policy refused it: nothing was sent.
    Refused,
    /// The caller's own doing: a wrong path, a broken request, a refusal of the upstream's that a second send would meet again.
    Callers,
    /// A letter was made of it.
    Letter,
    /// A letter's turn.
    Replay,
}

/// As many as there are of [`Sort`].
const SORTS: usize = 5;

#[derive(Debug)]
struct Ring {
    kept: [Kept; SORTS],
    lease: Lease,
}

/// The stories of one sort, the oldest first.
#[derive(Debug, Default)]
struct Kept {
    stories: VecDeque<Arc<Story>>,
    bytes: u64,
}

/// What the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// So many stories…
    pub stories: usize,
    /// …of so many bytes…
    pub bytes: u64,
    /// …the oldest of which began then, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

impl Stories {
    /// An empty ring. Of a small `memory` it takes no more than a sixteenth.
    #[must_use]
    pub fn new(memory: &Arc<Memory>) -> Self {
        let ring = Ring { kept: Default::default(), lease: memory.lease() };
        Self { ring: Mutex::new(ring), bytes_max: BYTES_MAX.min(memory.limit() / SHARE) }
    }

    /// Takes a story in; where there is no room, the oldest go of the sort that has most beyond its part. Where memory is short
    /// it is itself not kept.
    pub fn push(&self, mut story: Story) {
        story.cut();
        let (bytes, sort) = (story.bytes(), story.sort());
        if bytes > self.bytes_max {
            return;
        }
        let mut gone = Vec::new();
        let mut ring = self.ring();
        ring.of(sort).bytes += bytes; // It counts for its sort before it is decided whose oldest goes.
        while ring.lease.bytes() + bytes > self.bytes_max || !ring.lease.grow(bytes) {
            match ring.drop_oldest() {
                Some(oldest) => gone.push(oldest),
                None => {
                    ring.of(sort).bytes -= bytes;
                    return;
                }
            }
        }
        ring.of(sort).stories.push_back(Arc::new(story));
        drop(ring); // What goes is given back to the system where nobody waits for it.
        drop(gone);
    }

    /// The story of this request.
    #[must_use]
    pub fn find(&self, id: u128) -> Option<Arc<Story>> {
        self.ring().all().find(|story| story.id == id).cloned()
    }

    /// The story of the request that this letter was made of.
    #[must_use]
    pub fn of_letter(&self, letter: &str) -> Option<Arc<Story>> {
        self.ring().of(Sort::Letter).stories.iter().find(|story| story.made() == Some(letter)).cloned()
    }

    /// Those of this letter's turns that did not go well, the oldest first.
    #[must_use]
    pub fn replays_of(&self, letter: &str) -> Vec<Arc<Story>> {
        let mut ring = self.ring();
        let turns = ring.of(Sort::Replay).stories.iter();
        turns.filter(|story| story.replays() == Some(letter)).cloned().collect()
    }

    /// The newest one that `holds`.
    #[must_use]
    pub fn newest(&self, holds: impl Fn(&Story) -> bool) -> Option<Arc<Story>> {
        let ring = self.ring();
        let all = ring.all().filter(|story| holds(story));
        all.max_by_key(|story| story.began_unix_ms).cloned()
    }

    /// What it holds.
    #[must_use]
    pub fn held(&self) -> Held {
        let ring = self.ring();
        Held {
            stories: ring.kept.iter().map(|kept| kept.stories.len()).sum(),
            bytes: ring.lease.bytes(),
            since_ms: ring.oldest().map(|story| story.began_unix_ms).min(),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    const fn of(&mut self, sort: Sort) -> &mut Kept {
        match (sort, &mut self.kept) {
            (Sort::Tried, [kept, ..])
            | (Sort::Refused, [_, kept, ..])
            | (Sort::Callers, [_, _, kept, ..])
            | (Sort::Letter, [.., kept, _])
            | (Sort::Replay, [.., kept]) => kept,
        }
    }

    fn oldest(&self) -> impl Iterator<Item = &Arc<Story>> {
        self.kept.iter().filter_map(|kept| kept.stories.front())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Story>> {
        self.kept.iter().flat_map(|kept| &kept.stories)
    }

    /// The oldest of the sort that has most: as all parts are equal, that is the one that is furthest beyond its own.
    fn drop_oldest(&mut self) -> Option<Arc<Story>> {
        let most =
            self.kept.iter_mut().filter(|kept| !kept.stories.is_empty()).max_by_key(|kept| kept.bytes)?;
        let oldest = most.stories.pop_front()?;
        let bytes = oldest.bytes();
        most.bytes -= bytes;
        // To hold less always works.
        let _less = self.lease.resize(self.lease.bytes().saturating_sub(bytes));
        Some(oldest)
    }
}

impl Story {
    /// Bounded: long texts are cut, and of many attempts those are kept that a step tells of.
    fn cut(&mut self) {
        for text in [&mut self.method, &mut self.path, &mut self.upstream, &mut self.route] {
            cut(text);
        }
        let mut kept = Vec::with_capacity(self.attempts.len().min(STEPS_MAX));
        let mut all: Vec<_> = std::mem::take(&mut self.attempts).into_iter().map(Some).collect();
        for step in &mut self.steps {
            if let Fact::Sent { attempt, .. } = &mut step.fact
                && let Some(mut line) = all.get_mut(*attempt).and_then(Option::take)
            {
                line.error.iter_mut().for_each(cut);
                *attempt = kept.len();
                kept.push(line);
            }
        }
        kept.shrink_to_fit();
        self.attempts = kept;
        self.steps.shrink_to_fit();
    }

    /// What it costs, with what keeps it.
    fn bytes(&self) -> u64 {
        let texts = [&self.upstream, &self.route, &self.method, &self.path];
        let texts: usize = texts.iter().map(|text| text.capacity()).sum();
        let attempts: usize = self
            .attempts
            .iter()
            .map(|line| {
                size_of_val(line)
                    + line.error.as_ref().map_or(0, String::capacity)
                    + line.endpoint.as_ref().map_or(0, String::capacity)
            })
            .sum();
        let steps: usize = self.steps.iter().map(Step::bytes).sum();
        (size_of::<Self>() + 4 * size_of::<usize>() + texts + attempts + steps) as u64
    }
}

impl Step {
    fn bytes(&self) -> usize {
        let elsewhere = self.elsewhere.as_ref().map_or(0, |name| name.len());
        size_of::<Self>() + elsewhere + self.fact.bytes()
    }
}

impl Fact {
    /// What it costs beyond its own size.
    fn bytes(&self) -> usize {
        match self {
            Self::Refused { detail, by, .. } => detail.len() + by.as_ref().map_or(0, |by| size_of_val(&**by)),
            Self::Stopped(stopped) => size_of_val(&**stopped),
            Self::FellBack { to, .. } | Self::NoFallback { to, .. } => to.as_ref().map_or(0, |to| to.len()),
            Self::Kept { letter, .. } | Self::Already { letter, .. } | Self::Replays { letter } => {
                letter.len()
            }
            Self::Turned(turned) => size_of_val(&**turned),
            Self::Failed { detail, .. } => detail.len(),
            Self::Cut { error, .. } => error.len(),
            Self::Sent { .. }
            | Self::Again { .. }
            | Self::Waited { .. }
            | Self::Paused { .. }
            | Self::NotKept { .. }
            | Self::Probes(_)
            | Self::Gone(_) => 0,
        }
    }
}

/// Cuts a text that is too long, and says so.
fn cut(text: &mut String) {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX - MARK.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(MARK);
    }
    text.shrink_to_fit();
}

/// A text as a story keeps it.
#[must_use]
pub fn brief(text: &str) -> Box<str> {
    let mut text = text.to_owned();
    cut(&mut text);
    text.into()
}

/// What stands where a text was cut.
const MARK: &str = "… (cut)";

/// All stories together take so many bytes…
pub const BYTES_MAX: u64 = 2 * 1024 * 1024;

/// …and no more than this part of `server.buffer_memory`.
const SHARE: u64 = 16;

/// A story has so many steps: of a longer one the middle is left out.
pub const STEPS_MAX: usize = 48;

/// A text of a story is no longer than this.
pub const TEXT_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BYTES_MAX, STEPS_MAX, Stories, TEXT_MAX, brief};
    use crate::memory::Memory;
    use crate::policy::reason::Reason;
    use crate::telemetry::access::AttemptLine;
    use crate::telemetry::story::{Fact, Story};

    fn story(number: u128, path: &str, attempts: usize) -> Story {
        let mut story = Story::new(&format!("{number:032x}"), 0, ("api", "/"), ("GET", path));
        for attempt in 0..attempts {
            let mut line = AttemptLine::good(u16::try_from(attempt).unwrap(), 1.0);
            line.error = Some("e".repeat(3 * TEXT_MAX));
            story.attempts.push(line);
            story.note(Duration::ZERO, None, Fact::Sent { attempt, limit: None });
        }
        let detail = brief(&"d".repeat(3 * TEXT_MAX));
        story.note(Duration::ZERO, None, Fact::Failed { reason: Reason::NoRoute, detail, key: None });
        story
    }

    #[test]
    fn whatever_comes_the_bytes_are_bounded_and_counted_and_the_oldest_go() {
        let memory = Memory::new(64 * 1024 * 1024);
        let stories = Stories::new(&memory);
        for number in 0..20_000_u128 {
            let attempts = usize::try_from(number % 200).unwrap();
            stories.push(story(number, &"/p".repeat(attempts * 10), attempts));
            let held = stories.held();
            assert!(held.bytes <= BYTES_MAX && memory.used() == held.bytes, "{held:?}");
        }
        let held = stories.held();
        assert!(held.bytes > BYTES_MAX - 64 * 1024, "it is full: {held:?}");
        let oldest = 20_000 - held.stories as u128;
        assert!(stories.find(oldest).is_some() && stories.find(19_999).is_some());
        assert!(stories.find(oldest - 1).is_none() && stories.find(0).is_none());
        drop(stories);
        assert_eq!(memory.used(), 0, "all of it comes back");
    }

    /// What callers do wrong, or a breaker that is open, comes by the thousand; what led to it does not.
    #[test]
    fn a_flood_of_one_sort_pushes_out_no_other() {
        let stories = Stories::new(&Memory::new(64 * 1024 * 1024));
        let tried = |number: u128| {
            let mut story = Story::new(&format!("{number:032x}"), 0, ("api", "/"), ("GET", "/"));
            story.attempts.push(AttemptLine { outcome: "transient", ..AttemptLine::good(503, 1.0) });
            story.note(Duration::ZERO, None, Fact::Sent { attempt: 0, limit: None });
            story
        };
        let kept = |number: u128, letter: &str| {
            let mut story = tried(number);
            let (letter, reason) = (letter.into(), Some(Reason::Exhausted));
            story.note(Duration::ZERO, None, Fact::Kept { letter, reason, accepted: true, parked: None });
            story
        };
        let replay = |number: u128| {
            let mut story = Story::new(&format!("{number:032x}"), 0, ("api", "/"), ("POST", "/"));
            story.note(Duration::ZERO, None, Fact::Replays { letter: "one".into() });
            story
        };
        (0..100).for_each(|number| stories.push(tried(number)));
        (100..200).for_each(|number| stories.push(kept(number, "one")));
        (200..300).for_each(|number| stories.push(replay(number)));
        (300..50_000).for_each(|number| stories.push(story(number, "/no-such", 0)));
        (0..300).for_each(|number| assert!(stories.find(number).is_some(), "{number}"));
        assert!(
            stories.held().bytes <= BYTES_MAX
                && stories.find(49_999).is_some()
                && stories.find(300).is_none()
        );
        assert_eq!(stories.of_letter("one").map(|story| story.id), Some(100), "the first has made it");
        assert_eq!(stories.replays_of("one").len(), 100);
        // A sort that has more than its part gives way to the others, down to that part.
        (50_000..90_000).for_each(|number| stories.push(tried(number)));
        (300..50_000).rev().take(500).for_each(|number| assert!(stories.find(number).is_some(), "{number}"));
    }

    #[test]
    fn a_small_memory_is_left_to_the_bodies() {
        let memory = Memory::new(64 * 1024);
        let stories = Stories::new(&memory);
        (0..100).for_each(|number| stories.push(story(number, "/", 0)));
        assert!(stories.held().stories > 0 && memory.used() <= 4 * 1024, "{:?}", stories.held());
        let mut bodies = memory.lease();
        assert!(bodies.grow(60 * 1024));
        (100..200).for_each(|number| stories.push(story(number, "/", 0)));
        assert!(memory.used() <= 64 * 1024);
        let mut rest = memory.lease();
        assert!(rest.grow(64 * 1024 - memory.used()));
        stories.push(story(200, "/", 0));
        assert!(memory.used() <= 64 * 1024 && stories.find(200).is_some(), "the oldest gave way");
    }

    #[test]
    fn of_a_long_story_the_beginning_and_the_end_stay() {
        let memory = Memory::new(64 * 1024 * 1024);
        let stories = Stories::new(&memory);
        stories.push(story(1, "/", 199));
        let told = stories.find(1).unwrap();
        assert_eq!((told.steps.len(), told.left_out), (STEPS_MAX, 200 - u32::try_from(STEPS_MAX).unwrap()));
        let statuses: Vec<_> = told
            .steps
            .iter()
            .filter_map(|step| match &step.fact {
                Fact::Sent { attempt, .. } => told.attempts.get(*attempt)?.status,
                _ => None,
            })
            .collect();
        assert_eq!((statuses.first(), statuses.last()), (Some(&0), Some(&198)), "{statuses:?}");
        assert_eq!((statuses.len(), told.attempts.len()), (STEPS_MAX - 1, STEPS_MAX - 1));
        let longest = told.attempts.iter().filter_map(|line| line.error.as_ref()).map(String::len).max();
        assert!(longest.is_some_and(|longest| longest <= TEXT_MAX), "{longest:?}");
        assert!(told.attempts.iter().all(|line| line.error.as_ref().is_some_and(|e| e.ends_with("(cut)"))));
    }
}
