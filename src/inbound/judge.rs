//! What of a client's bytes may pass: the guard's state machine, without any I/O.

use bytes::{Bytes, BytesMut};

use super::framing::{Chunks, Framing, Progress, blank_lines, read_head};
use crate::policy::blame::ClientFault as Refusal;

/// What stands in for a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// Follows a connection from message to message.
#[derive(Debug)]
pub(super) struct Judge {
    state: State,
    head_bytes_max: usize,
    heads: u64,
    refused: Option<Refusal>,
    /// Read from the client, not yet judged: the beginning of a head, or bytes behind an undecided upgrade.
    held: BytesMut,
    /// How much of `held` is known not to end a head: it is not searched again, however small the pieces come.
    searched: usize,
    /// Judged, to be given to the library before anything else is read.
    passed: Bytes,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Head,
    Body {
        left: u64,
        upgrade: bool,
    },
    Chunked {
        chunks: Chunks,
        upgrade: bool,
    },
    /// Behind a request that asks for another protocol: it is not known what follows.
    AwaitUpgrade,
    Tunnel,
    /// A stand-in passes, and nothing after it.
    Refused,
    /// The body is malformed from here on: nothing further passes, its reading fails.
    Malformed,
}

impl State {
    /// Nothing that comes matters any more.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Refused | Self::Malformed)
    }
}

impl Judge {
    /// At the start of a connection of which `read_ahead` has been read already.
    pub(super) fn new(read_ahead: BytesMut, head_bytes_max: usize) -> Self {
        Self {
            state: State::Head,
            head_bytes_max,
            heads: 0,
            refused: None,
            held: read_ahead,
            searched: 0,
            passed: Bytes::new(),
        }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Bytes that wait for a judgement.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The number (from 1) of the request that stands in for a refused one, and why.
    pub(super) fn refused(&self) -> Option<(u64, Refusal)> {
        self.refused.map(|why| (self.heads, why))
    }

    /// Between two messages, with nothing of a next one: the connection may end here without a loss.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.state, State::Head | State::Tunnel) && self.held.is_empty()
    }

    /// Heads that have passed, or were refused.
    pub(super) const fn heads(&self) -> u64 {
        self.heads
    }

    /// Between two requests; of the next one nothing has come.
    pub(super) fn rests(&self) -> bool {
        self.state == State::Head && self.heads > 0 && self.held.is_empty() && self.passed.is_empty()
    }

    /// No request has begun, or one has begun and its head is not complete.
    pub(super) fn awaits_head(&self) -> bool {
        self.state == State::Head && (self.heads == 0 || !self.held.is_empty())
    }

    /// What passes next, at most `most` bytes of it; empty: more has to be read.
    pub(super) fn take(&mut self, most: usize) -> Bytes {
        if self.passed.is_empty() {
            self.judge_held();
        }
        let length = self.passed.len().min(most);
        self.passed.split_to(length)
    }

    /// Judges `fresh`, which was just read; returns how many of its bytes pass as they stand. The others are held back, or
    /// dropped behind a refusal.
    pub(super) fn pass(&mut self, fresh: &[u8]) -> usize {
        if !self.held.is_empty() {
            self.held.extend_from_slice(fresh);
            return 0;
        }
        let passes = self.judge(fresh);
        if !self.state.is_final() {
            self.held.extend_from_slice(fresh.get(passes..).unwrap_or_default());
        }
        passes
    }

    /// Keeps bytes that nothing can be said of yet.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The protocol after an upgrade request is decided.
    pub(super) fn decide(&mut self, tunnel: bool) {
        self.state = if tunnel { State::Tunnel } else { State::Head };
    }

    /// Lets a stand-in pass in the place of the next head, and nothing after it.
    pub(super) fn refuse(&mut self, why: Refusal) {
        self.heads += 1;
        self.refused = Some(why);
        self.state = State::Refused;
        self.held = BytesMut::new();
        let mut passed = BytesMut::from(self.passed.as_ref());
        passed.extend_from_slice(STAND_IN);
        self.passed = passed.freeze();
    }

    fn judge_held(&mut self) {
        if self.held.is_empty() || self.state == State::AwaitUpgrade || !self.may_be_complete() {
            return;
        }
        self.searched = 0;
        let mut held = std::mem::take(&mut self.held);
        let passes = self.judge(&held);
        let stand_in = std::mem::take(&mut self.passed);
        let mut passed = held.split_to(passes);
        passed.extend_from_slice(&stand_in);
        self.passed = passed.freeze();
        if !self.state.is_final() {
            self.held = held;
        }
    }

    /// A head can only be complete, or too large, if its end is among the bytes that are new.
    fn may_be_complete(&mut self) -> bool {
        if self.state != State::Head || self.held.len() > self.head_bytes_max {
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

    /// How many of the bytes pass, as far as can be told.
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
                    Progress::Done(length) => {
                        at += length;
                        self.state = after_body(0, upgrade);
                    }
                    Progress::More => {
                        at = fresh.len();
                        self.state = State::Chunked { chunks, upgrade };
                    }
                    // The library might read on: it is laxer.
                    Progress::Malformed(length) => {
                        at += length;
                        self.state = State::Malformed;
                    }
                },
                State::Tunnel => return fresh.len(),
                State::AwaitUpgrade | State::Refused | State::Malformed => break,
            }
        }
        at
    }

    /// The length of the complete head at the start of `bytes`; `None` if there is none to pass (yet).
    fn judge_head(&mut self, bytes: &[u8]) -> Option<usize> {
        // What lies beyond the limit does not count, so that the judgement is the same however the bytes are cut in pieces.
        let within = bytes.get(..=self.head_bytes_max).unwrap_or(bytes);
        let blank = blank_lines(within);
        let found = match read_head(within.get(blank..).unwrap_or_default()) {
            Ok(Some(head)) if blank + head.length <= self.head_bytes_max => Ok(Some(head)),
            Ok(None) if bytes.len() <= self.head_bytes_max => Ok(None),
            Ok(_) => Err(Refusal::HeadTooLarge),
            Err(why) => Err(why),
        };
        match found {
            Ok(Some(head)) => {
                self.heads += 1;
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
}

fn after_body(left: u64, upgrade: bool) -> State {
    match (left, upgrade) {
        (0, true) => State::AwaitUpgrade,
        (0, false) => State::Head,
        (left, upgrade) => State::Body { left, upgrade },
    }
}
