//! What all of an upstream's traffic shares, whatever worker or route it comes by: breaker, budget, limits, pauses, seats.
//! It outlives a reload as long as the upstream's name is in the config.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::breaker::BreakerCell;
use super::bulkhead::Bulkhead;
use super::check::Check;
use crate::clock;
use crate::config;
use crate::policy::budget::{Budget, Left};
use crate::policy::limit::{Limits, RateLimit, Refused, Slot};
use crate::policy::throttle::{Gate, Pauses, ProbeEnd, ProbePermit};
use crate::telemetry::feed::Feed;
use crate::telemetry::metrics::{Metrics, PolicyMetrics};

/// One upstream's shared state.
#[derive(Debug)]
pub struct Policies {
    upstream: String,
    budget: Mutex<Budget>,
    bulkhead: Arc<Bulkhead>,
    pauses: PauseCell,
    breaker: Arc<BreakerCell>,
    limits: Arc<LimitsCell>,
    check: Check,
    /// Those of routes that have their own.
    routes: Mutex<Vec<Own>>,
    metrics: PolicyMetrics,
    feed: Arc<Feed>,
    /// How often the active check has found it well again.
    recoveries: AtomicU64,
}

/// A route's own.
#[derive(Debug)]
struct Own {
    route: String,
    breaker: Option<Arc<BreakerCell>>,
    limits: Option<Arc<LimitsCell>>,
}

impl Policies {
    /// Fresh ones. `feed` is told when a breaker or a check turns.
    #[must_use]
    pub fn new(name: &str, settings: &config::Upstream, metrics: &Metrics, feed: &Arc<Feed>) -> Arc<Self> {
        let own = metrics.upstream(name).policies;
        if settings.health.path.is_some() {
            own.checked_actively();
        }
        Arc::new(Self {
            upstream: name.to_owned(),
            budget: Mutex::new(Budget::new(&settings.retry.budget, clock::now())),
            bulkhead: Bulkhead::new(&settings.concurrency),
            pauses: PauseCell::new(name),
            breaker: BreakerCell::new(
                (name, ""),
                &settings.breaker,
                metrics.breaker(name, ""),
                Arc::clone(feed),
            ),
            limits: LimitsCell::new(&settings.rate_limit),
            check: Check::default(),
            routes: Mutex::default(),
            metrics: own,
            feed: Arc::clone(feed),
            recoveries: AtomicU64::new(0),
        })
    }

    /// New settings, the same state: what is counted stays counted, what is open stays open.
    pub fn retune(&self, settings: &config::Upstream) {
        let now = clock::now();
        locked(&self.budget).retune(&settings.retry.budget, now);
        self.bulkhead.retune(&settings.concurrency);
        self.breaker.retune(&settings.breaker, now);
        self.limits.retune(&settings.rate_limit);
        if settings.health.path.is_some() {
            self.metrics.checked_actively();
        } else {
            if self.check.down() {
                // Nobody will say that it is well again: the breakers find out by themselves.
                self.breakers().iter().for_each(|breaker| breaker.health_up(now));
            }
            self.check.off();
            self.metrics.not_checked();
        }
    }

    /// The breaker of a route that has its own; made when it is first asked for.
    #[must_use]
    pub fn breaker_of(&self, route: &str, settings: &config::Plan, metrics: &Metrics) -> Arc<BreakerCell> {
        let mut routes = locked(&self.routes);
        let own = own(&mut routes, route);
        let cell = own.breaker.get_or_insert_with(|| {
            let figures = metrics.breaker(&self.upstream, route);
            BreakerCell::new((&self.upstream, route), &settings.breaker, figures, Arc::clone(&self.feed))
        });
        Arc::clone(cell)
    }

    /// The rate limits of a route that has its own; made when they are first asked for.
    #[must_use]
    pub fn limits_of(&self, route: &str, settings: &[RateLimit]) -> Arc<LimitsCell> {
        let mut routes = locked(&self.routes);
        let cell = own(&mut routes, route).limits.get_or_insert_with(|| LimitsCell::new(settings));
        Arc::clone(cell)
    }

    /// Lets go of the state of routes that are gone.
    pub fn keep_routes(&self, kept: &[&str]) {
        locked(&self.routes).retain(|own| kept.contains(&own.route.as_str()));
    }

    /// The upstream's own breaker.
    #[must_use]
    pub const fn breaker(&self) -> &Arc<BreakerCell> {
        &self.breaker
    }

    /// Its own and its routes' breakers.
    #[must_use]
    pub fn breakers(&self) -> Vec<Arc<BreakerCell>> {
        let routes = locked(&self.routes);
        let own = routes.iter().filter_map(|own| own.breaker.clone());
        std::iter::once(Arc::clone(&self.breaker)).chain(own).collect()
    }

    /// The upstream's own rate limits.
    #[must_use]
    pub const fn limits(&self) -> &Arc<LimitsCell> {
        &self.limits
    }

    /// Its seats.
    #[must_use]
    pub const fn bulkhead(&self) -> &Arc<Bulkhead> {
        &self.bulkhead
    }

    /// The waits that it told.
    #[must_use]
    pub const fn pauses(&self) -> &PauseCell {
        &self.pauses
    }

    /// Its active check.
    #[must_use]
    pub const fn check(&self) -> &Check {
        &self.check
    }

    /// Its figures.
    #[must_use]
    pub const fn metrics(&self) -> &PolicyMetrics {
        &self.metrics
    }

    /// A request of the client's own pays into the retry budget.
    pub fn paid(&self, now: Instant) {
        locked(&self.budget).paid(now);
    }

    /// Takes one retry from the budget, if it has one left.
    ///
    /// # Errors
    /// It has none; with its figures in either case.
    pub fn take_retry(&self, now: Instant) -> Result<Left, Left> {
        locked(&self.budget).take(now)
    }

    /// A retry that was taken and never sent.
    pub fn give_back_retry(&self, now: Instant) {
        locked(&self.budget).give_back(now);
    }

    /// Retries that the budget would grant now.
    #[must_use]
    pub fn budget_available(&self, now: Instant) -> f64 {
        locked(&self.budget).available(now)
    }

    /// What time alone decides.
    pub fn tick(&self, now: Instant) {
        for breaker in self.breakers() {
            breaker.tick(now);
        }
    }

    /// How often it has come back: its check, or a breaker of its.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        let breakers = self.breakers().iter().map(|breaker| breaker.recoveries()).sum::<u64>();
        breakers.wrapping_add(self.recoveries.load(Ordering::Relaxed))
    }

    /// A breaker of its is open (of one with keys at least half of them), or its check is down.
    #[must_use]
    pub fn sick(&self) -> bool {
        self.check.down() || self.breakers().iter().any(|breaker| breaker.sick())
    }

    /// An active check ended: the breakers hear of it where it turns.
    pub fn checked(&self, ok: bool, health: &config::Health, now: Instant) {
        let turned = self.check.ended(ok, health, now);
        self.metrics.checked(ok, !self.check.down());
        match turned {
            Some(true) => {
                self.recoveries.fetch_add(1, Ordering::Relaxed);
                self.breakers().iter().for_each(|breaker| breaker.health_up(now));
            }
            Some(false) => self.breakers().iter().for_each(|breaker| breaker.health_down(now)),
            None => {}
        }
    }

    /// Who is told of what happens.
    #[must_use]
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }
}

fn own<'a>(routes: &'a mut Vec<Own>, route: &str) -> &'a mut Own {
    let at = routes.iter().position(|own| own.route == route).unwrap_or_else(|| {
        routes.push(Own { route: route.to_owned(), breaker: None, limits: None });
        routes.len() - 1
    });
    routes.get_mut(at).expect("it is there, or was just put there")
}

/// Rate limits in service.
#[derive(Debug)]
pub struct LimitsCell {
    limits: Mutex<Limits>,
    none: AtomicBool,
}

impl LimitsCell {
    fn new(settings: &[RateLimit]) -> Arc<Self> {
        let none = AtomicBool::new(settings.is_empty());
        Arc::new(Self { limits: Mutex::new(Limits::new(settings)), none })
    }

    /// New settings, the same state.
    pub fn retune(&self, settings: &[RateLimit]) {
        locked(&self.limits).retune(settings);
        self.none.store(settings.is_empty(), Ordering::Relaxed);
    }

    /// Whether there is no limit at all.
    #[must_use]
    pub fn none(&self) -> bool {
        self.none.load(Ordering::Relaxed)
    }

    /// A slot in each of them; `keys` has one for each.
    ///
    /// # Errors
    /// One of them does not grant within its `max_wait`.
    pub fn ask(&self, keys: &[u64], now: Instant) -> Result<Slot, Refused> {
        locked(&self.limits).ask(keys, now)
    }

    /// The request was never sent.
    pub fn give_back(&self, slot: Slot, keys: &[u64]) {
        locked(&self.limits).give_back(slot, keys);
    }
}

/// The pauses that an upstream asked for, in service.
#[derive(Debug)]
pub struct PauseCell {
    upstream: String,
    pauses: Mutex<Pauses>,
    /// Whether any scope has ever been paused: most upstreams never ask.
    any: AtomicBool,
}

impl PauseCell {
    fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned(), pauses: Mutex::default(), any: AtomicBool::new(false) }
    }

    /// Whether a scope may be paused: if not, its key need not be computed.
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Whether a request of this scope may go.
    #[must_use]
    pub fn ask(&self, scope: u64, now: Instant) -> Gate {
        locked(&self.pauses).ask(scope, now)
    }

    /// The upstream told this scope to wait. What it is paused for beyond what it was.
    pub fn told(&self, scope: u64, wait: Duration, max: Duration, now: Instant) -> Option<Duration> {
        self.any.store(true, Ordering::Relaxed);
        locked(&self.pauses).told(scope, wait, max, now)
    }

    /// A quota is used up.
    pub fn spent(&self, scope: u64, max: Duration, now: Instant) -> Option<Duration> {
        self.any.store(true, Ordering::Relaxed);
        locked(&self.pauses).spent(scope, max, now)
    }

    /// The probe that was let through has ended.
    pub fn ended(&self, scope: u64, permit: ProbePermit, how: ProbeEnd, now: Instant) {
        locked(&self.pauses).ended(scope, permit, how, now);
    }

    /// How many scopes are paused, and how long the longest of them still is.
    #[must_use]
    pub fn standing(&self, now: Instant) -> (usize, Duration) {
        locked(&self.pauses).longest(now)
    }

    /// The upstream's name, for the log.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
