//! However a client's bytes are cut in pieces, the same of them pass, and the same is refused.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fender::policy::blame::ClientFault;
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::framing::hostile_bytes;
use super::line::guarded;

const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// What came of a connection.
#[derive(Debug, PartialEq)]
struct Judged {
    passed: Vec<u8>,
    refused: Option<(u64, ClientFault)>,
    broken: bool,
}

/// Passes `bytes` through a guard in these pieces, over and over; each read has room for `room`.
fn judged(bytes: &[u8], pieces: &[usize], room: usize, head_bytes_max: usize) -> Judged {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    let _timers = runtime.enter();
    let (mut guard, wire, far) = guarded(head_bytes_max);
    let mut judged = Judged { passed: Vec::new(), refused: None, broken: false };
    let mut space = vec![0; room];
    let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() && !judged.broken {
        let size = *sizes.next().unwrap_or(&usize::MAX);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        far.send(piece);
        rest = after;
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut guard).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => judged.passed.extend(buffer.filled()),
                Poll::Ready(Err(_)) => {
                    judged.broken = true;
                    break;
                }
            }
        }
    }
    judged.refused = (1..100).find_map(|number| wire.refused(number).map(|why| (number, why)));
    judged
}

fn field() -> impl Strategy<Value = String> {
    ("[a-z][a-z-]{0,8}", "[!-~]{0,20}").prop_map(|(name, value)| format!("x-{name}: {value}\r\n"))
}

fn chunked() -> impl Strategy<Value = Vec<u8>> {
    let chunk =
        (prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,4}(=[a-z0-9]{1,4})?){0,2}", any::<bool>());
    let chunks = prop::collection::vec(chunk, 0..4);
    (chunks, prop::collection::vec(field(), 0..3)).prop_map(|(chunks, trailers)| {
        let mut body = Vec::new();
        for (data, extension, upper) in chunks {
            let size = if upper { format!("{:X}", data.len()) } else { format!("0{:x}", data.len()) };
            body.extend(format!("{size}{extension}\r\n").as_bytes());
            body.extend(data);
            body.extend(b"\r\n");
        }
        body.extend(format!("0\r\n{}\r\n", trailers.concat()).as_bytes());
        body
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        Just((String::new(), Vec::new())),
        prop::collection::vec(any::<u8>(), 0..60)
            .prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
        chunked().prop_map(|body| ("transfer-encoding: chunked\r\n".to_owned(), body)),
    ];
    let start = ("(\r\n){0,2}", "(GET|POST|PUT|X-Y)", "(/[a-z0-9%.]{0,6}){1,3}");
    (start, prop::collection::vec(field(), 0..4), body).prop_map(
        |((blank, method, target), fields, (framing, body))| {
            let fields = fields.concat();
            let head = format!("{blank}{method} {target} HTTP/1.1\r\nhost: a\r\n{fields}{framing}\r\n");
            [head.as_bytes(), &body].concat()
        },
    )
}

fn pipeline() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(message(), 1..5).prop_map(|messages| messages.concat())
}

/// A sound pipeline in which something was overwritten, put in or taken out; its last head ends, so that nothing waits.
fn mutilated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0usize..6, prop::collection::vec(hostile_bytes(), 0..2));
    (pipeline(), prop::collection::vec(edit, 1..4)).prop_map(|(mut bytes, edits)| {
        for (at, length, insert) in edits {
            let start = at.index(bytes.len() + 1);
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, insert.concat());
        }
        bytes.extend(b"\r\n\r\n");
        bytes
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![1]),
        2 => prop::collection::vec(1usize..80, 1..8),
        1 => prop::collection::vec(1usize..4, 1..8),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sound_messages_pass_as_they_are(bytes in pipeline(), pieces in pieces(), room in 1usize..200) {
        let judged = judged(&bytes, &pieces, room, 64 * 1024);
        prop_assert_eq!(judged, Judged { passed: bytes, refused: None, broken: false });
    }

    #[test]
    fn hostile_messages_are_judged_alike(bytes in mutilated(), pieces in pieces(), room in 1usize..200, head_bytes_max in prop::sample::select(&[60, 120, 65536][..])) {
        let whole = judged(&bytes, &[usize::MAX], 65536, head_bytes_max);
        let sound = if whole.refused.is_some() { whole.passed.strip_suffix(STAND_IN).unwrap() } else { &whole.passed };
        prop_assert!(bytes.starts_with(sound), "bytes are changed");
        prop_assert_eq!(&whole, &judged(&bytes, &pieces, room, head_bytes_max));
    }
}

#[test]
fn nothing_behind_a_malformed_chunk_passes() {
    for chunks in
        ["5 \r\nhello\r\n", "00000000000000005\r\nhello\r\n", "0\r\nt: 1\nu: 2\r\n\r\n", "5;\0\r\nhello\r\n"]
    {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let bytes = format!("{head}{chunks}0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n");
        let judged = judged(bytes.as_bytes(), &[usize::MAX], 65536, 65536);
        assert!(judged.broken, "{chunks:?}");
        let chunks_passed = judged.passed.len() - head.len();
        assert!(chunks_passed < chunks.len(), "{chunks_passed} of {chunks:?}");
    }
}
