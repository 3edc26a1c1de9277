//! What holds for a breaker whatever happens to it.

use std::time::{Duration, Instant};

use fender::policy::breaker::{Breaker, Ended, Permit, Settings, State, Transition};
use proptest::prelude::*;

use super::{of_requests, secs, settings};

#[derive(Clone, Debug)]
enum Event {
    Ask,
    End(usize, Ended),
    /// The permit is lost: nobody tells.
    Lose(usize),
    Pass(Duration),
    StepBack(Duration),
    Tick,
    Down,
    Up,
    ForceOpen,
    ForceClose,
    Auto,
    Reset,
    Retune(Box<Settings>),
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let shape = (any::<bool>(), 0..20_u32, 1..10_u32, 0.01..=1.0_f64, 0..5_u32);
    let open = (1..20_u64, 1..60_u64, 1..5_u32, 1..40_u64, 0..30_u64, any::<bool>());
    (shape, open).prop_map(
        |((slow, requests, minimum, rate, row), (open, most, probes, timeout, ramp, observe))| Settings {
            observe,
            window_requests: of_requests(requests),
            minimum_requests: minimum,
            failure_rate: rate,
            consecutive_failures: row,
            slow_call: slow.then_some(secs(1)),
            open_for: secs(open),
            max_open_for: secs(most),
            half_open_probes: probes,
            half_open_timeout: secs(timeout),
            ramp: (ramp > 0).then_some(secs(ramp)),
            ..settings()
        },
    )
}

fn any_end() -> impl Strategy<Value = Ended> {
    prop_oneof![
        3 => any::<bool>().prop_map(|slow| Ended::Success { slow }),
        3 => (any::<bool>(), proptest::option::of(0..100_u64))
            .prop_map(|(slow, told)| Ended::Failure { slow, told: told.map(secs) }),
        1 => Just(Ended::Abandoned),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::Ask),
        16 => (0..8_usize, any_end()).prop_map(|(which, end)| Event::End(which, end)),
        2 => (0..8_usize).prop_map(Event::Lose),
        8 => (0..20_000_u64).prop_map(|ms| Event::Pass(Duration::from_millis(ms))),
        1 => (0..2_000_u64).prop_map(|ms| Event::StepBack(Duration::from_millis(ms))),
        2 => Just(Event::Tick),
        1 => Just(Event::Down),
        1 => Just(Event::Up),
        1 => Just(Event::ForceOpen),
        1 => Just(Event::ForceClose),
        3 => Just(Event::Auto),
        1 => Just(Event::Reset),
        1 => any_settings().prop_map(|settings| Event::Retune(Box::new(settings))),
    ]
}

struct World {
    breaker: Breaker,
    settings: Settings,
    now: Instant,
    dice: f64,
    out: Vec<(Permit, u64)>,
    /// Probes that were lost, by their generation.
    lost: Vec<u64>,
}

impl World {
    fn new(settings: Settings, dice: f64) -> Self {
        let now = Instant::now() + secs(86_400);
        let breaker = Breaker::new(&settings, 7);
        Self { breaker, settings, now, dice, out: Vec::new(), lost: Vec::new() }
    }

    fn ask(&mut self) -> Option<Permit> {
        let foretold = self.breaker.would_refuse(self.now);
        let asked = self.breaker.ask(self.now, self.dice);
        assert!(!foretold || asked.answer.is_err(), "a foretold refusal came true");
        assert!(!self.settings.observe || asked.answer.is_ok(), "observing refuses nothing");
        self.saw(asked.transition);
        match asked.answer {
            Ok(permit) => Some(permit),
            Err(refused) => {
                assert!(refused.retry_after >= Duration::from_millis(1));
                None
            }
        }
    }

    fn saw(&self, transition: Option<Transition>) {
        if let Some(turn) = transition {
            assert_eq!(turn.to, self.breaker.state());
            assert!(turn.from != turn.to);
            assert!(turn.open_for.is_none_or(|open_for| open_for <= self.settings.max_open_for));
        }
    }

    fn play(&mut self, event: Event) {
        let (now, dice) = (self.now, self.dice);
        let turned = match event {
            Event::Ask => {
                if let Some(permit) = self.ask() {
                    self.out.push((permit, self.breaker.generation()));
                }
                None
            }
            Event::End(which, end) => {
                self.take(which).and_then(|(permit, _)| self.breaker.tell(permit, end, now, dice))
            }
            Event::Lose(which) => {
                let lost = self.take(which).filter(|(permit, _)| permit.is_probe());
                self.lost.extend(lost.map(|(_, of)| of));
                None
            }
            Event::Pass(time) => {
                self.now += time;
                None
            }
            Event::StepBack(time) => {
                self.now -= time;
                None
            }
            Event::Tick => self.breaker.tick(now, dice),
            Event::Down => self.breaker.health_down(now, dice),
            Event::Up => self.breaker.health_up(now),
            Event::ForceOpen => self.breaker.force_open(now),
            Event::ForceClose => self.breaker.force_close(now),
            Event::Auto => self.breaker.auto(now),
            Event::Reset => self.breaker.reset(now),
            Event::Retune(settings) => {
                self.settings = *settings;
                self.breaker.retune(&self.settings, now)
            }
        };
        self.saw(turned);
    }

    fn take(&mut self, which: usize) -> Option<(Permit, u64)> {
        if self.out.is_empty() { None } else { Some(self.out.remove(which % self.out.len())) }
    }

    /// Probes of the current half-open phase that nobody ended.
    fn probes_out(&self) -> usize {
        let generation = self.breaker.generation();
        let out = self.out.iter().filter(|(permit, of)| permit.is_probe() && *of == generation).count();
        out + self.lost.iter().filter(|of| **of == generation).count()
    }
}

proptest! {
    #[test]
    fn never_are_more_probes_out_than_allowed(
        settings in any_settings(),
        events in proptest::collection::vec(any_event(), 1..200),
        dice in 0.0..1.0_f64,
    ) {
        let mut world = World::new(settings, dice);
        let mut most = world.settings.half_open_probes;
        for event in events {
            // A reload that asks for fewer does not call back those that are out.
            most = match &event {
                Event::Retune(settings) => most.max(settings.half_open_probes),
                _ if world.breaker.state() != State::HalfOpen => world.settings.half_open_probes,
                _ => most,
            };
            world.play(event);
            prop_assert!(world.probes_out() <= usize::try_from(most).unwrap());
        }
    }

    #[test]
    fn whatever_came_before_it_closes_once_everything_succeeds(
        settings in any_settings(),
        events in proptest::collection::vec(any_event(), 1..200),
        dice in 0.0..1.0_f64,
    ) {
        let mut world = World::new(settings, dice);
        for event in events {
            world.play(event);
        }
        world.breaker.auto(world.now);
        // All that is out is lost, the upstream is well again, and a call comes each second.
        let mut refused = 0;
        for _ in 0..400 {
            world.now += secs(1);
            world.dice = (world.dice + 0.37) % 1.0;
            match world.ask() {
                Some(permit) => {
                    let turned = world.breaker.tell(permit, Ended::Success { slow: false }, world.now, world.dice);
                    world.saw(turned);
                    refused = 0;
                }
                None => refused += 1,
            }
        }
        prop_assert_eq!(world.breaker.state(), State::Closed);
        prop_assert_eq!(refused, 0);
    }
}
