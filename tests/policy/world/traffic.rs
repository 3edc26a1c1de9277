//! The clock, the clients, the upstream, and what the proxy does with the policies.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use fender::policy::breaker::{self, Breaker, Ended, Permit};
use fender::policy::budget::Budget;
use fender::policy::judge::{Judged, Meaning};
use fender::policy::limit::{Concurrency, Limits, RateLimit, Slot};
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;
use fender::policy::retry::{self, Asking, Decision};
use fender::policy::throttle::{self, Gate, Pauses, ProbeEnd, ProbePermit};
use fender::policy::verdict::{Repeatable, Verdict};

use super::laws::Laws;
use super::{Does, Phase, millis, secs};

/// What a config says.
pub(super) struct Rules {
    pub(super) attempt: Duration,
    pub(super) total: Duration,
    pub(super) retry: retry::Settings,
    pub(super) breaker: breaker::Settings,
    pub(super) throttle: throttle::Settings,
    pub(super) concurrency: Concurrency,
    pub(super) rate_limit: Vec<RateLimit>,
}

impl Rules {
    pub(super) fn of(toml: &str) -> Self {
        let text = format!("[upstream.a]\nurl = 'http://a'\nroute = '/'\n{toml}");
        let loaded = fender::config::load_text("fender.toml", &text).expect(&text);
        let all = loaded.config.upstream["a"].clone();
        Self {
            attempt: all.timeout.attempt,
            total: all.timeout.total,
            retry: all.retry,
            breaker: all.breaker,
            throttle: all.throttle,
            concurrency: all.concurrency,
            rate_limit: all.rate_limit,
        }
    }

    /// From the moment when the upstream is well and stays so, with `per_ten` requests in ten seconds: what is in flight
    /// ends, and may tell to wait, for at most `max_pause`; what the window remembers may open the breaker once more, for
    /// at most `max_open_for`; then as many requests come as there are probes, and the ramp goes by.
    pub(super) fn recovers_within(&self, per_ten: u64) -> Duration {
        let requests = |count: u32| millis(u64::from(count) * 10_000 / per_ten);
        let remembers =
            self.breaker.window_requests.map_or(self.breaker.window, |count| requests(count.get()));
        let shut = self.breaker.max_open_for + self.throttle.max_pause;
        let probes = requests(self.breaker.half_open_probes + 2);
        self.total
            + self.attempt
            + remembers
            + shut
            + probes
            + self.breaker.ramp.unwrap_or_default()
            + secs(1)
    }
}

/// One request, and what it holds.
#[derive(Default)]
struct Request {
    deadline: Option<Instant>,
    attempts: u32,
    begun: Option<Instant>,
    /// When this attempt was decided: at the arrival, or when its retry was granted.
    decided: Option<Instant>,
    previous: Duration,
    pausing_since: Option<Instant>,
    slot: Option<Slot>,
    pause_probe: Option<ProbePermit>,
    permit: Option<Permit>,
    generation: u64,
    answer: Option<Judged>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives,
    /// Asks for its turn.
    Asks,
    /// Its slot has come.
    HasSlot,
    LeavesQueue,
    Ends,
}

pub(super) struct Sim {
    pub(super) start: Instant,
    pub(super) rules: Rules,
    pub(super) breaker: Breaker,
    pub(super) laws: Laws,
    /// So many of a hundred attempts are hung up on by their client.
    pub(super) hangups: u64,
    now: Instant,
    budget: Budget,
    pauses: Pauses,
    limits: Limits,
    in_flight: u32,
    queue: VecDeque<usize>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(Instant, u64, usize, What)>>,
    happened: u64,
    dice: u64,
    does: Does,
    phase_began: Instant,
}

impl Sim {
    pub(super) fn new(rules: Rules, seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            breaker: Breaker::new(&rules.breaker, 1),
            budget: Budget::new(&rules.retry.budget, start),
            limits: Limits::new(&rules.rate_limit),
            pauses: Pauses::default(),
            laws: Laws::default(),
            rules,
            hangups: 0,
            now: start,
            in_flight: 0,
            queue: VecDeque::new(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            happened: 0,
            dice: seed | 1,
            does: Does::Well,
            phase_began: start,
        }
    }

    pub(super) fn budget_floor(&self) -> f64 {
        self.rules.retry.budget.min_per_second * self.rules.retry.budget.window.as_secs_f64()
    }

    /// Plays on; what is still in flight at the end of the script goes on in the next one.
    pub(super) fn play(&mut self, script: &[Phase]) {
        for phase in script {
            self.does = phase.does;
            self.phase_began = self.now;
            let end = self.now + secs(phase.seconds);
            let evenly = (0..phase.seconds * phase.per_ten / 10)
                .map(|nth| self.now + Duration::from_micros(nth * 10_000_000 / phase.per_ten));
            let all: Vec<_> = (0..phase.burst).map(|_| self.now).chain(evenly).collect();
            for at in all {
                self.requests.push(Request::default());
                self.later(at, self.requests.len() - 1, What::Arrives);
            }
            while let Some(Reverse((at, ..))) = self.events.peek()
                && *at <= end
            {
                let Some(Reverse((at, _, id, what))) = self.events.pop() else { break };
                self.now = at;
                self.happens(id, what);
            }
            self.now = end;
        }
    }

    fn later(&mut self, at: Instant, id: usize, what: What) {
        self.happened += 1;
        self.events.push(Reverse((at, self.happened, id, what)));
    }

    /// xorshift64.
    fn random(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    fn chance(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn happens(&mut self, id: usize, what: What) {
        match what {
            What::Arrives => {
                self.laws.arrived(self.now);
                self.budget.paid(self.now);
                let request = &mut self.requests[id];
                request.deadline = Some(self.now + self.rules.total);
                request.decided = Some(self.now);
                self.asks(id);
            }
            What::Asks => self.asks(id),
            What::HasSlot => self.wants_seat(id, true),
            What::LeavesQueue => {
                if let Some(at) = self.queue.iter().position(|waiting| *waiting == id) {
                    self.queue.remove(at);
                    self.refused(id);
                }
            }
            What::Ends => self.ends(id),
        }
    }

    /// `admit`: the breaker that would refuse anyway, the pause, the slot.
    fn asks(&mut self, id: usize) {
        let (now, dice) = (self.now, self.chance());
        if self.breaker.would_refuse(now) {
            let asked = self.breaker.ask(now, dice);
            self.turned(asked.transition);
            match asked.answer {
                Err(_) => return self.refused(id),
                Ok(permit) => {
                    let turned = self.breaker.tell(permit, Ended::Abandoned, now, dice);
                    self.turned(turned);
                }
            }
        }
        let deadline = self.requests[id].deadline.expect("it arrived");
        match self.pauses.ask(0, now) {
            Gate::Free => {}
            Gate::Probe(permit) => self.requests[id].pause_probe = Some(permit),
            Gate::Paused { wait, .. } => {
                let request = &mut self.requests[id];
                let patience = if request.attempts > 0 {
                    self.rules.retry.retry_after
                } else {
                    self.rules.throttle.max_wait
                };
                let waited = now - *request.pausing_since.get_or_insert(now);
                if waited + wait > patience || now + wait >= deadline {
                    return self.refused(id);
                }
                return self.later(now + wait, id, What::Asks);
            }
        }
        self.requests[id].pausing_since = None;
        match self.limits.ask(&[0], now) {
            Err(_) => return self.refused(id),
            Ok(slot) => {
                let wait = slot.wait;
                self.requests[id].slot = Some(slot);
                if now + wait >= deadline {
                    return self.refused(id);
                }
                if !wait.is_zero() {
                    return self.later(now + wait, id, What::HasSlot);
                }
            }
        }
        self.wants_seat(id, false);
    }

    fn wants_seat(&mut self, id: usize, stood: bool) {
        if self.in_flight < self.rules.concurrency.max {
            self.in_flight += 1;
            return self.seated(id, stood);
        }
        if self.queue.len() >= self.rules.concurrency.queue as usize {
            return self.refused(id);
        }
        self.queue.push_back(id);
        let deadline = self.requests[id].deadline.expect("it arrived");
        let until = (self.now + self.rules.concurrency.queue_timeout).min(deadline);
        self.later(until, id, What::LeavesQueue);
    }

    /// It has a seat: who stood in line looks again whether a pause has begun; then the breaker's leave.
    fn seated(&mut self, id: usize, stood: bool) {
        let (now, dice) = (self.now, self.chance());
        if stood {
            self.abandons_pause_probe(id);
            match self.pauses.ask(0, now) {
                Gate::Free => {}
                Gate::Probe(permit) => self.requests[id].pause_probe = Some(permit),
                Gate::Paused { .. } => {
                    self.gives_slot_back(id);
                    self.stands_up();
                    return self.asks(id);
                }
            }
        }
        let asked = self.breaker.ask(now, dice);
        self.turned(asked.transition);
        let Ok(permit) = asked.answer else {
            self.refused(id);
            return self.stands_up();
        };
        let probe = permit.is_probe();
        let (answer, took) = self.upstream();
        let hung_up = self.random() % 100 < self.hangups;
        let took = if hung_up { took.mul_f64(self.chance()) } else { took };
        let request = &mut self.requests[id];
        let left = request.deadline.expect("it arrived") - now;
        let limit = self.rules.attempt.min(left);
        let (answer, took) = match (hung_up, took > limit) {
            (true, _) => (Judged::client(true, Reason::Cancelled, Verdict::Ambiguous), took.min(limit)),
            (_, true) => (Judged::fault(Reason::Timeout, Verdict::Ambiguous), limit),
            _ => (answer, took),
        };
        request.slot = None;
        request.permit = Some(permit);
        request.generation = self.breaker.generation();
        request.attempts += 1;
        request.begun = Some(now);
        request.answer = Some(answer);
        let (decided, pause_probe) = (request.decided.expect("decided"), request.pause_probe.is_some());
        self.laws.sent(now, decided, probe, pause_probe, self.rules.breaker.half_open_probes);
        self.later(now + took, id, What::Ends);
    }

    /// `settle`, then whether there is another attempt.
    fn ends(&mut self, id: usize) {
        let (now, dice) = (self.now, self.chance());
        let ended = self.requests[id].answer.expect("it was sent");
        let begun = self.requests[id].begun.expect("it was sent");
        self.tells_pauses(id, &ended);
        let permit = self.requests[id].permit.take().expect("it was permitted");
        // A probe of an earlier half-open phase decides nothing any more.
        if permit.is_probe() && self.requests[id].generation == self.breaker.generation() {
            self.laws.probe_ended();
        }
        let slow = self.rules.breaker.slow_call.is_some_and(|limit| now - begun > limit);
        let told = match ended.outcome {
            Outcome::Cancelled => Ended::Abandoned,
            Outcome::Success => Ended::Success { slow },
            _ if ended.is_named_by(&self.rules.breaker.failures) => Ended::Failure { slow, told: ended.told },
            _ => Ended::Success { slow },
        };
        let turned = self.breaker.tell(permit, told, now, dice);
        self.turned(turned);
        if !ended.is_final() {
            self.again(id, ended, now - begun);
        }
        self.stands_up();
    }

    fn again(&mut self, id: usize, ended: Judged, took: Duration) {
        let (now, dice) = (self.now, self.chance());
        let request = &self.requests[id];
        let asking = Asking {
            ended,
            attempts: request.attempts,
            resend: Repeatable::Method.permits_resend(ended.verdict),
            replayable: true,
            opted_out: false,
            took,
            left: request.deadline.expect("it arrived").saturating_duration_since(now),
            previous: request.previous,
            breaker_refuses: self.breaker.would_refuse(now),
        };
        let budget = &mut self.budget;
        let decision = self.rules.retry.decide(&asking, dice, || budget.take(now).is_ok());
        let Decision::Again { wait } = decision else { return };
        let floor = self.budget_floor();
        self.laws.granted(now, &self.rules, floor);
        let request = &mut self.requests[id];
        request.decided = Some(now);
        request.previous = wait;
        self.later(now + wait, id, What::Asks);
    }

    fn tells_pauses(&mut self, id: usize, ended: &Judged) {
        let (now, most) = (self.now, self.rules.throttle.max_pause);
        let probe = self.requests[id].pause_probe.take();
        if let (Outcome::Throttled | Outcome::Transient, Some(wait)) = (ended.outcome, ended.told) {
            self.pauses.told(0, wait, most, now);
            self.laws.told(now + wait.min(most));
        }
        if let Some(permit) = probe {
            let how = match ended.outcome {
                Outcome::Cancelled => ProbeEnd::Abandoned,
                Outcome::Success | Outcome::Permanent => ProbeEnd::Passed,
                _ => ProbeEnd::Failed { told: ended.told, max_pause: most },
            };
            self.pauses.ended(0, permit, how, now);
        }
    }

    /// Refused: what it held goes back.
    fn refused(&mut self, id: usize) {
        self.gives_slot_back(id);
        self.abandons_pause_probe(id);
        let request = &self.requests[id];
        if request.attempts > 0 {
            self.budget.give_back(self.now);
            self.laws.never_sent(request.decided.expect("it was granted"));
        }
    }

    fn gives_slot_back(&mut self, id: usize) {
        if let Some(slot) = self.requests[id].slot.take() {
            self.limits.give_back(slot, &[0]);
        }
    }

    fn abandons_pause_probe(&mut self, id: usize) {
        if let Some(permit) = self.requests[id].pause_probe.take() {
            self.pauses.ended(0, permit, ProbeEnd::Abandoned, self.now);
        }
    }

    /// A seat is free: it goes to the one who has waited longest.
    fn stands_up(&mut self) {
        match self.queue.pop_front() {
            Some(next) => self.seated(next, true),
            None => self.in_flight -= 1,
        }
    }

    fn turned(&mut self, turned: Option<breaker::Transition>) {
        if let Some(turned) = turned {
            self.laws.turned(&turned, self.now);
        }
    }

    /// What the upstream answers to what is sent now, and after how long.
    fn upstream(&mut self) -> (Judged, Duration) {
        let (usual, roll) = (millis(20 + self.random() % 40), self.random() % 100);
        let lists = [&self.rules.retry.on[..], &self.rules.breaker.failures[..]];
        let ok = Judged::answer(200, Meaning::by_status(200, None, false), &lists);
        let failed = Judged::answer(500, Meaning::by_status(500, None, false), &lists);
        let told = |wait| Judged::answer(429, Meaning::by_status(429, Some(secs(wait)), true), &lists);
        match self.does {
            Does::Well => (Judged::answer(200, Meaning::by_status(200, None, false), &[]), usual),
            Does::Down => (failed, millis(5)),
            Does::Hangs => (ok, secs(3_600)),
            Does::Slow(ms) => (ok, millis(ms)),
            Does::Throttles(wait) => (told(wait), millis(5)),
            Does::Flaps(each) => {
                let well = ((self.now - self.phase_began).as_secs() / each).is_multiple_of(2);
                if well { (ok, usual) } else { (failed, millis(5)) }
            }
            Does::Browns(share) => {
                if roll < share {
                    (failed, usual)
                } else {
                    (ok, usual)
                }
            }
        }
    }
}
