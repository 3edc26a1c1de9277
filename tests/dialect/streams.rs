//! Streams as the APIs write them: what each event is; the same wherever they are cut; the same fault in an answer and in an event.

use std::fmt::Write as _;
use std::sync::LazyLock;

use fender::dialect::{Event, Form, Kind, Reader, builtin};
use proptest::prelude::*;

use super::stream_reader::events;
use super::{dialect, meaning};

const TRANSCRIPTS: [(&str, &str, &str); 10] = [
    ("openai", "chat", include_str!("transcripts/openai_chat.txt")),
    ("openai", "tools", include_str!("transcripts/openai_tools.txt")),
    ("openai", "responses", include_str!("transcripts/openai_responses.txt")),
    ("openai", "responses_failed", include_str!("transcripts/openai_responses_failed.txt")),
    ("azure-openai", "chat", include_str!("transcripts/azure_chat.txt")),
    ("anthropic", "messages", include_str!("transcripts/anthropic_messages.txt")),
    ("anthropic", "overloaded", include_str!("transcripts/anthropic_overloaded.txt")),
    ("gemini", "generate", include_str!("transcripts/gemini_generate.txt")),
    ("gemini", "exhausted", include_str!("transcripts/gemini_exhausted.txt")),
    ("deepseek", "reasoner", include_str!("transcripts/deepseek_reasoner.txt")),
];

/// Each event's kind, and the beginning of what it says.
fn told(text: &str, events: &[Event]) -> String {
    let mut told = String::new();
    let mut from = 0;
    for event in events {
        let written = text[from..event.end].trim_end().replace('\n', " | ");
        let shown: String = written.chars().take(100).collect();
        let kind = format!("{:?}", event.kind);
        write!(told, "{kind:<10}").unwrap();
        if let Some(meaning) = event.meaning {
            write!(
                told,
                "{:?} {:?} {:?} {:?} ",
                meaning.outcome, meaning.verdict, meaning.told, meaning.scope
            )
            .unwrap();
        }
        writeln!(told, "{shown}").unwrap();
        from = event.end;
    }
    told
}

#[test]
fn the_events_of_each_api_are_known() {
    for (name, what, text) in TRANSCRIPTS {
        let all = events(&dialect(name), Form::Sse, &[text.as_bytes()]);
        insta::assert_snapshot!(format!("{name}_{what}"), told(text, &all));
        assert_eq!(
            all.last().map(|event| event.end),
            Some(text.len()),
            "{name} {what}: nothing is left over"
        );
    }
}

#[test]
fn streams_that_tell_their_end_are_known() {
    let ends = |name: &str| builtin::dialect(name).expect("it is built in").has_end_mark(Form::Sse);
    let telling: Vec<&str> = builtin::names().filter(|name| ends(name)).collect();
    assert_eq!(telling, ["openai", "azure-openai", "anthropic", "gemini", "deepseek"]);
    assert!(builtin::names().all(|name| !dialect(name).has_end_mark(Form::NdJson)));
}

/// Servers that speak nearly as OpenAI does are read kindly: what nobody knows is content.
#[test]
fn compatible_servers_are_read_kindly() {
    use Kind::{Content, End, Error, KeepAlive, Malformed, Other};
    let openai = dialect("openai");
    for (text, wanted) in [
        (
            r#"data: {"choices":[{"delta":{"role":"assistant","content":"","tool_calls":[]},"finish_reason":""}]}"#,
            Other,
        ),
        (r#"data:{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#, Content),
        (r#"data: {"choices":[{"delta":{"reasoning":"a"}}]}"#, Content),
        (r#"data: {"choices":[{"text":"a"}]}"#, Content),
        (r#"data: {"choices":[],"usage":{"total_tokens":3}}"#, Other),
        (r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#, End),
        (r#"data: {"token":{"text":"a"}}"#, Content),
        (r#"data: {"error":null,"choices":[{"delta":{"content":"a"}}]}"#, Content),
        (r#"data: {"error":"boom"}"#, Error),
        (r#"data: {"object":"error","message":"boom","type":"BadRequestError","code":400}"#, Content),
        ("data: {\"choices\":[{\"delta\":{\"content\":\"a", Malformed),
        ("data: upstream connect error", Malformed),
        (": OPENROUTER PROCESSING", KeepAlive),
        ("event: ping", KeepAlive),
    ] {
        let all = events(&openai, Form::Sse, &[text.as_bytes(), b"\n\n"]);
        assert_eq!(all.iter().map(|event| event.kind).collect::<Vec<_>>(), [wanted], "{text}");
    }
}

/// The status and the error of an answer, and the words of the event that says the same.
const FAULTS: &[(&str, u16, &str)] = &[
    ("openai", 429, r#"{"message":"m","type":"requests","param":null,"code":"rate_limit_exceeded"}"#),
    (
        "openai",
        429,
        r#"{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}"#,
    ),
    ("openai", 429, r#"{"message":"m","type":"tokens","code":null}"#),
    ("openai", 429, r#"{"code":"slow_down"}"#),
    ("openai", 500, r#"{"message":"m","type":"server_error","param":null,"code":null}"#),
    ("openai", 503, r#"{"message":"m","type":"service_unavailable","code":"server_is_overloaded"}"#),
    (
        "openai",
        400,
        r#"{"message":"m","type":"invalid_request_error","param":"p","code":"context_length_exceeded"}"#,
    ),
    ("openai", 400, r#"{"message":"m","type":"BadRequestError","param":null,"code":400}"#),
    ("openai", 429, r#"{"message":"m","type":"Throttled","param":null,"code":429}"#),
    ("azure-openai", 400, r#"{"message":"m","code":"content_filter"}"#),
    (
        "deepseek",
        402,
        r#"{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}"#,
    ),
    ("anthropic", 429, r#"{"type":"rate_limit_error","message":"m"}"#),
    (
        "anthropic",
        429,
        r#"{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}"#,
    ),
    ("anthropic", 529, r#"{"type":"overloaded_error","message":"Overloaded"}"#),
    ("anthropic", 500, r#"{"type":"api_error"}"#),
    ("anthropic", 504, r#"{"type":"timeout_error"}"#),
    ("anthropic", 402, r#"{"type":"billing_error"}"#),
    ("anthropic", 400, r#"{"type":"invalid_request_error"}"#),
    ("anthropic", 403, r#"{"type":"permission_error"}"#),
    ("gemini", 429, r#"{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"26s"}]}"#),
    (
        "gemini",
        429,
        r#"{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"PerDayX"}]}]}"#,
    ),
    ("gemini", 503, r#"{"code":503,"status":"UNAVAILABLE"}"#),
    ("gemini", 500, r#"{"code":500,"status":"INTERNAL"}"#),
    ("gemini", 400, r#"{"code":400,"status":"INVALID_ARGUMENT"}"#),
    ("gemini", 403, r#"{"code":403,"status":"PERMISSION_DENIED"}"#),
];

#[test]
fn a_fault_means_the_same_in_an_answer_and_in_an_event() {
    for (name, status, error) in FAULTS {
        let envelope = match *name {
            "anthropic" => format!(r#"{{"type":"error","error":{error}}}"#),
            _ => format!(r#"{{"error":{error}}}"#),
        };
        let answer = meaning(&dialect(name), *status, &[], &envelope);
        let mut said = vec![format!("data: {envelope}\n\n"), format!("event: error\ndata: {envelope}\n\n")];
        if *name == "openai" {
            said.push(format!(
                "data: {{\"type\":\"response.failed\",\"response\":{{\"error\":{error}}}}}\n\n"
            ));
        }
        for text in said {
            let all = events(&dialect(name), Form::Sse, &[text.as_bytes()]);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].kind, Kind::Error, "{text}");
            let event = all[0].meaning.expect("an error means something");
            if text.contains("response.failed") && error.contains("\"code\":4") {
                continue; // A number is no code of that API, and stands where no status is looked for.
            }
            assert_eq!(event, answer, "{name} {text}");
        }
    }
}

static STREAMS: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    let plain = TRANSCRIPTS.iter().map(|(name, _, text)| (*name, (*text).to_owned()));
    let dos = TRANSCRIPTS.iter().map(|(name, _, text)| (*name, text.replace('\n', "\r\n")));
    let old = TRANSCRIPTS.iter().map(|(name, _, text)| (*name, text.replace('\n', "\r")));
    plain.chain(dos).chain(old).collect()
});

/// Kinds, meanings and ends. An event whose carriage return ends a piece ends there; its line feed is the next piece's first byte.
fn in_pieces(name: &str, form: Form, text: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in cuts {
        pieces.push(&text[from..*cut]);
        from = *cut;
    }
    pieces.push(&text[from..]);
    let mut all = events(&dialect(name), form, &pieces);
    for event in &mut all {
        if text[..event.end].ends_with(b"\r") && text.get(event.end) == Some(&b'\n') {
            event.end += 1;
        }
    }
    all
}

#[test]
fn a_stream_cut_once_anywhere_is_read_alike() {
    for (name, text) in STREAMS.iter() {
        let whole = in_pieces(name, Form::Sse, text.as_bytes(), &[]);
        for cut in 0..text.len() {
            assert_eq!(in_pieces(name, Form::Sse, text.as_bytes(), &[cut]), whole, "{name} cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_stream_cut_many_times_is_read_alike(which in 0..30_usize, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let (name, text) = &STREAMS[which];
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(in_pieces(name, Form::Sse, text.as_bytes(), &cuts), in_pieces(name, Form::Sse, text.as_bytes(), &[]));
    }

    /// Whatever bytes come, in whatever pieces, nothing panics and the events are the same.
    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(
        name in prop::sample::select(vec!["generic", "openai", "anthropic", "gemini", "slack"]),
        lines in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![4 => prop::sample::select(b"\r\n:{}[]\" ".to_vec()), 2 => any::<u8>()], 0..80),
        words in prop::collection::vec(prop::sample::select(vec!["data:", "data: {}", "event: error", "\n\n", "\r\n\r\n", "[DONE]", "\u{feff}"]), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let form = if lines { Form::NdJson } else { Form::Sse };
        let mut text = Vec::new();
        for (number, byte) in bytes.iter().enumerate() {
            text.push(*byte);
            if let Some(word) = words.get(number) {
                text.extend_from_slice(word.as_bytes());
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(in_pieces(name, form, &text, &cuts), in_pieces(name, form, &text, &[]));
    }

    /// A transcript with a few bytes changed is still read to its end.
    #[test]
    fn damaged_streams_are_read_to_their_end(which in 0..30_usize, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let (name, text) = &STREAMS[which];
        let mut bytes = text.clone().into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut reader = Reader::new(&dialect(name), Form::Sse);
        let mut last = 0;
        reader.read(&bytes, |event| {
            assert!(event.end > last);
            assert_eq!(event.meaning.is_some(), event.kind == Kind::Error);
            last = event.end;
        });
        prop_assert!(last <= bytes.len());
        prop_assert_eq!(reader.is_between(), last == bytes.len() || bytes[last..] == *b"\n");
    }
}
