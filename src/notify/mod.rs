//! Webhooks: what calls for an operator is posted to where operators are. Off to the side: each reads the feed of events by itself,
//! and neither a receiver that hangs nor a queue that is full is ever in the way of a request.

mod hook;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::hook::Hook;
use crate::config::Notify;
use crate::telemetry::events::{WebhookRefused, emit};
use crate::telemetry::feed::Feed;
use crate::telemetry::webhooks::Webhook;

/// At the end of the process what waits may take so long to be told.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// All webhooks, running. It must be used on a runtime.
#[derive(Debug)]
pub struct Hooks {
    feed: Arc<Feed>,
    running: Vec<Running>,
    ending: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    settings: Notify,
    figures: Arc<Webhook>,
    task: JoinHandle<()>,
}

impl Hooks {
    /// None yet.
    #[must_use]
    pub fn new(feed: &Arc<Feed>) -> Self {
        Self { feed: Arc::clone(feed), running: Vec::new(), ending: watch::Sender::new(false) }
    }

    /// Puts these into force: one whose settings did not change goes on with all that it has not told yet; a new one hears of what
    /// comes after event `seen`. Gives what there is to tell of each, in their order.
    ///
    /// # Errors
    /// A text that says which of them cannot be used; nothing has changed then.
    pub fn renew(&mut self, settings: &[Notify], seen: u64) -> Result<Vec<Arc<Webhook>>, String> {
        let mut fresh = Vec::new();
        for (number, one) in settings.iter().enumerate() {
            if !self.running.iter().any(|running| running.settings == *one) {
                let figures = Arc::new(Webhook::new(one.url.host()));
                let hook = Hook::new(one, &self.feed, &figures, seen);
                fresh.push((one, figures, hook.map_err(|error| format!("notify[{number}]: {error}"))?));
            }
        }
        // Nothing fails from here on.
        self.running.retain(|running| {
            let stays = settings.contains(&running.settings);
            if !stays {
                running.task.abort();
                let events = running.figures.figures().queued;
                if events > 0 {
                    let error = "taken out or changed by a reload";
                    emit(&WebhookRefused { host: running.settings.url.host(), error, events });
                }
            }
            stays
        });
        for (one, figures, hook) in fresh {
            let task = tokio::spawn(hook.run(self.ending.subscribe()));
            self.running.push(Running { settings: one.clone(), figures, task });
        }
        let place = |running: &Running| settings.iter().position(|one| *one == running.settings);
        self.running.sort_by_key(place);
        Ok(self.running.iter().map(|running| Arc::clone(&running.figures)).collect())
    }

    /// Tells what waits, as far as that goes within two seconds.
    pub async fn end(&mut self) {
        self.ending.send_replace(true);
        let all = async {
            for running in &mut self.running {
                // One that failed has nothing more to say.
                drop((&mut running.task).await);
            }
        };
        drop(tokio::time::timeout(LAST_WORDS, all).await);
    }
}
