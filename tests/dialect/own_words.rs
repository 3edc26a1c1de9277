//! Fender's own answers in each API's words, and what of a request an API's words name.

use std::fmt::Write as _;
use std::time::Duration;

use fender::dialect::{Acceptance, Asked, Dialect, Form, Place, Refusal, Spoken, builtin};
use fender::policy::reason::Reason;
use http::StatusCode;
use proptest::prelude::*;
use serde_json::Value;

use super::dialect;

const HOSTILE: [&str; 5] = [
    "plain",
    "say \"no\" \\ {reason} {detail}",
    "two\r\nlines\n\ndata: x",
    "\u{0}\u{1f}\u{2028}é🙂",
    "</script>",
];

fn refusal<'a>(reason: Reason, detail: &'a str, wait: Option<Duration>, given_up: bool) -> Refusal<'a> {
    Refusal {
        reason,
        status: StatusCode::from_u16(reason.status().unwrap_or(502)).unwrap(),
        detail,
        upstream: "main",
        request_id: "01ABC",
        retry_after: wait,
        given_up,
    }
}

/// The reasons that bear a wait, as the contract has them.
fn wait_of(reason: Reason) -> Option<Duration> {
    use Reason::{BreakerOpen, Degraded, Overload, RateLimited, StoreUnavailable, Throttled};
    let waits = [BreakerOpen, Degraded, Overload, RateLimited, StoreUnavailable, Throttled];
    waits.contains(&reason).then_some(Duration::from_millis(6500))
}

fn written(spoken: &Spoken) -> String {
    let mut text = spoken.status.as_str().to_owned();
    for (name, value) in &spoken.headers {
        write!(text, " {name}: {};", value.to_str().unwrap()).unwrap();
    }
    write!(text, "\n    {}", String::from_utf8_lossy(&spoken.body)).unwrap();
    text
}

#[test]
fn each_reason_is_told_in_each_apis_words() {
    for name in builtin::names() {
        let dialect = dialect(name);
        let mut text = String::new();
        for reason in Reason::ALL {
            if let Some(spoken) = dialect.refusal(&refusal(reason, "What happened.", wait_of(reason), false))
            {
                writeln!(text, "{reason}: {}", written(&spoken)).unwrap();
            }
        }
        for (what, given_up, wait) in
            [("given up", true, None), ("given up, a wait", true, Some(3)), ("a long wait", false, Some(300))]
        {
            let refusal =
                refusal(Reason::Throttled, "What happened.", wait.map(Duration::from_secs), given_up);
            if let Some(spoken) = dialect.refusal(&refusal) {
                writeln!(text, "{what}: {}", written(&spoken)).unwrap();
            }
        }
        for form in [Form::Sse, Form::NdJson] {
            if let Some(event) =
                dialect.error_event(form, &refusal(Reason::Reset, "What happened.", None, true))
            {
                writeln!(text, "event: {:?}", String::from_utf8_lossy(&event)).unwrap();
            }
        }
        writeln!(text, "beside a failure that is passed on: {:?}", dialect.given_up()).unwrap();
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn the_generic_dialect_has_no_words_of_its_own() {
    let generic = Dialect::generic();
    assert_eq!(generic.refusal(&refusal(Reason::Timeout, "x", None, false)), None);
    assert_eq!(generic.error_event(Form::Sse, &refusal(Reason::Timeout, "x", None, false)), None);
    assert_eq!(generic.acceptance(&acceptance("/x")), None);
    assert_eq!(generic.given_up(), None);
    assert!(!generic.reads_bodies());
    assert_eq!(generic.masked("/bot1:a/x?key=1"), "/bot1:a/x?key=1");
}

/// Whatever a detail holds: the body is JSON that says it, an event is one event.
fn stays_whole(name: &str, reason: Reason, detail: &str, wait: Option<Duration>) {
    let dialect = dialect(name);
    let refusal = refusal(reason, detail, wait, false);
    if let Some(spoken) = dialect.refusal(&refusal) {
        let body: Value =
            serde_json::from_slice(&spoken.body).unwrap_or_else(|error| panic!("{name} {reason}: {error}"));
        assert!(says(&body, detail), "{name} {reason}: {body}");
        assert!(says(&body, reason.as_str()), "{name} {reason}: {body}");
    }
    if let Some(event) = dialect.error_event(Form::Sse, &refusal) {
        let text = String::from_utf8(event.to_vec()).unwrap();
        let data = text.strip_suffix("\n\n").and_then(|text| text.split_once("data: ")).expect("one event").1;
        assert!(!data.contains(['\n', '\r']));
        let body: Value =
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{name} {reason}: {error}"));
        assert!(says(&body, detail), "{name} {reason}: {body}");
        let events = super::stream_reader::events(&dialect, Form::Sse, &[text.as_bytes()]);
        assert_eq!(
            events.iter().map(|event| event.kind).collect::<Vec<_>>(),
            [fender::dialect::Kind::Error],
            "{name}"
        );
    }
}

fn says(body: &Value, text: &str) -> bool {
    match body {
        Value::String(said) => said.contains(text),
        Value::Array(all) => all.iter().any(|one| says(one, text)),
        Value::Object(all) => all.values().any(|one| says(one, text)),
        _ => false,
    }
}

#[test]
fn no_detail_breaks_an_envelope() {
    for name in builtin::names() {
        for reason in Reason::ALL {
            for detail in HOSTILE {
                stays_whole(name, reason, detail, wait_of(reason));
                stays_whole(name, reason, detail, None);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_detail_at_all_breaks_an_envelope(name in prop::sample::select(builtin::names().collect::<Vec<&'static str>>()), detail in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", wait in prop::option::of(0..u64::MAX / 1000)) {
        for reason in [Reason::Throttled, Reason::Timeout] {
            stays_whole(name, reason, &detail, wait.map(Duration::from_millis));
        }
    }
}

fn acceptance(path: &str) -> Acceptance<'_> {
    Acceptance {
        letter: "01jd9z6t00abcdefghjkmnpqrs",
        upstream: "main",
        reason: Some(Reason::Connect),
        durable: "full",
        path,
    }
}

#[test]
fn a_stored_write_is_answered_as_the_api_would() {
    let mut text = String::new();
    for (name, path) in [
        ("slack", "/api/chat.postMessage"),
        ("telegram", "/bot1:a/sendMessage"),
        ("telegram", "POST /bot1:a/sendPhoto?x=1"),
        ("telegram", "/bot1:a/sendMediaGroup"),
        ("telegram", "/bot1:a/sendChatAction"),
        ("telegram", "/bot1:a/copyMessage"),
        ("telegram", "/bot1:a/deleteMessage"),
        ("twilio", "/2010-04-01/Accounts/AC1/Messages.json"),
        ("twilio", "/2010-04-01/Accounts/AC1/Calls.json"),
        ("sendgrid", "/v3/mail/send"),
        ("whatsapp", "/v21.0/123/messages"),
        ("green-api", "/waInstance1/sendMessage/token"),
        ("green-api", "/waInstance1/setSettings/token"),
        ("openai", "/v1/chat/completions"),
        ("anthropic", "/v1/messages"),
    ] {
        let spoken = dialect(name).acceptance(&acceptance(path));
        let said = spoken.as_ref().map_or_else(|| "the generic one".to_owned(), written);
        writeln!(text, "{name} {path}: {said}").unwrap();
        if let Some(spoken) = spoken.filter(|spoken| !spoken.body.is_empty()) {
            assert!(serde_json::from_slice::<Value>(&spoken.body).is_ok());
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn secrets_in_paths_are_not_shown() {
    for (name, path, shown) in [
        ("telegram", "/bot123:AAE-x_y/sendMessage", "/bot***/sendMessage"),
        ("telegram", "/bot123:AAE/sendMessage?chat_id=5", "/bot***/sendMessage?chat_id=5"),
        ("telegram", "/file/bot123:AAE/photos/1.jpg", "/file/bot***/photos/1.jpg"),
        ("telegram", "/BOT123%3AAAE/getMe", "/BOT***/getMe"),
        ("telegram", "/bottles/bot123:AAE/getMe", "/bot***/bot***/getMe"),
        ("telegram", "/bot123:AAE/test/sendMessage", "/bot***/test/sendMessage"),
        ("telegram", "/bot123:AAE", "/bot***"),
        ("telegram", "bot123:AAE/getMe", "bot***/getMe"),
        ("telegram", "//bot123:AAE//getMe", "//bot***//getMe"),
        ("telegram", "/", "/"),
        ("green-api", "/waInstance1101/sendMessage/d75b3a", "/waInstance1101/sendMessage/***"),
        (
            "green-api",
            "/waInstance1101/deleteNotification/d75b3a/12",
            "/waInstance1101/deleteNotification/***/12",
        ),
        ("green-api", "/wainstance1101/sendMessage/d75b3a?x=1", "/wainstance1101/sendMessage/***?x=1"),
        ("green-api", "/partner/getInstances/gac.1234", "/partner/getInstances/***"),
        (
            "gemini",
            "/v1beta/models/m:generateContent?key=AIza&alt=sse",
            "/v1beta/models/m:generateContent?key=***&alt=sse",
        ),
        ("whatsapp", "/v21.0/1/messages?access_token=EAA", "/v21.0/1/messages?access_token=***"),
        ("slack", "/api/chat.postMessage?token=xoxb&token=", "/api/chat.postMessage?token=***&token="),
        ("openai", "/v1/chat/completions?key=1", "/v1/chat/completions?key=1"),
    ] {
        assert_eq!(dialect(name).masked(path), shown, "{name} {path}");
    }
    let headers =
        |name: &str| dialect(name).secret_headers().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(headers("azure-openai"), ["api-key", "ocp-apim-subscription-key"]);
    assert_eq!(headers("gemini"), ["x-goog-api-key"]);
}

#[test]
fn what_may_be_repeated_costs_money_only() {
    for (name, method, path, may) in [
        ("openai", "POST", "/v1/chat/completions", true),
        ("openai", "POST", "/chat/completions?x=1", true),
        ("openai", "POST", "/v1/responses", true),
        ("openai", "POST", "/v1/embeddings", true),
        ("openai", "POST", "/v1/files", false),
        ("openai", "POST", "/v1/batches", false),
        ("openai", "POST", "/v1/responses/resp_1/cancel", false),
        ("openai", "DELETE", "/v1/chat/completions", false),
        ("azure-openai", "POST", "/openai/deployments/gpt-4o/chat/completions", true),
        ("anthropic", "POST", "/v1/messages", true),
        ("anthropic", "POST", "/v1/messages/batches", false),
        ("gemini", "POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent", true),
        ("gemini", "POST", "/v1beta/models/gemini-2.5-pro:batchGenerateContent", false),
        ("deepseek", "POST", "/chat/completions", true),
    ] {
        assert_eq!(dialect(name).repeats(method, path), may, "{name} {method} {path}");
    }
    for name in ["generic", "whatsapp", "green-api", "twilio", "slack", "telegram", "sendgrid"] {
        for path in ["/v21.0/1/messages", "/bot1:a/sendMessage", "/api/chat.postMessage", "/v3/mail/send"] {
            assert!(!dialect(name).repeats("POST", path), "{name} {path}");
        }
        let key = dialect(name).idempotency_header().map(ToString::to_string);
        assert_eq!(key.as_deref(), (name == "generic").then_some("idempotency-key"), "{name}");
    }
    assert_eq!(dialect("openai").idempotency_header(), None);
    assert_eq!(dialect("azure-openai").idempotency_header(), None);
}

/// What a request to this path, with its query, names.
fn found(name: &str, place: Place, target: &str, content_type: Option<&str>, body: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let asked = Asked { path, query, content_type, body: body.as_bytes() };
    dialect(name).find(place, &asked).unwrap_or_else(|| "none".to_owned())
}

const FORM: Option<&str> = Some("application/x-www-form-urlencoded; charset=utf-8");
const JSON: Option<&str> = Some("application/json");

#[test]
fn a_request_names_its_model() {
    let found = |name, path, body| found(name, Place::Model, path, JSON, body);
    let chat = "/v1/chat/completions";
    assert_eq!(found("openai", chat, r#"{"messages":[{"model":"no"}],"model":"gpt-4o"}"#), "gpt-4o");
    assert_eq!(found("azure-openai", "/openai/deployments/my%20gpt/chat/completions", "{}"), "my gpt");
    assert_eq!(found("azure-openai", "/openai/v1/chat/completions", r#"{"model":"m"}"#), "m");
    assert_eq!(found("anthropic", "/v1/messages", r#"{"model":"claude"}"#), "claude");
    let generate = "/v1beta/models/gemini-2.5-pro:generateContent?alt=sse";
    assert_eq!(found("gemini", generate, "{}"), "gemini-2.5-pro");
    assert_eq!(found("generic", "/x", r#"{"model":"m"}"#), "none");
    assert!(dialect("openai").finds_in_body(Place::Model));
}

#[test]
fn a_request_names_its_recipient() {
    let found = |name, path, kind, body| found(name, Place::Recipient, path, kind, body);
    let messages = "/v21.0/1/messages";
    assert_eq!(found("whatsapp", messages, JSON, r#"{"type":"text","to":"4791234567"}"#), "4791234567");
    assert_eq!(found("whatsapp", messages, JSON, r#"{"to":4791234567}"#), "4791234567");
    assert_eq!(found("whatsapp", messages, JSON, r#"{"to":""}"#), "none");
    assert_eq!(found("twilio", "/Messages.json", FORM, "From=%2B1&To=%2B4791&Body=a+b"), "+4791");
    assert_eq!(found("twilio", "/Messages.json", FORM, "Body=To%3D1"), "none");
    assert_eq!(found("slack", "/api/chat.postMessage", FORM, "channel=C1&text=%7B%7D"), "C1");
    assert_eq!(found("slack", "/api/chat.postMessage", JSON, r#"{"channel":"C\u0031"}"#), "C1");
    assert_eq!(found("telegram", "/bot1:a/sendMessage?text=x&chat_id=-100%31", None, ""), "-1001");
    assert_eq!(found("telegram", "/bot1:a/sendMessage", JSON, r#"{"chat_id":-1001}"#), "-1001");
    assert_eq!(found("green-api", "/waInstance1/sendMessage/t", JSON, r#"{"chatId":"1@c.us"}"#), "1@c.us");
    let mail = r#"{"personalizations":[{"to":[{"email":"a@b"}]}]}"#;
    assert_eq!(found("sendgrid", "/v3/mail/send", JSON, mail), "a@b");
    assert_eq!(found("slack", "/x", Some("multipart/form-data; boundary=x"), "--x\r\n"), "none");
    assert!(!dialect("openai").finds_in_body(Place::Recipient));
    assert!(!dialect("generic").finds_in_body(Place::Order));
}
