//! What the admin side looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::auth::{Caller, Guesses};
use super::events::READERS_MAX;
use super::problem::No;
use crate::clock;
use crate::config;
use crate::deadletter::{State, Store};
use crate::drain::{Drain, Phase};
use crate::memory::Memory;
use crate::ready::{Pulse, Readiness};
use crate::route::Table;
use crate::telemetry::access;
use crate::telemetry::feed::Feed;
use crate::telemetry::history::History;
use crate::telemetry::letters::LiveStore;
use crate::telemetry::logging::Logging;
use crate::telemetry::metrics::{Live, LiveUpstream, Metrics};
use crate::telemetry::prune::Named;
use crate::telemetry::trace::Tracer;
use crate::telemetry::webhooks::Webhook;
use crate::upstream::{Degradation, Upstream};

/// Asks for the config to be read again; answered with the problems, none where it is in force now.
#[derive(Debug)]
pub struct ReloadRequest {
    pub answer: oneshot::Sender<Result<(), Vec<config::Problem>>>,
}

/// The config in force, as it may be shown.
#[derive(Debug)]
pub struct InForce {
    pub shown: config::Shown,
    /// Who set what can decide about a request.
    pub origins: config::Origins,
    /// When it was read, in milliseconds since 1970.
    pub loaded_unix_ms: u64,
}

impl InForce {
    /// This config, from now on.
    #[must_use]
    pub fn now(loaded: &config::Loaded) -> Self {
        Self { shown: loaded.shown(), origins: loaded.origins(), loaded_unix_ms: clock::unix_ms() }
    }
}

/// What the admin side keeps for itself.
#[derive(Debug)]
pub struct Own {
    /// When the process began, in milliseconds since 1970.
    pub(super) started_unix_ms: u64,
    pub(super) guesses: Guesses,
    pub(super) event_readers: Arc<Semaphore>,
    /// How each webhook fares.
    pub(crate) webhooks: ArcSwap<Vec<Arc<Webhook>>>,
    /// Events that were lost with webhooks that a reload has taken out.
    pub(crate) webhook_events_lost: ArcSwap<AtomicU64>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            started_unix_ms: clock::unix_ms(),
            guesses: Guesses::default(),
            event_readers: Arc::new(Semaphore::new(READERS_MAX)),
            webhooks: ArcSwap::default(),
            webhook_events_lost: ArcSwap::default(),
        }
    }
}

/// Everything that the admin side may see, and the few things that it may ask for.
#[derive(Debug)]
pub struct Admin {
    pub table: Arc<ArcSwap<Table>>,
    pub drain: Drain,
    pub memory: Arc<Memory>,
    pub degradation: Arc<Degradation>,
    /// `None`: no upstream's writes are kept.
    pub letters: Option<Store>,
    pub metrics: Arc<Metrics>,
    /// What was: for charts and the report.
    pub history: Arc<History>,
    pub readiness: Readiness,
    pub pulses: Arc<[Pulse]>,
    pub started: Instant,
    pub connections: Arc<AtomicUsize>,
    pub logging: Arc<Logging>,
    pub settings: ArcSwap<config::Admin>,
    pub reload: mpsc::Sender<ReloadRequest>,
    /// What happens, for those who follow it.
    pub feed: Arc<Feed>,
    pub config: ArcSwap<InForce>,
    /// The newest config was not taken.
    pub config_refused: AtomicBool,
    pub own: Own,
    /// Spans on their way to a collector.
    pub tracer: Arc<Tracer>,
}

impl Admin {
    /// No part is still starting, and the end has not begun.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.started_up() && self.drain.phase() == Phase::Serving
    }

    /// No part is still starting.
    #[must_use]
    pub fn started_up(&self) -> bool {
        self.readiness.pending().is_empty()
    }

    /// No worker is stuck.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.stuck() == 0
    }

    /// How many workers are stuck.
    #[must_use]
    pub fn stuck(&self) -> usize {
        let now = self.since_start();
        self.pulses.iter().filter(|pulse| pulse.stuck(now)).count()
    }

    /// Lines of either log lost to a reader that did not keep up.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.logging.dropped() + access::dropped()
    }

    /// The upstream of this name, if the caller sees it: to others there is no difference between one that is not theirs
    /// and one that is not there.
    pub(super) fn upstream(&self, caller: &Caller, name: &str) -> Result<Arc<Upstream>, No> {
        if !caller.reaches(name) {
            return Err(No::Beyond);
        }
        let table = self.table.load();
        let found = table.upstreams().iter().find(|upstream| upstream.name() == name);
        found.cloned().ok_or_else(|| No::missing("there is no such upstream"))
    }

    /// Since the process began.
    #[must_use]
    pub fn since_start(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    /// What a scrape looks at.
    #[must_use]
    pub fn live(&self) -> Live {
        let table = self.table.load();
        let now = clock::now();
        let upstreams = table.upstreams().iter().map(|upstream| {
            let (connections, policies) = (upstream.snapshot(), upstream.policies());
            LiveUpstream {
                name: upstream.name().to_owned(),
                open: connections.open,
                idle: connections.idle,
                budget: policies.budget_available(now),
                queued: policies.bulkhead().queued(),
                limit: policies.bulkhead().limit(),
            }
        });
        let routes =
            table.plans().iter().map(|plan| (plan.upstream_name().to_owned(), plan.name().to_owned()));
        let mut names: Vec<String> =
            table.upstreams().iter().map(|upstream| upstream.name().to_owned()).collect();
        // Letters of an upstream that a reload has taken away still wait, and are still told.
        names.extend(self.letters.as_ref().map(waiting).unwrap_or_default());
        Live {
            named: Named { upstreams: names, routes: routes.collect() },
            connections: self.connections.load(Ordering::Relaxed),
            buffer_bytes: self.memory.used(),
            log_lines_dropped: self.log_lines_dropped(),
            upstreams: upstreams.collect(),
            degradation: self.degradation.level().number(),
            store: self.letters.as_ref().map(live_store),
        }
    }
}

/// The upstreams that have letters which are still to be dealt with.
fn waiting(store: &Store) -> Vec<String> {
    let open = [State::Pending, State::Sending, State::Parked];
    let figures = store.figures();
    let waits =
        figures.letters.keys().filter(|name| open.iter().any(|state| figures.count(name, *state) > 0));
    waits.cloned().collect()
}

fn live_store(store: &Store) -> LiveStore {
    let figures = store.figures();
    let letters = figures.letters.iter().flat_map(|(upstream, states)| {
        State::ALL
            .into_iter()
            .map(|state| (upstream.clone(), state.as_str(), states.get(&state).copied().unwrap_or(0)))
    });
    let oldest =
        figures.oldest_pending_ms.values().min().map_or(0, |at| clock::unix_ms().saturating_sub(*at));
    LiveStore {
        letters: letters.collect(),
        oldest_seconds: Duration::from_millis(oldest).as_secs_f64(),
        bytes: figures.bytes,
        max_bytes: store.max_bytes(),
        healthy: store.takes_letters(),
    }
}
