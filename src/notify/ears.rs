//! What one webhook has heard and not told yet, and by which settings: what a reload changes while its task goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use serde_json::Value;

use super::queue::Queue;
use crate::clock;
use crate::config::{Notify, NotifyOn};
use crate::telemetry::feed::Feed;
use crate::telemetry::webhooks::Webhook;

/// So many events are taken from the feed at a time.
const BATCH: usize = 64;

/// Shared between a webhook's task and whoever reads the config again. Nobody waits while holding it.
#[derive(Clone)]
pub(super) struct Ears(Arc<Mutex<Heard>>);

/// What is behind the lock.
pub(super) struct Heard {
    on: Vec<NotifyOn>,
    key: Option<hmac::Key>,
    feed: Arc<Feed>,
    figures: Arc<Webhook>,
    /// The last event that was looked at.
    seen: u64,
    /// It takes in nothing more.
    closed: bool,
    pub(super) queue: Queue,
}

impl Ears {
    /// It hears of what comes after event `seen`.
    pub(super) fn new(settings: &Notify, feed: &Arc<Feed>, figures: &Arc<Webhook>, seen: u64) -> Self {
        Self(Arc::new(Mutex::new(Heard {
            on: settings.on.clone(),
            key: key(settings),
            feed: Arc::clone(feed),
            figures: Arc::clone(figures),
            seen,
            closed: false,
            queue: Queue::default(),
        })))
    }

    /// Other settings, the same queue: what has happened until now is heard by the old ones; what waits and is not wanted any
    /// more is not told.
    pub(super) fn retune(&self, settings: &Notify) {
        let mut heard = self.heard();
        heard.hear();
        heard.on.clone_from(&settings.on);
        heard.key = key(settings);
        let on = heard.on.clone();
        heard.queue.retain(|word| on.iter().any(|on| on.as_str() == word));
    }

    /// Takes in nothing after this.
    pub(super) fn close(&self) {
        let mut heard = self.heard();
        heard.hear();
        heard.closed = true;
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// Takes in what has happened since.
    pub(super) fn hear(&mut self) {
        while !self.closed {
            let news = self.feed.after(self.seen, BATCH);
            // What the ring has lost may have been of other kinds: it is counted all the same.
            self.queue.dropped += news.missed;
            self.figures.dropped(news.missed);
            self.seen += news.missed;
            if news.entries.is_empty() {
                return;
            }
            for entry in news.entries {
                self.seen = entry.number;
                if !self.wants(entry.kind) {
                    continue;
                }
                // Our own words.
                let Ok(Value::Object(mut about)) = serde_json::from_str(&entry.text) else { continue };
                about.insert("id".to_owned(), Value::from(self.feed.id(entry.number)));
                let before = self.queue.dropped;
                self.queue.push(entry.kind, about, clock::now());
                self.figures.dropped(self.queue.dropped - before);
            }
        }
    }

    /// Whether events of this word are asked for.
    pub(super) fn wants(&self, word: &str) -> bool {
        self.on.iter().any(|on| on.as_str() == word)
    }

    /// The signature of a body, where there is a secret.
    pub(super) fn signature(&self, body: &[u8]) -> Option<String> {
        let tag = hmac::sign(self.key.as_ref()?, body);
        Some(format!("sha256={}", tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    }
}

fn key(settings: &Notify) -> Option<hmac::Key> {
    let secret = settings.secret.as_ref();
    secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").finish_non_exhaustive()
    }
}
