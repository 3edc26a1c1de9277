//! HTTP/1.1 as bytes, read strictly: what one side put on the wire, and how it ended.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing said.
    Clean,
    /// The connection closed before the framing was satisfied.
    Cut,
    /// The connection was reset.
    Reset,
}

/// The first line and the fields, in their order and spelling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The values of a field, joined as RFC 9110 allows; none if the field is absent.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values = self.all(name);
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1).unwrap_or_default();
        status.parse().unwrap_or_else(|_| panic!("no status in {:?}", self.line))
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    fn chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.field("content-length").map(|length| length.parse().expect("content-length is a number"))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) end: End,
}

impl Body {
    fn new(bytes: Vec<u8>, end: End) -> Self {
        Self { bytes, trailers: Vec::new(), end }
    }
}

/// A stream with the bytes that were read but not yet asked for.
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    ahead: Vec<u8>,
    ended: Option<End>,
    seen: Vec<u8>,
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new(), ended: None, seen: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// The first bytes that came in, for messages.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Whether the other side took the bytes; it may have hung up.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// A head; none at the end of the connection.
    pub(crate) fn head(&mut self) -> Option<Head> {
        let line = self.line()?;
        Some(Head { line, fields: self.fields()? })
    }

    pub(crate) fn request_body(&mut self, head: &Head) -> Body {
        match (head.chunked(), head.length()) {
            (true, None) => self.chunks(),
            (true, Some(_)) => panic!("both content-length and transfer-encoding in {head:?}"),
            (false, length) => self.sized(length.unwrap_or(0)),
        }
    }

    pub(crate) fn response_body(&mut self, method: &str, head: &Head) -> Body {
        let status = head.status();
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        match (head.chunked(), head.length()) {
            _ if bodiless => Body::new(Vec::new(), End::Clean),
            (true, None) => self.chunks(),
            (true, Some(_)) => panic!("both content-length and transfer-encoding in {head:?}"),
            (false, Some(length)) => self.sized(length),
            (false, None) => {
                let end = self.until_closed();
                let bytes = std::mem::take(&mut self.ahead);
                Body::new(bytes, if end == End::Cut { End::Clean } else { end })
            }
        }
    }

    /// One chunk's bytes, empty for the last one; none if the body was cut.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
        if size == 0 {
            return Some(Vec::new());
        }
        self.fill(size + 2)?;
        let mut bytes = self.take(size + 2);
        assert_eq!(bytes.split_off(size), b"\r\n", "a chunk ends with CRLF");
        Some(bytes)
    }

    /// Exactly so many bytes; none if the connection ended first.
    pub(crate) fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        self.fill(count)?;
        Some(self.take(count))
    }

    /// Reads to the end of the connection and says how it ended. What came is in `seen`.
    pub(crate) fn until_closed(&mut self) -> End {
        while self.more() {}
        self.ended.unwrap_or(End::Clean)
    }

    fn sized(&mut self, length: usize) -> Body {
        match self.exactly(length) {
            Some(bytes) => Body::new(bytes, End::Clean),
            None => Body::new(std::mem::take(&mut self.ahead), self.ended.unwrap_or(End::Cut)),
        }
    }

    fn chunks(&mut self) -> Body {
        let mut bytes = Vec::new();
        loop {
            match self.chunk() {
                None => return Body::new(bytes, self.ended.unwrap_or(End::Cut)),
                Some(chunk) if chunk.is_empty() => break,
                Some(chunk) => bytes.extend(chunk),
            }
        }
        match self.fields() {
            Some(trailers) => Body { bytes, trailers, end: End::Clean },
            None => Body::new(bytes, self.ended.unwrap_or(End::Cut)),
        }
    }

    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A line without its CRLF; a bare LF is a fault of the sender.
    fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self.ahead.iter().position(|byte| *byte == b'\n') {
                break at;
            }
            if !self.more() {
                return None;
            }
        };
        let mut line = self.take(end + 1);
        assert!(line.ends_with(b"\r\n"), "a bare LF in {:?}", String::from_utf8_lossy(&line));
        line.truncate(end - 1);
        Some(String::from_utf8(line).expect("a head is ASCII"))
    }

    fn fill(&mut self, count: usize) -> Option<()> {
        while self.ahead.len() < count {
            if !self.more() {
                return None;
            }
        }
        Some(())
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Reads once; false at the end of the connection. Beyond the socket's patience the test fails.
    fn more(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = Some(End::Cut),
            Ok(count) => {
                self.ahead.extend(&buffer[..count]);
                self.seen.extend(&buffer[..count.min(4096_usize.saturating_sub(self.seen.len()))]);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came in time, after {:?}", String::from_utf8_lossy(&self.ahead))
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.ended = Some(End::Cut),
            Err(_) => self.ended = Some(End::Reset),
        }
        false
    }
}
