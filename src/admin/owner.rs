//! Who owns a write now: its client, Fender, or nobody any more.

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock;
use crate::deadletter::{Because, Letter, State};
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::telemetry::story::{Fact, Story};

/// Who owns the write now, and why.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Owner {
    #[schemars(extend("enum" = ["client", "fender", "nobody"]))]
    pub(super) who: &'static str,
    /// One line for a person.
    pub(super) why: String,
}

/// By what the store says of the letter, if there is one; else by what the client heard.
pub(super) fn owner(story: Option<&Story>, letter: Option<&Letter>, store_is_silent: bool) -> Owner {
    // One that names a letter which was there before, and was not told that it is Fender's, has an end of its own.
    let of_itself = |story: &&Story| story.made().is_none() && story.replays().is_none() && !story.accepted();
    match (letter, story) {
        (Some(_), Some(story)) if of_itself(&story) => of_request(story),
        (Some(letter), _) => of_letter(letter, story),
        (None, Some(story)) if store_is_silent => {
            let who = if story.accepted() { "fender" } else { "client" };
            owned(who, "as it heard; the store cannot say just now what has become of the letter since")
        }
        (None, Some(story)) => of_request(story),
        (None, None) => owned("client", "nothing is known of it"),
    }
}

fn of_letter(letter: &Letter, story: Option<&Story>) -> Owner {
    let id = letter.id;
    match letter.state {
        State::Delivered => owned("nobody", format!("delivered, as letter {id}")),
        State::Discarded => owned("nobody", format!("an operator has given letter {id} up")),
        State::Sending => owned("fender", format!("letter {id} is being sent just now")),
        State::Pending => {
            let next = letter.next_attempt_at_ms.map_or_else(String::new, |at| {
                format!(", and is tried again not before {}", clock::rfc3339(at))
            });
            owned("fender", format!("letter {id} is pending{next}"))
        }
        State::Parked => {
            let because = letter.parked_because.map_or("operator", Because::as_str);
            let own = heard_failure(letter, story);
            let waits = format!("letter {id} is parked ({because}) and waits for an operator");
            if own {
                let heard = match story {
                    Some(story) if hung_up(story) => "it hung up before it heard anything",
                    Some(_) => "it heard a failure",
                    None => "it was not told that the write is kept",
                };
                owned("client", format!("{heard}; a copy is kept: {waits}"))
            } else {
                owned("fender", waits)
            }
        }
    }
}

/// Whether its client was never told that the write is Fender's: the request's story knows; without it the letter's reason is the
/// word that the client heard.
fn heard_failure(letter: &Letter, story: Option<&Story>) -> bool {
    let accepted =
        story.filter(|story| story.made() == Some(letter.id.to_string().as_str())).map(Story::accepted);
    let refused = matches!(letter.reason, Some(Reason::Ambiguous | Reason::Credential))
        || letter.parked_because == Some(Because::Unanswered);
    accepted.map_or(refused, |accepted| !accepted)
}

/// Whether its client went away before its answer began.
fn hung_up(story: &Story) -> bool {
    story.ended.as_ref().is_some_and(|ended| ended.reason == Some(Reason::Cancelled))
}

fn of_request(story: &Story) -> Owner {
    if let Some(letter) = story.made().or_else(|| story.replays()) {
        return owned("nobody", format!("letter {letter} is not in the store any more"));
    }
    let Some(ended) = &story.ended else { return owned("client", "its answer is still under way") };
    let safe = ["GET", "HEAD", "OPTIONS", "TRACE"].contains(&story.method.as_str());
    let whole = matches!(ended.how, "complete" | "cancelled");
    let answered = matches!(ended.status, 101 | 200..=399) && whole;
    let good = story.attempts.last().is_some_and(|line| line.outcome == Outcome::Success.as_str());
    let by_another = story.steps.iter().rev().find_map(|step| match &step.fact {
        Fact::FellBack { kind, .. } => Some(*kind),
        _ => None,
    });
    if safe {
        return owned("nobody", "a read: it changes nothing upstream");
    }
    match (ended.source, story.verdict()) {
        ("upstream", _) if answered => owned("nobody", "the upstream acted on it"),
        ("fallback", _) if answered && by_another == Some("upstream") => {
            owned("nobody", "another upstream acted on it")
        }
        (_, None | Some("never_sent")) if hung_up(story) => {
            owned("client", "it hung up; nothing of it was sent")
        }
        (_, Some("refused")) if hung_up(story) => {
            owned("client", "it hung up; the upstream did not act on it")
        }
        _ if hung_up(story) && good => {
            owned("client", "it hung up before it heard so, but the write was acted on upstream")
        }
        (_, Some("done")) if hung_up(story) => {
            owned("client", "it hung up before it heard what the upstream said of it")
        }
        ("fallback", None | Some("never_sent" | "refused")) if answered => {
            owned("client", "it heard a fallback's words; nothing acted on it")
        }
        (_, None | Some("never_sent")) => owned("client", "it heard so; nothing of it was sent"),
        (_, Some("refused")) => owned("client", "it heard so; the upstream did not act on it"),
        (_, Some(verdict)) if verdict == Verdict::Ambiguous.as_str() => {
            owned("client", "it may have happened: look before it is sent again")
        }
        _ => owned("client", "it has the upstream's answer"),
    }
}

fn owned(who: &'static str, why: impl Into<String>) -> Owner {
    Owner { who, why: why.into() }
}
