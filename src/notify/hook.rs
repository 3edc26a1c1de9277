//! One webhook: takes events from the feed, and delivers them one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::ears::{Ears, Heard};
use super::queue::{Message, Next};
use crate::clock;
use crate::config::HookUrl;
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

/// What a webhook's task is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its work.
    Works,
    /// No more than a post under way: a reload has taken it out.
    Leaves,
    /// What waits is tried once more: the process ends.
    Ends,
}

pub(super) struct Hook {
    /// What stands behind the receiver's base: the query above all.
    rest: String,
    host: String,
    receiver: Arc<Receiver>,
    ears: Ears,
    feed: Arc<Feed>,
    figures: Arc<Webhook>,
    /// Events lost by those that a reload has taken out.
    lost: Arc<AtomicU64>,
}

/// A message on its way.
struct Sending {
    word: &'static str,
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
    /// Posts what `ears` hear.
    ///
    /// # Errors
    /// A text that says what of the URL cannot be used.
    pub(super) fn new(
        url: &HookUrl,
        ears: &Ears,
        feed: &Arc<Feed>,
        figures: &Arc<Webhook>,
        lost: &Arc<AtomicU64>,
    ) -> Result<Self, String> {
        Ok(Self {
            rest: url.rest().to_owned(),
            host: url.base().host().to_owned(),
            receiver: Arc::new(Receiver::new(url.base())?),
            ears: ears.clone(),
            feed: Arc::clone(feed),
            figures: Arc::clone(figures),
            lost: Arc::clone(lost),
        })
    }

    /// Until it is told to end, when each message that waits is tried once more, or to leave.
    pub(super) async fn run(self, mut stage: watch::Receiver<Stage>) {
        let mut news = self.feed.watch();
        let mut sending: Option<Sending> = None;
        while *stage.borrow_and_update() == Stage::Works {
            let now = clock::now();
            let next = {
                let mut heard = self.ears.heard();
                heard.hear();
                if sending.is_none()
                    && let Next::Now(at) = heard.queue.next(now)
                {
                    sending = heard.queue.take(at, now).map(|message| prepared(&heard, &message, now));
                }
                self.publish(&heard, sending.as_ref());
                heard.queue.next(now)
            };
            let Some(current) = &mut sending else {
                let wake = match next {
                    Next::At(moment) => moment,
                    Next::Now(_) | Next::Nothing => now + GIVEN_UP_AFTER,
                };
                tokio::select! {
                    _ = news.changed() => {}
                    () = sleep_until(wake.into()) => {}
                    _ = stage.changed() => {}
                }
                continue;
            };
            match self.tried_hearing(current, &mut news).await {
                Tried::Again(wait) => {
                    self.waits(&mut sending, clock::now() + wait, &mut news, &mut stage).await;
                }
                Tried::Delivered => {
                    let queue = &mut self.ears.heard().queue;
                    queue.dropped = queue.dropped.saturating_sub(current.dropped);
                    sending = None;
                }
                Tried::GivenUp => {
                    self.ears.heard().queue.dropped += current.events;
                    sending = None;
                }
            }
        }
        let stage = *stage.borrow();
        if stage == Stage::Leaves { self.leaves(sending) } else { self.last_words(sending).await }
    }

    /// Events go on coming meanwhile; the ring that they come from is bounded. What is not wanted any more is not tried again.
    async fn waits(
        &self,
        sending: &mut Option<Sending>,
        until: Instant,
        news: &mut watch::Receiver<u64>,
        stage: &mut watch::Receiver<Stage>,
    ) {
        loop {
            {
                let mut heard = self.ears.heard();
                heard.hear();
                if sending.as_ref().is_some_and(|sending| !heard.wants(sending.word)) {
                    *sending = None;
                }
                self.publish(&heard, sending.as_ref());
            }
            if sending.is_none() || clock::now() >= until || *stage.borrow() != Stage::Works {
                return;
            }
            tokio::select! {
                _ = news.changed() => {}
                () = sleep_until(until.into()) => {}
                _ = stage.changed() => {}
            }
        }
    }

    /// A reload has taken it out: what was not told is lost.
    fn leaves(&self, sending: Option<Sending>) {
        let events = self.ears.heard().queue.events() + sending.map_or(0, |sending| sending.events);
        if events > 0 {
            self.lost.fetch_add(events, Ordering::Relaxed);
            emit(&WebhookRefused { host: &self.host, error: "taken out by a reload", events });
        }
    }

    async fn last_words(&self, sending: Option<Sending>) {
        self.ears.heard().hear();
        let mut next = sending;
        loop {
            let waiting = {
                let mut heard = self.ears.heard();
                if next.is_none() {
                    next = heard.queue.take_oldest().map(|message| prepared(&heard, &message, clock::now()));
                }
                self.publish(&heard, next.as_ref());
                heard.queue.events()
            };
            let Some(mut current) = next.take() else { return };
            // Whoever runs out of time here has said what is left.
            let events = waiting + current.events;
            if !matches!(self.tried(&mut current).await, Tried::Delivered) {
                return emit(&WebhookRefused { host: &self.host, error: "the process ends", events });
            }
        }
    }

    /// One try; what happens meanwhile is taken in, for the ring that it comes from is everybody's and bounded.
    async fn tried_hearing(&self, sending: &mut Sending, news: &mut watch::Receiver<u64>) -> Tried {
        let receiver = Arc::clone(&self.receiver);
        let fields = self.fields(&sending.body);
        let mut posting = std::pin::pin!(receiver.post(&self.rest, &fields, sending.body.clone(), TRY_MAX));
        let posted = loop {
            tokio::select! {
                posted = &mut posting => break posted,
                Ok(()) = news.changed() => {
                    let mut heard = self.ears.heard();
                    heard.hear();
                    self.publish(&heard, Some(sending));
                }
            }
        };
        self.judged(sending, posted)
    }

    async fn tried(&self, sending: &mut Sending) -> Tried {
        let fields = self.fields(&sending.body);
        let posted = self.receiver.post(&self.rest, &fields, sending.body.clone(), TRY_MAX).await;
        self.judged(sending, posted)
    }

    fn judged(&self, sending: &mut Sending, posted: Result<Answered, String>) -> Tried {
        sending.tries += 1;
        let host = &self.host;
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
        let signed = self.ears.heard().signature(body);
        fields.extend(signed.and_then(|value| Some((SIGNATURE, HeaderValue::try_from(value).ok()?))));
        fields
    }

    fn publish(&self, heard: &Heard, sending: Option<&Sending>) {
        self.figures.queued(heard.queue.events() + sending.map_or(0, |sending| sending.events));
    }
}

/// The body as it is sent, each time the same.
fn prepared(heard: &Heard, message: &Message, now: Instant) -> Sending {
    let mut about: Map<String, Value> = message.about.clone();
    about.insert("count".to_owned(), Value::from(message.count));
    about.insert("since".to_owned(), message.since.clone());
    let dropped = heard.queue.dropped;
    if dropped > 0 {
        about.insert("dropped".to_owned(), Value::from(dropped));
    }
    let body = Value::Object(about).to_string().into();
    let (word, events) = (message.word, message.count);
    Sending { word, body, events, dropped, began: now, tries: 0, pause: Duration::ZERO }
}

/// Whether the same body may be taken another time.
fn may_change(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}
