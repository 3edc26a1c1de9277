//! A client's connection in memory, of which a test holds the far end.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use fender::inbound::guard::{Guard, Limits, Resettable};
use fender::proxy::wire::Wire;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The near end, which is guarded.
#[derive(Debug)]
pub(crate) struct Line(Arc<Mutex<State>>);

impl Line {
    /// A line without a guard.
    pub(crate) fn new() -> (Self, Far) {
        let state = Arc::new(Mutex::new(State { window: usize::MAX, ..State::default() }));
        (Self(Arc::clone(&state)), Far(state))
    }
}

/// The far end.
pub(crate) struct Far(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    coming: VecDeque<u8>,
    ended: bool,
    written: Vec<u8>,
    /// Bytes that the far end still takes.
    window: usize,
    reset: bool,
    far: Presence,
    shut: bool,
    wakers: Vec<Waker>,
}

/// One that is gone answers what it is sent with a reset.
#[derive(Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    There,
    Gone,
    Reset,
}

/// A guarded line whose far end takes all that is written.
pub(crate) fn guarded(head_bytes_max: usize) -> (Guard<Line>, Arc<Wire>, Far) {
    let limits = Limits { head_bytes_max, head_timeout: super::guard::HEAD_TIMEOUT };
    let (line, far) = Line::new();
    let (guard, wire) = Guard::new(line, BytesMut::new(), limits);
    (guard, wire, far)
}

impl Far {
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.change(|state| state.coming.extend(bytes.as_ref()));
    }

    pub(crate) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// It is gone: what is sent to it from now on is answered with a reset.
    pub(crate) fn leave(&self) {
        self.change(|state| (state.ended, state.far) = (true, Presence::Gone));
    }

    /// From now on only so many bytes more are taken.
    pub(crate) fn takes(&self, count: usize) {
        self.change(|state| state.window = count);
    }

    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.state().written).into_owned()
    }

    /// Sent and not yet read at the near end.
    pub(crate) fn unread(&self) -> usize {
        self.state().coming.len()
    }

    pub(crate) fn was_reset(&self) -> bool {
        self.state().reset
    }

    pub(crate) fn was_shut(&self) -> bool {
        self.state().shut
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.wakers.drain(..).for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        if state.coming.is_empty() && !state.ended {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let count = state.coming.len().min(out.remaining());
        out.put_slice(&state.coming.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        let count = bytes.len().min(state.window);
        if count == 0 {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        if state.far == Presence::Gone {
            state.far = Presence::Reset;
        }
        state.window -= count;
        state.written.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().shut = true;
        Poll::Ready(Ok(()))
    }
}

impl Resettable for Line {
    fn reset_on_close(&self) {
        self.0.lock().unwrap().reset = true;
    }

    fn is_broken(&self) -> bool {
        self.0.lock().unwrap().far == Presence::Reset
    }
}
