//! HTTP/2 frames as bytes, for what no library would send.

use std::io::{Read, Write};

use super::{Client, Connection};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS_KIND: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
/// END_STREAM and END_HEADERS.
pub(crate) const WHOLE: u8 = 5;

/// :method GET, :scheme http, :path /, :authority a
pub(crate) const ASK: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// A frame's nine bytes of head, and its payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// None at the end of the connection.
    fn read(mut exactly: impl FnMut(usize) -> Option<Vec<u8>>) -> Option<Self> {
        let head = exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Self { kind: head[3], flags: head[4], stream, payload: exactly(length as usize)? })
    }
}

impl Connection {
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        Frame::read(|count| self.exactly(count))
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        Frame::read(|count| self.exactly(count))
    }

    /// The next frame of this kind that is no acknowledgement; others are passed over.
    pub(crate) fn frame_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            if frame.kind == kind && !(kind == SETTINGS_KIND && frame.flags & ACK != 0) {
                return Some(frame);
            }
        }
    }
}
