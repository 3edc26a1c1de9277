//! Where one HTTP/1.1 message ends and the next begins, read strictly.
//!
//! The HTTP library in front of which this stands is lenient where RFC 9112 lets a recipient be (a bare LF ends a line,
//! Transfer-Encoding quietly beats Content-Length). A proxy must not be: what it reads one way and the next hop another is
//! request smuggling. This module is pure: bytes in, verdict out.

use std::mem::MaybeUninit;

use crate::policy::blame::ClientFault as Refusal;

/// Header fields in one head; more are refused as too large. It is the HTTP library's own default: beyond it the library
/// allocates room for each head anew, which costs more than all the rest of its parsing.
pub const HEADERS_MAX: usize = 100;

/// Bytes of one chunk's extensions, and of all trailers together.
const EXTENSION_MAX: usize = 4 * 1024;
const TRAILERS_MAX: usize = 16 * 1024;

/// How the body that follows a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// A complete head that the strict reading accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes up to and with the empty line.
    pub length: usize,
    /// What follows.
    pub framing: Framing,
    /// The request asks for another protocol: what follows its body may be no HTTP.
    pub upgrade: bool,
}

/// Reads the head at the start of `bytes`: `Ok(None)` means that it is not complete yet.
///
/// # Errors
/// The [`Refusal`] tells what a stricter or laxer parser could have read differently.
pub fn read_head(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut slots);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal_of(error)),
    };
    let head = bytes.get(..length).unwrap_or(bytes);
    lines_end_in_crlf(head)?;
    check_target(request.method.unwrap_or_default(), request.path.unwrap_or_default())?;
    fields(request.headers, request.version == Some(1))
        .map(|(framing, upgrade)| Some(Head { length, framing, upgrade }))
}

/// Empty lines before a request line are to be ignored (RFC 9112 section 2.2): how many bytes they take.
#[must_use]
pub fn blank_lines(bytes: &[u8]) -> usize {
    let mut skipped = 0;
    while bytes.get(skipped..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        skipped += 2;
    }
    skipped
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::HeaderName => Refusal::Bad(
            "a header field's name is malformed (white space before the colon, or a folded line)",
        ),
        httparse::Error::HeaderValue => Refusal::Bad("a header field's value holds a control character"),
        httparse::Error::NewLine => Refusal::Bad("a line does not end in CR LF"),
        httparse::Error::Version => {
            Refusal::Bad("the request line names no HTTP version that is spoken here")
        }
        httparse::Error::Token | httparse::Error::Status => Refusal::Bad("the request line is malformed"),
    }
}

fn lines_end_in_crlf(head: &[u8]) -> Result<(), Refusal> {
    // All bytes are looked at, without a branch for each: the compiler makes wide steps of it.
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    let bare = |bare, (byte, next): (&u8, &u8)| bare | ((*next == b'\n') & (*byte != b'\r'));
    if head.first() == Some(&b'\n') || pairs.fold(false, bare) {
        return Err(Refusal::Bad("a line ends in a bare LF"));
    }
    Ok(())
}

/// What may stand in a target that is a path, and means nothing but itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'$'..=b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'_' | b'~')
}

fn check_target(method: &str, target: &str) -> Result<(), Refusal> {
    if method == "CONNECT" {
        return Err(Refusal::Bad("CONNECT is not served: this is a reverse proxy"));
    }
    let plain = target.starts_with('/') && target.bytes().all(is_plain);
    if plain || names_a_resource(target) {
        return Ok(());
    }
    Err(Refusal::Bad("the request target is malformed"))
}

/// A path, or a whole http URL without credentials; a fragment has no place in a request (RFC 9112 section 3.2).
fn names_a_resource(target: &str) -> bool {
    let Ok(uri) = target.parse::<http::Uri>() else { return false };
    let whole = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|host| !host.as_str().contains('@'));
    !target.contains('#') && (target.starts_with('/') || whole)
}

fn fields(headers: &[httparse::Header<'_>], http_1_1: bool) -> Result<(Framing, bool), Refusal> {
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut upgrade = false;
    let mut hosts = 0;
    for header in headers {
        match header.name.len() {
            4 if header.name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                check_host(header.value)?;
            }
            7 if header.name.eq_ignore_ascii_case("upgrade") => upgrade = true,
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let value = content_length(header.value)?;
                if length.replace(value).is_some_and(|earlier| earlier != value) {
                    return Err(Refusal::Bad("Content-Length is given twice and differs"));
                }
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !http_1_1 || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Bad("Transfer-Encoding must be chunked, once, under HTTP/1.1"));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && http_1_1) {
        return Err(Refusal::Bad("exactly one Host header is required"));
    }
    match (chunked, length) {
        (true, Some(_)) => Err(Refusal::Bad("both Content-Length and Transfer-Encoding are given")),
        (true, None) => Ok((Framing::Chunked, upgrade)),
        (false, length) => Ok((Framing::Length(length.unwrap_or(0)), upgrade)),
    }
}

/// What RFC 3986 section 3.2 lets stand in a host and a port; empty is allowed (RFC 9110 section 7.2).
fn check_host(value: &[u8]) -> Result<(), Refusal> {
    let fits = |byte: u8| {
        matches!(byte,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'$'..=b'.' | b':' | b';' | b'=' | b'[' | b']' | b'_' | b'~')
    };
    if value.iter().copied().all(fits) { Ok(()) } else { Err(Refusal::Bad("the Host header is malformed")) }
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = value.trim_ascii();
    let number = if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        None
    } else {
        std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok())
    };
    // The two largest values are taken as marks by the HTTP library.
    number.filter(|number| *number < u64::MAX - 2).ok_or(Refusal::Bad("Content-Length is not a number"))
}

/// Follows a chunked body to its end without copying it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    state: ChunkState,
    trailers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size { value: u64, digits: u8 },
    Extension { value: u64, length: usize },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// What [`Chunks::advance`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes belong to the body, more are to come.
    More,
    /// The body ends after this many of the bytes.
    Done(usize),
    /// After this many of the bytes the coding is malformed: where the message ends is unknown.
    Malformed(usize),
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: ChunkState::Size { value: 0, digits: 0 }, trailers: 0 }
    }
}

impl Chunks {
    /// Reads on in `bytes`.
    pub fn advance(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let ChunkState::Data { left } = self.state {
                let here = left.min((bytes.len() - at) as u64);
                at += usize::try_from(here).unwrap_or(bytes.len());
                self.state =
                    if here == left { ChunkState::DataCr } else { ChunkState::Data { left: left - here } };
                continue;
            }
            let Some(next) = self.step(byte) else { return Progress::Malformed(at) };
            self.state = next;
            at += 1;
            if self.state == ChunkState::End {
                return Progress::Done(at);
            }
        }
        Progress::More
    }

    /// Takes one byte outside chunk data; `None` where it cannot stand.
    fn step(&mut self, byte: u8) -> Option<ChunkState> {
        use ChunkState as S;
        Some(match (self.state, byte) {
            (S::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                S::Size { value: (value << 4) | u64::from(digit), digits: digits + 1 }
            }
            (S::Size { value, digits: 1.. }, b'\r') => S::SizeLf { value },
            (S::Size { value, digits: 1.. }, b';') => S::Extension { value, length: 0 },
            (S::Extension { value, .. }, b'\r') => S::SizeLf { value },
            (S::Extension { value, length }, byte)
                if byte != b'\n' && byte != 0 && length < EXTENSION_MAX =>
            {
                S::Extension { value, length: length + 1 }
            }
            (S::SizeLf { value: 0 }, b'\n') => S::TrailerStart,
            (S::SizeLf { value }, b'\n') => S::Data { left: value },
            (S::DataCr, b'\r') => S::DataLf,
            (S::DataLf, b'\n') => S::Size { value: 0, digits: 0 },
            (S::TrailerStart, b'\r') => S::EndLf,
            (S::TrailerStart | S::Trailer, byte)
                if byte != b'\n' && byte != 0 && self.trailers < TRAILERS_MAX =>
            {
                self.trailers += 1;
                if byte == b'\r' { S::TrailerLf } else { S::Trailer }
            }
            (S::TrailerLf, b'\n') => S::TrailerStart,
            (S::EndLf, b'\n') => S::End,
            _ => return None,
        })
    }
}
