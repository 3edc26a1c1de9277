//! A client that does not take what is written to it: for how long, and as what it counts meanwhile.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::drain::{Drain, InFlight};

/// One connection's writing, as far as it stalls.
#[derive(Debug, Default)]
pub(super) struct Stall {
    timer: Option<Pin<Box<Sleep>>>,
    counted: Option<(Drain, usize)>,
    /// From the first stall to the moment when all has left: an answer that is only written halfway is in flight, though the
    /// pipeline is done with it.
    in_flight: Option<InFlight>,
}

impl Stall {
    /// Tells `drain` of it.
    pub(super) fn counted(drain: Drain, worker: usize) -> Self {
        Self { counted: Some((drain, worker)), ..Self::default() }
    }

    /// Nothing can be written just now; fails once that has lasted for `limit`, if there is one.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, limit: Option<Duration>) -> Poll<io::Result<T>> {
        if let Some((drain, worker)) = self.counted.as_ref().filter(|_| self.in_flight.is_none()) {
            self.in_flight = Some(drain.enter(*worker));
        }
        let Some(limit) = limit else { return Poll::Pending };
        ready!(self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }

    /// Something was written.
    pub(super) fn moved(&mut self) {
        self.timer = None;
    }

    /// All has left.
    pub(super) fn over(&mut self) {
        self.timer = None;
        self.in_flight = None;
    }
}
