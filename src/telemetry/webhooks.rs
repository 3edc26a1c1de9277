//! What there is to tell of a webhook.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::events::Event;

/// A webhook's receiver cannot be told: said once, until it can be again.
#[derive(Debug)]
pub struct WebhookFailed<'a> {
    pub host: &'a str,
    pub error: &'a str,
}

impl Event for WebhookFailed<'_> {
    fn log(&self) {
        tracing::warn!(host = self.host, error = self.error, "webhook fails, trying again");
    }
}

/// A webhook's receiver is told again.
#[derive(Debug)]
pub struct WebhookWorks<'a> {
    pub host: &'a str,
    pub tries: u32,
}

impl Event for WebhookWorks<'_> {
    fn log(&self) {
        tracing::info!(host = self.host, tries = self.tries, "webhook works again");
    }
}

/// Events that a webhook's receiver will not hear of.
#[derive(Debug)]
pub struct WebhookRefused<'a> {
    pub host: &'a str,
    pub error: &'a str,
    pub events: u64,
}

impl Event for WebhookRefused<'_> {
    fn log(&self) {
        tracing::error!(host = self.host, error = self.error, events = self.events, "webhook given up");
    }
}

/// How one webhook fares.
#[derive(Debug)]
pub struct Webhook {
    /// The host alone: a path may be a secret.
    host: String,
    queued: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    /// Why the last try failed; `None` once one has not.
    error: Mutex<Option<String>>,
}

/// Its figures at one moment; events, not posts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookFigures {
    /// Who is told.
    pub host: String,
    /// Not told yet.
    pub queued: u64,
    /// Told.
    pub delivered: u64,
    /// Given up, since the receiver refused them or could not be reached for too long.
    pub refused: u64,
    /// Never sent: too many waited.
    pub dropped: u64,
    /// Why the last try failed, if it did.
    pub error: Option<String>,
}

impl Webhook {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            queued: AtomicU64::default(),
            delivered: AtomicU64::default(),
            refused: AtomicU64::default(),
            dropped: AtomicU64::default(),
            error: Mutex::default(),
        }
    }

    /// So many events wait.
    pub fn queued(&self, events: u64) {
        self.queued.store(events, Ordering::Relaxed);
    }

    /// So many were told; true if the try before had failed.
    pub fn delivered(&self, events: u64) -> bool {
        self.delivered.fetch_add(events, Ordering::Relaxed);
        self.turn(None)
    }

    /// A try failed; true if the one before had not.
    pub fn failed(&self, error: &str) -> bool {
        !self.turn(Some(error))
    }

    /// So many events are given up.
    pub fn refused(&self, error: &str, events: u64) {
        self.refused.fetch_add(events, Ordering::Relaxed);
        self.turn(Some(error));
    }

    /// So many events were lost before they were tried.
    pub fn dropped(&self, events: u64) {
        self.dropped.fetch_add(events, Ordering::Relaxed);
    }

    /// All of it.
    #[must_use]
    pub fn figures(&self) -> WebhookFigures {
        let figure = |of: &AtomicU64| of.load(Ordering::Relaxed);
        WebhookFigures {
            host: self.host.clone(),
            queued: figure(&self.queued),
            delivered: figure(&self.delivered),
            refused: figure(&self.refused),
            dropped: figure(&self.dropped),
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Puts the last error in place; says whether there was one before.
    fn turn(&self, error: Option<&str>) -> bool {
        let mut last = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, error.map(str::to_owned)).is_some()
    }
}
