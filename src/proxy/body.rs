//! A response's body on its way down: one type for all that Fender ever sends to a client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::finish::{End, Finish};
use crate::upstream::Loan;
use crate::upstream::pause::{Pause, Spare};

/// What the client is sent.
#[derive(Debug)]
pub enum Body {
    /// Fender's own words, or nothing.
    Own { bytes: Bytes, finish: Option<Box<Finish>> },
    /// The upstream's, as they come.
    Relay(Box<Relay>),
}

/// Why a body ends before its end. The client sees the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("the upstream broke its response off")]
    Upstream,
    #[error("the upstream's response paused for longer than timeout.idle")]
    Idle,
    #[error("the upstream's response took longer than timeout.stream")]
    Stream,
}

/// An upstream's body with its clocks; it gives the connection back at its clean end.
#[derive(Debug)]
pub struct Relay {
    incoming: Incoming,
    loan: Option<Loan>,
    clocks: Clocks,
    pause: Pause,
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
    pub fn finishing(self, end: Box<Finish>) -> Self {
        match self {
            Self::Own { bytes, .. } => Self::Own { bytes, finish: Some(end) },
            relay @ Self::Relay(_) => relay,
        }
    }

    /// The body of an upstream's response.
    #[must_use]
    pub fn relay(incoming: Incoming, loan: Loan, clocks: Clocks, mut finish: Box<Finish>) -> Self {
        if incoming.is_end_stream() {
            loan.give_back();
            finish.ended(End::Complete);
            return Self::Own { bytes: Bytes::new(), finish: Some(finish) };
        }
        let pause = Pause::new(clocks.idle, clocks.spare.clone());
        Self::Relay(Box::new(Relay { incoming, loan: Some(loan), clocks, pause, finish }))
    }
}

impl Relay {
    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Option<Cut> {
        if self.clocks.stream.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            return Some(Cut::Stream);
        }
        self.pause.poll(cx).is_ready().then_some(Cut::Idle)
    }

    fn complete(&mut self) {
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
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => match self.poll_clocks(cx) {
                Some(why) => self.cut(why),
                None => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                self.pause.over();
                self.finish.passed(frame.data_ref().map_or(0, Bytes::len));
                if self.incoming.is_end_stream() {
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
            Self::Own { bytes, finish } => {
                if let Some(finish) = finish {
                    finish.passed(bytes.len());
                    finish.ended(End::Complete);
                }
                let whole = std::mem::take(bytes);
                Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
            }
            Self::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { bytes, .. } => bytes.is_empty(),
            Self::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}
