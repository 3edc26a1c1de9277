//! A client's HTTP/1.1 byte stream, let through to the HTTP library only as messages whose framing is beyond doubt.
//!
//! The guard looks at what it has just read, in place; a head that is not complete is held back until it is (bounded in
//! bytes and time). In the stead of a head that is refused the library is given a harmless one, and [`Wire::refused`] tells
//! the service to answer it with the refusal: so every refusal is answered in order, in Fender's own words, and nothing
//! that follows it on the connection is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::{Chunks, Framing, Progress, blank_lines, read_head};
use crate::policy::blame::ClientFault as Refusal;
use crate::proxy::wire::{NextProtocol, Wire};

/// What stands in for a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// A client's pipelined bytes that are kept while it is not known whether the connection leaves HTTP.
const HELD_MAX: usize = 16 * 1024;

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

/// Whether a socket can be made to end with a reset.
pub trait Resettable {
    /// From now on closing it sends a reset.
    fn reset_on_close(&self);
}

/// See the module.
#[derive(Debug)]
pub struct Guard<S: Resettable> {
    stream: S,
    wire: Arc<Wire>,
    limits: Limits,
    state: State,
    heads: u64,
    /// Read from the client, not yet judged: the beginning of a head, or bytes behind an undecided upgrade.
    held: BytesMut,
    /// How much of `held` is known not to end a head: it is not searched again, however small the pieces come.
    searched: usize,
    /// Judged, to be given to the library before anything else is read.
    passed: Bytes,
    head_timer: Option<Pin<Box<Sleep>>>,
    stall_timer: Option<Pin<Box<Sleep>>>,
    linger_timer: Option<(Pin<Box<Sleep>>, usize)>,
    /// All that the library wrote has left it: an interim response may stand here.
    flushed: bool,
    eof: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body { left: u64, upgrade: bool },
    Chunked { chunks: Chunks, upgrade: bool },
    AwaitUpgrade,
    Tunnel,
    Refused,
}

impl<S: Resettable> Guard<S> {
    /// Guards `stream`, of which `read_ahead` has been read already.
    pub fn new(stream: S, read_ahead: BytesMut, limits: Limits) -> (Self, Arc<Wire>) {
        let wire = Arc::new(Wire::default());
        let guard = Self {
            stream,
            wire: Arc::clone(&wire),
            limits,
            state: State::Head,
            heads: 0,
            held: read_ahead,
            searched: 0,
            passed: Bytes::new(),
            head_timer: None,
            stall_timer: None,
            linger_timer: None,
            flushed: true,
            eof: false,
        };
        (guard, wire)
    }

    fn refuse(&mut self, why: Refusal) {
        self.heads += 1;
        self.wire.shared().refused = Some((self.heads, why));
        self.state = State::Refused;
        self.held.clear();
    }

    /// Judges `fresh`; returns how many of its bytes may pass now. What is beyond stays back.
    fn judge(&mut self, fresh: &[u8]) -> usize {
        let mut at = 0;
        while at < fresh.len() {
            let rest = fresh.get(at..).unwrap_or_default();
            match self.state {
                State::Head => {
                    let Some(length) = self.judge_head(rest) else { break };
                    at += length;
                }
                State::Body { left, upgrade } => {
                    let here = left.min(rest.len() as u64);
                    at += usize::try_from(here).unwrap_or(rest.len());
                    self.state = after_body(left - here, upgrade);
                }
                State::Chunked { mut chunks, upgrade } => match chunks.advance(rest) {
                    Ok(Progress::Done(length)) => {
                        at += length;
                        self.state = after_body(0, upgrade);
                    }
                    Ok(Progress::More) => {
                        at = fresh.len();
                        self.state = State::Chunked { chunks, upgrade };
                    }
                    Err(_) => {
                        // The library reads the same bytes and comes to the same end: the body fails, its request is
                        // answered 400, and nothing that follows is read.
                        self.state = State::Refused;
                        return fresh.len();
                    }
                },
                State::Tunnel => return fresh.len(),
                State::AwaitUpgrade | State::Refused => break,
            }
        }
        at
    }

    /// The length of the complete head at the start of `bytes`; `None` if there is none to pass (yet).
    fn judge_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let blank = blank_lines(bytes);
        let found = match read_head(bytes.get(blank..).unwrap_or_default()) {
            Ok(Some(head)) if head.length <= self.limits.head_bytes_max => Ok(Some(head)),
            Ok(None) if bytes.len() <= self.limits.head_bytes_max => Ok(None),
            Ok(_) => Err(Refusal::HeadTooLarge),
            Err(why) => Err(why),
        };
        match found {
            Ok(Some(head)) => {
                self.heads += 1;
                self.head_timer = None;
                if head.upgrade {
                    self.wire.shared().next_protocol = NextProtocol::Undecided;
                }
                self.state = match head.framing {
                    Framing::Length(length) => after_body(length, head.upgrade),
                    Framing::Chunked => State::Chunked { chunks: Chunks::default(), upgrade: head.upgrade },
                };
                Some(blank + head.length)
            }
            Ok(None) => None,
            Err(why) => {
                self.refuse(why);
                None
            }
        }
    }

    /// Judges what is held; what may pass moves to `passed`.
    fn judge_held(&mut self) {
        if self.held.is_empty() || self.state == State::AwaitUpgrade || !self.may_be_complete() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        self.searched = 0;
        let pass = self.judge(&held);
        self.passed = held.split_to(pass).freeze();
        if self.state == State::Refused {
            self.give_stand_in();
        } else {
            self.held = held;
        }
    }

    /// A head can only be complete, or too large, if its end is among the bytes that are new.
    fn may_be_complete(&mut self) -> bool {
        if self.state != State::Head || self.held.len() > self.limits.head_bytes_max {
            return true;
        }
        let fresh = self.held.get(self.searched.saturating_sub(2)..).unwrap_or_default();
        let found = memchr::memchr_iter(b'\n', fresh).any(|at| {
            let rest = fresh.get(at + 1..).unwrap_or_default();
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        });
        self.searched = self.held.len();
        found
    }

    fn give_stand_in(&mut self) {
        if self.wire.shared().refused.is_some() {
            let mut all = BytesMut::from(self.passed.as_ref());
            all.extend_from_slice(STAND_IN);
            self.passed = all.freeze();
        }
    }

    fn heed_decision(&mut self, cx: &Context<'_>) {
        let mut shared = self.wire.shared();
        match shared.next_protocol {
            NextProtocol::Undecided => shared.waker = Some(cx.waker().clone()),
            NextProtocol::Http => self.state = State::Head,
            NextProtocol::Tunnel => self.state = State::Tunnel,
        }
    }
}

fn after_body(left: u64, upgrade: bool) -> State {
    match (left, upgrade) {
        (0, true) => State::AwaitUpgrade,
        (0, false) => State::Head,
        (left, upgrade) => State::Body { left, upgrade },
    }
}

impl<S: AsyncRead + AsyncWrite + Resettable + Unpin> Guard<S> {
    /// Fires when a head takes too long.
    fn poll_head_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state != State::Head || (self.held.is_empty() && self.heads > 0) {
            return Poll::Pending;
        }
        let limit = self.limits.head_timeout;
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx)
    }

    /// Nothing came in time.
    fn out_of_time(&mut self) {
        // Where no request has begun the connection just ends.
        if !self.held.is_empty() {
            self.refuse(Refusal::HeadTooSlow);
            self.give_stand_in();
        }
    }

    /// Reads into `held`, for the states in which nothing may pass.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        loop {
            if self.held.len() >= HELD_MAX {
                return Poll::Pending; // The decision wakes us.
            }
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.eof = true;
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(buffer.filled());
        }
    }

    fn poll_fresh(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        if Pin::new(&mut self.stream).poll_read(cx, out)?.is_pending() {
            if self.poll_head_timer(cx).is_ready() {
                self.out_of_time();
                return Poll::Ready(Ok(self.passed.is_empty()));
            }
            return Poll::Pending;
        }
        let fresh = out.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.held.is_empty() {
            let fresh_len = fresh.len();
            let pass = self.judge(fresh);
            if pass < fresh_len && self.state != State::Refused {
                self.held.extend_from_slice(fresh.get(pass..).unwrap_or_default());
            }
            out.set_filled(before + pass);
            if self.state == State::Refused {
                self.give_stand_in();
            }
        } else {
            self.held.extend_from_slice(fresh);
            out.set_filled(before);
            self.judge_held();
        }
        Poll::Ready(Ok(false))
    }

    /// Writes the interim responses, where nothing of a final one is in the way.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.wire.shared();
        if shared.waker.is_none() {
            shared.waker = Some(cx.waker().clone());
        }
        while self.flushed && !shared.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &shared.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            shared.interim.advance(written);
            if shared.interim.is_empty() {
                drop(shared);
                return Pin::new(&mut self.stream).poll_flush(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writing has stalled: how long may it?
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(limit) = self.wire.stall_limit() {
            let timer = self.stall_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")));
        }
        Poll::Pending
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (timer, left) =
            self.linger_timer.get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES_MAX));
        let mut space = [0; 8192];
        while *left > 0 {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *left = left.saturating_sub(buffer.filled().len()),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Resettable + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state != State::Tunnel
            && let Poll::Ready(written) = this.poll_interim(cx)
        {
            written?;
        }
        let before = out.filled().len();
        loop {
            if this.state == State::AwaitUpgrade {
                this.heed_decision(cx);
            }
            if this.passed.is_empty() {
                this.judge_held();
            }
            if !this.passed.is_empty() {
                let length = this.passed.len().min(out.remaining());
                out.put_slice(&this.passed.split_to(length));
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Tunnel if this.held.is_empty() => {
                    return Pin::new(&mut this.stream).poll_read(cx, out);
                }
                State::Refused => return Poll::Pending, // Whatever else the client sent stays unread; the answer ends the connection.
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
            ready!(this.poll_interim(cx))?;
        } else {
            this.wire.shared().interim.clear(); // Too late for it: a final response is on its way.
        }
        this.flushed = false;
        match Pin::new(&mut this.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => this.poll_stall(cx),
            ready => {
                this.stall_timer = None;
                ready
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire.shared().reset_at_end {
            this.stream.reset_on_close();
            return Poll::Ready(Ok(()));
        }
        if this.linger_timer.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if matches!(this.state, State::Head | State::Tunnel) && this.held.is_empty() {
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
