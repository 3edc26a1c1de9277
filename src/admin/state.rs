//! What the admin side looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::config;
use crate::deadletter::{State, Store};
use crate::drain::{Drain, Phase};
use crate::memory::Memory;
use crate::ready::{Pulse, Readiness};
use crate::route::Table;
use crate::telemetry::access;
use crate::telemetry::letters::LiveStore;
use crate::telemetry::logging::Logging;
use crate::telemetry::metrics::{Live, LiveUpstream, Metrics};
use crate::telemetry::prune::Named;
use crate::upstream::Degradation;

/// Asks for the config to be read again; answered with the problems, none where it is in force now.
#[derive(Debug)]
pub struct ReloadRequest {
    pub answer: oneshot::Sender<Result<(), Vec<config::Problem>>>,
}

/// Everything that the admin side may see, and the one thing that it may ask for.
#[derive(Debug)]
pub struct Admin {
    pub table: Arc<ArcSwap<Table>>,
    pub drain: Drain,
    pub memory: Arc<Memory>,
    pub degradation: Arc<Degradation>,
    /// `None`: no upstream's writes are kept.
    pub letters: Option<Store>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub pulses: Arc<[Pulse]>,
    pub started: Instant,
    pub connections: Arc<AtomicUsize>,
    pub logging: Arc<Logging>,
    pub settings: ArcSwap<config::Admin>,
    pub reload: mpsc::Sender<ReloadRequest>,
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
        let now = self.since_start();
        !self.pulses.iter().any(|pulse| pulse.stuck(now))
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
        let names = table.upstreams().iter().map(|upstream| upstream.name().to_owned());
        Live {
            named: Named { upstreams: names.collect(), routes: routes.collect() },
            connections: self.connections.load(Ordering::Relaxed),
            buffer_bytes: self.memory.used(),
            log_lines_dropped: self.logging.dropped() + access::dropped(),
            upstreams: upstreams.collect(),
            degradation: self.degradation.level().number(),
            store: self.letters.as_ref().map(live_store),
        }
    }
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
        healthy: store.takes_letters(),
    }
}
