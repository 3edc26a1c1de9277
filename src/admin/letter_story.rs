//! What is told of the letter that a story is about: where it stands, its turns, and what else happened to it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::story_view::{Around, Line};
use crate::clock;
use crate::deadletter::{Attempt, Because, Letter, State};
use crate::telemetry::story::Story;

/// What the store says of the letter.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LetterTold {
    id: String,
    /// Null: the store does not have it any more, or cannot say.
    #[schemars(extend("enum" = ["pending", "sending", "delivered", "parked", "discarded", null]))]
    state: Option<&'static str>,
    parked_because: Option<&'static str>,
    created_at: Option<String>,
    next_attempt_at: Option<String>,
    updated_at: Option<String>,
    /// The line of the config for which it waits for an operator, if it does.
    parked_by: Option<Line>,
    /// What was tried of it, oldest first, without what the request's own steps tell.
    attempts: Vec<Replay>,
    /// What else happened to it, as far as the last events of the process still tell.
    events: Vec<Happened>,
}

/// What an operator did with a letter, or what became of it.
#[derive(Debug, Serialize, JsonSchema)]
struct Happened {
    at: String,
    /// Since the request came; of a letter alone, since it was stored.
    at_ms: i64,
    /// As in the events: `letter.replayed` and `letter.discarded` by an operator, `letter.delivered`, `letter.parked`.
    event: String,
    /// The operator's token, by its name.
    who: Option<String>,
    because: Option<String>,
}

/// One attempt at a letter.
#[derive(Debug, Serialize, JsonSchema)]
struct Replay {
    at: String,
    /// Since the request came; of a letter alone, since it was stored.
    at_ms: i64,
    outcome: &'static str,
    status: Option<u16>,
    error: Option<String>,
    duration_ms: u64,
    /// Where the process still knows it: under which id its own story is told, what it did upstream, and where.
    request_id: Option<String>,
    verdict: Option<&'static str>,
    endpoint: Option<String>,
}

/// The key of the config for which a letter waits for an operator, if it is the config that says so.
pub(super) fn parking(letter: &Letter) -> Option<&'static str> {
    if letter.state != State::Parked {
        return None;
    }
    Some(match letter.parked_because? {
        Because::Ambiguous => "dead_letter.replay.ambiguous",
        Because::Credential => "dead_letter.credentials",
        Because::Attempts => "dead_letter.replay.max_attempts",
        Because::Expired => "dead_letter.replay.expire_after",
        Because::Unanswered | Because::Permanent | Because::Damaged | Because::Operator => return None,
    })
}

impl Around<'_> {
    /// It `began` then; until `told_ms`, and of the turn of the story's `own` id, the story's steps tell what was tried.
    pub(super) fn letter(&self, letter: &Letter, began: u64, told_ms: u64, own: Option<&str>) -> LetterTold {
        let mut replays = self.replays(letter, began, told_ms);
        replays.retain(|replay| own.is_none() || replay.request_id.as_deref() != own);
        LetterTold {
            id: letter.id.to_string(),
            state: Some(letter.state.as_str()),
            parked_because: letter.parked_because.map(Because::as_str),
            created_at: Some(clock::rfc3339_ms(letter.created_at_ms)),
            next_attempt_at: letter.next_attempt_at_ms.map(clock::rfc3339_ms),
            updated_at: Some(clock::rfc3339_ms(letter.updated_at_ms)),
            parked_by: parking(letter).and_then(|key| self.line(&letter.upstream, &letter.route, key)),
            attempts: replays,
            events: self.events(letter, began),
        }
    }

    fn replays(&self, letter: &Letter, began: u64, told_ms: u64) -> Vec<Replay> {
        let mut turns = self.feed.stories().replays_of(&letter.id.to_string());
        let mut replays = Vec::new();
        for attempt in letter.attempts.iter().filter(|attempt| attempt.at_ms > told_ms) {
            // A letter is never sent twice at once: of its turns the one that has ended last before this was put down, if that is
            // none of an attempt before. One that went well has no story.
            let ended =
                turns.iter().take_while(|turn| turn.ended_unix_ms() <= attempt.at_ms + ROUNDED_MS).count();
            let own = turns.drain(..ended).next_back().filter(|turn| is_of(turn, attempt));
            let line = own.as_ref().and_then(|turn| turn.attempts.last());
            replays.push(Replay {
                at: clock::rfc3339_ms(attempt.at_ms),
                at_ms: since(began, attempt.at_ms),
                outcome: attempt.outcome.as_str(),
                status: attempt.status,
                error: attempt.error.clone(),
                duration_ms: attempt.duration_ms,
                request_id: own.as_ref().map(|turn| format!("{:032x}", turn.id)),
                verdict: line.and_then(|line| line.verdict),
                endpoint: line.and_then(|line| line.endpoint.clone()),
            });
        }
        replays
    }

    fn events(&self, letter: &Letter, began: u64) -> Vec<Happened> {
        let events = self.feed.about_letter(&letter.id.to_string());
        let told = events.into_iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(&entry.text).ok()?;
            let word = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
            // How it was made the request's own steps tell.
            word("request_id").is_none().then(|| Happened {
                at: clock::rfc3339_ms(entry.at_ms),
                at_ms: since(began, entry.at_ms),
                event: entry.kind.to_owned(),
                who: word("who"),
                because: word("because"),
            })
        });
        told.collect()
    }
}

/// Whether the story of a turn is that of this attempt.
fn is_of(turn: &Story, attempt: &Attempt) -> bool {
    let same = turn.attempts.last().is_some_and(|line| line.status == attempt.status);
    same && turn.ended_unix_ms() + ROUNDED_MS + attempt.duration_ms >= attempt.at_ms
}

/// Milliseconds from then until then.
const fn since(began: u64, at: u64) -> i64 {
    at.cast_signed().saturating_sub(began.cast_signed())
}

/// Two clocks are read, and rounded.
const ROUNDED_MS: u64 = 2;

impl LetterTold {
    pub(super) fn gone(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: None,
            parked_because: None,
            created_at: None,
            next_attempt_at: None,
            updated_at: None,
            parked_by: None,
            attempts: Vec::new(),
            events: Vec::new(),
        }
    }
}
