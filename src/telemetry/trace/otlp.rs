//! Spans as OTLP/HTTP has them in JSON: ids in hexadecimal digits, 64-bit numbers as texts.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::context::Context;
use super::span::{Event, Span, Value};

/// Whose spans they are.
#[derive(Debug, Clone)]
pub struct Resource(pub Vec<(String, String)>);

/// A request's body for `/v1/traces`.
#[must_use]
pub fn encode(resource: &Resource, spans: &[Span]) -> Bytes {
    let about: Vec<Json> = resource
        .0
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } }))
        .collect();
    let whole = json!({
        "resourceSpans": [{
            "resource": { "attributes": about },
            "scopeSpans": [{
                "scope": { "name": "fender", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans.iter().map(span).collect::<Vec<_>>(),
            }],
        }],
    });
    whole.to_string().into()
}

fn span(span: &Span) -> Json {
    let mut told = json!({
        "traceId": trace_id(span.context),
        "spanId": span_id(span.context.span),
        "flags": flags(span),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.began.to_string(),
        "endTimeUnixNano": span.ended.to_string(),
        "attributes": attributes(&span.attributes),
        "status": {},
    });
    let Json::Object(fields) = &mut told else { return told };
    let mut put = |name: &str, value: Json| fields.insert(name.to_owned(), value);
    if let Some((parent, _)) = span.parent {
        put("parentSpanId", Json::String(span_id(parent)));
    }
    if !span.events.is_empty() {
        put("events", span.events.iter().map(event).collect());
    }
    if span.events_left_out > 0 {
        put("droppedEventsCount", span.events_left_out.into());
    }
    if let Some(link) = span.link {
        put("links", json!([{ "traceId": trace_id(link), "spanId": span_id(link.span) }]));
    }
    if let Some(why) = &span.error {
        put("status", json!({ "code": ERROR, "message": why }));
    }
    told
}

const ERROR: u8 = 2;

/// The trace's flags, and whether the parent is somebody else's (bits 8 and 9).
fn flags(span: &Span) -> u32 {
    let remote = span.parent.is_some_and(|(_, remote)| remote);
    u32::from(span.context.flags) | 0x100 | if remote { 0x200 } else { 0 }
}

fn event(event: &Event) -> Json {
    json!({
        "timeUnixNano": event.at.to_string(),
        "name": event.name,
        "attributes": attributes(&event.attributes),
    })
}

fn attributes(all: &[(Cow<'static, str>, Value)]) -> Vec<Json> {
    let one = |(key, value): &(Cow<'static, str>, Value)| {
        let (kind, value) = match value {
            Value::Text(text) => ("stringValue", Json::from(text.as_str())),
            Value::Int(number) => ("intValue", Json::String(number.to_string())),
            Value::Float(number) => ("doubleValue", Json::from(*number)),
            Value::Bool(flag) => ("boolValue", Json::from(*flag)),
        };
        let value: Map<String, Json> = [(kind.to_owned(), value)].into_iter().collect();
        json!({ "key": key, "value": value })
    };
    all.iter().map(one).collect()
}

fn trace_id(context: Context) -> String {
    format!("{:032x}", context.trace)
}

fn span_id(span: u64) -> String {
    format!("{span:016x}")
}
