//! An upstream's breakers: one for the whole, or one for each key.

use std::time::Instant;

use super::breaker::{Asked, Breaker, Ended, Figures, Permit, Refused, Settings, State, Transition, Tripped};
use super::keyed::Keyed;

/// A breaker for requests without a key, and one for each of the [`KEYS`] in latest use.
#[derive(Debug)]
pub struct Breakers {
    settings: Settings,
    whole: Breaker,
    keyed: Keyed<Breaker>,
    made: u64,
    held: Held,
}

/// What was said about all breakers, and holds for those that are made later too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    ForcedOpen,
    ForcedClosed,
    Down,
}

impl Breakers {
    /// All closed.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            whole: Breaker::new(settings, 0),
            keyed: Keyed::new(KEYS),
            made: 0,
            held: Held::Nothing,
        }
    }

    /// [`Breaker::ask`] of one breaker, made if there is none for the key: the least recently used one gives way then.
    pub fn ask(&mut self, key: Option<u64>, now: Instant, dice: f64) -> Asked {
        let Some(key) = key else { return self.whole.ask(now, dice) };
        let Self { settings, keyed, made, held, .. } = self;
        let breaker = keyed.entry(key, || {
            // A breaker would have to change its state 2^32 times to meet another one's generations.
            *made = made.wrapping_add(1 << 32);
            born(settings, *made, *held, now, dice)
        });
        breaker.ask(now, dice)
    }

    /// [`Breaker::tell`] of one breaker; nothing, if it has given way since.
    pub fn tell(
        &mut self,
        key: Option<u64>,
        permit: Permit,
        ended: Ended,
        now: Instant,
        dice: f64,
    ) -> Option<Transition> {
        match key {
            None => self.whole.tell(permit, ended, now, dice),
            Some(key) => self.keyed.get(key)?.tell(permit, ended, now, dice),
        }
    }

    /// [`Breaker::tick`] of each.
    pub fn tick(&mut self, now: Instant, dice: f64) -> Vec<Transition> {
        self.each(|breaker| breaker.tick(now, dice))
    }

    /// [`Breaker::health_down`] of each. One that is made before the check recovers begins open.
    pub fn health_down(&mut self, now: Instant, dice: f64) -> Vec<Transition> {
        if self.held == Held::Nothing {
            self.held = Held::Down;
        }
        self.each(|breaker| breaker.health_down(now, dice))
    }

    /// [`Breaker::health_up`] of each.
    pub fn health_up(&mut self, now: Instant) -> Vec<Transition> {
        if self.held == Held::Down {
            self.held = Held::Nothing;
        }
        self.each(|breaker| breaker.health_up(now))
    }

    /// [`Breaker::force_open`] of each, those made later too.
    pub fn force_open(&mut self, now: Instant) -> Vec<Transition> {
        self.held = Held::ForcedOpen;
        self.each(|breaker| breaker.force_open(now))
    }

    /// [`Breaker::force_close`] of each, those made later too.
    pub fn force_close(&mut self, now: Instant) -> Vec<Transition> {
        self.held = Held::ForcedClosed;
        self.each(|breaker| breaker.force_close(now))
    }

    /// [`Breaker::auto`] of each.
    pub fn auto(&mut self, now: Instant) -> Vec<Transition> {
        if self.held != Held::Down {
            self.held = Held::Nothing;
        }
        self.each(|breaker| breaker.auto(now))
    }

    /// [`Breaker::reset`] of each.
    pub fn reset(&mut self, now: Instant) -> Vec<Transition> {
        self.held = Held::Nothing;
        self.each(|breaker| breaker.reset(now))
    }

    /// The worst state of all; forced open is the worst.
    #[must_use]
    pub fn worst(&self) -> State {
        self.worst_one().state()
    }

    /// Whether they amount to an upstream that is sick: the one for the whole is open, or of the keys at least half are. One key
    /// alone says little of the others; and where clients choose it, one of them must not speak for all.
    #[must_use]
    pub fn sick(&self) -> bool {
        let open = |breaker: &Breaker| matches!(breaker.state(), State::Open | State::ForcedOpen);
        let keyed = self.keyed.iter().fold((0_usize, 0_usize), |(all, sick), (_, breaker)| {
            (all + 1, sick + usize::from(open(breaker)))
        });
        open(&self.whole) || (keyed.1 > 0 && keyed.1 * 2 >= keyed.0)
    }

    /// Whether any of them is not simply closed: only then can [`Breakers::would_refuse`] say yes.
    #[must_use]
    pub fn troubled(&self) -> bool {
        self.held != Held::Nothing || self.worst() != State::Closed
    }

    /// [`Breaker::would_refuse`] of one breaker; one that would have to be made refuses only by a word for all.
    #[must_use]
    pub fn would_refuse(&self, key: Option<u64>, now: Instant) -> bool {
        let breaker = key.map_or(Some(&self.whole), |key| self.keyed.peek(key));
        let unmade = matches!(self.held, Held::ForcedOpen | Held::Down);
        breaker.map_or(unmade && self.settings.enabled && !self.settings.observe, |b| b.would_refuse(now))
    }

    /// [`Breaker::foretold`] of one breaker.
    #[must_use]
    pub fn foretold(&self, key: Option<u64>, now: Instant) -> Option<Refused> {
        key.map_or(Some(&self.whole), |key| self.keyed.peek(key))?.foretold(now)
    }

    /// [`Breaker::tripped`] of one breaker.
    #[must_use]
    pub fn tripped(&self, key: Option<u64>) -> Option<Tripped> {
        key.map_or(Some(&self.whole), |key| self.keyed.peek(key))?.tripped()
    }

    /// [`Breaker::retune`] of each.
    pub fn retune(&mut self, settings: &Settings, now: Instant) -> Vec<Transition> {
        self.settings = settings.clone();
        if !settings.enabled {
            self.held = Held::Nothing;
        }
        self.each(|breaker| breaker.retune(settings, now))
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// [`Breaker::figures`] of the worst.
    #[must_use]
    pub fn figures(&self, now: Instant) -> Figures {
        self.worst_one().figures(now)
    }

    /// [`Breaker::figures`] of each keyed one, the least recently used first.
    pub fn each_figures(&self, now: Instant) -> impl Iterator<Item = (u64, Figures)> {
        self.keyed.iter().map(move |(key, breaker)| (key, breaker.figures(now)))
    }

    fn worst_one(&self) -> &Breaker {
        let keyed = self.keyed.iter().map(|(_, breaker)| breaker);
        keyed.fold(&self.whole, |worst, breaker| {
            if breaker.state().badness() > worst.state().badness() { breaker } else { worst }
        })
    }

    fn each(&mut self, mut word: impl FnMut(&mut Breaker) -> Option<Transition>) -> Vec<Transition> {
        let keyed = self.keyed.iter_mut().map(|(_, breaker)| breaker);
        std::iter::once(&mut self.whole).chain(keyed).filter_map(&mut word).collect()
    }
}

/// A new breaker, in the state that was said for all.
fn born(settings: &Settings, first_generation: u64, held: Held, now: Instant, dice: f64) -> Breaker {
    let mut breaker = Breaker::new(settings, first_generation);
    match held {
        Held::Nothing => None,
        Held::ForcedOpen => breaker.force_open(now),
        Held::ForcedClosed => breaker.force_close(now),
        Held::Down => breaker.health_down(now, dice),
    };
    breaker
}

/// So many keys have a breaker of their own.
pub const KEYS: usize = 1_000;
