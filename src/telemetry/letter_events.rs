//! What happens to kept writes.

use super::events::Event;

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
    pub salvaged: u64,
}

impl Event for StoreOpened<'_> {
    fn log(&self) {
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

/// A write was stored.
#[derive(Debug)]
pub struct LetterCaptured<'a> {
    pub request_id: &'a str,
    pub upstream: &'a str,
    pub letter: &'a str,
    pub reason: &'static str,
    /// The client was told so: it is Fender's now.
    pub accepted: bool,
}

impl Event for LetterCaptured<'_> {
    fn log(&self) {
        tracing::info!(
            request_id = self.request_id,
            upstream = self.upstream,
            letter = self.letter,
            reason = self.reason,
            accepted = self.accepted,
            "letter captured"
        );
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
}

/// A letter was delivered.
#[derive(Debug)]
pub struct LetterDelivered<'a> {
    pub letter: &'a str,
    pub upstream: &'a str,
}

impl Event for LetterDelivered<'_> {
    fn log(&self) {
        tracing::info!(letter = self.letter, upstream = self.upstream, "letter delivered");
    }
}

/// A letter waits for an operator.
#[derive(Debug)]
pub struct LetterParked<'a> {
    pub letter: &'a str,
    pub upstream: &'a str,
    pub because: &'static str,
}

impl Event for LetterParked<'_> {
    fn log(&self) {
        tracing::warn!(
            letter = self.letter,
            upstream = self.upstream,
            because = self.because,
            "letter parked"
        );
    }
}
