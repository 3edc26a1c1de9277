//! A stream that is lent to the HTTP library, and comes back when the connection rests.
//!
//! The library holds two buffers and more for as long as it has a connection. Where there are many connections, most of which
//! rest, that is what most of the memory goes to: so the library lets go of one that rests, and is given it anew with its next
//! request.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::Resettable;

/// Whom the stream belongs to.
#[derive(Debug)]
pub struct Owner<S> {
    wanted: AtomicBool,
    returned: Mutex<Option<S>>,
}

impl<S> Owner<S> {
    /// Lends `stream`: it is shut down and closed as ever, unless it is asked for first.
    #[must_use]
    pub fn lends(stream: S) -> (Arc<Self>, Lent<S>) {
        let owner = Arc::new(Self { wanted: AtomicBool::new(false), returned: Mutex::new(None) });
        (Arc::clone(&owner), Lent { stream: Some(stream), owner })
    }

    /// From now on its end for the borrower is none for the stream.
    pub fn wants(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// The stream, if it was asked for and has come back.
    #[must_use]
    pub fn take(&self) -> Option<S> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

/// What the borrower has of it.
#[derive(Debug)]
pub struct Lent<S> {
    /// Until it is given back.
    stream: Option<S>,
    owner: Arc<Owner<S>>,
}

impl<S: Unpin> Lent<S> {
    fn stream(self: Pin<&mut Self>) -> io::Result<Pin<&mut S>> {
        let stream = self.get_mut().stream.as_mut();
        stream.map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.owner.is_wanted() {
            return Poll::Ready(Ok(()));
        }
        self.stream()?.poll_shutdown(cx)
    }
}

impl<S: Resettable> Resettable for Lent<S> {
    fn reset_on_close(&self) {
        if let Some(stream) = &self.stream {
            stream.reset_on_close();
        }
    }

    fn is_broken(&self) -> bool {
        self.stream.as_ref().is_none_or(Resettable::is_broken)
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if self.owner.is_wanted() {
            *self.owner.returned.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
        }
    }
}
