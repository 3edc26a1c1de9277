//! HTTP/1.1 as the clients speak it: prepared requests, answers counted to their ends.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use crate::upstream::field;

/// `GET path`, or a POST of so many bytes to `/post/BYTES`.
pub(crate) fn request(path: &str, close: bool) -> Vec<u8> {
    let connection = if close { "connection: close\r\n" } else { "" };
    let common = format!("host: bench\r\nuser-agent: bench\r\naccept: */*\r\n{connection}");
    match path.strip_prefix("/post/") {
        Some(bytes) => {
            let body = "x".repeat(bytes.parse().expect("a size"));
            let head = format!("POST {path} HTTP/1.1\r\n{common}content-type: application/json\r\n");
            format!("{head}content-length: {bytes}\r\n\r\n{body}").into_bytes()
        }
        None => format!("GET {path} HTTP/1.1\r\n{common}\r\n").into_bytes(),
    }
}

/// How much of an answer has come.
#[derive(Default)]
pub(crate) struct Answer {
    /// Of a head that is not whole yet.
    held: Vec<u8>,
    /// Of the body, once the head is whole.
    left: Option<usize>,
}

impl Answer {
    /// Reads once; whether the answer is whole.
    pub(crate) fn take(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<bool> {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut came = &buffer[..count];
        let left = match self.left {
            Some(left) => left,
            None => {
                self.held.extend_from_slice(came);
                let Some(end) = memchr::memmem::find(&self.held, b"\r\n\r\n") else { return Ok(false) };
                let head = String::from_utf8_lossy(&self.held[..end]);
                assert!(head.starts_with("HTTP/1.1 200"), "not answered 200:\n{head}");
                let length = field(&head, "content-length").expect("answers have lengths");
                came = &came[count - (self.held.len() - end - 4)..];
                length.parse().expect("a length")
            }
        };
        let left = left.checked_sub(came.len()).expect("no more comes than was told");
        self.held.clear();
        self.left = (left > 0).then_some(left);
        Ok(left == 0)
    }
}
