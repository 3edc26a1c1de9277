//! Webhooks: what calls for an operator is posted to where operators are. Off to the side: each reads the feed of events by itself,
//! and neither a receiver that hangs nor a queue that is full is ever in the way of a request.

mod ears;
mod hook;
mod queue;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::ears::Ears;
use self::hook::{Hook, Stage};
use crate::config::Notify;
use crate::telemetry::feed::Feed;
use crate::telemetry::webhooks::Webhook;

/// At the end of the process what waits may take so long to be told.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// All webhooks, running. It must be used on a runtime.
#[derive(Debug)]
pub struct Hooks {
    feed: Arc<Feed>,
    running: Vec<Running>,
    /// Those that a reload has taken out and that have a post under way.
    leaving: Vec<JoinHandle<()>>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Running {
    settings: Notify,
    figures: Arc<Webhook>,
    ears: Ears,
    stage: watch::Sender<Stage>,
    task: JoinHandle<()>,
}

impl Hooks {
    /// None yet.
    #[must_use]
    pub fn new(feed: &Arc<Feed>) -> Self {
        Self { feed: Arc::clone(feed), running: Vec::new(), leaving: Vec::new(), lost: Arc::default() }
    }

    /// How many events were lost with webhooks that a reload has taken out.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Puts these into force. One goes on by its URL, with all that it has not told yet; a new one hears of what comes after event
    /// `seen`; one that is gone ends a post that is under way and loses the rest. Gives what there is to tell of each, in their order.
    ///
    /// # Errors
    /// A text that says which of them cannot be used; nothing has changed then.
    pub fn renew(&mut self, settings: &[Notify], seen: u64) -> Result<Vec<Arc<Webhook>>, String> {
        let heirs = self.heirs(settings);
        let mut fresh = Vec::new();
        for (number, one) in settings.iter().enumerate().filter(|(number, _)| !heirs.contains(&Some(*number)))
        {
            let figures = Arc::new(Webhook::new(one.url.base().host()));
            let ears = Ears::new(one, &self.feed, &figures, seen);
            let hook = Hook::new(&one.url, &ears, &self.feed, &figures, &self.lost);
            fresh.push((number, figures, ears, hook.map_err(|error| format!("notify[{number}]: {error}"))?));
        }
        // Nothing fails from here on.
        let mut placed: Vec<(usize, Running)> = Vec::new();
        self.leaving.retain(|task| !task.is_finished());
        for (mut running, heir) in std::mem::take(&mut self.running).into_iter().zip(heirs) {
            if let Some((number, one)) = heir.and_then(|number| Some((number, settings.get(number)?))) {
                if running.settings != *one {
                    running.ears.retune(one);
                    running.settings = one.clone();
                    // What waits may have become less.
                    running.stage.send_replace(Stage::Works);
                }
                placed.push((number, running));
            } else {
                running.ears.close();
                running.stage.send_replace(Stage::Leaves);
                self.leaving.push(running.task);
            }
        }
        for (number, figures, ears, hook) in fresh {
            let Some(one) = settings.get(number) else { continue };
            let stage = watch::Sender::new(Stage::Works);
            let task = tokio::spawn(hook.run(stage.subscribe()));
            placed.push((number, Running { settings: one.clone(), figures, ears, stage, task }));
        }
        placed.sort_by_key(|(number, _)| *number);
        self.running = placed.into_iter().map(|(_, running)| running).collect();
        Ok(self.running.iter().map(|running| Arc::clone(&running.figures)).collect())
    }

    /// For each that runs the place of the settings by which it goes on, if it does: the same ones, else others of its URL.
    fn heirs(&self, settings: &[Notify]) -> Vec<Option<usize>> {
        let mut heirs: Vec<Option<usize>> = vec![None; self.running.len()];
        let same = |running: &Running, one: &Notify| running.settings == *one;
        let of_one_url = |running: &Running, one: &Notify| running.settings.url == one.url;
        for alike in [same as fn(&Running, &Notify) -> bool, of_one_url] {
            for (at, running) in self.running.iter().enumerate() {
                let free = |number: &usize| !heirs.contains(&Some(*number));
                let mut found = settings.iter().enumerate().filter(|(_, one)| alike(running, one));
                let found = found.find_map(|(number, _)| free(&number).then_some(number));
                if let Some(heir) = heirs.get_mut(at).filter(|heir| heir.is_none()) {
                    *heir = found;
                }
            }
        }
        heirs
    }

    /// Tells what waits, as far as that goes within two seconds.
    pub async fn end(&mut self) {
        let all = async {
            for running in &self.running {
                running.stage.send_replace(Stage::Ends);
            }
            let tasks = self.running.iter_mut().map(|running| &mut running.task);
            for task in tasks.chain(&mut self.leaving) {
                // One that failed has nothing more to say.
                drop(task.await);
            }
        };
        drop(tokio::time::timeout(LAST_WORDS, all).await);
    }
}
