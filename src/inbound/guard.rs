//! A client's HTTP/1.1 byte stream, let through to the HTTP library only as messages whose framing is beyond doubt.
//!
//! The guard looks at what it has just read, in place; a head that is not complete is held back until it is (bounded in
//! bytes and time). In the stead of a head that is refused the library is given a harmless one, and [`Wire::refused`] tells
//! the service to answer it with the refusal: so every refusal is answered in order, in Fender's own words, and nothing
//! that follows it on the connection is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::hangup::Hangup;
use super::judge::{Judge, State};
use super::stall::Stall;
use crate::drain::Drain;
use crate::policy::blame::ClientFault;
use crate::proxy::wire::{NextProtocol, Wire};

/// A client's bytes that are kept while it is not known whether the connection leaves HTTP.
const HELD_MAX: usize = 16 * 1024;

/// So much is read at once. The library doubles its buffer whenever a read fills it, up to the largest head: one byte less
/// than 16 KiB keeps it at that for a large body, however fast it comes.
const READ_MAX: usize = 16 * 1024 - 1;

/// After a refusal the client's remaining bytes are read and dropped, so that the answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest head in bytes.
    pub head_bytes_max: usize,
    /// From a head's first byte (or the connection's start) to its end. Between two requests a connection may rest: it is
    /// bounded by the count of connections, and by TCP keep-alive where the peer is gone.
    pub head_timeout: Duration,
}

/// A socket that can be made to end with a reset, and tells whether it did.
pub trait Resettable {
    /// From now on closing it sends a reset.
    fn reset_on_close(&self);

    /// The other side has reset it, or is out of reach.
    fn is_broken(&self) -> bool;
}

/// See the module.
#[derive(Debug)]
pub struct Guard<S: Resettable> {
    stream: S,
    wire: Arc<Wire>,
    limits: Limits,
    judge: Judge,
    head_timer: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
    hangup: Option<Hangup>,
    stall: Stall,
    /// All that the library wrote has left it: an interim response may stand here.
    flushed: bool,
    eof: bool,
}

#[derive(Debug)]
struct Linger {
    timer: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S: Resettable> Guard<S> {
    /// Guards `stream`, of which `read_ahead` has been read already.
    pub fn new(stream: S, read_ahead: BytesMut, limits: Limits) -> (Self, Arc<Wire>) {
        let wire = Arc::new(Wire::default());
        let guard = Self {
            stream,
            wire: Arc::clone(&wire),
            limits,
            judge: Judge::new(read_ahead, limits.head_bytes_max),
            head_timer: None,
            linger: None,
            hangup: None,
            stall: Stall::default(),
            flushed: true,
            eof: false,
        };
        (guard, wire)
    }

    /// While the client has still to take what was written, a request is in flight.
    #[must_use]
    pub fn counted(mut self, drain: Drain, worker: usize) -> Self {
        self.stall = Stall::counted(drain, worker);
        self
    }

    /// Heeds what the service decided about an upgrade; until then its decision wakes this task.
    fn heed_decision(&mut self, cx: &Context<'_>) {
        if self.judge.state() != State::AwaitUpgrade {
            return;
        }
        let mut shared = self.wire.shared();
        match std::mem::take(&mut shared.next_protocol) {
            NextProtocol::Undecided => shared.waker = Some(cx.waker().clone()),
            NextProtocol::Http => self.judge.decide(false),
            NextProtocol::Tunnel => self.judge.decide(true),
        }
    }

    fn tell_refusal(&self) {
        if let Some((number, why)) = self.judge.refused() {
            self.wire.refuse(number, why);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Resettable + Unpin> Guard<S> {
    /// Reads and judges; ready with true at the stream's end.
    fn poll_fresh(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        if self.poll_piece(cx, out)?.is_pending() {
            self.wire.awaits(self.judge.rests());
            ready!(self.poll_head_timer(cx));
            if self.judge.held() == 0 {
                return Poll::Ready(Ok(true)); // No request has begun: the connection just ends.
            }
            self.judge.refuse(ClientFault::HeadTooSlow);
        } else {
            let fresh = out.filled().get(before..).unwrap_or_default();
            if fresh.is_empty() {
                return self.poll_end(cx);
            }
            let passes = self.judge.pass(fresh);
            self.wire.passed(self.judge.heads());
            out.set_filled(before + passes);
            if passes > 0 {
                self.head_timer = None; // The next head has its own time.
            }
        }
        if self.judge.state() == State::Refused {
            self.tell_refusal();
        }
        Poll::Ready(Ok(false))
    }

    /// One read of at most [`READ_MAX`].
    fn poll_piece(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() <= READ_MAX {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let mut piece = ReadBuf::new(out.initialize_unfilled_to(READ_MAX));
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut piece);
        let count = piece.filled().len();
        out.advance(count);
        polled
    }

    /// The client sends no more. Ready with true where that ends the connection; a client that listens on gets its answer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let whole = self.judge.state() == State::Head && self.judge.held() == 0;
        if !whole || (self.hangup.is_none() && !self.wire.is_busy()) {
            return Poll::Ready(Ok(true));
        }
        if self.hangup.is_none() {
            self.hangup = Some(Hangup::new());
            self.wire.hung_up();
        }
        if let Poll::Ready(written) = self.poll_interim(cx) {
            written?;
        }
        self.wire.shared().waker = Some(cx.waker().clone());
        if !self.wire.is_busy() {
            return if self.flushed { Poll::Ready(Ok(true)) } else { Poll::Pending };
        }
        let (hangup, stream) = (&mut self.hangup, &self.stream);
        if let Some(hangup) = hangup {
            ready!(hangup.poll_gone(cx, || stream.is_broken()));
        }
        Poll::Ready(Ok(true))
    }

    /// Fires when a head takes too long.
    fn poll_head_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.judge.awaits_head() {
            self.head_timer = None;
            return Poll::Pending;
        }
        let limit = self.limits.head_timeout;
        self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx)
    }

    /// Reads what nothing can be said of yet, to notice a hang-up and to have it at hand once the protocol is decided.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        while self.judge.held() < HELD_MAX {
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.eof = true;
                return Poll::Ready(Ok(()));
            }
            self.judge.hold(buffer.filled());
        }
        Poll::Pending // The decision wakes us.
    }

    /// Writes the interim responses, where nothing of a final one is in the way.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.quiet.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut shared = self.wire.shared();
        if shared.waker.is_none() {
            shared.waker = Some(cx.waker().clone());
        }
        self.wire.quiet.store(shared.interim.is_empty(), Ordering::Relaxed);
        while self.flushed && !shared.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &shared.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            shared.interim.advance(written);
            if let Some(hangup) = &mut self.hangup {
                hangup.sent = true;
            }
            if shared.interim.is_empty() {
                drop(shared);
                return Pin::new(&mut self.stream).poll_flush(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writing has stalled: how long may it?
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stall.poll(cx, self.wire.stall_limit())
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            timer: Box::pin(tokio::time::sleep(LINGER)),
            bytes_left: LINGER_BYTES_MAX,
        });
        let mut space = [0; 8192];
        while linger.bytes_left > 0 && linger.timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    linger.bytes_left = linger.bytes_left.saturating_sub(buffer.filled().len());
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Resettable + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.judge.state() != State::Tunnel
            && let Poll::Ready(written) = this.poll_interim(cx)
        {
            written?;
        }
        let before = out.filled().len();
        loop {
            this.heed_decision(cx);
            let passed = this.judge.take(out.remaining());
            if !passed.is_empty() {
                this.wire.passed(this.judge.heads());
                this.head_timer = None; // The next head has its own time.
                this.tell_refusal();
                out.put_slice(&passed);
                return Poll::Ready(Ok(()));
            }
            match this.judge.state() {
                State::Tunnel if this.judge.held() == 0 => {
                    return Pin::new(&mut this.stream).poll_read(cx, out);
                }
                State::Refused => return Poll::Pending, // The answer ends the connection; the rest stays unread.
                State::Malformed => {
                    let why = "the chunked coding is malformed";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                State::AwaitUpgrade if this.eof => return Poll::Ready(Ok(())),
                State::AwaitUpgrade => ready!(this.poll_hold(cx))?,
                State::Head | State::Body { .. } | State::Chunked { .. } | State::Tunnel => {
                    let end = ready!(this.poll_fresh(cx, out))?;
                    if end || out.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Resettable + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.flushed {
            match this.poll_interim(cx) {
                Poll::Pending => return this.poll_stall(cx),
                Poll::Ready(written) => written?,
            }
        } else if !this.wire.quiet.load(Ordering::Relaxed) {
            this.wire.shared().interim.clear(); // Too late for it: a final response is on its way.
        }
        this.flushed = false;
        this.wire.set_flushed(false);
        this.wire.answers();
        match Pin::new(&mut this.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => this.poll_stall(cx),
            Poll::Ready(written) => {
                this.stall.moved();
                if let Some(hangup) = &mut this.hangup {
                    hangup.sent |= written.is_ok();
                }
                Poll::Ready(written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(cx) {
            Poll::Pending => this.poll_stall(cx).map_ok(drop),
            Poll::Ready(flushed) => {
                this.stall.over();
                this.flushed = true;
                this.wire.set_flushed(true);
                if this.hangup.is_some() {
                    cx.waker().wake_by_ref(); // The reader may wait for this.
                }
                Poll::Ready(flushed)
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.awaits(false);
        if this.wire.shared().reset_at_end {
            return Poll::Ready(Ok(())); // Dropping it sends the reset.
        }
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if this.judge.at_boundary() {
            return Poll::Ready(Ok(()));
        }
        this.poll_linger(cx).map(Ok)
    }
}

impl<S: Resettable> Drop for Guard<S> {
    fn drop(&mut self) {
        // The library drops, and does not shut down, a connection whose response body failed.
        if self.wire.shared().reset_at_end {
            self.stream.reset_on_close();
        }
    }
}
