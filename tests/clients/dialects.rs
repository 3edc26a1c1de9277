//! Fender's own answers in each API's words, before the SDKs that people use: each raises its usual exception, and takes the
//! answer to a stored write for a success.

use std::time::Duration;

use fender::dialect::{Acceptance, Dialect, Form, Refusal, Spoken, builtin};
use fender::policy::reason::Reason;
use http::StatusCode;
use serde_json::{Value, json};

use super::{fine, python, script};

fn refusal(reason: Reason, given_up: bool) -> Refusal<'static> {
    let waits = matches!(reason, Reason::BreakerOpen | Reason::Throttled);
    Refusal {
        reason,
        status: StatusCode::from_u16(reason.status().unwrap_or(502)).unwrap(),
        detail: "what \"happened\"",
        upstream: "main",
        request_id: "01ABC",
        retry_after: waits.then_some(Duration::from_secs(7)),
        given_up,
    }
}

fn json_of(spoken: &Spoken) -> Value {
    let headers: Vec<(&str, &str)> =
        spoken.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    json!({ "status": spoken.status.as_u16(), "headers": headers, "body": String::from_utf8_lossy(&spoken.body) })
}

/// All that one dialect says, by what it says.
fn said(dialect: &Dialect) -> Value {
    let mut said = json!({});
    for reason in Reason::ALL {
        if let Some(spoken) = dialect.refusal(&refusal(reason, false)) {
            said[reason.as_str()] = json_of(&spoken);
        }
    }
    if let Some(spoken) = dialect.refusal(&refusal(Reason::Timeout, true)) {
        said["given_up"] = json_of(&spoken);
    }
    if let Some(event) = dialect.error_event(Form::Sse, &refusal(Reason::Reset, true)) {
        said["event"] = json!({
            "status": 200,
            "headers": [["content-type", "text/event-stream"]],
            "body": String::from_utf8_lossy(&event),
        });
    }
    for path in
        ["/chat.postMessage", "/bot1:a/sendMessage", "/Messages.json", "/mail/send", "/bot1:a/copyMessage"]
    {
        let letter = "01jd9z6t00abcdefghjkmnpqrs";
        let acceptance = Acceptance { letter, upstream: "main", reason: None, durable: "full", path };
        if let Some(spoken) = dialect.acceptance(&acceptance) {
            said[path] = json_of(&spoken);
        }
    }
    said
}

#[test]
fn sdks_raise_their_usual_exceptions() {
    let Some(python) = python() else { return };
    let all: serde_json::Map<String, Value> = builtin::names()
        .filter_map(|name| Some((name.to_owned(), said(&*builtin::dialect(name)?))))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said.json");
    std::fs::write(&file, Value::Object(all).to_string()).unwrap();
    let mut command = script(&python, "client_dialects.py");
    command.arg(file);
    fine(command);
}
