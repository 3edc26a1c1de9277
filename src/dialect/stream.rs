//! Event streams: server-sent events and lines of JSON, told apart event by event.

use std::sync::Arc;

use super::{Dialect, Meaning};

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// `text/event-stream` (WHATWG HTML, section 9.2).
    Sse,
    /// `application/x-ndjson`: one JSON text a line.
    NdJson,
}

impl Form {
    /// The form of a body of this content type, if it is a stream of events.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("text/event-stream") {
            Some(Self::Sse)
        } else if is("application/x-ndjson") || is("application/jsonl") {
            Some(Self::NdJson)
        } else {
            None
        }
    }
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It bears what was asked for.
    Content,
    /// It only keeps the connection alive: a comment, a ping.
    KeepAlive,
    /// Neither: a beginning, a role, a usage.
    Other,
    /// It says that the answer has failed.
    Error,
    /// The answer is whole with it.
    End,
    /// It is not what the dialect writes.
    Malformed,
}

/// One event, seen whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What it is.
    pub kind: Kind,
    /// Where it ends in the piece that was read last: behind its last byte.
    pub end: usize,
    /// What an error means.
    pub meaning: Option<Meaning>,
}

/// Reads one stream.
#[derive(Debug)]
pub struct Reader {
    _dialect: Arc<Dialect>,
    _form: Form,
    fresh: bool,
}

impl Reader {
    /// At a stream's beginning.
    #[must_use]
    pub fn new(dialect: &Arc<Dialect>, form: Form) -> Self {
        Self { _dialect: Arc::clone(dialect), _form: form, fresh: true }
    }

    /// The next piece; `seen` hears of each event that ends in it, in order.
    pub fn read(&mut self, piece: &[u8], mut seen: impl FnMut(Event)) {
        self.fresh = false;
        if !piece.is_empty() {
            seen(Event { kind: Kind::Content, end: piece.len(), meaning: None });
        }
    }

    /// Whether nothing of an event that is not whole yet has been read.
    #[must_use]
    pub fn is_between(&self) -> bool {
        true
    }

    /// The stream ended: an event that its end completes (the last line of NDJSON).
    pub fn finish(&mut self) -> Option<Event> {
        None
    }
}
