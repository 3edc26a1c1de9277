//! A request's body on its way up: streamed to the attempt that runs, and retained, within bounds, for the next one.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::pause::{Pause, Spare};
use crate::memory::Lease;
use crate::policy::blame::ClientFault;

/// After this long without a word from the upstream the body is sent all the same (RFC 9110 section 10.1.1: a client must
/// not wait for ever).
const EXPECT_PATIENCE: Duration = Duration::from_secs(1);

/// Pieces below this are copied when they are retained.
const COPIED_BELOW: usize = 4096;

/// What a retained piece costs beside its bytes.
const PIECE_COST: u64 = 64;

/// What bounds a body.
#[derive(Debug)]
pub struct Bounds {
    /// Between two pieces.
    pub idle: Duration,
    /// Largest body; `None` = no limit.
    pub max: Option<u64>,
    /// Largest body that is retained for another attempt.
    pub retain_max: u64,
    /// Where the connection keeps a timer.
    pub spare: Spare,
}

/// One request's body. Each attempt reads it from its beginning, through [`Upload::attempt`].
#[derive(Debug, Clone)]
pub struct Upload {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    source: Incoming,
    bounds: Bounds,
    pause: Pause,
    received: u64,
    ended: bool,
    retained: Vec<Bytes>,
    /// How many of the pieces the running attempt has read.
    read: usize,
    trailers: Option<HeaderMap>,
    retaining: Retaining,
    fault: Option<ClientFault>,
    gate: Option<Gate>,
    /// Larger than `retain_max`, or memory was short.
    overflowed: bool,
    /// It is read ahead of any attempt: what does not fit is kept for the one attempt that there will be.
    ahead: bool,
}

/// Whether what is passed on is kept for another attempt.
#[derive(Debug)]
enum Retaining {
    Yes(Lease),
    /// It was too large, or memory too short: something is gone.
    Overflowed,
    /// No further attempt will be made: what is retained goes once the running one has read it.
    Committed {
        _lease: Lease,
    },
    /// And it has.
    Released,
}

/// `Expect: 100-continue`: the body waits for the upstream's word.
#[derive(Debug, Default)]
struct Gate {
    open: bool,
    timer: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

impl Upload {
    /// Takes over `source`. With `expects` nothing is read until [`Upload::proceed`] or a second has passed.
    #[must_use]
    pub fn new(source: Incoming, bounds: Bounds, lease: Lease, expects: bool) -> Self {
        let oversize = source.size_hint().lower() > bounds.retain_max;
        let state = State {
            source,
            pause: Pause::new(bounds.idle, bounds.spare.clone()),
            bounds,
            received: 0,
            ended: false,
            retained: Vec::new(),
            read: 0,
            trailers: None,
            retaining: if oversize { Retaining::Overflowed } else { Retaining::Yes(lease) },
            fault: None,
            gate: expects.then(Gate::default),
            overflowed: oversize,
            ahead: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How long its client may pause.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.state().bounds.idle
    }

    /// The body for one attempt.
    #[must_use]
    pub fn attempt(&self) -> UploadBody {
        self.state().read = 0;
        UploadBody::Upload { upload: self.clone(), position: 0, trailers_sent: false }
    }

    /// The body whole, read ahead of the first attempt; `None` if it is too large to be kept: it can be sent only once then.
    ///
    /// # Errors
    /// The client's side failed.
    pub async fn whole(&self) -> Result<Option<Bytes>, ClientFault> {
        if self.overflowed() {
            return Ok(None);
        }
        self.proceed();
        self.state().ahead = true;
        let mut body = self.attempt();
        let read = loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            match frame {
                None => break Ok(()),
                Some(Err(fault)) => break Err(fault),
                Some(Ok(_)) if self.overflowed() => break Ok(()),
                Some(Ok(_)) => {}
            }
        };
        self.state().ahead = false;
        read.map(|()| self.kept())
    }

    /// The body, if it has come whole and is kept.
    #[must_use]
    pub fn kept(&self) -> Option<Bytes> {
        let state = self.state();
        (state.ended && !state.overflowed).then(|| state.retained.concat().into())
    }

    /// Whether the body can be read from its beginning again: nothing was read, or all that was is retained.
    #[must_use]
    pub fn replayable(&self) -> bool {
        let state = self.state();
        state.fault.is_none() && (state.received == 0 || matches!(state.retaining, Retaining::Yes(_)))
    }

    /// Whether the body was too large, or memory too short, to be kept for another attempt.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.state().overflowed
    }

    /// No further attempt will be made: what is retained may go as soon as the running one has read it.
    pub fn commit(&self) {
        let mut state = self.state();
        state.retaining = match std::mem::replace(&mut state.retaining, Retaining::Released) {
            Retaining::Yes(lease) => Retaining::Committed { _lease: lease },
            other => other,
        };
        state.release();
    }

    /// Why the client's side failed, if it did.
    #[must_use]
    pub fn fault(&self) -> Option<ClientFault> {
        self.state().fault
    }

    /// The least size of it that the client has announced, what has come included.
    #[must_use]
    pub fn announced(&self) -> u64 {
        let state = self.state();
        state.received.saturating_add(state.source.size_hint().lower())
    }

    /// Bytes received from the client so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.state().received
    }

    /// The upstream said "100 Continue".
    pub fn proceed(&self) {
        if let Some(gate) = &mut self.state().gate {
            gate.open = true;
            if let Some(waker) = gate.waker.take() {
                waker.wake();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of what is retained, if no further attempt will be made and the running one has read it.
    fn release(&mut self) -> bool {
        let free = matches!(self.retaining, Retaining::Committed { .. }) && self.read >= self.retained.len();
        if free {
            self.retaining = Retaining::Released;
            self.retained = Vec::new();
        }
        free
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(gate) = &mut self.gate {
            let timer = gate.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(EXPECT_PATIENCE)));
            if !gate.open && timer.as_mut().poll(cx).is_pending() {
                gate.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.gate = None;
        }
        Poll::Ready(())
    }

    /// The next piece from the client, within the bounds.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, ClientFault>> {
        if let Some(fault) = self.fault {
            return Poll::Ready(Err(fault));
        }
        ready!(self.poll_gate(cx));
        let polled = match Pin::new(&mut self.source).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.pause.poll(cx));
                Err(ClientFault::BodyTooSlow)
            }
            Poll::Ready(Some(Err(error))) => Err(body_fault(&error)),
            Poll::Ready(Some(Ok(frame))) => self.admit(frame).map(Some),
            Poll::Ready(None) => Ok(None),
        };
        self.pause.over();
        match &polled {
            // Its end may be known with its last piece: whoever hangs up behind that has sent it whole.
            Ok(Some(_)) => self.ended = self.source.is_end_stream(),
            Ok(None) => self.ended = true,
            Err(fault) => self.fault = Some(*fault),
        }
        Poll::Ready(polled)
    }

    fn admit(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, ClientFault> {
        if let Some(data) = frame.data_ref() {
            self.received += data.len() as u64;
            if self.bounds.max.is_some_and(|max| self.received > max) {
                return Err(ClientFault::BodyTooLarge);
            }
            self.retain(data.clone());
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        Ok(frame)
    }

    fn retain(&mut self, data: Bytes) {
        let Retaining::Yes(lease) = &mut self.retaining else { return };
        if self.received <= self.bounds.retain_max && lease.grow(data.len() as u64 + PIECE_COST) {
            // A small piece is copied: as it came it holds the whole buffer that it was read into.
            self.retained.push(if data.len() < COPIED_BELOW { Bytes::copy_from_slice(&data) } else { data });
            self.read = self.retained.len();
            return;
        }
        self.overflowed = true;
        if self.ahead {
            self.retained.push(data);
            self.read = 0; // The attempt that is to come has read nothing yet.
            self.retaining = match std::mem::replace(&mut self.retaining, Retaining::Released) {
                Retaining::Yes(lease) => Retaining::Committed { _lease: lease },
                other => other,
            };
        } else {
            self.retaining = Retaining::Overflowed;
            self.retained = Vec::new();
        }
    }
}

fn body_fault(error: &hyper::Error) -> ClientFault {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let ended = cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::UnexpectedEof);
    if ended || error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return ClientFault::Gone;
    }
    ClientFault::Bad("the request body's framing is malformed, or the body was broken off")
}

/// One attempt's reading of a body.
#[derive(Debug)]
pub enum UploadBody {
    /// No body.
    Empty,
    /// Fender's own version of it.
    Own(Bytes),
    /// The client's.
    Upload {
        /// Where it comes from.
        upload: Upload,
        /// Pieces of what is retained that have been read.
        position: usize,
        trailers_sent: bool,
    },
}

impl UploadBody {
    /// What "100 Continue" is to be told to.
    #[must_use]
    pub fn gate(&self) -> Option<Upload> {
        match self {
            Self::Upload { upload, .. } => Some(upload.clone()),
            Self::Empty | Self::Own(_) => None,
        }
    }
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let (upload, position, trailers_sent) = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Own(bytes) => {
                let whole = std::mem::take(bytes);
                return Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))));
            }
            Self::Upload { upload, position, trailers_sent } => (upload, position, trailers_sent),
        };
        let mut state = upload.state();
        if let Some(piece) = state.retained.get(*position) {
            let piece = piece.clone();
            *position += 1;
            state.read = *position;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if state.ended {
            let trailers = state.trailers.clone().filter(|_| !std::mem::replace(trailers_sent, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if state.release() {
            *position = 0;
        }
        let frame = ready!(state.poll_source(cx));
        if let Ok(Some(frame)) = &frame {
            *position = state.retained.len();
            *trailers_sent |= frame.is_trailers();
        }
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Own(bytes) => bytes.is_empty(),
            Self::Upload { upload, position, .. } => {
                let state = upload.state();
                state.fault.is_none()
                    && state.retained.len() <= *position
                    && state.trailers.is_none()
                    && state.source.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let (upload, position) = match self {
            Self::Empty => return SizeHint::with_exact(0),
            Self::Own(bytes) => return SizeHint::with_exact(bytes.len() as u64),
            Self::Upload { upload, position, .. } => (upload, *position),
        };
        let state = upload.state();
        match state.source.size_hint().exact() {
            Some(left) if position == 0 => SizeHint::with_exact(left + state.received),
            Some(left) if position >= state.retained.len() => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}
