//! A client that will send no more while its request is being answered: has it gone, or does it only listen?
//!
//! The socket says the same of both. What tells them apart is a byte sent to it: the system of one that has gone answers
//! with a reset. So something harmless is sent where it may stand, and it is looked now and then whether a reset came.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

/// Where nothing could be sent in this time the client counts as gone, as it does at other proxies at once.
const UNHEARD_MAX: Duration = Duration::from_secs(1);

/// From the first look to the next, doubling up to the longest.
const LOOK_FIRST: Duration = Duration::from_millis(4);
const LOOK_LONGEST: Duration = Duration::from_secs(1);

/// A client whose last byte has come.
#[derive(Debug)]
pub(super) struct Hangup {
    timer: Pin<Box<Sleep>>,
    step: Duration,
    waited: Duration,
    /// A byte was sent to it since.
    pub(super) sent: bool,
}

impl Hangup {
    pub(super) fn new() -> Self {
        let timer = Box::pin(tokio::time::sleep(LOOK_FIRST));
        Self { timer, step: LOOK_FIRST, waited: Duration::ZERO, sent: false }
    }

    /// Ready once it is known to be gone. `broken`: whether a reset came.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, broken: impl Fn() -> bool) -> Poll<()> {
        while !broken() && (self.sent || self.waited < UNHEARD_MAX) {
            ready!(self.timer.as_mut().poll(cx));
            self.waited += self.step;
            self.step = (self.step * 2).min(LOOK_LONGEST);
            self.timer = Box::pin(tokio::time::sleep(self.step));
        }
        Poll::Ready(())
    }
}
