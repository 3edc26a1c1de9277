//! The second front door: takes due letters back to the proxy, at the pace that their upstream bears.
//!
//! Promises: a letter is marked as being sent, on disk, before a byte of it may leave, and no letter is sent twice at once;
//! letters of one order key go one after the other; an upstream that has just come back gets one letter first, then more.
//! It never waits for a seat or a slot: live requests go first. It makes no letter.

mod lane;
mod pauses;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::lane::Lane;
use self::pauses::Pauses;
use crate::clock;
use crate::config;
use crate::deadletter::{self, Attempt, Because, Letter, LetterId, Settled, Store, StoreError};
use crate::drain::Phase;
use crate::policy::breaker::State;
use crate::policy::judge::Judged;
use crate::policy::key::Key;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::redelivery::{self, Next, Rules, Why};
use crate::proxy::{Client, Proxy, Turn};
use crate::route::Plan;
use crate::telemetry::events::{LetterDelivered, LetterExpired, LetterParked, emit_told};

/// What is due is looked for so often, where nothing says so earlier.
const LOOK: Duration = Duration::from_millis(200);

/// A letter being sent shows a sign of life so often.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Retention and expiry are looked after so often.
const RETENTION: Duration = Duration::from_secs(5);

/// Between two steps of sealing others have their turn.
const TENDING: Duration = Duration::from_millis(10);

/// A letter that has nowhere to go, or whose replays are off, is looked at again after this.
const NOWHERE: Duration = Duration::from_secs(30);

/// A letter whose turn was not taken waits at least so long.
const SOON: Duration = Duration::from_millis(50);

/// So many letters are woken when their upstream is well again; the others come due by themselves.
const WOKEN_MAX: u32 = 1000;

/// Letters that are fetched at once for one upstream.
const BATCH_MAX: u32 = 256;

/// Takes letters back to the proxy, over connections of its own.
#[derive(Debug)]
pub struct Replayer {
    proxy: Arc<Proxy>,
    store: Store,
    client: Arc<Client>,
    lanes: Mutex<HashMap<String, Lane>>,
    sending: Mutex<Vec<LetterId>>,
    pauses: Mutex<Pauses>,
    /// Retention is at work.
    retaining: AtomicBool,
    wake: Arc<Notify>,
}

impl Replayer {
    /// `worker`: whose connections it uses; nobody else's.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, store: Store, worker: usize) -> Arc<Self> {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let client = Arc::new(Client::new(nobody, false, worker));
        Arc::new(Self {
            proxy,
            store,
            client,
            lanes: Mutex::default(),
            sending: Mutex::default(),
            pauses: Mutex::default(),
            retaining: AtomicBool::new(false),
            wake: Arc::default(),
        })
    }

    /// Runs until the process drains: nothing begins from then on, and what is under way is finished.
    pub async fn run(self: Arc<Self>) {
        let mut phase = self.proxy.drain.watch();
        let tending = tokio::spawn(tend(self.store.clone()));
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut retention = tokio::time::interval(RETENTION);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
                _ = heartbeat.tick() => self.beat().await,
                _ = retention.tick() => self.look_after(),
                () = self.store.replayed_by_hand() => {
                    locked(&self.pauses).forget();
                    self.turn().await;
                }
                () = self.wake.notified() => self.turn().await,
                _ = look.tick() => self.turn().await,
            }
        }
        // A step that is under way is done all the same; the next start goes on from there.
        tending.abort();
        while !locked(&self.sending).is_empty() {
            tokio::select! {
                _ = phase.wait_for(|phase| *phase >= Phase::Storing) => return,
                _ = heartbeat.tick() => self.beat().await,
                () = self.wake.notified() => {}
            }
        }
    }

    /// Begins as many replays as each upstream bears now.
    async fn turn(self: &Arc<Self>) {
        let table = self.proxy.table.load_full();
        for upstream in table.upstreams() {
            let rule = &upstream.settings().dead_letter;
            let recoveries = upstream.policies().recoveries();
            let recovered = self.lane(upstream.name(), |lane| lane.recovered(recoveries));
            if self.store.figures().count(upstream.name(), deadletter::State::Pending) == 0 {
                continue;
            }
            if recovered && self.store.hasten(upstream.name(), WOKEN_MAX).await.is_err() {
                continue; // The store says what is wrong with it; they come due by themselves.
            }
            // Where each key has a breaker of its own, one that is open says nothing of the other keys' letters.
            let whole = matches!(upstream.settings().breaker.key, Key::Word(_));
            if whole && matches!(upstream.policies().breaker().worst(), State::Open | State::ForcedOpen) {
                continue;
            }
            let room =
                self.lane(upstream.name(), |lane| lane.room(&rule.replay, clock::now())).min(BATCH_MAX);
            if room == 0 {
                continue;
            }
            let hold = rule.on_parked == config::OnParked::Hold;
            // What is wrong with the store it says itself, and it is asked again.
            let now = clock::unix_ms();
            // One that has begun is due on disk until it is marked there: it must not cost another one's place.
            let begun = locked(&self.sending).clone();
            let asked = room.saturating_add(u32::try_from(begun.len()).unwrap_or(u32::MAX));
            let Ok(due) = self.store.due(upstream.name(), hold, now, asked).await else { continue };
            let due = due.into_iter().filter(|due| !begun.contains(&due.id));
            for deadletter::Due { id, .. } in due.take(usize::try_from(room).unwrap_or(usize::MAX)) {
                self.lane(upstream.name(), |lane| lane.begins(&rule.replay, clock::now()));
                locked(&self.sending).push(id);
                let (replayer, name) = (Arc::clone(self), upstream.name().to_owned());
                let concurrency = rule.replay.concurrency;
                tokio::spawn(async move {
                    let ended = replayer.one(id).await;
                    locked(&replayer.sending).retain(|sent| *sent != id);
                    replayer.lane(&name, |lane| lane.ended(ended, concurrency, clock::now()));
                    replayer.wake.notify_one();
                });
            }
        }
    }

    /// One letter's turn.
    async fn one(&self, id: LetterId) -> lane::Ended {
        let Ok(Some((letter, content))) = self.store.begin(id, clock::unix_ms()).await else {
            return lane::Ended::Nothing; // Somebody else has it, or the store cannot mark it: nothing is sent.
        };
        let plan = self.proxy.plan_of_letter(&letter.upstream, &letter.route);
        let Some(plan) = plan.filter(|plan| plan.settings().dead_letter.replay.enabled) else {
            self.postpone(id, NOWHERE).await;
            return lane::Ended::NotNow;
        };
        let waits = |scope| locked(&self.pauses).wait(&letter.upstream, scope, clock::now());
        match self.proxy.replay(&plan, &letter, content, &self.client, waits).await {
            Turn::NotNow { reason, wait } => {
                self.postpone(id, wait.max(SOON)).await;
                if reason == Reason::Overload { lane::Ended::NoRoom } else { lane::Ended::NotNow }
            }
            Turn::Tried { request_id, ended, scope, answer, error, took } => {
                let next = self.judge(&plan, &letter, &ended);
                let attempt = Attempt {
                    at_ms: clock::unix_ms(),
                    outcome: ended.outcome,
                    status: ended.status,
                    error,
                    duration_ms: millis(took),
                    answer,
                };
                plan.upstream_metrics().letters.replayed(ended.outcome);
                let how = match next {
                    Next::Again { wait } if ended.outcome == Outcome::Quota => {
                        // Half of its own wait: another letter of the scope is tried before this one is again.
                        locked(&self.pauses).pause(&letter.upstream, scope, wait / 2, clock::now());
                        lane::Ended::Quota
                    }
                    Next::Done | Next::Park(Why::Permanent) => lane::Ended::Well, // It answered.
                    Next::Again { .. } | Next::Park(_) => lane::Ended::Badly,
                };
                self.settle(id, (&letter.upstream, &request_id), attempt, next).await;
                how
            }
        }
    }

    fn judge(&self, plan: &Plan, letter: &Letter, ended: &Judged) -> Next {
        let rule = &plan.settings().dead_letter.replay;
        let own = outcome(ended.outcome).and_then(|outcome| rule.by_outcome.get(&outcome));
        let rules = Rules {
            backoff: own.unwrap_or(&rule.backoff),
            max_attempts: rule.max_attempts,
            ambiguous_replays: rule.ambiguous == config::Ambiguous::Replay,
            quota_wait: own.map_or(rule.backoff.max, |own| own.wait(1, own.base, fastrand::f64())),
        };
        let made = letter.attempts_made.saturating_add(1);
        redelivery::next(ended, made, letter.repeatable, &rules, fastrand::f64())
    }

    /// Back to waiting, with no attempt counted.
    async fn postpone(&self, id: LetterId, wait: Duration) {
        let at = clock::unix_ms().saturating_add(millis(wait));
        if let Err(error) = self.store.postpone(id, at).await {
            tracing::warn!(letter = %id, %error, "a replay that was not made could not be taken back");
        }
    }

    async fn settle(&self, id: LetterId, (upstream, request_id): (&str, &str), attempt: Attempt, next: Next) {
        let settled = match next {
            Next::Done => Settled::Delivered,
            Next::Again { wait } => {
                Settled::Again { next_attempt_at_ms: clock::unix_ms().saturating_add(millis(wait)) }
            }
            Next::Park(why) => Settled::Parked(because(why)),
        };
        // A delivery that cannot be written down is tried again until it can: forgotten, the letter would be sent twice.
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.store.settle(id, attempt.clone(), settled).await {
            if matches!(error, StoreError::Standing(_) | StoreError::NotFound(_) | StoreError::Closed) {
                break; // It was written down after all, or nobody can any more.
            }
            tracing::error!(letter = %id, %error, "the end of a replay cannot be stored yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        let feed = &self.proxy.feed;
        match next {
            Next::Done => {
                emit_told(&LetterDelivered { request_id, letter: &id.to_string(), upstream }, feed);
            }
            Next::Park(why) => {
                let because = because(why).as_str();
                let (letter, request_id) = (&id.to_string(), Some(request_id));
                emit_told(&LetterParked { request_id, letter, upstream, because }, feed);
            }
            Next::Again { .. } => {}
        }
    }

    async fn beat(&self) {
        for upstream in self.proxy.table.load().upstreams() {
            upstream.sweep(self.client.worker);
        }
        let sending = locked(&self.sending).clone();
        if !sending.is_empty() {
            // A beat that is not written is followed by the next one.
            drop(self.store.heartbeat(&sending, clock::unix_ms()).await);
        }
    }

    /// Retention, beside the replays, unless it is still at it.
    fn look_after(self: &Arc<Self>) {
        if self.retaining.swap(true, Ordering::AcqRel) {
            return;
        }
        let replayer = Arc::clone(self);
        tokio::spawn(async move {
            // A great backlog goes in turns, and after each the store is others' for as long as it took.
            loop {
                let begun = clock::now();
                if !replayer.retain().await {
                    break;
                }
                let took = clock::now().saturating_duration_since(begun);
                tokio::time::sleep(took).await;
            }
            replayer.retaining.store(false, Ordering::Release);
        });
    }

    /// One turn of retention; whether there is more to do.
    async fn retain(&self) -> bool {
        match self.store.retain(clock::unix_ms()).await {
            Ok(retained) => {
                let more = retained.more;
                let feed = &self.proxy.feed;
                for gone in retained.expired {
                    let (letter, upstream) = (gone.id.to_string(), gone.upstream);
                    let because = Because::Expired.as_str();
                    let (letter, upstream) = (letter.as_str(), upstream.as_str());
                    emit_told(&LetterParked { request_id: None, letter, upstream, because }, feed);
                }
                for gone in retained.removed.into_iter().filter(|gone| gone.was == deadletter::State::Parked)
                {
                    let (letter, upstream) = (gone.id.to_string(), gone.upstream);
                    emit_told(&LetterExpired { letter: &letter, upstream: &upstream }, feed);
                }
                more
            }
            Err(error) => {
                tracing::debug!(%error, "retention waits for the store");
                false
            }
        }
    }

    fn lane<T>(&self, upstream: &str, with: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = locked(&self.lanes);
        match lanes.get_mut(upstream) {
            Some(lane) => with(lane),
            None => with(lanes.entry(upstream.to_owned()).or_default()),
        }
    }
}

const fn because(why: Why) -> Because {
    match why {
        Why::Ambiguous => Because::Ambiguous,
        Why::Permanent => Because::Permanent,
        Why::Attempts => Because::Attempts,
    }
}

const fn outcome(outcome: Outcome) -> Option<config::ReplayOutcome> {
    match outcome {
        Outcome::Throttled => Some(config::ReplayOutcome::Throttled),
        Outcome::Quota => Some(config::ReplayOutcome::Quota),
        Outcome::Transient | Outcome::Cancelled => Some(config::ReplayOutcome::Transient),
        Outcome::Success | Outcome::Permanent => None,
    }
}

/// Does, a step at a time, what the keys of the store leave to be done.
async fn tend(store: Store) {
    loop {
        let wait = match store.tend().await {
            Ok(tended) if tended.more => TENDING,
            Ok(_) => RETENTION,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::debug!(%error, "sealing waits for the store");
                RETENTION
            }
        };
        tokio::select! {
            () = store.rekeyed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
