//! What an upstream's counters grew by in some span of time.

/// One upstream's figures of a span. What a cell cannot hold is cut at 4,294,967,295.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests answered, by whom: upstream, fallback, Fender, dead letter.
    pub answered: [u32; 4],
    /// Those of them that were answered 429 or 5xx, whoever said so.
    pub failed: u32,
    /// Requests whose client hung up before an answer.
    pub cancelled: u32,
    /// Attempts that ended by themselves…
    pub attempts: u32,
    /// …and those of them that the upstream failed: transient, throttled, quota.
    pub attempts_failed: u32,
    /// Attempts that were retries.
    pub retries: u32,
    /// Time in which its breaker refused; of several the one that did so for longest.
    pub open_ms: u32,
    /// How often a breaker of its opened.
    pub opened: u32,
    /// Writes stored, writes that were to be stored and were not, letters delivered.
    pub captured: u32,
    pub refused: u32,
    pub delivered: u32,
}

/// How many numbers they are.
pub(super) const CELLS: usize = 14;

impl Figures {
    /// Requests answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answered.iter().copied().map(u64::from).sum()
    }

    /// Nothing has happened.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn add(&mut self, other: &Self) {
        let (mut own, other) = (self.cells(), other.cells());
        for (own, other) in own.iter_mut().zip(other) {
            *own = own.saturating_add(other);
        }
        *self = Self::of(own);
    }

    pub(super) const fn cells(&self) -> [u32; CELLS] {
        let [upstream, fallback, fender, dead_letter] = self.answered;
        [
            upstream,
            fallback,
            fender,
            dead_letter,
            self.failed,
            self.cancelled,
            self.attempts,
            self.attempts_failed,
            self.retries,
            self.open_ms,
            self.opened,
            self.captured,
            self.refused,
            self.delivered,
        ]
    }

    pub(super) const fn of(cells: [u32; CELLS]) -> Self {
        let [
            upstream,
            fallback,
            fender,
            dead_letter,
            failed,
            cancelled,
            attempts,
            attempts_failed,
            retries,
            open_ms,
            opened,
            captured,
            refused,
            delivered,
        ] = cells;
        Self {
            answered: [upstream, fallback, fender, dead_letter],
            failed,
            cancelled,
            attempts,
            attempts_failed,
            retries,
            open_ms,
            opened,
            captured,
            refused,
            delivered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_its_place() {
        let cells: [u32; CELLS] = std::array::from_fn(|at| u32::try_from(at).unwrap() + 1);
        assert_eq!(Figures::of(cells).cells(), cells);
        let mut sum = Figures::of(cells);
        sum.add(&Figures::of(cells));
        assert_eq!(sum.cells(), cells.map(|cell| 2 * cell));
        assert!(!sum.is_empty() && Figures::default().is_empty());
    }

    #[test]
    fn what_is_too_large_is_cut() {
        let mut sum = Figures { failed: u32::MAX - 1, ..Figures::default() };
        sum.add(&Figures { failed: 7, ..Figures::default() });
        assert_eq!(sum.failed, u32::MAX);
    }
}
