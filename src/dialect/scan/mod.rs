//! One pass over a JSON text, or over the beginning of one, that finds what a set of pointers names.
//!
//! Strict as RFC 8259 is, but for the bytes of strings: that they are UTF-8 is asked only of what is found. No recursion, no
//! allocation but for keys that bear escapes; nesting beyond [`DEPTH_MAX`] is malformed. Where an object has a key twice the
//! first one counts, so that what was said of a prefix holds for the whole.

mod pointers;

use std::borrow::Cow;

use pointers::{NONE, ROOT, Visited};
pub use pointers::{Pointers, Unaskable};

/// A value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw<'t> {
    /// A string: what stands between its quotes, and whether it bears escapes.
    Text(&'t [u8], bool),
    Number(&'t [u8]),
    Bool(bool),
    Null,
    Object,
    Array,
}

/// How far a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// It is whole.
    Whole,
    /// It is the beginning of a JSON text.
    Begun,
    /// No JSON text begins like this.
    Malformed,
}

impl Pointers {
    /// Reads a text; `found` hears of each value that a pointer names, in the order of the text. `whole`: nothing follows.
    pub fn scan<'t>(&self, text: &'t [u8], whole: bool, found: impl FnMut(usize, Raw<'t>)) -> Extent {
        let mut scan = Scan {
            pointers: self,
            text,
            at: 0,
            whole,
            frames: [Frame::default(); DEPTH_MAX],
            depth: 0,
            visited: Visited::default(),
        };
        match scan.run(found) {
            Ok(()) => Extent::Whole,
            Err(Stop::Ends) => Extent::Begun,
            Err(Stop::Malformed) => Extent::Malformed,
        }
    }
}

impl<'t> Raw<'t> {
    /// The text of a string; `None` if it is none, or not UTF-8.
    #[must_use]
    pub fn text(self) -> Option<Cow<'t, str>> {
        match self {
            Self::Text(inside, false) => std::str::from_utf8(inside).ok().map(Cow::Borrowed),
            Self::Text(inside, true) => unescaped(inside).map(Cow::Owned),
            _ => None,
        }
    }

    /// Whether it says something: neither null nor an empty string.
    #[must_use]
    pub fn is_something(self) -> bool {
        !matches!(self, Self::Null | Self::Text(b"", _))
    }
}

/// A string's text, from what stands between its quotes.
fn unescaped(inside: &[u8]) -> Option<String> {
    let mut quoted = Vec::with_capacity(inside.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inside);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok()
}

/// An object or an array that is open. Without padding, so that so many of them are cleared at once.
#[derive(Clone, Copy, Default)]
struct Frame {
    /// The number of the element that comes next.
    index: u32,
    node: u16,
    holds: Holds,
}

#[derive(Clone, Copy, Default, PartialEq)]
#[repr(u16)]
enum Holds {
    #[default]
    Elements,
    Keys,
}

enum Stop {
    /// The text ends before the value does.
    Ends,
    Malformed,
}

struct Scan<'p, 't> {
    pointers: &'p Pointers,
    text: &'t [u8],
    at: usize,
    whole: bool,
    frames: [Frame; DEPTH_MAX],
    depth: usize,
    visited: Visited,
}

impl<'t> Scan<'_, 't> {
    fn run(&mut self, mut found: impl FnMut(usize, Raw<'t>)) -> Result<(), Stop> {
        let mut node = ROOT;
        loop {
            self.blanks();
            let value = self.value()?;
            if let Some(pointer) = self.pointers.node(node).and_then(|node| node.pointer) {
                found(pointer, value);
            }
            let opened = matches!(value, Raw::Object | Raw::Array);
            if opened {
                self.open(node, if value == Raw::Object { Holds::Keys } else { Holds::Elements })?;
            }
            match self.next(opened)? {
                Some(next) => node = next,
                None => break,
            }
        }
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(Stop::Malformed) }
    }

    /// The value that stands here; of an object or an array the first byte alone.
    fn value(&mut self) -> Result<Raw<'t>, Stop> {
        match self.peek()? {
            b'{' => self.taken(1, Raw::Object),
            b'[' => self.taken(1, Raw::Array),
            b'"' => self.string().map(|(inside, escaped)| Raw::Text(inside, escaped)),
            b't' => self.word(b"true", Raw::Bool(true)),
            b'f' => self.word(b"false", Raw::Bool(false)),
            b'n' => self.word(b"null", Raw::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Stop::Malformed),
        }
    }

    fn open(&mut self, node: u16, holds: Holds) -> Result<(), Stop> {
        let frame = self.frames.get_mut(self.depth).ok_or(Stop::Malformed)?;
        *frame = Frame { index: 0, node, holds };
        self.depth += 1;
        if let Some(node) = self.pointers.node(node).filter(|_| holds == Holds::Keys) {
            self.visited.clear(node.below);
        }
        Ok(())
    }

    /// Goes to the next value; the place that it stands at, or `None` behind the last one.
    fn next(&mut self, mut fresh: bool) -> Result<Option<u16>, Stop> {
        loop {
            let Some(top) = self.depth.checked_sub(1) else { return Ok(None) };
            let Some(frame) = self.frames.get(top).copied() else { return Err(Stop::Malformed) };
            self.blanks();
            let byte = self.peek()?;
            let in_object = frame.holds == Holds::Keys;
            if byte == if in_object { b'}' } else { b']' } {
                self.at += 1;
                self.depth = top;
                fresh = false;
                continue;
            }
            if !fresh {
                if byte != b',' {
                    return Err(Stop::Malformed);
                }
                self.at += 1;
                self.blanks();
            }
            return if in_object { self.key(frame.node).map(Some) } else { Ok(Some(self.element(top))) };
        }
    }

    /// A key and its colon.
    fn key(&mut self, node: u16) -> Result<u16, Stop> {
        if self.peek()? != b'"' {
            return Err(Stop::Malformed);
        }
        let (inside, escaped) = self.string()?;
        self.blanks();
        if self.peek()? != b':' {
            return Err(Stop::Malformed);
        }
        self.at += 1;
        let Some(node) = self.pointers.node(node).filter(|node| !node.children.is_empty()) else {
            return Ok(NONE);
        };
        let child = if escaped {
            unescaped(inside).and_then(|key| node.child(key.as_bytes()))
        } else {
            node.child(inside)
        };
        match child {
            Some(child) if !self.visited.has(child.node) => {
                self.visited.set(child.node);
                Ok(child.node)
            }
            _ => Ok(NONE),
        }
    }

    fn element(&mut self, top: usize) -> u16 {
        let Some(frame) = self.frames.get_mut(top) else { return NONE };
        let number = frame.index;
        frame.index = number.saturating_add(1);
        let Some(node) = self.pointers.node(frame.node) else { return NONE };
        if node.each != NONE {
            return node.each;
        }
        node.children.iter().find(|child| child.index == Some(number)).map_or(NONE, |child| child.node)
    }

    fn string(&mut self) -> Result<(&'t [u8], bool), Stop> {
        let begun = self.at + 1;
        let mut at = begun;
        let mut escaped = false;
        loop {
            at += plain(self.text.get(at..).unwrap_or_default());
            match self.text.get(at).ok_or(Stop::Ends)? {
                b'"' => {
                    self.at = at + 1;
                    return Ok((self.text.get(begun..at).unwrap_or_default(), escaped));
                }
                b'\\' => {}
                _ => return Err(Stop::Malformed),
            }
            escaped = true;
            at += match self.text.get(at + 1).ok_or(Stop::Ends)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                b'u' => {
                    let digits = self.text.get(at + 2..).unwrap_or_default();
                    if digits.iter().take(4).any(|digit| !digit.is_ascii_hexdigit()) {
                        return Err(Stop::Malformed);
                    }
                    if digits.len() < 4 {
                        return Err(Stop::Ends);
                    }
                    6
                }
                _ => return Err(Stop::Malformed),
            };
        }
    }

    fn number(&mut self) -> Result<Raw<'t>, Stop> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length =
            rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let length = length.count();
        let more_may_come = length == rest.len() && !(self.whole && self.depth == 0);
        let written = rest.get(..length).unwrap_or_default();
        if more_may_come {
            return Err(Stop::Ends);
        }
        if !is_number(written) {
            return Err(Stop::Malformed);
        }
        self.taken(length, Raw::Number(written))
    }

    fn word(&mut self, word: &[u8], value: Raw<'t>) -> Result<Raw<'t>, Stop> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.starts_with(word) {
            self.taken(word.len(), value)
        } else if word.starts_with(rest) {
            Err(Stop::Ends)
        } else {
            Err(Stop::Malformed)
        }
    }

    fn taken(&mut self, length: usize, value: Raw<'t>) -> Result<Raw<'t>, Stop> {
        self.at += length;
        Ok(value)
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(Stop::Ends)
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

/// How many bytes stand in a string before the first that means something else: a quote, a backslash, a control character.
///
/// Eight at a time, for strings are short: in a word less one in each byte a byte that was 0 borrows, and shows its highest bit, as
/// one below 32 does in a word less 32. What borrows falsely stands behind the first that does not.
fn plain(text: &[u8]) -> usize {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let mut at = 0;
    let (words, rest) = text.as_chunks();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ each(b'"'), word ^ each(b'\\'));
        let found = (quote.wrapping_sub(each(1)) & !quote)
            | (backslash.wrapping_sub(each(1)) & !backslash)
            | (word.wrapping_sub(each(32)) & !word);
        let found = found & each(128);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..32)).count()
}

/// RFC 8259 section 6.
fn is_number(written: &[u8]) -> bool {
    let rest = written.strip_prefix(b"-").unwrap_or(written);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with(b"0")) {
        return false;
    }
    let rest = rest.get(whole..).unwrap_or_default();
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) if digits(fraction) == 0 => return false,
        Some(fraction) => fraction.get(digits(fraction)..).unwrap_or_default(),
        None => rest,
    };
    match rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        Some(exponent) => {
            let exponent =
                exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        None => rest.is_empty(),
    }
}

/// Nesting beyond this is malformed, as it is for serde_json.
pub const DEPTH_MAX: usize = 128;
