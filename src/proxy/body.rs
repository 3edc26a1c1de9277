//! A response's body on its way down: one type for all that Fender ever sends to a client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

use super::finish::{End, Finish};
use super::relay::Relay;
use crate::clock;
use crate::policy::reason::Reason;
use crate::telemetry::streams::StreamEnd;

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
    #[error("the upstream's event stream ended before its end mark")]
    Unfinished,
    #[error("the upstream's event stream became unreadable")]
    Malformed,
    #[error("the upstream's event stream brought no content within stream.first_content")]
    FirstContent,
    #[error("the proxy is shutting down")]
    Drain,
}

impl Cut {
    /// What the breaker hears of it; `None`: the client's side was to blame.
    #[must_use]
    pub const fn upstreams_fault(self) -> Option<Reason> {
        match self {
            Self::Upstream | Self::Unfinished => Some(Reason::Reset),
            Self::Malformed => Some(Reason::Protocol),
            Self::Idle | Self::Stream => Some(Reason::Timeout),
            Self::FirstContent => Some(Reason::FirstContent),
            Self::Stalled | Self::Drain => None,
        }
    }

    /// What the client is told in its API's words; `None`: it hears nothing any more.
    #[must_use]
    pub const fn said(self) -> Option<Reason> {
        match self {
            Self::Drain => Some(Reason::Overload),
            other => other.upstreams_fault(),
        }
    }

    /// The key of the config whose time ran out, if one did.
    #[must_use]
    pub const fn limit(self) -> Option<&'static str> {
        match self {
            Self::Idle | Self::Stalled => Some("timeout.idle"),
            Self::Stream => Some("timeout.stream"),
            Self::FirstContent => Some("stream.first_content"),
            Self::Unfinished => Some("stream.end_mark"),
            Self::Drain => Some("server.drain_timeout"),
            Self::Upstream | Self::Malformed => None,
        }
    }

    /// The same for the figures of event streams.
    #[must_use]
    pub const fn end(self) -> StreamEnd {
        match self {
            Self::Upstream => StreamEnd::Reset,
            Self::Unfinished => StreamEnd::Unfinished,
            Self::Malformed => StreamEnd::Malformed,
            Self::Idle => StreamEnd::Idle,
            Self::Stream => StreamEnd::Timeout,
            Self::FirstContent => StreamEnd::FirstContent,
            Self::Stalled => StreamEnd::Client,
            Self::Drain => StreamEnd::Drain,
        }
    }
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
                end.ended(End::Complete, clock::now());
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
}

/// Ends a body that is not asked for.
async fn watch(relay: Weak<Mutex<Option<Box<Relay>>>>, idle: Duration) {
    let mut asked = 0;
    loop {
        tokio::time::sleep(idle).await;
        let Some(relay) = relay.upgrade() else { return };
        let mut relay = locked(&relay);
        match relay.as_mut() {
            Some(body) if body.asked() != asked => asked = body.asked(),
            Some(body) => {
                body.stalled();
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
            Self::Relay(relay) => relay.is_end(),
            Self::Watched { relay, .. } => locked(relay).as_ref().is_some_and(|relay| relay.is_end()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.size_hint(),
            Self::Watched { relay, .. } => {
                locked(relay).as_ref().map_or_else(SizeHint::default, |relay| relay.size_hint())
            }
        }
    }
}
