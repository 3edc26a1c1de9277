//! Any bytes are read as a head, or as chunks, or refused; never with a panic.

use fender::inbound::framing::{Chunks, Framing, Progress, blank_lines, read_head};
use proptest::prelude::*;

/// What parsers stumble over, among ordinary bytes.
pub(super) fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => any::<u8>().prop_map(|byte| vec![byte]),
        4 => prop::sample::select(&b"\r\n\0\t :;,=0159afAFzG/\x7f\xff"[..]).prop_map(|byte| vec![byte]),
        1 => prop::sample::select(&[
            "\r\n", "\r\n\r\n", "\n\n", "GET / HTTP/1.1\r\n", "host: a\r\n", "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n", "transfer-encoding : chunked\r\n", "HTTP/1.0\r\n", "0\r\n\r\n",
            "ffffffffffffffff", "0000000000000003\r\n", "3;a=b\r\n", "3 \r\n", "18446744073709551615",
        ][..]).prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_head_panics(bytes in hostile_bytes(), start in prop::sample::select(&["", "GET / HTTP/1.1\r\nhost: a\r\n", "POST /x HTTP/1.1\r\n"][..])) {
        let bytes = [start.as_bytes(), &bytes].concat();
        prop_assert!(blank_lines(&bytes) <= bytes.len());
        if let Ok(Some(head)) = read_head(&bytes) {
            prop_assert!(head.length <= bytes.len());
            prop_assert!(bytes[..head.length].ends_with(b"\r\n\r\n"));
            prop_assert_eq!(read_head(&bytes[..head.length]), Ok(Some(head)), "what follows it changes it");
        }
    }

    #[test]
    fn no_chunks_panic_and_no_split_changes_them(bytes in hostile_bytes(), start in prop::sample::select(&["", "3\r\nabc\r\n", "0\r\n"][..]), piece in 1usize..7) {
        let bytes = [start.as_bytes(), &bytes].concat();
        let whole = Chunks::default().advance(&bytes);
        let (mut chunks, mut at, mut split) = (Chunks::default(), 0, Progress::More);
        for piece in bytes.chunks(piece) {
            split = match chunks.advance(piece) {
                Progress::More => Progress::More,
                Progress::Done(length) => Progress::Done(at + length),
                Progress::Malformed(length) => Progress::Malformed(at + length),
            };
            if split != Progress::More {
                break;
            }
            at += piece.len();
        }
        prop_assert_eq!(whole, split);
    }
}

#[test]
fn chunks_end_where_they_end() {
    for (bytes, wanted) in [
        ("0\r\n\r\n", Progress::Done(5)),
        ("0\r\n\r\nGET", Progress::Done(5)),
        ("3\r\nabc\r\n0\r\n\r\n", Progress::Done(13)),
        ("3;a=\"b\"\r\nabc\r\n0;x\r\nt: 1\r\nu: 2\r\n\r\n!", Progress::Done(33)),
        ("000a\r\n0123456789\r\n0\r\n\r\n", Progress::Done(23)),
        ("3\r\nabc\r\n0\r\n", Progress::More),
        ("", Progress::More),
        ("\r\n", Progress::Malformed(0)),
        (";a\r\n", Progress::Malformed(0)),
        ("3 \r\nabc", Progress::Malformed(1)),
        ("3\nabc", Progress::Malformed(1)),
        ("3\r\nabcd", Progress::Malformed(6)),
        ("3;\0\r\n", Progress::Malformed(2)),
        ("00000000000000000", Progress::Malformed(16)),
        ("0\r\nt: 1\nu: 2\r\n\r\n", Progress::Malformed(7)),
    ] {
        assert_eq!(Chunks::default().advance(bytes.as_bytes()), wanted, "{bytes:?}");
    }
}

#[test]
fn a_head_says_what_follows() {
    let head = |fields: &str| read_head(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes());
    let read = |fields| head(fields).unwrap().map(|head| (head.framing, head.upgrade));
    assert_eq!(read(""), Some((Framing::Length(0), false)));
    assert_eq!(read("content-length: 7\r\ncontent-length: 7\r\n"), Some((Framing::Length(7), false)));
    assert_eq!(read("transfer-encoding: Chunked\r\nupgrade: x\r\n"), Some((Framing::Chunked, true)));
    assert!(head("content-length: 18446744073709551615\r\n").is_err());
    assert_eq!(read_head(b"GET / HTTP/1.1\r\nhost: a\r\n"), Ok(None));
}
