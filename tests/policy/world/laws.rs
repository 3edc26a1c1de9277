//! What must hold, seen from outside the policies: by what was sent when, not by what they say of themselves.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fender::policy::breaker::{State, Transition};

use super::traffic::Rules;

/// Everything that happened, in the order of time.
#[derive(Default)]
pub(super) struct Laws {
    pub(super) arrivals: Vec<Instant>,
    pub(super) sends: Vec<Instant>,
    /// Changes of state.
    pub(super) turned: usize,
    /// Requests and granted retries of the trailing window.
    asked: VecDeque<Instant>,
    granted: VecDeque<Instant>,
    open_until: Option<Instant>,
    /// A told wait is on until then.
    told_until: Option<Instant>,
    probes_out: u32,
    /// The longest that anything waited between its decision and its sending.
    slack: Duration,
}

impl Laws {
    pub(super) fn arrived(&mut self, now: Instant) {
        self.arrivals.push(now);
        self.asked.push_back(now);
    }

    /// At the moment of each grant: retries of the trailing window <= ratio * requests of it + `min_per_second` * window.
    pub(super) fn granted(&mut self, now: Instant, rules: &Rules, floor: f64) {
        self.granted.push_back(now);
        let window = rules.retry.budget.window;
        for times in [&mut self.asked, &mut self.granted] {
            while times.front().is_some_and(|at| now.saturating_duration_since(*at) > window) {
                times.pop_front();
            }
        }
        let allowed = rules.retry.budget.ratio * self.asked.len() as f64 + floor;
        let (granted, asked) = (self.granted.len(), self.asked.len());
        assert!(granted as f64 <= allowed + 1e-6, "{granted} retries in a window of {asked} requests");
    }

    pub(super) fn never_sent(&mut self, granted: Instant) {
        if let Some(at) = self.granted.iter().position(|at| *at == granted) {
            self.granted.remove(at);
        }
    }

    pub(super) fn sent(&mut self, now: Instant, decided: Instant, probe: bool, pause_probe: bool, most: u32) {
        self.sends.push(now);
        self.slack = self.slack.max(now.saturating_duration_since(decided));
        assert!(self.open_until.is_none_or(|until| now >= until), "sent while the breaker was open");
        assert!(
            pause_probe || self.told_until.is_none_or(|until| now >= until),
            "sent before a told wait was over"
        );
        if probe {
            self.probes_out += 1;
            assert!(self.probes_out <= most, "{} probes at once", self.probes_out);
        }
    }

    pub(super) fn probe_ended(&mut self) {
        self.probes_out -= 1;
    }

    pub(super) fn told(&mut self, until: Instant) {
        self.told_until = self.told_until.max(Some(until));
    }

    pub(super) fn turned(&mut self, turned: &Transition, now: Instant) {
        self.turned += 1;
        let over = self.open_until.is_none_or(|until| now >= until);
        assert!(turned.from != State::Open || over, "it left open too early");
        self.open_until = (turned.to == State::Open).then(|| now + turned.open_for.expect("it opened"));
        if turned.to == State::HalfOpen {
            self.probes_out = 0; // Those of an earlier phase decide nothing any more.
        }
    }

    /// For the whole, on the wire's clock: in every window the upstream's load is at most the clients' and what that pays
    /// for. What waits is sent later than it was decided, by `slack` at most: the windows before are wider by that.
    pub(super) fn over(&self, rules: &Rules, floor: f64) {
        let (window, slack) = (rules.retry.budget.window, self.slack);
        let windows = (window + slack).as_secs_f64() / window.as_secs_f64();
        for (index, end) in self.sends.iter().enumerate() {
            let after = |times: &[Instant], back: Duration| {
                times.partition_point(|at| end.saturating_duration_since(*at) >= back && at <= end)
            };
            let load = index + 1 - after(&self.sends, window).min(index + 1);
            let until = self.arrivals.partition_point(|at| at <= end);
            let asked = until - after(&self.arrivals, window + slack + NANOSECOND).min(until);
            let paid = until - after(&self.arrivals, window * 2 + slack + NANOSECOND).min(until);
            let most = asked as f64 + rules.retry.budget.ratio * paid as f64 + floor * windows.ceil();
            assert!(
                load as f64 <= most + 1e-6,
                "{load} sent in a window of {asked} requests, at most {most}"
            );
        }
    }
}

const NANOSECOND: Duration = Duration::from_nanos(1);
