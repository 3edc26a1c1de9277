//! Streams are split as their standards say, wherever the network cuts them.

use fender::dialect::{Dialect, Event, Form, Kind, Reader};
use std::sync::Arc;

use super::dialect;

/// The events of a stream that comes in these pieces, with their ends counted from its beginning.
pub(super) fn events(dialect: &Arc<Dialect>, form: Form, pieces: &[&[u8]]) -> Vec<Event> {
    let mut reader = Reader::new(dialect, form);
    let mut all = Vec::new();
    let mut before = 0;
    for piece in pieces {
        reader.read(piece, |event| all.push(Event { end: before + event.end, ..event }));
        before += piece.len();
    }
    let between = reader.is_between();
    let last = reader.finish();
    assert!(!between || last.is_none(), "nothing was left, and yet {last:?} came");
    let from = before - pieces.iter().rev().find(|piece| !piece.is_empty()).map_or(0, |piece| piece.len());
    all.extend(last.map(|event| Event { end: from + event.end, ..event }));
    all
}

fn kinds(dialect_name: &str, form: Form, text: &str) -> Vec<Kind> {
    events(&dialect(dialect_name), form, &[text.as_bytes()]).iter().map(|event| event.kind).collect()
}

#[test]
fn events_end_at_blank_lines_of_any_kind() {
    use Kind::{Content, KeepAlive};
    for (text, wanted) in [
        ("data: a\n\ndata: b\n\n", vec![Content, Content]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", vec![Content, Content]),
        ("data: a\r\rdata: b\r\r", vec![Content, Content]),
        ("data: a\n\r\ndata: b\r\n\n", vec![Content, Content]),
        ("\u{feff}data: a\n\n", vec![Content]),
        (": keep-alive\n\n", vec![KeepAlive]),
        (":\n\ndata\n\n", vec![KeepAlive, KeepAlive]),
        ("event: x\nid: 1\nretry: 5\n\n", vec![KeepAlive]),
        ("data: a\ndata: b\n\n", vec![Content]),
        ("data\ndata\n\n", vec![Content]),
        ("data:\n\n", vec![KeepAlive]),
        ("datax: a\n\n", vec![KeepAlive]),
        ("data: a", vec![]),
        ("data: a\n", vec![]),
        ("\n\n", vec![KeepAlive, KeepAlive]),
        ("", vec![]),
    ] {
        assert_eq!(kinds("generic", Form::Sse, text), wanted, "{text:?}");
    }
}

#[test]
fn lines_of_json_end_at_line_feeds() {
    use Kind::{Content, KeepAlive};
    assert_eq!(
        kinds("generic", Form::NdJson, "{}\n\n \r\n{\"a\":1}"),
        [Content, KeepAlive, KeepAlive, Content]
    );
    assert_eq!(kinds("generic", Form::NdJson, "{}\n"), [Content]);
}

#[test]
fn the_end_of_an_event_is_behind_its_last_byte() {
    let text = b"data: a\r\n\r\n: x\n\ndata: b\n\n";
    let all = events(&dialect("generic"), Form::Sse, &[text]);
    assert_eq!(all.iter().map(|event| event.end).collect::<Vec<_>>(), [11, 16, text.len()]);
    let mut reader = Reader::new(&dialect("generic"), Form::Sse);
    reader.read(b"data: a\n\nda", |_| {});
    assert!(!reader.is_between());
    reader.read(b"ta: b\n\n", |event| assert_eq!(event.end, 7));
    assert!(reader.is_between());
}

#[test]
fn an_event_beyond_the_bound_is_content_and_not_kept() {
    let long = format!("data: {{\"error\":\"{}\"}}\n\ndata: [DONE]\n\n", "x".repeat(300 << 10));
    let whole = events(&dialect("openai"), Form::Sse, &[long.as_bytes()]);
    let pieces: Vec<&[u8]> = long.as_bytes().chunks(1000).collect();
    assert_eq!(events(&dialect("openai"), Form::Sse, &pieces), whole);
    assert_eq!(whole.iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::Content, Kind::End]);
}

/// The last event of a Responses stream bears the whole answer once more, and its type first.
#[test]
fn an_event_beyond_the_bound_is_what_its_beginning_tells() {
    let long = |data: &str| format!("event: x\ndata: {data}{}\"}}\n\n", "x".repeat(300 << 10));
    for (data, wanted) in [
        (r#"{"type":"response.completed","response":{"error":null,"output":""#, Kind::End),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"insufficient_quota","message":""#,
            Kind::Error,
        ),
        (r#"{"type":"response.image_generation_call.partial_image","partial_image_b64":""#, Kind::Content),
        (r#"{"output":""#, Kind::Content),
        (r#"{"output" ""#, Kind::Malformed),
    ] {
        let text = long(data);
        let whole = events(&dialect("openai"), Form::Sse, &[text.as_bytes()]);
        assert_eq!(whole.iter().map(|event| event.kind).collect::<Vec<_>>(), [wanted], "{data}");
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(7000).collect();
        assert_eq!(events(&dialect("openai"), Form::Sse, &pieces), whole, "{data}");
    }
}

#[test]
fn an_end_mark_without_its_blank_line_is_one_all_the_same() {
    assert_eq!(kinds("openai", Form::Sse, "data: [DONE]\n"), [Kind::End]);
    assert_eq!(kinds("openai", Form::Sse, "data: [DONE]"), [Kind::End]);
    assert_eq!(kinds("openai", Form::Sse, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}"), []);
}
