//! A breaker's life as a script: `"fail*3 | refuse | +10s probe ok | half_open"`.
//!
//! | word | does or demands |
//! | --- | --- |
//! | `ok` `fail` `slow` `slowfail` `drop` `told60s` | ends the probe that was just sent, else makes an ordinary call that ends so |
//! | `probe` | a question is answered with a probe |
//! | `call:a` `probe:a` | likewise, and the permit is kept as `a` |
//! | `a=ok` … | the kept call ends |
//! | `refuse` `refuse=10s` | a question is refused, with that wait |
//! | `waived` | a question is permitted although it would be refused |
//! | `+10s` `-1s` `+1ns` | time passes, or steps back |
//! | `tick` `down` `up` `force-open` `force-close` `auto` `reset` | what it is called |
//! | `closed` `open` … | the state now |
//! | `why=slow_rate` | the last transition's reason |
//! | `for=10s` | the last transition's open time |
//! | `still` | no transition since the last state, `why` or `still` |
//! | any of these with `*3` | three times |

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fender::policy::breaker::{Breaker, Ended, Permit, Settings, State, Transition};

pub struct Life {
    pub breaker: Breaker,
    pub now: Instant,
    pub dice: f64,
    probe: Option<Permit>,
    kept: HashMap<String, Permit>,
    last: Option<Transition>,
    unseen: usize,
}

/// Plays a script from a new breaker's birth.
pub fn play(settings: &Settings, script: &str) -> Life {
    let mut life = Life::new(settings);
    life.on(script);
    life
}

impl Life {
    pub fn new(settings: &Settings) -> Self {
        Self {
            breaker: Breaker::new(settings, 1),
            now: Instant::now() + Duration::from_secs(86_400),
            dice: 0.5,
            probe: None,
            kept: HashMap::new(),
            last: None,
            unseen: 0,
        }
    }

    /// Plays on.
    pub fn on(&mut self, script: &str) {
        for (at, word) in script.split_whitespace().filter(|word| *word != "|").enumerate() {
            let (word, times) = word.split_once('*').unwrap_or((word, "1"));
            for _ in 0..times.parse().unwrap() {
                let place = format!("word {at}, `{word}`, of `{script}`");
                self.word(word, &place);
            }
        }
    }

    fn word(&mut self, word: &str, place: &str) {
        if let Some(ended) = ended(word) {
            let permit = self.probe.take().unwrap_or_else(|| self.permitted(false, place));
            return self.tell(permit, ended);
        }
        if let Some(state) = State::ALL.iter().find(|state| state.as_str() == word) {
            self.unseen = 0;
            return assert_eq!(self.breaker.state(), *state, "{place}");
        }
        let (now, dice) = (self.now, self.dice);
        match word {
            "probe" => self.probe = Some(self.permitted(true, place)),
            "refuse" => drop(self.refused(place)),
            "waived" => assert!(self.permitted(false, place).is_waived(), "{place}"),
            "still" => assert_eq!(std::mem::take(&mut self.unseen), 0, "{place}: {:?}", self.last),
            "tick" => self.saw(|b| b.tick(now, dice)),
            "down" => self.saw(|b| b.health_down(now, dice)),
            "up" => self.saw(|b| b.health_up(now)),
            "force-open" => self.saw(|b| b.force_open(now)),
            "force-close" => self.saw(|b| b.force_close(now)),
            "auto" => self.saw(|b| b.auto(now)),
            "reset" => self.saw(|b| b.reset(now)),
            _ => self.pair(word, place),
        }
    }

    fn pair(&mut self, word: &str, place: &str) {
        if let Some(time) = word.strip_prefix('+') {
            self.now += duration(time);
        } else if let Some(time) = word.strip_prefix('-') {
            self.now -= duration(time);
        } else if let Some((what, name)) = word.split_once(':') {
            let permit = self.permitted(what == "probe", place);
            assert!(self.kept.insert(name.to_owned(), permit).is_none(), "{place}");
        } else {
            let (what, value) = word.split_once('=').unwrap_or_else(|| panic!("{place}: what is this?"));
            match what {
                "refuse" => assert_eq!(self.refused(place), duration(value), "{place}"),
                "why" => {
                    self.unseen = 0;
                    assert_eq!(self.last.map(|turn| turn.why.as_str()), Some(value), "{place}");
                }
                "for" => assert_eq!(self.last.unwrap().open_for, Some(duration(value)), "{place}"),
                name => {
                    let permit = self.kept.remove(name).expect(place);
                    self.tell(permit, ended(value).expect(place));
                }
            }
        }
    }

    fn permitted(&mut self, probe: bool, place: &str) -> Permit {
        assert!(!self.breaker.would_refuse(self.now), "{place}: it foretold a refusal");
        let asked = self.breaker.ask(self.now, self.dice);
        self.saw(|_| asked.transition);
        let permit = asked.answer.expect(place);
        assert_eq!(permit.is_probe(), probe, "{place}");
        permit
    }

    fn refused(&mut self, place: &str) -> Duration {
        assert!(self.breaker.would_refuse(self.now), "{place}: it foretold a permit");
        let asked = self.breaker.ask(self.now, self.dice);
        self.saw(|_| asked.transition);
        let refused = asked.answer.expect_err(place);
        assert_eq!(refused.state, self.breaker.state(), "{place}");
        assert!(refused.retry_after >= Duration::from_millis(1), "{place}");
        refused.retry_after
    }

    fn tell(&mut self, permit: Permit, ended: Ended) {
        let (now, dice) = (self.now, self.dice);
        self.saw(|breaker| breaker.tell(permit, ended, now, dice));
    }

    /// Takes note of a transition, and holds it against the state.
    fn saw(&mut self, word: impl FnOnce(&mut Breaker) -> Option<Transition>) {
        let (was, generation) = (self.breaker.state(), self.breaker.generation());
        let Some(turn) = word(&mut self.breaker) else {
            return assert_eq!(self.breaker.state(), was, "it turned and did not say so");
        };
        assert_eq!(turn.to, self.breaker.state());
        assert_eq!(turn.open_for.is_some(), turn.to == State::Open);
        assert!(turn.from != turn.to && (turn.from == was || self.breaker.generation() == generation));
        self.last = Some(turn);
        self.unseen += 1;
    }
}

fn ended(word: &str) -> Option<Ended> {
    Some(match word {
        "ok" => Ended::Success { slow: false },
        "slow" => Ended::Success { slow: true },
        "fail" => Ended::Failure { slow: false, told: None },
        "slowfail" => Ended::Failure { slow: true, told: None },
        "drop" => Ended::Abandoned,
        _ => Ended::Failure { slow: false, told: Some(duration(word.strip_prefix("told")?)) },
    })
}

fn duration(text: &str) -> Duration {
    text.strip_suffix("ns").map_or_else(
        || fender::units::parse_duration(text).expect(text),
        |count| Duration::from_nanos(count.parse().unwrap()),
    )
}
