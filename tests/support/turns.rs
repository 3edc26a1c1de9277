//! An upstream whose requests are answered step by step, the n-th as the n-th turn says, all later ones as the last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::upstream::{Connection, Upstream};

/// What an upstream does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A whole answer: status, fields and body.
    Answer(&'static str, &'static str, String),
    /// The head of an event stream.
    Stream,
    /// The same in lines of JSON.
    Lines,
    /// A piece of its body.
    Piece(String),
    /// Nothing for so many milliseconds.
    Pause(u64),
    /// The body's clean end.
    End,
    /// The connection breaks.
    Reset,
    /// Nothing, until the other side hangs up.
    Hang,
}

/// A turn for each request.
pub(crate) fn in_turns(turns: Vec<Vec<Step>>) -> Upstream {
    let turn = AtomicUsize::new(0);
    Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            let steps = turns.get(turn).or(turns.last()).expect("at least one turn");
            if !steps.iter().all(|step| does(connection, step)) {
                return;
            }
        }
    })
}

/// Whether the connection serves on.
fn does(connection: &mut Connection, step: &Step) -> bool {
    match step {
        Step::Answer(status, fields, body) => {
            let fields: String = fields.lines().map(|field| format!("{field}\r\n")).collect();
            let length = body.len();
            connection.send(format!("HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\n\r\n{body}"))
        }
        Step::Stream => connection.send(head("text/event-stream")),
        Step::Lines => connection.send(head("application/x-ndjson")),
        Step::Piece(bytes) => connection.send(format!("{:x}\r\n{bytes}\r\n", bytes.len())),
        Step::Pause(milliseconds) => {
            thread::sleep(Duration::from_millis(*milliseconds));
            true
        }
        Step::End => connection.send("0\r\n\r\n"),
        Step::Reset => {
            thread::sleep(Duration::from_millis(50)); // so that the bytes leave before the reset overtakes them
            connection.reset();
            false
        }
        Step::Hang => {
            connection.until_closed();
            false
        }
    }
}

fn head(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n")
}
