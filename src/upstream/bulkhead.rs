//! The bulkhead: how many requests the upstream is sent at once, and who waits for a seat, first come, first served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::clock;
use crate::policy::limit::{Aimd, Concurrency};

/// One upstream's seats, shared by all workers. Its queue is fair: a seat that is given back goes to the one who has waited
/// longest, never to one who has just come.
#[derive(Debug)]
pub struct Bulkhead {
    seats: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Seats that are to go as soon as those who hold them leave.
    surplus: AtomicUsize,
    adaptive: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Concurrency,
    aimd: Aimd,
    /// Seats that there are, but for the surplus.
    limit: u32,
}

/// A place among the requests in flight; given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Seat {
    permit: Option<OwnedSemaphorePermit>,
    bulkhead: Arc<Bulkhead>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The queue is full too.
    #[error("as many requests as concurrency.max allows are in flight, and concurrency.queue is full")]
    Queue,
    /// `queue_timeout`, or the request's own time, ran out.
    #[error("no seat within concurrency.queue_timeout")]
    Patience,
}

impl Bulkhead {
    /// Empty.
    #[must_use]
    pub fn new(settings: &Concurrency) -> Arc<Self> {
        let (limit, aimd) = (settings.max, Aimd::new(settings.max));
        Arc::new(Self {
            seats: Arc::new(Semaphore::new(limit as usize)),
            waiting: AtomicUsize::new(0),
            surplus: AtomicUsize::new(0),
            adaptive: AtomicBool::new(settings.adaptive),
            state: Mutex::new(State { settings: settings.clone(), aimd, limit }),
        })
    }

    /// A seat that is free now.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>) -> Option<Seat> {
        Arc::clone(&self.seats).try_acquire_owned().ok().map(|permit| self.seat(permit))
    }

    /// A seat from the queue, at the latest by `deadline`.
    ///
    /// # Errors
    /// See [`Full`].
    pub async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<Seat, Full> {
        let (queue, patience) = {
            let state = self.state();
            (state.settings.queue as usize, state.settings.queue_timeout)
        };
        let waiting = Waiting::among(&self.waiting, queue).ok_or(Full::Queue)?;
        let until = clock::now().checked_add(patience).map_or(deadline, |until| until.min(deadline));
        let permit = timeout_at(until.into(), Arc::clone(&self.seats).acquire_owned()).await;
        drop(waiting);
        match permit {
            Ok(Ok(permit)) => Ok(self.seat(permit)),
            // The semaphore is never closed; were it, there would be no seats.
            Ok(Err(_)) | Err(_) => Err(Full::Patience),
        }
    }

    /// An attempt that `began` then ended: `lost` to the upstream's overload, or not.
    pub fn ended(&self, began: Instant, lost: bool, now: Instant) {
        if !self.adaptive.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        if lost {
            state.aimd.lost(began, now);
        } else {
            let in_flight =
                state.limit.saturating_sub(u32::try_from(self.seats.available_permits()).unwrap_or(u32::MAX));
            state.aimd.fine(in_flight, now);
        }
        let limit = state.aimd.limit();
        self.resize(&mut state, limit);
    }

    /// New settings: those who have a seat keep it.
    pub fn retune(&self, settings: &Concurrency) {
        let mut state = self.state();
        if state.settings == *settings {
            return;
        }
        state.settings = settings.clone();
        state.aimd.retune(settings.max);
        self.adaptive.store(settings.adaptive, Ordering::Relaxed);
        let limit = if settings.adaptive { state.aimd.limit() } else { settings.max };
        self.resize(&mut state, limit);
    }

    /// Requests that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that are let in at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.state().limit
    }

    fn seat(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Seat {
        Seat { permit: Some(permit), bulkhead: Arc::clone(self) }
    }

    fn resize(&self, state: &mut State, limit: u32) {
        let before = std::mem::replace(&mut state.limit, limit);
        if limit > before {
            let mut more = (limit - before) as usize;
            let kept = self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| {
                Some(surplus.saturating_sub(more))
            });
            more = more.saturating_sub(kept.unwrap_or(0));
            self.seats.add_permits(more);
        } else if limit < before {
            let fewer = (before - limit) as usize;
            let gone = self.seats.forget_permits(fewer);
            self.surplus.fetch_add(fewer - gone, Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let too_many = &self.bulkhead.surplus;
        if too_many.load(Ordering::Relaxed) > 0
            && too_many.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |many| many.checked_sub(1)).is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

/// One place in the queue; left when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let joined = waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |many| (many < most).then_some(many + 1));
        joined.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
