//! What it costs to know what an API means: a small event of a stream, an answer's head, an error's body.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use fender::dialect::{Dialect, Form, Head, Reader, builtin};

use super::row;

/// One small event, read and told apart.
pub const EVENT_MAX_NS: f64 = 1000.0;

/// A success, told by its head: what every answer costs.
pub const HEAD_MAX_NS: f64 = 100.0;

const CHAT: &[u8] = b"data: {\"id\":\"chatcmpl-9xAbCdEfGhIjKlMnOpQrStUvWx\",\"object\":\"chat.completion.chunk\",\"created\":1795334400,\
    \"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44added55e\",\
    \"choices\":[{\"index\":0,\"delta\":{\"content\":\" there\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";

const MESSAGES: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
    \"delta\":{\"type\":\"text_delta\",\"text\":\"Hello, how are you?\"}}\n\n";

const ERROR: &[u8] =
    b"{\"error\":{\"message\":\"Rate limit reached for gpt-4o in organization org-1 on tokens per min\",\
    \"type\":\"tokens\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}";

/// The dearest event and the head, in nanoseconds.
pub fn measure() -> (f64, f64) {
    let openai = dialect("openai");
    let chat = row("dialect: a chat event of 300 bytes", |_, _| read("openai", CHAT));
    let halves = row("dialect: the same in two pieces", |_, _| {
        let (one, other) = CHAT.split_at(150);
        read("openai", one) + read("openai", other)
    });
    let messages = row("dialect: a messages event of 140 bytes", |_, _| read("anthropic", MESSAGES));
    let plain = Dialect::generic();
    row("dialect: the same under generic", |_, _| read("generic", MESSAGES));
    let none = |_: &str| None;
    let head = |status| Head { status, field: &none, unix_now: Duration::from_secs(1_795_334_400) };
    let success = row("dialect: the head of a 200", |_, _| openai.of_head(&head(black_box(200))));
    row("dialect: the head of a 200 under generic", |_, _| plain.of_head(&head(black_box(200))));
    row("dialect: the body of a 429", |_, _| openai.of_body(&head(black_box(429)), ERROR, true));
    (chat.max(halves).max(messages), success)
}

fn dialect(name: &str) -> Arc<Dialect> {
    builtin::dialect(name).expect("it is built in")
}

/// The events that end in a piece of this thread's stream.
fn read(name: &'static str, piece: &[u8]) -> usize {
    thread_local! {
        static READERS: RefCell<Vec<(&'static str, Reader)>> = const { RefCell::new(Vec::new()) };
    }
    READERS.with_borrow_mut(|readers| {
        let known = readers.iter().position(|(of, _)| *of == name);
        let at = known.unwrap_or_else(|| {
            readers.push((name, Reader::new(&dialect(name), Form::Sse)));
            readers.len() - 1
        });
        let mut count = 0;
        let (_, reader) = readers.get_mut(at).expect("it is there");
        reader.read(black_box(piece), |event| {
            black_box(event);
            count += 1;
        });
        count
    })
}
