//! What each state of a breaker has to remember.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Settings;
use super::words::State;
use crate::policy::window::Tally;

/// A state with its memory.
#[derive(Debug)]
pub(super) enum Phase {
    /// `recovered` is when it closed after an outage; `None` at the start and after an operator's word.
    Closed {
        recovered: Option<Instant>,
    },
    Open {
        until: Instant,
    },
    HalfOpen(Probes),
    ForcedOpen,
    ForcedClosed,
}

impl Phase {
    pub(super) const fn state(&self) -> State {
        match self {
            Self::Closed { .. } => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen(_) => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
        }
    }
}

/// The probes of one half-open phase: those still out, and what came of the others.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// When each probe that is out began, the oldest first.
    out: VecDeque<Instant>,
    /// The probes that ended.
    pub(super) ended: Tally,
}

impl Probes {
    /// Sends one out, if there is room; answers when it began.
    pub(super) fn send(&mut self, settings: &Settings, now: Instant) -> Option<Instant> {
        if self.all_out(settings) {
            return None;
        }
        // Never before one that is out already, so that the oldest stays in front.
        let began = self.out.back().map_or(now, |last| now.max(*last));
        self.out.push_back(began);
        Some(began)
    }

    /// Takes one back that began then.
    pub(super) fn back(&mut self, began: Instant) {
        let at = self.out.partition_point(|out| *out < began);
        self.out.remove(at);
    }

    /// How many are out.
    pub(super) fn out(&self) -> usize {
        self.out.len()
    }

    /// Whether as many are out or done as there may be.
    pub(super) fn all_out(&self, settings: &Settings) -> bool {
        let out = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        out.saturating_add(self.ended.calls) >= settings.half_open_probes.max(1)
    }

    /// Whether as many have ended as are needed.
    pub(super) fn all_ended(&self, settings: &Settings) -> bool {
        self.ended.calls >= settings.half_open_probes.max(1)
    }

    /// How long until the oldest one that is out is lost; zero: it is.
    pub(super) fn patience(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        let oldest = self.out.front()?;
        Some(settings.half_open_timeout.saturating_sub(now.saturating_duration_since(*oldest)))
    }
}
