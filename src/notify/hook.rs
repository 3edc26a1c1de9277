//! One webhook: takes events from the feed, and delivers them one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::queue::{Message, Next, Queue};
use crate::clock;
use crate::config::Notify;
use crate::policy::backoff::{Jitter, Settings, Strategy};
use crate::telemetry::events::{WebhookFailed, WebhookRefused, WebhookWorks, emit};
use crate::telemetry::feed::Feed;
use crate::telemetry::webhooks::Webhook;
use crate::upstream::post::{Answered, Receiver};

/// One try takes no longer.
const TRY_MAX: Duration = Duration::from_secs(10);

/// A message that could not be delivered for so long is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(1);

/// However long a receiver asks to be left alone.
const LEFT_ALONE_MAX: Duration = Duration::from_mins(5);

/// So many events are taken from the feed at a time.
const BATCH: usize = 64;

/// Half of it is chance.
const BACKOFF: Settings = Settings {
    strategy: Strategy::Exponential,
    base: Duration::from_secs(1),
    max: Duration::from_secs(60),
    factor: 2.0,
    schedule: Vec::new(),
    jitter: Jitter::Equal,
};

const SIGNATURE: HeaderName = HeaderName::from_static("fender-signature");

pub(super) struct Hook {
    settings: Notify,
    receiver: Arc<Receiver>,
    key: Option<hmac::Key>,
    feed: Arc<Feed>,
    figures: Arc<Webhook>,
    /// The last event that was looked at.
    seen: u64,
    queue: Queue,
}

/// A message on its way.
struct Sending {
    body: Bytes,
    events: u64,
    /// Events before it that were never told, as it says.
    dropped: u64,
    began: Instant,
    tries: u32,
    pause: Duration,
}

/// What became of a try.
enum Tried {
    Delivered,
    Again(Duration),
    GivenUp,
}

impl Hook {
    /// It hears of what comes after event `seen`.
    ///
    /// # Errors
    /// A text that says what of it cannot be used.
    pub(super) fn new(
        settings: &Notify,
        feed: &Arc<Feed>,
        figures: &Arc<Webhook>,
        seen: u64,
    ) -> Result<Self, String> {
        let secret = settings.secret.as_ref();
        Ok(Self {
            settings: settings.clone(),
            receiver: Arc::new(Receiver::new(&settings.url)?),
            key: secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())),
            feed: Arc::clone(feed),
            figures: Arc::clone(figures),
            seen,
            queue: Queue::default(),
        })
    }

    /// Until it is told to end; then each message that waits is tried once more.
    pub(super) async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut news = self.feed.watch();
        let mut sending: Option<Sending> = None;
        while !*ending.borrow() {
            self.hear();
            let now = clock::now();
            if sending.is_none()
                && let Next::Now(at) = self.queue.next(now)
            {
                sending = self.queue.take(at, now).map(|message| self.prepared(&message, now));
            }
            self.publish(sending.as_ref());
            let Some(current) = &mut sending else {
                let wake = match self.queue.next(now) {
                    Next::At(moment) => moment,
                    Next::Now(_) | Next::Nothing => now + GIVEN_UP_AFTER,
                };
                tokio::select! {
                    _ = news.changed() => {}
                    () = sleep_until(wake.into()) => {}
                    _ = ending.wait_for(|ending| *ending) => {}
                }
                continue;
            };
            match self.tried_hearing(current, &mut news).await {
                Tried::Again(wait) => {
                    let until = clock::now() + wait;
                    self.publish(sending.as_ref());
                    // Events go on coming; the ring that they come from is bounded.
                    while clock::now() < until && !*ending.borrow() {
                        tokio::select! {
                            _ = news.changed() => self.hear(),
                            () = sleep_until(until.into()) => {}
                            _ = ending.wait_for(|ending| *ending) => {}
                        }
                        self.publish(sending.as_ref());
                    }
                }
                Tried::Delivered => {
                    self.queue.dropped = self.queue.dropped.saturating_sub(current.dropped);
                    sending = None;
                }
                Tried::GivenUp => {
                    self.queue.dropped += current.events;
                    sending = None;
                }
            }
        }
        self.last_words(sending).await;
    }

    async fn last_words(&mut self, sending: Option<Sending>) {
        self.hear();
        let mut next = sending;
        loop {
            if next.is_none() {
                next = self.queue.take_oldest().map(|message| self.prepared(&message, clock::now()));
            }
            self.publish(next.as_ref());
            let Some(mut current) = next.take() else { return };
            // Whoever runs out of time here has said what is left.
            let left = self.queue.events() + current.events;
            if !matches!(self.tried(&mut current).await, Tried::Delivered) {
                let error = "the process ends";
                return emit(&WebhookRefused { host: self.settings.url.host(), error, events: left });
            }
        }
    }

    /// Takes in what has happened since.
    fn hear(&mut self) {
        loop {
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
                if !self.settings.on.iter().any(|on| on.as_str() == entry.kind) {
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

    /// The body as it is signed and sent, each time the same.
    fn prepared(&self, message: &Message, now: Instant) -> Sending {
        let mut about: Map<String, Value> = message.about.clone();
        about.insert("count".to_owned(), Value::from(message.count));
        about.insert("since".to_owned(), message.since.clone());
        let dropped = self.queue.dropped;
        if dropped > 0 {
            about.insert("dropped".to_owned(), Value::from(dropped));
        }
        let body = Value::Object(about).to_string().into();
        Sending { body, events: message.count, dropped, began: now, tries: 0, pause: Duration::ZERO }
    }

    /// One try; what happens meanwhile is taken in, for the ring that it comes from is everybody's and bounded.
    async fn tried_hearing(&mut self, sending: &mut Sending, news: &mut watch::Receiver<u64>) -> Tried {
        let receiver = Arc::clone(&self.receiver);
        let fields = self.fields(&sending.body);
        let mut posting = std::pin::pin!(receiver.post("", &fields, sending.body.clone(), TRY_MAX));
        let posted = loop {
            tokio::select! {
                posted = &mut posting => break posted,
                Ok(()) = news.changed() => self.hear(),
            }
        };
        self.judged(sending, posted)
    }

    async fn tried(&self, sending: &mut Sending) -> Tried {
        let fields = self.fields(&sending.body);
        let posted = self.receiver.post("", &fields, sending.body.clone(), TRY_MAX).await;
        self.judged(sending, posted)
    }

    fn judged(&self, sending: &mut Sending, posted: Result<Answered, String>) -> Tried {
        sending.tries += 1;
        let host = self.settings.url.host();
        let (error, wait) = match posted {
            Ok(Answered { status, .. }) if status.is_success() => {
                if self.figures.delivered(sending.events) {
                    emit(&WebhookWorks { host, tries: sending.tries });
                }
                return Tried::Delivered;
            }
            Ok(Answered { status, wait }) if may_change(status) => (format!("answered {status}"), wait),
            Ok(Answered { status, .. }) => {
                let error = format!("answered {status}");
                emit(&WebhookRefused { host, error: &error, events: sending.events });
                self.figures.refused(&error, sending.events);
                return Tried::GivenUp;
            }
            Err(error) => (error, None),
        };
        if self.figures.failed(&error) {
            emit(&WebhookFailed { host, error: &error });
        }
        if clock::now().saturating_duration_since(sending.began) >= GIVEN_UP_AFTER {
            emit(&WebhookRefused { host, error: &error, events: sending.events });
            self.figures.refused(&error, sending.events);
            return Tried::GivenUp;
        }
        sending.pause = BACKOFF.wait(sending.tries, sending.pause, fastrand::f64());
        Tried::Again(wait.unwrap_or_default().min(LEFT_ALONE_MAX).max(sending.pause))
    }

    fn fields(&self, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("fender/", env!("CARGO_PKG_VERSION")))),
        ];
        let signed = self.key.as_ref().map(|key| {
            let tag = hmac::sign(key, body);
            format!("sha256={}", tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        });
        fields.extend(signed.and_then(|value| Some((SIGNATURE, HeaderValue::try_from(value).ok()?))));
        fields
    }

    fn publish(&self, sending: Option<&Sending>) {
        self.figures.queued(self.queue.events() + sending.map_or(0, |sending| sending.events));
    }
}

/// Whether the same body may be taken another time.
fn may_change(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}
