//! One scope's pause.

use std::time::{Duration, Instant};

/// One scope's pause: nothing is sent until the upstream's told wait is over.
///
/// A told wait within `max_pause` is sat out, and traffic flows again. A longer one, or a quota that is used up, pauses
/// `max_pause` and then lets one probe at a time find out. Only that probe's end or [`Pause::resume`] ends such a pause: a
/// success that was sent before it says nothing.
#[derive(Debug, Default)]
pub struct Pause {
    phase: Phase,
    generation: u64,
    /// It is there because a quota is used up.
    quota: bool,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Free,
    Paused {
        until: Instant,
        then_probe: bool,
    },
    Probing {
        since: Instant,
    },
}

/// Whether a request may go.
#[derive(Debug)]
pub enum Gate {
    /// It may.
    Free,
    /// Not before this wait is over; at least a millisecond. While a probe is out it is a guess.
    Paused {
        /// The wait.
        wait: Duration,
        /// It is there because a quota is used up.
        spent: bool,
    },
    /// It may, and its end decides; tell it with [`Pause::ended`].
    Probe(ProbePermit),
}

/// The duty to tell how the probe ended.
#[must_use = "the pause waits for the end of its probe"]
#[derive(Debug)]
pub struct ProbePermit {
    generation: u64,
}

impl ProbePermit {
    /// The end of it: a probe ends once.
    const fn spend(self) -> u64 {
        self.generation
    }
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeEnd {
    /// The upstream acted: the pause is over.
    Passed,
    /// It said again to wait, or that the quota is used up.
    Failed {
        /// The wait that it told, if any.
        told: Option<Duration>,
        /// The longest pause, also where no wait was told.
        max_pause: Duration,
    },
    /// It ended without an answer to the question: the next request is the probe.
    Abandoned,
}

impl Pause {
    /// A pause whose permits are none of a former self's.
    #[must_use]
    pub fn starting_at(generation: u64) -> Self {
        Self { phase: Phase::Free, generation, quota: false }
    }

    /// The upstream told a wait. Answers by how much the pause grew, if it did: the sum of these is the time paused.
    /// It is never shortened; a wait beyond `max_pause` is cut to it and followed by a probe.
    pub fn told(&mut self, wait: Duration, max_pause: Duration, now: Instant) -> Option<Duration> {
        let beyond = wait > max_pause;
        let until = later(now, wait.min(max_pause));
        let (paused_until, probe) = match self.phase {
            Phase::Free => (now, beyond),
            Phase::Paused { until, then_probe } => (until.max(now), then_probe || beyond),
            Phase::Probing { .. } => (now, true),
        };
        if until > paused_until {
            self.turn(Phase::Paused { until, then_probe: probe });
            return Some(until.saturating_duration_since(paused_until));
        }
        if let Phase::Paused { then_probe, .. } = &mut self.phase {
            *then_probe = probe;
        }
        None
    }

    /// A quota is used up, and no wait helps soon: pauses `max_pause`, then one probe. A pause that ends with a probe
    /// is left as it is. Answers by how much the pause grew.
    pub fn spent(&mut self, max_pause: Duration, now: Instant) -> Option<Duration> {
        self.quota = true;
        match self.phase {
            Phase::Paused { until, then_probe: true } if until > now => None,
            _ => self.told(max_pause.saturating_add(Duration::from_nanos(1)), max_pause, now),
        }
    }

    /// May a request go now?
    pub fn ask(&mut self, now: Instant) -> Gate {
        let wait = self.paused_for(now);
        match self.phase {
            Phase::Free => Gate::Free,
            _ if !wait.is_zero() => Gate::Paused { wait: wait.max(LEAST_WAIT), spent: self.quota },
            Phase::Paused { then_probe: false, .. } => {
                self.turn(Phase::Free);
                Gate::Free
            }
            Phase::Paused { then_probe: true, .. } | Phase::Probing { .. } => {
                self.turn(Phase::Probing { since: now });
                Gate::Probe(ProbePermit { generation: self.generation })
            }
        }
    }

    /// A probe ended. The end of one that was taken for lost, or that a newer word overtook, changes nothing.
    /// Answers by how much the pause grew.
    pub fn ended(&mut self, permit: ProbePermit, how: ProbeEnd, now: Instant) -> Option<Duration> {
        if permit.spend() != self.generation || !matches!(self.phase, Phase::Probing { .. }) {
            return None;
        }
        match how {
            ProbeEnd::Passed => {
                self.turn(Phase::Free);
                None
            }
            ProbeEnd::Failed { told: Some(Duration::ZERO), .. } | ProbeEnd::Abandoned => {
                self.turn(Phase::Paused { until: now, then_probe: true });
                None
            }
            ProbeEnd::Failed { told: Some(wait), max_pause } if wait <= max_pause => {
                self.turn(Phase::Free);
                self.told(wait, max_pause, now)
            }
            ProbeEnd::Failed { max_pause, .. } => self.spent(max_pause, now),
        }
    }

    /// Ends the pause: an operator's or a health check's word.
    pub fn resume(&mut self) {
        self.turn(Phase::Free);
    }

    /// How long a request would have to wait; zero: it may go, if only as a probe.
    #[must_use]
    pub fn paused_for(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Free => Duration::ZERO,
            Phase::Paused { until, .. } => until.saturating_duration_since(now),
            Phase::Probing { since } => {
                PROBE_LOST.saturating_sub(now.saturating_duration_since(since)).min(PROBE_GUESS)
            }
        }
    }

    /// The generation tells this phase's probe from all others'.
    fn turn(&mut self, phase: Phase) {
        self.generation = self.generation.wrapping_add(1);
        self.quota &= !matches!(phase, Phase::Free);
        self.phase = phase;
    }
}

/// A moment too far off to be told is `FAR` off.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}

/// A probe that has not ended by then is lost: the next request is the probe.
pub const PROBE_LOST: Duration = Duration::from_secs(60);

/// What a request is told to wait while a probe is out.
const PROBE_GUESS: Duration = Duration::from_secs(1);

const LEAST_WAIT: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_secs(30 * 86_400);
