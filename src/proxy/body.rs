//! A response's body on its way down: one type for all that Fender ever sends to a client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::AbortHandle;
use tokio::time::Sleep;

use super::finish::{End, Finish};
use super::stale::Copying;
use crate::clock;
use crate::policy::reason::Reason;
use crate::upstream::Loan;
use crate::upstream::pause::{Pause, Spare};

/// What the client is sent.
#[derive(Debug)]
pub enum Body {
    /// Fender's own words, or nothing.
    Own { bytes: Bytes, finish: Option<Box<Finish>> },
    /// The upstream's, as they come.
    Relay(Box<Relay>),
    /// The same to a client over HTTP/2, whose library asks for nothing while the client takes nothing.
    Watched { relay: Arc<Mutex<Option<Box<Relay>>>>, _watchdog: Watchdog },
}

/// Why a body ends before its end. The client sees the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("the upstream broke its response off")]
    Upstream,
    #[error("the upstream's response paused for longer than timeout.idle")]
    Idle,
    #[error("the client took nothing for longer than timeout.idle")]
    Stalled,
    #[error("the upstream's response took longer than timeout.stream")]
    Stream,
}

impl Cut {
    /// What the breaker hears of it; `None`: the client's side was to blame.
    #[must_use]
    pub const fn upstreams_fault(self) -> Option<Reason> {
        match self {
            Self::Upstream => Some(Reason::Reset),
            Self::Idle | Self::Stream => Some(Reason::Timeout),
            Self::Stalled => None,
        }
    }
}

/// An upstream's body with its clocks; it gives the connection back at its clean end.
#[derive(Debug)]
pub struct Relay {
    incoming: Incoming,
    loan: Option<Loan>,
    clocks: Clocks,
    pause: Pause,
    /// What keeps a copy, where one may serve later.
    copying: Option<Copying>,
    /// How often the client's connection has asked for more.
    asked: u64,
    finish: Box<Finish>,
}

/// The bounds on a response's body.
#[derive(Debug)]
pub struct Clocks {
    /// Between two pieces.
    pub idle: Duration,
    /// Where the client's connection keeps a timer.
    pub spare: Spare,
    /// For the whole; `None` = no limit.
    pub stream: Option<Pin<Box<Sleep>>>,
}

impl Body {
    /// A body of Fender's own.
    #[must_use]
    pub const fn own(bytes: Bytes) -> Self {
        Self::Own { bytes, finish: None }
    }

    /// The same, with the end of its request.
    #[must_use]
    pub fn finishing(self, mut end: Box<Finish>) -> Self {
        match self {
            Self::Own { bytes, .. } => {
                // It is all there: whatever the client does, nothing of it can be cut.
                end.passed(bytes.len());
                end.ended(End::Complete);
                Self::Own { bytes, finish: Some(end) }
            }
            relay @ (Self::Relay(_) | Self::Watched { .. }) => relay,
        }
    }

    /// Cuts the body also where it is not asked for in `idle`: what it holds of the upstream is let go then. A look each
    /// `idle`, so that the cut comes before twice that time.
    #[must_use]
    pub fn watched(self, idle: Duration) -> Self {
        let Self::Relay(relay) = self else { return self };
        let relay = Arc::new(Mutex::new(Some(relay)));
        let seen = Arc::downgrade(&relay);
        let watchdog = Watchdog(tokio::spawn(watch(seen, idle)).abort_handle());
        Self::Watched { relay, _watchdog: watchdog }
    }

    /// The body of an upstream's response.
    #[must_use]
    pub fn relay(
        incoming: Incoming,
        loan: Loan,
        clocks: Clocks,
        copying: Option<Copying>,
        mut finish: Box<Finish>,
    ) -> Self {
        if incoming.is_end_stream() {
            if let Some(copying) = copying {
                copying.keep(clock::now());
            }
            loan.give_back();
            finish.ended(End::Complete);
            return Self::Own { bytes: Bytes::new(), finish: Some(finish) };
        }
        let pause = Pause::new(clocks.idle, clocks.spare.clone());
        Self::Relay(Box::new(Relay { incoming, loan: Some(loan), clocks, pause, copying, asked: 0, finish }))
    }
}

/// Ends a body that is not asked for.
async fn watch(relay: Weak<Mutex<Option<Box<Relay>>>>, idle: Duration) {
    let mut asked = 0;
    loop {
        tokio::time::sleep(idle).await;
        let Some(relay) = relay.upgrade() else { return };
        let mut relay = locked(&relay);
        match relay.as_mut() {
            Some(body) if body.asked != asked => asked = body.asked,
            Some(body) => {
                body.loan = None;
                body.finish.ended(End::Cut(Cut::Stalled));
                *relay = None;
                return;
            }
            None => return,
        }
    }
}

fn locked(relay: &Mutex<Option<Box<Relay>>>) -> MutexGuard<'_, Option<Box<Relay>>> {
    relay.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches no longer than there is something to watch.
#[derive(Debug)]
pub struct Watchdog(AbortHandle);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Relay {
    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Option<Cut> {
        if self.stream_is_over(cx) {
            return Some(Cut::Stream);
        }
        self.pause.poll(cx).is_ready().then_some(Cut::Idle)
    }

    fn stream_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.clocks.stream.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    fn complete(&mut self) {
        if let Some(copying) = self.copying.take() {
            copying.keep(clock::now());
        }
        self.finish.ended(End::Complete);
        if let Some(loan) = self.loan.take() {
            loan.give_back();
        }
    }

    fn cut(&mut self, why: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.loan = None;
        self.finish.ended(End::Cut(why));
        Poll::Ready(Some(Err(why)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.asked += 1;
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => match self.poll_clocks(cx) {
                Some(why) => self.cut(why),
                None => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                self.pause.over();
                if self.stream_is_over(cx) {
                    return self.cut(Cut::Stream);
                }
                if let Some((copying, data)) = self.copying.as_mut().zip(frame.data_ref()) {
                    copying.piece(data);
                }
                self.finish.passed(frame.data_ref().map_or(0, Bytes::len));
                // Behind trailers nobody asks for more.
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.finish.fault(&error);
                self.cut(Cut::Upstream)
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Own { bytes, .. } => {
                let whole = std::mem::take(bytes);
                Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
            }
            Self::Relay(relay) => relay.poll(cx),
            Self::Watched { relay, .. } => match locked(relay).as_mut() {
                Some(relay) => relay.poll(cx),
                None => Poll::Ready(Some(Err(Cut::Stalled))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { bytes, .. } => bytes.is_empty(),
            Self::Relay(relay) => relay.incoming.is_end_stream(),
            Self::Watched { relay, .. } => {
                locked(relay).as_ref().is_some_and(|relay| relay.incoming.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.incoming.size_hint(),
            Self::Watched { relay, .. } => {
                locked(relay).as_ref().map_or_else(SizeHint::default, |relay| relay.incoming.size_hint())
            }
        }
    }
}
