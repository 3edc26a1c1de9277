//! An answer, as far as it has to be read before it is known what it means. What was read goes to the client first.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::response::Parts;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use super::body::Cut;
use super::stream::Stream;
use crate::clock;
use crate::config::Commit;
use crate::dialect::Meaning;
use crate::memory::Lease;
use crate::policy::reason::Reason;
use crate::telemetry::streams::StreamEnd;
use crate::upstream::{Fault, Reply};

/// An answer of which it is known what it means.
#[derive(Debug)]
pub(super) struct Heard {
    pub reply: Box<Reply>,
    /// What of its body was read for that.
    pub ahead: Option<Box<Ahead>>,
}

/// The beginning of a body.
#[derive(Debug)]
pub(super) struct Ahead {
    pub pieces: VecDeque<Bytes>,
    /// How the body ended, if it has been read to its end.
    pub ended: Option<Ended>,
    /// The events that it bears.
    pub stream: Option<Stream>,
    pub lease: Lease,
}

impl Ahead {
    /// Of what nothing is read yet; `lease`: of nothing yet.
    pub(super) const fn new(lease: Lease) -> Self {
        Self { pieces: VecDeque::new(), ended: None, stream: None, lease }
    }

    /// One more piece, unless it is empty.
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// The body's next frame; `None`: it has ended. What of it may go on is among the pieces then.
    ///
    /// # Errors
    /// It is not what the dialect writes, or has ended before its end.
    pub(super) fn reads(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), Cut> {
        let trailers = match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                let Some(stream) = &mut self.stream else {
                    self.push(data);
                    return Ok(());
                };
                let (whole, readable) = stream.read(&data, clock::now());
                self.push(whole);
                return readable;
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        if let Some(stream) = &mut self.stream {
            let rest = stream.finish()?;
            self.push(rest);
        }
        self.ended = Some(Ended::Whole(trailers));
        Ok(())
    }

    /// Whether so much has come that the answer counts as begun, or as failed.
    pub(super) fn is_begun(&self, commit: Commit) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.error().is_some() || stream.is_begun(commit))
    }

    /// It ends so before its end.
    pub(super) fn breaks(&mut self, end: StreamEnd) {
        if let Some(stream) = &mut self.stream {
            stream.ended(end);
        }
    }

    /// Whether it comes to nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.stream.is_none() && matches!(self.ended, Some(Ended::Whole(None)))
    }

    /// How many of the bytes that were read have still to go on; unknown for a stream, to which Fender may add.
    pub(super) fn left(&self) -> Option<u64> {
        self.stream.is_none().then(|| self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// How a body ended.
#[derive(Debug)]
pub(super) enum Ended {
    Whole(Option<HeaderMap>),
    Broken(hyper::Error),
}

/// A whole answer in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub parts: Parts,
    pub body: Bytes,
    _lease: Lease,
}

impl Heard {
    /// The events that are followed in it.
    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.ahead.as_mut()?.stream.as_mut()
    }

    /// The next piece of the body, also of what was read ahead; `None` at its end. What breaks off, and a stream that ends
    /// before its end mark, is an error.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, Reason>> {
        loop {
            if let Some(ahead) = &mut self.ahead {
                if let Some(piece) = ahead.pieces.pop_front() {
                    return Some(Ok(piece));
                }
                match &ahead.ended {
                    Some(Ended::Whole(_)) => return None,
                    Some(Ended::Broken(error)) => return Some(Err(Fault::of_body(error).reason)),
                    None => {}
                }
            }
            let frame = match self.reply.response.body_mut().frame().await.transpose() {
                Ok(frame) => frame,
                Err(error) => {
                    if let Some(ahead) = &mut self.ahead {
                        ahead.breaks(StreamEnd::Reset);
                    }
                    return Some(Err(Fault::of_body(&error).reason));
                }
            };
            let Some(ahead) = &mut self.ahead else {
                match frame?.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => continue, // Trailers.
                }
            };
            if let Err(cut) = ahead.reads(frame) {
                ahead.breaks(cut.end());
                return Some(Err(cut.upstreams_fault().unwrap_or(Reason::Reset)));
            }
        }
    }

    /// The body has been read to its end: the connection can serve others. What its error event means, if it ended so.
    pub(super) fn completed(self, request_id: &str) -> Option<Meaning> {
        self.reply.loan.give_back(clock::now());
        self.ahead?.stream?.completed(request_id)
    }

    /// Reads the body whole. `None` if it is longer than `max`, does not come by `until`, breaks off, or memory is short: the
    /// answer is gone then, and its connection with it.
    pub(super) async fn hold(mut self, max: u64, mut lease: Lease, until: Instant) -> Option<Held> {
        let mut body = BytesMut::new();
        let whole = async {
            while let Some(piece) = self.piece().await {
                let piece = piece.ok()?;
                if body.len() as u64 + piece.len() as u64 > max || !lease.grow(piece.len() as u64) {
                    return None;
                }
                body.extend_from_slice(&piece);
            }
            Some(())
        };
        timeout_at(until.into(), whole).await.ok().flatten()?;
        if let Some(stream) = self.ahead.as_mut().and_then(|ahead| ahead.stream.as_mut()) {
            stream.ended(StreamEnd::Error); // Only a failed stream is held.
        }
        let (parts, _) = self.reply.response.into_parts();
        self.reply.loan.give_back(clock::now());
        Some(Held { parts, body: body.freeze(), _lease: lease })
    }
}
