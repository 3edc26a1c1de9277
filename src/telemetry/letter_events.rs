//! What happens to kept writes.

use serde_json::json;

use super::events::Event;
use super::feed::Told;
use super::story::{Fact, brief};
use crate::policy::reason::Reason;

/// The store of letters is open.
#[derive(Debug)]
pub struct StoreOpened<'a> {
    pub created: bool,
    pub migrated_from: Option<u32>,
    /// Left half-sent by a crash: to be sent again, or left to an operator.
    pub resumed: usize,
    pub parked: usize,
    /// Where a damaged file was moved, and what could be read out of it.
    pub set_aside: Option<&'a std::path::Path>,
    /// Where the WAL is kept that could not be read to its end.
    pub kept_wal: Option<&'a std::path::Path>,
    pub salvaged: u64,
}

impl Event for StoreOpened<'_> {
    fn log(&self) {
        if let Some(path) = self.kept_wal {
            tracing::error!(
                kept = %path.display(),
                "the store's WAL was damaged: what came after that place is lost, and letters with it"
            );
        }
        match self.set_aside {
            None => tracing::info!(
                created = self.created,
                migrated_from = self.migrated_from,
                resumed = self.resumed,
                parked = self.parked,
                "store opened"
            ),
            Some(path) => tracing::error!(
                set_aside = %path.display(),
                salvaged = self.salvaged,
                "the store was damaged: it is set aside, and a fresh one begun"
            ),
        }
    }
}

/// Letters cannot be read: the key that they are sealed with is not configured.
#[derive(Debug)]
pub struct StoreLocked<'a> {
    pub key: &'a str,
    pub letters: u64,
}

impl Event for StoreLocked<'_> {
    fn log(&self) {
        tracing::error!(
            key = self.key,
            letters = self.letters,
            "letters are sealed with a key that is not configured: they wait until it is"
        );
    }
}

/// A file of the store is not the one that it was: removed, or replaced. It is begun again as at a start.
#[derive(Debug)]
pub struct StoreLost<'a> {
    pub what: &'a str,
}

impl Event for StoreLost<'_> {
    fn log(&self) {
        tracing::error!(what = self.what, "the store's files are not what they were: it lets go of them");
    }
}

/// The store of letters cannot be opened. Requests flow; it is tried again each second.
#[derive(Debug)]
pub struct StoreUnopened<'a> {
    pub error: &'a str,
}

impl Event for StoreUnopened<'_> {
    fn log(&self) {
        tracing::error!(error = self.error, "the store cannot be opened: no letter is taken until it can");
    }
}

/// A write was stored.
#[derive(Debug)]
pub struct LetterCaptured<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub letter: &'a str,
    /// `None`: nothing had failed, it was stored first.
    pub reason: Option<Reason>,
    /// The client was told so: it is Fender's now.
    pub accepted: bool,
    /// Why it waits for an operator, if it does.
    pub parked: Option<&'static str>,
}

impl Event for LetterCaptured<'_> {
    fn log(&self) {
        tracing::info!(
            request_id = self.request_id,
            upstream = self.upstream,
            letter = self.letter,
            reason = self.reason.map_or("", Reason::as_str),
            accepted = self.accepted,
            parked = self.parked,
            "letter captured"
        );
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::Kept {
            letter: brief(self.letter),
            reason: self.reason,
            accepted: self.accepted,
            parked: self.parked,
        })
    }

    fn tell(&self) -> Option<Told> {
        let about = json!({
            "letter": self.letter,
            "request_id": self.request_id,
            "reason": self.reason.map_or("", Reason::as_str),
            "because": self.parked,
        });
        let kind = if self.parked.is_some() { "letter.parked" } else { "letter.captured" };
        Some(Told { kind, upstream: Some(self.upstream.to_owned()), about })
    }
}

/// A write bears the idempotency key of a letter that was stored before: nothing new is.
#[derive(Debug)]
pub struct LetterKnown<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub letter: &'a str,
    /// Where that one stands.
    pub state: &'static str,
    /// The client was told so: it is Fender's.
    pub accepted: bool,
}

impl Event for LetterKnown<'_> {
    fn log(&self) {
        tracing::info!(
            request_id = self.request_id,
            upstream = self.upstream,
            letter = self.letter,
            state = self.state,
            accepted = self.accepted,
            "letter stored before"
        );
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::Already { letter: brief(self.letter), state: self.state, accepted: self.accepted })
    }
}

/// A write was to be stored and was not: it stays its client's.
#[derive(Debug)]
pub struct LetterRefused<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub why: &'static str,
}

impl Event for LetterRefused<'_> {
    fn log(&self) {
        tracing::warn!(
            request_id = self.request_id,
            upstream = self.upstream,
            why = self.why,
            "letter not captured"
        );
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::NotKept { why: self.why })
    }
}

/// A letter was delivered.
#[derive(Debug)]
pub struct LetterDelivered<'a> {
    /// Of the turn that has delivered it.
    pub request_id: &'a str,
    pub letter: &'a str,
    pub upstream: &'a str,
}

impl Event for LetterDelivered<'_> {
    fn log(&self) {
        tracing::info!(
            request_id = self.request_id,
            letter = self.letter,
            upstream = self.upstream,
            "letter delivered"
        );
    }

    fn tell(&self) -> Option<Told> {
        let about = json!({ "letter": self.letter });
        Some(Told { kind: "letter.delivered", upstream: Some(self.upstream.to_owned()), about })
    }
}

/// A letter waits for an operator.
#[derive(Debug)]
pub struct LetterParked<'a> {
    /// Of the turn that it was parked after; `None`: it was not sent.
    pub request_id: Option<&'a str>,
    pub letter: &'a str,
    pub upstream: &'a str,
    pub because: &'static str,
}

impl Event for LetterParked<'_> {
    fn log(&self) {
        tracing::warn!(
            request_id = self.request_id,
            letter = self.letter,
            upstream = self.upstream,
            because = self.because,
            "letter parked"
        );
    }

    fn tell(&self) -> Option<Told> {
        let about = json!({ "letter": self.letter, "because": self.because });
        Some(Told { kind: "letter.parked", upstream: Some(self.upstream.to_owned()), about })
    }
}

/// A parked letter is gone: its retention has ended.
#[derive(Debug)]
pub struct LetterExpired<'a> {
    pub letter: &'a str,
    pub upstream: &'a str,
}

impl Event for LetterExpired<'_> {
    fn log(&self) {
        tracing::warn!(
            letter = self.letter,
            upstream = self.upstream,
            "letter expired: dead_letter.retain_parked is over"
        );
    }

    fn tell(&self) -> Option<Told> {
        let about = json!({ "letter": self.letter });
        Some(Told { kind: "letter.expired", upstream: Some(self.upstream.to_owned()), about })
    }
}

/// The store takes letters again, or takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreChanged {
    pub healthy: bool,
    pub full: bool,
}

impl Event for StoreChanged {
    fn log(&self) {
        if self.healthy && !self.full {
            tracing::warn!("the store takes letters again");
        } else {
            tracing::error!(healthy = self.healthy, full = self.full, "the store takes no letters");
        }
    }

    fn tell(&self) -> Option<Told> {
        let kind = match (self.healthy, self.full) {
            (false, _) => "store.unhealthy",
            (true, true) => "store.full",
            (true, false) => "store.healthy",
        };
        Some(Told { kind, upstream: None, about: json!({}) })
    }
}
