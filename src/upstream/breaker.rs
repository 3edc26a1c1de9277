//! A breaker in service: the pure one behind a lock, its changes told to the log, the metrics and whoever watches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::policy::breaker::{Ended, Figures, Permit, Refused, Settings, State, Transition};
use crate::policy::breakers::Breakers;
use crate::telemetry::events::{BreakerChanged, emit_told};
use crate::telemetry::feed::Feed;
use crate::telemetry::metrics::BreakerMetrics;
use crate::telemetry::story::{BreakerSays, Turned};

/// The breaker of an upstream, or of a route that has its own: one for each value of its key.
#[derive(Debug)]
pub struct BreakerCell {
    upstream: String,
    /// "" for the upstream's own.
    route: String,
    breakers: Mutex<Breakers>,
    /// Whether any of them is not simply closed: asked before anything else is taken.
    troubled: AtomicBool,
    metrics: BreakerMetrics,
    /// How often it has closed again.
    recoveries: AtomicU64,
    /// Until when the time spent open is counted.
    counted: Mutex<Option<Instant>>,
    feed: Arc<Feed>,
}

impl BreakerCell {
    /// Closed. `feed` is told of each change.
    #[must_use]
    pub fn new(
        (upstream, route): (&str, &str),
        settings: &Settings,
        metrics: BreakerMetrics,
        feed: Arc<Feed>,
    ) -> Arc<Self> {
        metrics.state(State::Closed);
        Arc::new(Self {
            upstream: upstream.to_owned(),
            route: route.to_owned(),
            breakers: Mutex::new(Breakers::new(settings)),
            troubled: AtomicBool::new(false),
            metrics,
            recoveries: AtomicU64::new(0),
            counted: Mutex::new(None),
            feed,
        })
    }

    /// The route whose own it is; "" for the upstream's.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Leave for one attempt.
    ///
    /// # Errors
    /// The breaker is open, or half open with all its probes under way.
    pub fn ask(self: &Arc<Self>, key: Option<u64>, now: Instant) -> Result<Leave, Refused> {
        let asked = self.breakers().ask(key, now, fastrand::f64());
        self.turned(asked.transition, now);
        match asked.answer {
            Ok(permit) => Ok(Leave { cell: Arc::clone(self), key, permit: Some(permit) }),
            Err(refused) => {
                self.metrics.refused();
                Err(refused)
            }
        }
    }

    /// Why an attempt would be refused now, if it would; nothing is taken and nothing counted.
    #[must_use]
    pub fn would_refuse(&self, key: Option<u64>, now: Instant) -> bool {
        self.troubled.load(Ordering::Relaxed) && self.breakers().would_refuse(key, now)
    }

    /// The same, and what it would say: for whoever tells of it.
    #[must_use]
    pub fn foretold(&self, key: Option<u64>, now: Instant) -> Option<Refused> {
        self.breakers().foretold(key, now)
    }

    /// What time alone decides.
    pub fn tick(&self, now: Instant) {
        if self.troubled.load(Ordering::Relaxed) {
            self.each(now, |breakers| breakers.tick(now, fastrand::f64()));
            self.count_open(now);
        }
    }

    /// The active check found the upstream down.
    pub fn health_down(&self, now: Instant) {
        self.word(now, |breakers| breakers.health_down(now, fastrand::f64()));
    }

    /// The active check found it well again.
    pub fn health_up(&self, now: Instant) {
        self.word(now, |breakers| breakers.health_up(now));
    }

    /// An operator's word.
    pub fn force_open(&self, now: Instant) {
        self.word(now, |breakers| breakers.force_open(now));
    }

    /// An operator's word.
    pub fn force_close(&self, now: Instant) {
        self.word(now, |breakers| breakers.force_close(now));
    }

    /// An operator's word: by itself again.
    pub fn auto(&self, now: Instant) {
        self.word(now, |breakers| breakers.auto(now));
    }

    /// An operator's word: closed, and nothing counted yet.
    pub fn reset(&self, now: Instant) {
        self.word(now, |breakers| breakers.reset(now));
    }

    /// New settings, the same state.
    pub fn retune(&self, settings: &Settings, now: Instant) {
        self.each(now, |breakers| breakers.retune(settings, now));
    }

    /// How often it has closed again.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// The worst state of its breakers.
    #[must_use]
    pub fn worst(&self) -> State {
        self.breakers().worst()
    }

    /// Whether it amounts to an upstream that is sick: see [`Breakers::sick`].
    #[must_use]
    pub fn sick(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) && self.breakers().sick()
    }

    /// Of one with a key: how many keys have a breaker of their own now, by its state.
    #[must_use]
    pub fn keys(&self, now: Instant) -> BTreeMap<&'static str, usize> {
        let breakers = self.breakers();
        let mut states = BTreeMap::new();
        for (_, figures) in breakers.each_figures(now) {
            *states.entry(figures.state.as_str()).or_insert(0) += 1;
        }
        states
    }

    /// Whether it judges at all, and whether it refuses nothing all the same.
    #[must_use]
    pub fn modes(&self) -> (bool, bool) {
        let breakers = self.breakers();
        (breakers.settings().enabled, breakers.settings().observe)
    }

    /// The figures of the worst.
    #[must_use]
    pub fn figures(&self, now: Instant) -> Figures {
        self.breakers().figures(now)
    }

    /// A word for all, told once however many keys have a breaker.
    fn word(&self, now: Instant, change: impl FnOnce(&mut Breakers) -> Vec<Transition>) {
        let transitions = change(&mut self.breakers());
        self.turned(transitions.into_iter().next(), now);
    }

    fn each(&self, now: Instant, change: impl FnOnce(&mut Breakers) -> Vec<Transition>) {
        let transitions = change(&mut self.breakers());
        for transition in transitions {
            self.turned(Some(transition), now);
        }
    }

    fn tell(&self, key: Option<u64>, permit: Permit, ended: Ended, now: Instant) -> Option<Box<Turned>> {
        let transition = self.breakers().tell(key, permit, ended, now, fastrand::f64());
        let transition = transition?;
        self.turned(Some(transition), now);
        self.told(key, transition.to)
    }

    /// What a story says of a change to that state.
    #[cold]
    fn told(&self, key: Option<u64>, to: State) -> Option<Box<Turned>> {
        match to {
            State::Open => {
                let breakers = self.breakers();
                let tripped = breakers.tripped(key);
                let retry_after = tripped.map_or(Duration::ZERO, |tripped| tripped.open_for);
                let refused = Refused { retry_after, state: State::Open, tripped };
                Some(Box::new(Turned::Opened(BreakerSays::new(refused, breakers.settings()))))
            }
            State::Closed => Some(Box::new(Turned::Closed)),
            State::HalfOpen | State::ForcedOpen | State::ForcedClosed => None,
        }
    }

    fn turned(&self, transition: Option<Transition>, now: Instant) {
        let Some(transition) = transition else { return };
        let worst = {
            let breakers = self.breakers();
            self.troubled.store(breakers.troubled(), Ordering::Relaxed);
            breakers.worst()
        };
        if transition.to == State::Closed {
            self.recoveries.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics.turned(transition.from, transition.to);
        self.metrics.state(worst);
        self.count_open(now);
        let changed =
            BreakerChanged { upstream: &self.upstream, route: &self.route, transition: &transition };
        emit_told(&changed, &self.feed);
    }

    fn count_open(&self, now: Instant) {
        let open = matches!(self.worst(), State::Open | State::ForcedOpen);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = *counted {
            self.metrics.stood_open(now.saturating_duration_since(since));
        }
        *counted = open.then_some(now);
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave for one attempt. It must be told how the attempt ended; dropped, it tells that it was abandoned.
#[derive(Debug)]
#[must_use]
pub struct Leave {
    cell: Arc<BreakerCell>,
    key: Option<u64>,
    permit: Option<Permit>,
}

impl Leave {
    /// The attempt ended well. What that made of the breaker, if it changed.
    pub fn succeeded(mut self, slow: bool, now: Instant) -> Option<Box<Turned>> {
        self.tell(Ended::Success { slow }, now)
    }

    /// The attempt failed; the upstream may have told to wait. What that made of the breaker, if it changed.
    pub fn failed(mut self, slow: bool, told: Option<Duration>, now: Instant) -> Option<Box<Turned>> {
        self.tell(Ended::Failure { slow, told }, now)
    }

    /// Whether what becomes of it decides if a half-open breaker closes.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    fn tell(&mut self, ended: Ended, now: Instant) -> Option<Box<Turned>> {
        self.cell.tell(self.key, self.permit.take()?, ended, now)
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        // Of one that was abandoned nobody tells a story.
        let _turned = self.tell(Ended::Abandoned, clock::now());
    }
}
