//! A client's HTTP/2 byte stream, watched for what the HTTP library does not bound: how long a header block may stay
//! unfinished, how long a client may be silent before its first frame, and how long it may take no byte.
//!
//! Only the frames' heads are looked at; every byte passes as it came. The size of a header list is judged on the whole
//! request, by [`fits`]: so its refusal is an answer in Fender's own words.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::HEADERS_MAX;
use super::stall::Stall;
use crate::drain::Drain;

/// A client that takes no byte for this long is given up: a stalled stream alone is let go by its own clock.
const STALL_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    read_ahead: BytesMut,
    follower: Follower,
    head_timeout: Duration,
    head_timer: Option<Pin<Box<Sleep>>>,
    stall: Stall,
}

impl<S> Frames<S> {
    /// Watches `stream`, of which `read_ahead` has been read already, from the connection's first byte on.
    pub fn new(stream: S, read_ahead: BytesMut, head_timeout: Duration) -> Self {
        let follower = Follower::default();
        Self { stream, read_ahead, follower, head_timeout, head_timer: None, stall: Stall::default() }
    }

    fn follow(&mut self, fresh: &[u8]) {
        let before = self.follower.blocks;
        self.follower.advance(fresh);
        if self.follower.blocks != before || !self.follower.owes() {
            self.head_timer = None; // The next block has its own time.
        }
    }

    /// Nothing comes just now: may that be?
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.follower.owes() {
            return Poll::Pending;
        }
        let limit = self.head_timeout;
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a header block did not end in time")))
    }

    /// While the client has still to take what was written, a request is in flight.
    #[must_use]
    pub fn counted(mut self, drain: Drain, worker: usize) -> Self {
        self.stall = Stall::counted(drain, worker);
        self
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() {
            return self.stall.poll(cx, Some(STALL_MAX));
        }
        self.stall.moved();
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.read_ahead.is_empty() {
            let length = this.read_ahead.len().min(out.remaining());
            let passed = this.read_ahead.split_to(length);
            this.follow(&passed);
            out.put_slice(&passed);
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, out)?.is_pending() {
            return this.poll_head(cx);
        }
        this.follow(out.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() {
            this.stall.over();
        }
        this.wrote(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.wrote(cx, shut)
    }
}

/// Follows a client's side of a connection from frame to frame (RFC 9113 section 4.1).
#[derive(Debug)]
struct Follower {
    preface_left: usize,
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    head_come: usize,
    payload_left: usize,
    /// The client's first frame has come whole.
    greeted: bool,
    /// A header block has begun and not ended.
    block: bool,
    /// Header blocks that have ended.
    blocks: u64,
}

const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

impl Default for Follower {
    fn default() -> Self {
        Self {
            preface_left: PREFACE,
            head: [0; HEAD],
            head_come: 0,
            payload_left: 0,
            greeted: false,
            block: false,
            blocks: 0,
        }
    }
}

impl Follower {
    /// The client has to go on: it has not said hello, or is in the middle of a header block or of a frame's head.
    const fn owes(&self) -> bool {
        !self.greeted || self.block || (self.head_come > 0 && self.head_come < HEAD)
    }

    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match self {
                Self { preface_left: 1.., .. } => self.preface_left,
                Self { head_come: HEAD, .. } => self.payload_left,
                _ => HEAD - self.head_come,
            };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.preface_left > 0 {
                self.preface_left -= taken.len();
                continue;
            }
            if self.head_come < HEAD {
                self.take_head(taken);
            } else {
                self.payload_left -= taken.len();
            }
            if self.head_come == HEAD && self.payload_left == 0 {
                self.end_frame();
            }
        }
    }

    fn take_head(&mut self, bytes: &[u8]) {
        if let Some(space) = self.head.get_mut(self.head_come..self.head_come + bytes.len()) {
            space.copy_from_slice(bytes);
        }
        self.head_come += bytes.len();
        let [high, middle, low, kind, ..] = self.head;
        if self.head_come == HEAD {
            self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            self.block |= kind == HEADERS;
        }
    }

    fn end_frame(&mut self) {
        let [_, _, _, kind, flags, ..] = self.head;
        self.head_come = 0;
        self.greeted = true;
        if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
            self.block = false;
            self.blocks += 1;
        }
    }
}

/// What the library is to let pass of a header list, whose size it counts with 32 bytes for each field (RFC 9113 section
/// 10.5.1): enough that [`fits`] refuses first.
#[must_use]
pub fn list_bytes_max(head_bytes_max: usize) -> u32 {
    u32::try_from(head_bytes_max.saturating_mul(2).saturating_add(16 * 1024)).unwrap_or(u32::MAX)
}

/// Whether a head is within the bounds that hold for HTTP/1.1, counted as it would stand there: the authority is a field,
/// and a cookie that came in crumbs is one.
#[must_use]
pub fn fits<B>(request: &Request<B>, head_bytes_max: usize) -> bool {
    let uri = request.uri();
    let path = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    let authority = uri.authority().map(|authority| authority.as_str().len());
    let mut bytes = request.method().as_str().len() + path + authority.map_or(0, |length| length + 8);
    let mut fields = usize::from(authority.is_some());
    let mut cookie = false;
    for (name, value) in request.headers() {
        bytes += name.as_str().len() + value.len() + 4;
        let crumb = name == header::COOKIE && std::mem::replace(&mut cookie, true);
        fields += usize::from(!crumb);
    }
    fields <= HEADERS_MAX && bytes <= head_bytes_max
}
