//! A ring of equal slices of time, which windows and budgets count in.

use std::time::{Duration, Instant};

/// A time cut into slices of equal width: the newest one fills, the oldest ones fall out.
///
/// Its time is monotonic: a `now` before the newest slice began belongs to the newest slice.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    slices: Vec<T>,
    newest: usize,
    width: Duration,
    /// When the newest slice began; `None` until something was counted.
    began: Option<Instant>,
}

impl<T: Copy + Default> Ring<T> {
    /// `slices` slices of `width`; either is at least one.
    #[must_use]
    pub fn new(slices: usize, width: Duration) -> Self {
        Self {
            slices: vec![T::default(); slices.max(1)],
            newest: 0,
            width: width.max(Duration::from_nanos(1)),
            began: None,
        }
    }

    /// The slice of `now`; each slice that falls out on the way there is handed to `gone`.
    pub fn at(&mut self, now: Instant, gone: impl FnMut(T)) -> Option<&mut T> {
        self.advance(now, gone);
        self.slices.get_mut(self.newest)
    }

    /// Moves on to `now`; each slice that falls out is handed to `gone`.
    pub fn advance(&mut self, now: Instant, mut gone: impl FnMut(T)) {
        let steps = self.steps(now);
        if steps == 0 {
            self.began.get_or_insert(now);
            return;
        }
        let count = self.slices.len();
        for _ in 0..steps.min(count) {
            self.newest = (self.newest + 1) % count;
            if let Some(oldest) = self.slices.get_mut(self.newest) {
                gone(std::mem::take(oldest));
            }
        }
        // After a long pause the grid starts anew at `now`; a slice that begins later only remembers for longer.
        let whole = u32::try_from(steps).ok().and_then(|steps| self.width.checked_mul(steps));
        let began = self.began.zip(whole).and_then(|(began, whole)| began.checked_add(whole));
        self.began = if steps < count { began.or(Some(now)) } else { Some(now) };
    }

    /// The slices that will have fallen out at `now`, the oldest first: for those who may only look.
    pub fn falling(&self, now: Instant) -> impl Iterator<Item = &T> {
        let oldest_first = self.slices.iter().cycle().skip(self.newest + 1).take(self.slices.len());
        oldest_first.take(self.steps(now))
    }

    /// The slice in which `then` was counted, if it is still held.
    pub fn holding(&mut self, then: Instant, now: Instant) -> Option<&mut T> {
        let began = self.began?;
        let count = self.slices.len();
        let later = self.steps(now);
        let before = began.saturating_duration_since(then);
        let back = usize::try_from(before.as_nanos().div_ceil(self.width.as_nanos())).ok()?;
        if back.saturating_add(later) >= count {
            return None;
        }
        self.slices.get_mut((self.newest + count - back) % count)
    }

    /// Each slice, the oldest first.
    pub fn oldest_first(&mut self) -> impl Iterator<Item = &mut T> {
        let middle = (self.newest + 1).min(self.slices.len());
        let (new, old) = self.slices.split_at_mut(middle);
        old.iter_mut().chain(new.iter_mut())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.slices.fill(T::default());
        self.began = None;
    }

    /// How many slices lie between the newest one and that of `now`.
    fn steps(&self, now: Instant) -> usize {
        let Some(began) = self.began else { return 0 };
        let since = now.saturating_duration_since(began);
        if since < self.width {
            return 0;
        }
        usize::try_from(since.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }
}
