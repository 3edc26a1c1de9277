//! The degradation level in force: one number that every request may read.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cell::Upstream;
use crate::clock;
use crate::policy::degradation::{self, Changed, Held, Level};
use crate::telemetry::events::{DegradationChanged, emit_told};
use crate::telemetry::feed::Feed;

/// How sick the whole is, computed from the upstreams' breakers and checks, or set by hand for a while.
#[derive(Debug)]
pub struct Degradation {
    level: AtomicU8,
    state: Mutex<State>,
    feed: Arc<Feed>,
}

#[derive(Debug, Default)]
struct State {
    held: Held,
    by_hand: Option<ByHand>,
}

/// A level that an operator set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// Which.
    pub level: Level,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who: the token's name.
    pub who: String,
    /// When, in milliseconds since 1970.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
}

impl Degradation {
    /// Normal. `feed` is told of each change.
    #[must_use]
    pub fn new(feed: &Arc<Feed>) -> Arc<Self> {
        let level = AtomicU8::new(Level::Normal.number());
        Arc::new(Self { level, state: Mutex::default(), feed: Arc::clone(feed) })
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> Level {
        let number = self.level.load(Ordering::Relaxed);
        Level::ALL.into_iter().find(|level| level.number() == number).unwrap_or(Level::Normal)
    }

    /// The level that the upstreams' health amounts to, and what was set by hand over it.
    #[must_use]
    pub fn standing(&self) -> (Level, Option<ByHand>) {
        let state = self.state();
        (state.held.automatic(), state.by_hand.clone())
    }

    /// Looks at all upstreams, and at whether the store takes letters: worse at once, better after a while of health.
    pub fn review(&self, upstreams: &[Arc<Upstream>], store_unhealthy: bool, now: Instant) {
        let members: Vec<_> = upstreams
            .iter()
            .map(|upstream| (upstream.settings().criticality, upstream.policies().sick()))
            .collect();
        let computed = degradation::level(&members, store_unhealthy);
        let mut state = self.state();
        let changed = state.held.see(computed, now);
        if !state.held.is_by_hand() {
            state.by_hand = None;
        }
        self.tell(&state, changed);
    }

    /// Sets the level by hand for so long. In force at once.
    pub fn set(&self, (level, reason): (Level, &str), who: &str, span: Duration, now: Instant) {
        let (since_ms, ms) = (clock::unix_ms(), u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        let mut state = self.state();
        let changed = state.held.set(level, now.checked_add(span));
        state.by_hand = Some(ByHand {
            level,
            reason: reason.to_owned(),
            who: who.to_owned(),
            since_ms,
            until_ms: since_ms.saturating_add(ms),
        });
        self.tell(&state, changed);
    }

    /// Back to what the upstreams' health amounts to.
    pub fn clear(&self) {
        let mut state = self.state();
        let changed = state.held.clear();
        state.by_hand = None;
        self.tell(&state, changed);
    }

    fn tell(&self, state: &State, changed: Option<Changed>) {
        let Some(Changed { from, to }) = changed else { return };
        self.level.store(to.number(), Ordering::Relaxed);
        let by_hand = state.by_hand.as_ref().map(|set| (set.who.as_str(), set.reason.as_str()));
        emit_told(&DegradationChanged { from: from.as_str(), to: to.as_str(), by_hand }, &self.feed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
