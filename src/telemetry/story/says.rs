//! What a person is told of each thing that came about: one line, the figures in it, and the key of the config behind it.

use std::time::Duration;

use super::{BreakerSays, By, Fact, Gone, Line, NoFallback, Probe, Stopped, Story, Turned, WaitOf};
use crate::policy::breaker::{State, Why};
use crate::policy::budget::Left;
use crate::policy::reason::Reason;
use crate::policy::retry::Stop;
use crate::telemetry::access::AttemptLine;
use crate::units::format_duration;

impl Fact {
    /// One word for what it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "attempt",
            Self::Again { .. } => "retry",
            Self::Stopped(_) => "no_retry",
            Self::Refused { .. } => "refused",
            Self::Paused { .. } => "paused",
            Self::Waited { .. } => "waited",
            Self::Probes(_) => "probe",
            Self::Turned(_) => "breaker",
            Self::FellBack { .. } => "fallback",
            Self::NoFallback { .. } => "no_fallback",
            Self::Replays { .. } => "replay",
            Self::Kept { .. } => "letter",
            Self::NotKept { .. } => "no_letter",
            Self::Failed { .. } => "failed",
            Self::Already { .. } => "letter",
            Self::Cut { .. } => "cut",
            Self::Gone(_) => "hung_up",
        }
    }

    /// Whether it settled what became of the request, or of one attempt.
    #[must_use]
    pub const fn decides(&self) -> bool {
        match self {
            Self::Sent { limit, .. } => limit.is_some(),
            Self::Stopped(_) | Self::Refused { .. } | Self::Failed { .. } | Self::Cut { .. } => true,
            Self::Again { .. } | Self::Paused { .. } | Self::Waited { .. } | Self::FellBack { .. } => false,
            Self::Probes(_) | Self::Turned(_) | Self::NoFallback { .. } | Self::Replays { .. } => false,
            Self::Kept { .. } | Self::NotKept { .. } | Self::Already { .. } | Self::Gone(_) => false,
        }
    }

    /// One line for a person.
    #[must_use]
    pub fn says(&self, story: &Story) -> String {
        match self {
            Self::Sent { attempt, .. } => {
                story.attempts.get(*attempt).map_or_else(|| "an attempt".to_owned(), sent)
            }
            Self::Again { wait, because, made, most, left } => {
                let wait = again(*wait, *because);
                let budget = left.map_or_else(String::new, |left| format!("; {}", budget(left)));
                format!("{wait}; {made} of at most {most} attempts made{budget}")
            }
            Self::Stopped(stopped) => stopped.says(),
            Self::Refused { reason, detail, retry_after, by } => {
                let what = by.as_ref().map_or_else(|| detail.to_string(), |by| by.says(detail));
                let when = if retry_after.is_zero() || *reason == Reason::Cancelled {
                    String::new()
                } else {
                    format!("; worth asking again in {}", span(*retry_after))
                };
                format!("{reason}: {what}{when}")
            }
            Self::Paused { longer, quota: true, .. } => {
                format!("a quota is used up: all of its scope is paused, {} more", span(*longer))
            }
            Self::Paused { longer, .. } => {
                format!("at its word all of its scope is paused, {} more", span(*longer))
            }
            Self::Waited { line, how_long } => {
                let what = match line {
                    Line::Pause => "until the pause that the upstream asked for was over",
                    Line::Slot => "for a slot of a rate limit",
                    Line::Seat => "for a seat",
                };
                format!("{} {what}", span(*how_long))
            }
            Self::Probes(probe) => probe.says().to_owned(),
            Self::Turned(turned) => turned.says(),
            Self::FellBack { kind, to, reason, .. } => format!("{}, for {reason}", whom(kind, to.as_deref())),
            Self::NoFallback { kind, to, why, .. } => {
                format!("not {}: {}", whom(kind, to.as_deref()), why.says())
            }
            Self::Replays { letter } => format!("of letter {letter}"),
            Self::Kept { letter, reason, accepted, parked } => kept(letter, *reason, *accepted, *parked),
            Self::NotKept { why } => format!("not stored: {}", not_kept(why)),
            Self::Failed { reason, detail, .. } => format!("{reason}: {detail}"),
            Self::Already { letter, state, accepted } => {
                let heard = if *accepted { "; the client is told that it is Fender's" } else { "" };
                format!(
                    "its idempotency key is that of {letter}, which is {state}: nothing new is stored{heard}"
                )
            }
            Self::Cut { error, .. } => error.to_string(),
            Self::Gone(gone) => match gone {
                Gone::Idle => "the client hung up",
                Gone::Sending => "the client hung up while an attempt was under way, which may have acted",
                Gone::Kept => "the client hung up; as its write may be stored, it is seen to all the same",
            }
            .to_owned(),
        }
    }
}

/// Who answers instead.
fn whom(kind: &str, to: Option<&str>) -> String {
    match (kind, to) {
        ("upstream", Some(to)) => format!("to upstream {to}"),
        ("stale", _) => "the last good answer".to_owned(),
        _ => "the config's own words".to_owned(),
    }
}

impl Probe {
    const fn says(self) -> &'static str {
        match self {
            Self::Breaker => "the breaker is half open: this goes ahead to find out",
            Self::Pause => "a long pause has just ended: this goes ahead alone to find out",
        }
    }
}

impl NoFallback {
    const fn says(self) -> &'static str {
        match self {
            Self::OptedOut => "the client wants none (fender-policy)",
            Self::HungUp => "the client has hung up",
            Self::Acted => "an attempt may have acted already",
            Self::Body => "the body is not there from its beginning any more",
            Self::Rewrite => "its body cannot be changed as the fallback asks",
            Self::Credential => "the credential in its path or query would go along",
            Self::Nowhere => "the config in force does not lead there",
            Self::Failed => "it brought no answer either",
            Self::NoneKept => "there is none that is young enough",
            Self::NotFenders => "they answer a write only once it is Fender's",
        }
    }
}

impl Turned {
    fn says(&self) -> String {
        match self {
            Self::Opened(breaker) => {
                let observes = if breaker.settings.observe { " (it only observes)" } else { "" };
                format!("opened by this{observes}: {}", breaker.says())
            }
            Self::Closed => "closed by this: the upstream is well again".to_owned(),
        }
    }
}

impl Stopped {
    /// One word for why.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        if self.gone { "hung_up" } else { self.stop.as_str() }
    }

    fn says(&self) -> String {
        let Self { made, most, told, told_by, patience, time_left, left, .. } = self;
        match self.stop {
            _ if self.quota => "a quota is used up: no other attempt helps soon".to_owned(),
            Stop::Unlisted => "retry.on does not name this end".to_owned(),
            Stop::Attempts => format!("{made} of at most {most} attempts made"),
            Stop::OptedOut if self.gone => "the client has hung up".to_owned(),
            Stop::OptedOut => "the client wants none (fender-policy)".to_owned(),
            Stop::Unsafe => "it may have acted, and nothing makes a second send harmless".to_owned(),
            Stop::Body => "the body was too large to be kept for another attempt".to_owned(),
            Stop::Patience => {
                let (told, longest) = (span(told.unwrap_or_default()), format_duration(*patience));
                let by = told_by.unwrap_or("its body");
                format!("told to wait {told} by {by}; {longest} is the longest that is sat out")
            }
            Stop::Deadline => {
                let whose = if self.clients_time { "the client's own" } else { "the request's" };
                format!("{} of {whose} time is left: too little", span(*time_left))
            }
            Stop::Breaker => match &self.breaker {
                Some(breaker) => format!("the breaker is open: {}", breaker.says()),
                None => "the breaker is open".to_owned(),
            },
            Stop::Budget => left.map_or_else(|| "the budget is spent".to_owned(), budget),
        }
    }
}

fn again(wait: Duration, because: WaitOf) -> String {
    let wait = span(wait);
    match because {
        WaitOf::Backoff => format!("after {wait} of backoff"),
        WaitOf::Told(Some(field)) => format!("after {wait}, as {field} told"),
        WaitOf::Told(None) => format!("after {wait}, as the answer's body told"),
    }
}

fn kept(letter: &str, reason: Option<Reason>, accepted: bool, parked: Option<&str>) -> String {
    let why = reason.map_or_else(|| "before it was sent".to_owned(), |why| format!("for {why}"));
    match parked {
        _ if accepted => format!("stored as {letter} {why}: the client is told that it is Fender's now"),
        Some(because) => format!("stored as {letter} {why}, and parked as {because}: it stays the client's"),
        None => format!("stored as {letter} {why}; the client hears the failure"),
    }
}

fn not_kept(why: &str) -> &'static str {
    match why {
        "body" => "the body is larger than dead_letter.max_body",
        "memory" => "buffer_memory was spent, and the body not retained",
        "full" => "the store is full",
        "client" => "the client broke its body off",
        "opted_out" => "the client does not want it stored (fender-policy)",
        _ => "the store is not available",
    }
}

fn sent(line: &AttemptLine) -> String {
    let mut text = match (line.status, line.reason) {
        (Some(status), _) => format!("{status}, {}", line.outcome),
        (None, Some(reason)) => format!("{reason}, {}", line.outcome),
        (None, None) => line.outcome.to_owned(),
    };
    if let Some(verdict) = line.verdict {
        text.push_str(&format!(", {}", verdict.replace('_', " ")));
    }
    text.push_str(&format!(", in {:.1} ms", line.duration_ms));
    if let Some(endpoint) = &line.endpoint {
        text.push_str(&format!(" at {endpoint}"));
    }
    if let Some(error) = &line.error {
        text.push_str(&format!(": {error}"));
    }
    if line.stale_connection {
        text.push_str(" (a stale connection)");
    }
    text
}

fn budget(left: Left) -> String {
    let Left { available, allowed, requests, retries, window } = left;
    let window = format_duration(window);
    format!(
        "budget: {available:.1} of {allowed:.1} left ({requests} requests and {retries} retries in {window})"
    )
}

impl By {
    fn says(&self, detail: &str) -> String {
        match self {
            Self::Breaker(breaker) => breaker.says(),
            Self::Bulkhead { full: true, limit, queue, .. } => {
                format!("{limit} requests are in flight, and {queue} wait: the queue is full")
            }
            Self::Bulkhead { full: false, limit, patience, .. } => {
                format!(
                    "{limit} requests are in flight, and no seat came free within {}",
                    format_duration(*patience)
                )
            }
            Self::RateLimit { requests, per, patience, too_late, number: _ } => {
                let why = if *too_late {
                    "the next slot comes after the request's own time".to_owned()
                } else {
                    format!("the next slot is beyond its max_wait of {}", format_duration(*patience))
                };
                format!("{requests} in {} are reached, and {why}", format_duration(*per))
            }
            Self::Pause { waited, patience, .. } => {
                let waited = if *waited < Duration::from_millis(1) {
                    String::new()
                } else {
                    format!(" (waited {} already)", span(*waited))
                };
                format!("{detail}; {} is the longest wait here{waited}", format_duration(*patience))
            }
            Self::Level { level, shed_at } => {
                format!("the degradation level is {}; shed from {} on", level.as_str(), shed_at.as_str())
            }
            Self::Store => detail.to_owned(),
        }
    }
}

impl BreakerSays {
    fn says(&self) -> String {
        let state = match self.refused.state {
            State::ForcedOpen => return "an operator holds it open".to_owned(),
            State::Closed | State::ForcedClosed => return "traffic is let back in step by step".to_owned(),
            State::HalfOpen => "half open, its probes are out; ",
            State::Open => "",
        };
        let Some(tripped) = self.refused.tripped else {
            return format!("{state}opened before").trim_start().to_owned();
        };
        let settings = &self.settings;
        let (tally, open_for) = (tripped.tally, span(tripped.open_for));
        let over = match settings.window_requests {
            Some(requests) => format!("the last {requests}"),
            None => format_duration(settings.window),
        };
        let why = match tripped.why {
            Why::FailureRate => format!("{} of {} failed in {over}", tally.failures, tally.calls),
            Why::Consecutive => format!("{} failures in a row", tripped.consecutive),
            Why::SlowRate => format!("{} of {} were slow in {over}", tally.slow, tally.calls),
            Why::ProbeFailed => "a probe failed".to_owned(),
            Why::ProbeLost => "a probe did not end in time".to_owned(),
            Why::HealthDown => "the active check failed".to_owned(),
            Why::ProbesSucceeded | Why::OpenEnded | Why::HealthUp | Why::Operator => {
                "it was opened".to_owned()
            }
        };
        format!("{state}{why}, open for {open_for}")
    }
}

/// A measured time, short: `3.1 ms`, `9.4 s`, `12 min`.
#[must_use]
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.000_05 {
        "0 ms".to_owned()
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0).replace(".0 ms", " ms")
    } else if seconds < 120.0 {
        format!("{seconds:.1} s").replace(".0 s", " s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
