//! How many at once an upstream bears, learnt from its losses.

use std::time::Instant;

/// A concurrency limit: additive increase, multiplicative decrease, between 1 and a ceiling.
///
/// A loss (429, 503, a timeout) takes a tenth, at most once for all requests that were in flight together: those that
/// began before the cut tell of the limit before it. Each round of fine requests adds one, as TCP's congestion avoidance does
/// (RFC 5681, section 3.1), if at least half of the limit was in use. The tenth and the half are those of Netflix'
/// `AIMDLimit` (concurrency-limits).
#[derive(Clone, Debug)]
pub struct Aimd {
    ceiling: u32,
    limit: u32,
    /// Fine requests since the limit last changed.
    fine: u32,
    cut: Option<Instant>,
}

impl Aimd {
    /// Starts at the ceiling; a ceiling of 0 is 1.
    #[must_use]
    pub fn new(ceiling: u32) -> Self {
        let ceiling = ceiling.max(1);
        Self { ceiling, limit: ceiling, fine: 0, cut: None }
    }

    /// So many may be in flight: 1 to the ceiling.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// A request that began at `began` was lost.
    pub fn lost(&mut self, began: Instant, now: Instant) {
        if self.cut.is_some_and(|cut| began <= cut) {
            return;
        }
        self.limit = (self.limit - self.limit.div_ceil(10)).max(1);
        self.fine = 0;
        self.cut = Some(self.cut.map_or(now, |cut| now.max(cut)));
    }

    /// A request went well while `in_flight` were out, itself among them.
    pub fn fine(&mut self, in_flight: u32, _now: Instant) {
        if self.limit >= self.ceiling || in_flight < self.limit.div_ceil(2) {
            return;
        }
        self.fine = self.fine.saturating_add(1);
        if self.fine >= self.limit {
            self.limit = self.limit.saturating_add(1);
            self.fine = 0;
        }
    }

    /// Takes over a new ceiling. A limit that was never cut, or has climbed back, goes with it.
    pub fn retune(&mut self, ceiling: u32) {
        let ceiling = ceiling.max(1);
        let at_top = self.limit >= self.ceiling;
        self.limit = if at_top { ceiling } else { self.limit.min(ceiling) };
        self.ceiling = ceiling;
    }
}
