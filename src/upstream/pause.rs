//! A bound on pauses: between two pieces of a body, in either direction.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::clock;

/// A timer for one pause after the other. It is set again for each pause rather than made anew: moving a timer that is set
/// costs little, making and clearing one for each piece of each body costs more than passing the piece on.
#[derive(Debug)]
pub struct Pause {
    longest: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
    shared: Spare,
}

/// A place where a connection's requests leave their timer for the next one.
#[derive(Debug, Clone, Default)]
pub struct Spare(Arc<Mutex<Option<Pin<Box<Sleep>>>>>);

impl Pause {
    /// Pauses of at most `longest`; the timer is taken from `shared` if one lies there.
    #[must_use]
    pub fn new(longest: Duration, shared: Spare) -> Self {
        Self { longest, timer: None, running: false, shared }
    }

    /// Nothing came: ready once the pause has lasted too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            self.timer = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        let end = || Instant::from_std(clock::now() + self.longest);
        let running = std::mem::replace(&mut self.running, true);
        let timer = match &mut self.timer {
            Some(timer) => {
                if !running {
                    timer.as_mut().reset(end());
                }
                timer
            }
            none @ None => none.insert(Box::pin(tokio::time::sleep_until(end()))),
        };
        timer.as_mut().poll(cx)
    }

    /// Something came: the next pause begins when nothing does.
    pub const fn over(&mut self) {
        self.running = false;
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(timer);
        }
    }
}
