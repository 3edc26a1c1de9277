//! How fast one upstream's letters go: so many at once, so many a second, slowly at first.

use std::time::{Duration, Instant};

use crate::config;
use crate::policy::redelivery::Pace;

/// One upstream's replays.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pace: Pace,
    under_way: u32,
    /// The earliest moment of the next one, by `per_second`.
    next: Option<Instant>,
    /// Nothing goes before this.
    paused_until: Option<Instant>,
    /// How often the upstream had come back when it was last looked at.
    recoveries: u64,
}

/// How one ended, as far as the pace is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    Badly,
    /// The credential did not work: one at a time until it does.
    Quota,
    /// Nothing was sent, for want of room: all wait a moment.
    NoRoom,
    /// Nothing was sent, for a reason of this letter's own.
    NotNow,
    /// There was nothing to send.
    Nothing,
}

/// Where live requests take all the room, replays ask again after this.
const NO_ROOM: Duration = Duration::from_millis(100);

/// So much of a burst `per_second` allows after a pause, in time.
const BURST: Duration = Duration::from_millis(250);

impl Lane {
    /// How many may begin now.
    pub(super) fn room(&mut self, rule: &config::Replay, now: Instant) -> u32 {
        if self.paused_until.is_some_and(|until| until > now) {
            return 0;
        }
        let seats = self.pace.at_once(rule.concurrency).saturating_sub(self.under_way);
        seats.min(self.slots(rule, now))
    }

    /// Whether the upstream has come back since this was last asked.
    pub(super) const fn recovered(&mut self, recoveries: u64) -> bool {
        std::mem::replace(&mut self.recoveries, recoveries) != recoveries
    }

    /// One begins.
    pub(super) fn begins(&mut self, rule: &config::Replay, now: Instant) {
        self.under_way += 1;
        let from = self.next.map_or(now, |next| next.max(now.checked_sub(BURST).unwrap_or(now)));
        self.next = from.checked_add(interval(rule));
    }

    /// One ended.
    pub(super) fn ended(&mut self, how: Ended, concurrency: u32, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        match how {
            Ended::Well => self.pace.ended(true, concurrency),
            Ended::Badly => self.pace.ended(false, concurrency),
            Ended::Quota => self.pace.ended(false, concurrency),
            Ended::NoRoom => self.paused_until = now.checked_add(NO_ROOM),
            Ended::NotNow | Ended::Nothing => {}
        }
    }

    fn slots(&self, rule: &config::Replay, now: Instant) -> u32 {
        let from = self.next.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
        let ahead = now.saturating_duration_since(from);
        if from > now {
            return 0;
        }
        let slots = (ahead.as_secs_f64() * rule.per_second).floor() + 1.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded, and not negative"
        )]
        let slots = slots.clamp(0.0, f64::from(u32::MAX)) as u32;
        slots
    }
}

fn interval(rule: &config::Replay) -> Duration {
    Duration::try_from_secs_f64(1.0 / rule.per_second).unwrap_or(Duration::MAX)
}
