//! Event streams: server-sent events and lines of JSON, told apart event by event.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::events::Written;
use super::{Dialect, Meaning};

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `text/event-stream` (WHATWG HTML, section 9.2).
    Sse,
    /// `application/x-ndjson`: one JSON text a line.
    NdJson,
}

impl Form {
    /// The form of a body of this content type, if it is a stream of events.
    #[must_use]
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let text = content_type.trim_ascii_start();
        let is = |name: &[u8]| {
            text.split_at_checked(name.len()).is_some_and(|(start, rest)| {
                let rest = rest.trim_ascii_start();
                start.eq_ignore_ascii_case(name) && (rest.is_empty() || rest.starts_with(b";"))
            })
        };
        if is(b"text/event-stream") {
            Some(Self::Sse)
        } else if is(b"application/x-ndjson") || is(b"application/jsonl") {
            Some(Self::NdJson)
        } else {
            None
        }
    }
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It bears what was asked for.
    Content,
    /// It only keeps the connection alive: a comment, a ping.
    KeepAlive,
    /// Neither: a beginning, a role, a usage.
    Other,
    /// It says that the answer has failed.
    Error,
    /// The answer is whole with it; it may bear the last of the content.
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

/// Reads one stream, in pieces cut anywhere. An event that lies in one piece is read where it lies; the bytes of one that does
/// not are kept until it is whole, up to [`EVENT_MAX`]: an event beyond that is what its beginning tells, else content.
#[derive(Debug)]
pub struct Reader {
    dialect: Arc<Dialect>,
    form: Form,
    /// The unfinished event, as far as it came and is read.
    kept: Vec<u8>,
    /// How long it is by now.
    length: usize,
    /// Whether the line that is being read has no byte yet.
    line_is_empty: bool,
    /// Whether the last byte was a carriage return, whose line feed may follow.
    after_return: bool,
    /// Whether no event was read yet: a byte order mark may stand before the first one.
    first: bool,
    /// The lines of an event's data, joined.
    joined: Vec<u8>,
    last_piece: usize,
}

impl Reader {
    /// At a stream's beginning.
    #[must_use]
    pub fn new(dialect: &Arc<Dialect>, form: Form) -> Self {
        Self {
            dialect: Arc::clone(dialect),
            form,
            kept: Vec::new(),
            length: 0,
            line_is_empty: true,
            after_return: false,
            first: true,
            joined: Vec::new(),
            last_piece: 0,
        }
    }

    /// The next piece; `seen` hears of each event that ends in it, in order.
    pub fn read(&mut self, piece: &[u8], mut seen: impl FnMut(Event)) {
        if piece.is_empty() {
            return;
        }
        self.last_piece = piece.len();
        let mut start = 0;
        // The line feed of the carriage return that ended the event before.
        if self.length == 0 && std::mem::take(&mut self.after_return) && piece.first() == Some(&b'\n') {
            start = 1;
        }
        let mut at = start;
        while let Some(end) = self.end_of_event(piece, at) {
            let part = piece.get(start..end).unwrap_or_default();
            let (kind, meaning) = self.whole(part);
            seen(Event { kind, end, meaning });
            (start, at) = (end, end);
            if self.after_return && at < piece.len() {
                self.after_return = false;
            }
        }
        let rest = piece.get(start..).unwrap_or_default();
        self.length += rest.len();
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = EVENT_MAX.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    /// Whether nothing of an event that is not whole yet has been read.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.length == 0
    }

    /// The stream ended: an event that its end completes. Of lines it is the last one. A server-sent event without its blank
    /// line is none, by the standard; but an end mark that lacks it is one all the same.
    pub fn finish(&mut self) -> Option<Event> {
        if self.length == 0 {
            return None;
        }
        let (kind, meaning) = self.whole(&[]);
        let counts = self.form == Form::NdJson || kind == Kind::End;
        counts.then_some(Event { kind, end: self.last_piece, meaning })
    }

    /// Where the event ends that begins at `from` or was begun before.
    fn end_of_event(&mut self, piece: &[u8], from: usize) -> Option<usize> {
        match self.form {
            Form::NdJson => memchr::memchr(b'\n', piece.get(from..)?).map(|length| from + length + 1),
            Form::Sse => self.blank_line(piece, from),
        }
    }

    /// Behind the next blank line; its terminator is taken whole if it lies in this piece.
    fn blank_line(&mut self, piece: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let rest = piece.get(at..).filter(|rest| !rest.is_empty())?;
            if std::mem::take(&mut self.after_return) && rest.first() == Some(&b'\n') {
                at += 1;
                continue;
            }
            let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line_is_empty = false;
                return None;
            };
            let blank = self.line_is_empty && length == 0;
            self.line_is_empty = true;
            self.after_return = rest.get(length) == Some(&b'\r');
            at += length + 1;
            if !blank {
                continue;
            }
            if self.after_return && piece.get(at) == Some(&b'\n') {
                self.after_return = false;
                at += 1;
            }
            return Some(at);
        }
    }

    /// What the event is that ends with `last`.
    fn whole(&mut self, last: &[u8]) -> (Kind, Option<Meaning>) {
        let length = self.length + last.len();
        let whole_here = self.length == 0;
        self.length = 0;
        let first = std::mem::take(&mut self.first);
        let cut = length > EVENT_MAX;
        if !whole_here {
            self.keep(last);
        }
        let mut kept = std::mem::take(&mut self.kept);
        let text = if whole_here { last.get(..EVENT_MAX).unwrap_or(last) } else { &kept };
        let text = if first { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text) } else { text };
        let judged = match self.form {
            Form::NdJson => self.dialect.judge(Written { name: b"", data: text.trim_ascii(), cut }),
            Form::Sse => {
                let mut joined = std::mem::take(&mut self.joined);
                let judged = self.dialect.judge(Written { cut, ..fields(text, &mut joined) });
                self.joined = joined;
                judged
            }
        };
        kept.clear();
        kept.shrink_to(KEPT_MAX);
        self.joined.clear();
        self.joined.shrink_to(KEPT_MAX);
        self.kept = kept;
        judged
    }
}

/// An event's name and data; `joined` holds the data where it has several lines.
fn fields<'e>(text: &'e [u8], joined: &'e mut Vec<u8>) -> Written<'e> {
    let mut name: &[u8] = b"";
    let mut data: Option<&'e [u8]> = None;
    let mut several = false;
    for line in (Lines { rest: text }) {
        let colon = memchr::memchr(b':', line);
        let (field, value) = match colon {
            Some(0) => continue, // A comment.
            Some(colon) => (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default()),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value,
            b"data" => {
                if let Some(before) = data {
                    if !several {
                        joined.extend_from_slice(before);
                        several = true;
                    }
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                } else {
                    data = Some(value);
                }
            }
            _ => {}
        }
    }
    Written { name, data: if several { joined } else { data.unwrap_or_default() }, cut: false }
}

/// Lines that end with a line feed, a carriage return or both.
struct Lines<'e> {
    rest: &'e [u8],
}

impl<'e> Iterator for Lines<'e> {
    type Item = &'e [u8];

    fn next(&mut self) -> Option<&'e [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(length) = memchr::memchr2(b'\n', b'\r', self.rest) else {
            return Some(std::mem::take(&mut self.rest));
        };
        let (line, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
        Some(line)
    }
}

/// So much of an event is read.
pub const EVENT_MAX: usize = 64 << 10;

const KEPT_MAX: usize = 64 << 10; // What a stream holds on to between its events.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
