//! The state machine.

use std::time::{Duration, Instant};

use super::Settings;
use super::phase::{Phase, Probes};
use super::rules::{GUESS, is_slow, open_for, ramp_refuses, trips};
use super::words::{Asked, Ended, Figures, Kind, Permit, Refused, State, Transition, Tripped, Why};
use crate::policy::window::{Tally, Window};

/// Decides whether an upstream is called, from how the calls before ended.
///
/// Each permit bears the generation of the state that it was given in, and a change of state begins a new generation: what
/// ends after the change says nothing about the state after it and counts for nothing.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    phase: Phase,
    generation: u64,
    window: Window,
    consecutive: u32,
    reopenings: u32,
    /// How long it was open for the last time.
    last_open: Duration,
    /// What opened it then.
    tripped: Option<Tripped>,
}

impl Breaker {
    /// A closed breaker. Its permits bear `first_generation` and up, so that those of a former self mean nothing to it.
    #[must_use]
    pub fn new(settings: &Settings, first_generation: u64) -> Self {
        Self {
            settings: settings.clone(),
            phase: Phase::Closed { recovered: None },
            generation: first_generation,
            window: Window::new(settings),
            consecutive: 0,
            reopenings: 0,
            last_open: Duration::ZERO,
            tripped: None,
        }
    }

    /// May a call be made? A permit must be told how its call ended.
    pub fn ask(&mut self, now: Instant, dice: f64) -> Asked {
        let transition = self.tick(now, dice);
        let refused = match &mut self.phase {
            _ if !self.settings.enabled => None,
            Phase::Closed { recovered } => ramp_refuses(&self.settings, *recovered, now, dice),
            Phase::Open { until } => Some(until.saturating_duration_since(now)),
            Phase::HalfOpen(probes) => match probes.send(&self.settings, now) {
                Some(began) => return Asked { answer: Ok(self.permit(Kind::Probe { began })), transition },
                None => Some(probes.patience(&self.settings, now).unwrap_or_default().min(GUESS)),
            },
            Phase::ForcedOpen => Some(GUESS),
            Phase::ForcedClosed => None,
        };
        let answer = match refused {
            None => Ok(self.permit(Kind::Ordinary)),
            Some(_) if self.settings.observe => Ok(self.permit(Kind::Waived)),
            Some(wait) => Err(self.refusal(wait)),
        };
        Asked { answer, transition }
    }

    /// A permitted call ended. What was permitted before the last change of state counts for nothing.
    pub fn tell(&mut self, permit: Permit, ended: Ended, now: Instant, dice: f64) -> Option<Transition> {
        let (generation, kind) = permit.spend();
        if generation == self.generation && self.settings.enabled {
            let decided = match kind {
                Kind::Waived => None,
                Kind::Ordinary => self.traffic(ended, now, dice),
                Kind::Probe { began } => self.probe(began, ended, now, dice),
            };
            if decided.is_some() {
                return decided;
            }
        }
        self.tick(now, dice)
    }

    /// What is due: an open time that is over, a probe that is lost, probes that are enough.
    pub fn tick(&mut self, now: Instant, dice: f64) -> Option<Transition> {
        match &self.phase {
            Phase::Open { until } if *until <= now => Some(self.half_open(Why::OpenEnded, now)),
            Phase::HalfOpen(probes) if probes.patience(&self.settings, now) == Some(Duration::ZERO) => {
                Some(self.open(Why::ProbeLost, None, now, dice))
            }
            Phase::HalfOpen(probes) if probes.all_ended(&self.settings) => {
                let ended = probes.ended;
                Some(self.conclude(ended, now, dice))
            }
            _ => None,
        }
    }

    /// The active check failed: opens a closed or half-open breaker. An open one stays open no longer than it would.
    pub fn health_down(&mut self, now: Instant, dice: f64) -> Option<Transition> {
        let judged = matches!(self.phase, Phase::Closed { .. } | Phase::HalfOpen(_));
        (judged && self.settings.enabled).then(|| self.open(Why::HealthDown, None, now, dice))
    }

    /// The active check recovered: an open breaker need not wait any longer to probe.
    pub fn health_up(&mut self, now: Instant) -> Option<Transition> {
        matches!(self.phase, Phase::Open { .. }).then(|| self.half_open(Why::HealthUp, now))
    }

    /// An operator's word: refuses all calls until another word.
    pub fn force_open(&mut self, now: Instant) -> Option<Transition> {
        let due = self.settings.enabled && self.state() != State::ForcedOpen;
        due.then(|| self.turn(Phase::ForcedOpen, Why::Operator, None, now))
    }

    /// An operator's word: permits all calls and judges none until another word.
    pub fn force_close(&mut self, now: Instant) -> Option<Transition> {
        let due = self.settings.enabled && self.state() != State::ForcedClosed;
        due.then(|| self.turn(Phase::ForcedClosed, Why::Operator, None, now))
    }

    /// An operator's word: a forced breaker decides by itself again, from closed and with an empty window.
    pub fn auto(&mut self, now: Instant) -> Option<Transition> {
        matches!(self.phase, Phase::ForcedOpen | Phase::ForcedClosed).then(|| self.reset(now)).flatten()
    }

    /// An operator's word: closed, with an empty window and nothing held against it. Calls in flight count for nothing.
    pub fn reset(&mut self, now: Instant) -> Option<Transition> {
        let was = self.state();
        let transition = self.turn(Phase::Closed { recovered: None }, Why::Operator, None, now);
        self.forget();
        (was != State::Closed).then_some(transition)
    }

    /// Takes over new settings. State, open time and generation stay; the window too, if its shape is the same. A
    /// breaker that is switched off closes.
    pub fn retune(&mut self, settings: &Settings, now: Instant) -> Option<Transition> {
        let old = std::mem::replace(&mut self.settings, settings.clone());
        if (old.window_requests, old.window) != (settings.window_requests, settings.window) {
            self.window = Window::new(settings);
        }
        if old.enabled && !settings.enabled { self.reset(now) } else { None }
    }

    /// The state as of the last question. Time alone may have decided otherwise since: see [`Breaker::tick`].
    #[must_use]
    pub const fn state(&self) -> State {
        self.phase.state()
    }

    /// Whether a question at `now` would surely be refused. A ramp refuses by chance, and is not foretold.
    #[must_use]
    pub fn would_refuse(&self, now: Instant) -> bool {
        let refuses = match &self.phase {
            Phase::Closed { .. } | Phase::ForcedClosed => false,
            Phase::Open { until } => now < *until,
            Phase::HalfOpen(probes) => {
                let lost = probes.patience(&self.settings, now) == Some(Duration::ZERO);
                let concluded = probes.all_ended(&self.settings);
                lost || if concluded {
                    is_slow(&self.settings, probes.ended)
                } else {
                    probes.all_out(&self.settings)
                }
            }
            Phase::ForcedOpen => true,
        };
        refuses && self.settings.enabled && !self.settings.observe
    }

    /// As [`Breaker::would_refuse`], and what a question would hear.
    #[must_use]
    pub fn foretold(&self, now: Instant) -> Option<Refused> {
        let wait = match &self.phase {
            Phase::Open { until } => until.saturating_duration_since(now),
            _ => GUESS,
        };
        self.would_refuse(now).then(|| self.refusal(wait))
    }

    /// What opened it last, unless that was an operator's word.
    #[must_use]
    pub const fn tripped(&self) -> Option<Tripped> {
        self.tripped
    }

    /// What it shows of itself at `now`.
    #[must_use]
    pub fn figures(&self, now: Instant) -> Figures {
        let tally = self.window.tally(now);
        let retry_at = match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        };
        let probes = match &self.phase {
            Phase::HalfOpen(probes) => probes.out(),
            _ => 0,
        };
        Figures {
            state: self.state(),
            tally,
            failure_rate: tally.failure_rate(),
            consecutive: self.consecutive,
            retry_at,
            reopenings: self.reopenings,
            probes,
        }
    }

    /// The generation that a permit given now would bear.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    fn refusal(&self, wait: Duration) -> Refused {
        let tripped = self.tripped.filter(|_| self.state() != State::ForcedOpen);
        Refused { retry_after: wait.max(LEAST_WAIT), state: self.state(), tripped }
    }

    const fn permit(&self, kind: Kind) -> Permit {
        Permit { generation: self.generation, kind }
    }

    /// A call of a closed breaker ended.
    fn traffic(&mut self, ended: Ended, now: Instant, dice: f64) -> Option<Transition> {
        let (failed, slow, told) = match ended {
            Ended::Abandoned => return None,
            _ if self.state() != State::Closed => return None,
            Ended::Success { slow } => (false, slow, None),
            Ended::Failure { slow, told } => (true, slow, told),
        };
        self.window.record(now, failed, slow);
        self.consecutive = if failed { self.consecutive.saturating_add(1) } else { 0 };
        let why = trips(&self.settings, self.window.tally(now), self.consecutive)?;
        Some(self.open(why, told, now, dice))
    }

    /// A probe of this half-open phase ended.
    fn probe(&mut self, began: Instant, ended: Ended, now: Instant, dice: f64) -> Option<Transition> {
        let Phase::HalfOpen(probes) = &mut self.phase else { return None };
        if let Ended::Failure { slow, told } = ended {
            probes.ended = probes.ended.and(true, slow);
            return Some(self.open(Why::ProbeFailed, told, now, dice));
        }
        if probes.patience(&self.settings, now) == Some(Duration::ZERO) {
            return Some(self.open(Why::ProbeLost, None, now, dice));
        }
        probes.back(began);
        let Ended::Success { slow } = ended else { return None };
        probes.ended = probes.ended.and(false, slow);
        None // `tick` concludes, once all have ended.
    }

    /// All probes ended, and none failed.
    fn conclude(&mut self, ended: Tally, now: Instant, dice: f64) -> Transition {
        if is_slow(&self.settings, ended) {
            return self.open(Why::SlowRate, None, now, dice);
        }
        let transition = self.turn(Phase::Closed { recovered: Some(now) }, Why::ProbesSucceeded, None, now);
        self.window.clear();
        self.consecutive = 0;
        transition
    }

    fn half_open(&mut self, why: Why, now: Instant) -> Transition {
        self.turn(Phase::HalfOpen(Probes::default()), why, None, now)
    }

    /// Opens. It counts as a reopening if a probe failed, or if it trips before it was closed for as long as it had been
    /// open: only then has it been well for a while.
    fn open(&mut self, why: Why, told: Option<Duration>, now: Instant, dice: f64) -> Transition {
        let again = match &self.phase {
            Phase::Closed { recovered } => {
                recovered.is_some_and(|since| now.saturating_duration_since(since) < self.last_open)
            }
            _ => true,
        };
        self.reopenings = if again { self.reopenings.saturating_add(1) } else { 0 };
        let open_for = open_for(&self.settings, self.reopenings, told, dice);
        self.last_open = open_for;
        let until = now.checked_add(open_for).unwrap_or(now);
        let consecutive = self.consecutive;
        let transition = self.turn(Phase::Open { until }, why, Some(open_for), now);
        self.tripped = Some(Tripped { why, tally: transition.tally, consecutive, open_for });
        transition
    }

    /// Changes the state and begins a generation.
    fn turn(&mut self, phase: Phase, why: Why, open_for: Option<Duration>, now: Instant) -> Transition {
        let tally = match &self.phase {
            Phase::HalfOpen(probes) => probes.ended,
            _ => self.window.tally(now),
        };
        let from = self.state();
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
        Transition { from, to: self.state(), why, tally, open_for }
    }

    fn forget(&mut self) {
        self.window.clear();
        self.consecutive = 0;
        self.reopenings = 0;
        self.last_open = Duration::ZERO;
        self.tripped = None;
    }
}

const LEAST_WAIT: Duration = Duration::from_millis(1);
