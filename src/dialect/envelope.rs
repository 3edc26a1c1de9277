//! Fender's own answers in an API's words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::fault::{At, Faults, way};
use super::spec::{RefusalSpec, Spec};
use super::stream::Form;
use super::template::Template;
use super::words::{Refusal, Spoken};
use crate::policy::reason::Reason;

/// Fender's own answers.
#[derive(Debug)]
pub(super) struct Envelope {
    content_type: HeaderValue,
    body: Template,
    status: BTreeMap<String, StatusCode>,
    headers: Fields,
    words: BTreeMap<String, BTreeMap<String, String>>,
    waiting: Waiting,
    given_up: Vec<(HeaderName, HeaderValue)>,
    event_name: String,
    event: Template,
}

#[derive(Debug)]
struct Waiting {
    body: Option<Template>,
    status: Option<StatusCode>,
    headers: Fields,
    again: Vec<(HeaderName, HeaderValue)>,
    max: Duration,
}

pub(super) type Fields = Vec<(HeaderName, Template)>;

/// A wait as it is told.
#[derive(Clone, Copy)]
struct Told {
    wait: Duration,
    /// Whether it is told as it is.
    whole: bool,
}

impl Envelope {
    pub(super) fn compile(spec: &Spec, faults: &mut Faults) -> Self {
        let refusal = &spec.refusal;
        let at = |key: &str| way!["refusal", key];
        let of_waiting = |key: &str| way!["refusal", "waiting", key];
        let mut status = BTreeMap::new();
        for (reason, code) in &refusal.status {
            let here = way!["refusal", "status", reason];
            known_reason(reason, &here, faults);
            status.extend(status_of(*code, here, faults).map(|code| (reason.clone(), code)));
        }
        for (name, words) in &refusal.words {
            let here = way!["refusal", "words", name];
            if BUILT_IN.contains(&name.as_str()) || WAITS.contains(&name.as_str()) {
                faults.tell(here.clone(), "is a name that Fender fills in itself", "take another name");
            }
            words
                .keys()
                .for_each(|reason| known_reason(reason, &[&here[..], &way![reason]].concat(), faults));
        }
        let waiting = &refusal.waiting;
        let waiting = Waiting {
            body: waiting.body.clone(),
            status: waiting.status.and_then(|code| status_of(code, of_waiting("status"), faults)),
            headers: fields(&waiting.headers, &of_waiting("headers"), faults),
            again: fixed(&waiting.again, &of_waiting("again"), faults),
            max: waiting.max.unwrap_or(Duration::MAX),
        };
        let given_up = fixed(&refusal.given_up, &at("given_up"), faults);
        if given_up.len() > 1 {
            faults.tell(at("given_up"), "may hold one header field", "");
        }
        let envelope = Self {
            content_type: content_type(&refusal.content_type, at("content_type"), faults),
            body: refusal.body.clone(),
            status,
            headers: fields(&refusal.headers, &at("headers"), faults),
            words: refusal.words.clone(),
            waiting,
            given_up,
            event_name: refusal.event.name.clone(),
            event: refusal.event.data.clone(),
        };
        envelope.check(refusal, faults);
        envelope
    }

    /// Every name is known, and what should be JSON is, for every reason.
    fn check(&self, spec: &RefusalSpec, faults: &mut Faults) {
        let words: Vec<&str> = spec.words.keys().map(String::as_str).collect();
        let plain = [BUILT_IN, &words[..]].concat();
        let waiting = [&plain[..], WAITS].concat();
        let json = is_json(&self.content_type);
        let bodies = [
            (way!["refusal", "body"], Some(&spec.body), &plain, json),
            (way!["refusal", "waiting", "body"], spec.waiting.body.as_ref(), &waiting, json),
            (way!["refusal", "event", "data"], Some(&spec.event.data), &plain, true),
        ];
        for (at, template, names, json) in bodies {
            let Some(template) = template else { continue };
            let known = check_names(template, names, &at, faults);
            let spoils = |reason: &Reason| {
                let refusal = sample(*reason);
                let text =
                    template.fill_json(&self.values(&refusal, StatusCode::OK, Some(Duration::from_secs(1))));
                !is_json_text(&text)
            };
            if known && json && !template.is_empty() && Reason::ALL.iter().any(spoils) {
                faults.tell(
                    at,
                    "must be JSON once its names are filled in",
                    "put quotes around names of texts",
                );
            }
        }
        let tables = [(way!["refusal", "headers"], &spec.headers, &plain)];
        let of_waiting = (way!["refusal", "waiting", "headers"], &spec.waiting.headers, &waiting);
        for (at, table, names) in tables.into_iter().chain([of_waiting]) {
            for (name, template) in table {
                check_names(template, names, &[&at[..], &way![name]].concat(), faults);
            }
        }
    }

    pub(super) fn refusal(&self, refusal: &Refusal<'_>) -> Option<Spoken> {
        if self.body.is_empty() {
            return None;
        }
        let told = self.told(refusal);
        let status = self.status(refusal, told);
        let values = self.values(refusal, status, told.map(|told| told.wait));
        let template = told.and(self.waiting.body.as_ref()).unwrap_or(&self.body);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        put(&mut headers, &self.headers, &values);
        if let Some(told) = told {
            headers.insert(RETRY_AFTER, seconds(told.wait).into());
            put(&mut headers, &self.waiting.headers, &values);
            if told.whole && !refusal.given_up {
                headers.extend(self.waiting.again.iter().cloned());
            }
        }
        // Who is told of a wait beyond what its client sits out well is not to try again by itself either.
        if refusal.given_up || told.is_some_and(|told| !told.whole) {
            headers.extend(self.given_up.iter().cloned());
        }
        let body =
            if is_json(&self.content_type) { template.fill_json(&values) } else { template.fill(&values) };
        Some(Spoken { status, headers, body: Bytes::from(body) })
    }

    pub(super) fn event(&self, form: Form, refusal: &Refusal<'_>) -> Option<Bytes> {
        if self.event.is_empty() || form != Form::Sse {
            return None;
        }
        let status = self.status(refusal, None);
        let data = self.event.fill_json(&self.values(refusal, status, None));
        let name = match self.event_name.as_str() {
            "" => String::new(),
            name => format!("event: {name}\n"),
        };
        Some(Bytes::from(format!("{name}data: {}\n\n", data.replace(['\n', '\r'], " "))))
    }

    pub(super) fn given_up(&self) -> Option<(HeaderName, HeaderValue)> {
        self.given_up.first().cloned()
    }

    fn told(&self, refusal: &Refusal<'_>) -> Option<Told> {
        let wait = refusal.retry_after?;
        let whole = wait <= self.waiting.max;
        // A client that can be told not to try again hears how long it is; one that cannot would sleep for it.
        let shown = if whole || !self.given_up.is_empty() { wait } else { self.waiting.max };
        Some(Told { wait: shown, whole })
    }

    fn status(&self, refusal: &Refusal<'_>, told: Option<Told>) -> StatusCode {
        let of_waiting = told.and(self.waiting.status).filter(|_| !refusal.given_up);
        let own = || self.status.get(refusal.reason.as_str()).or_else(|| self.status.get(DEFAULT)).copied();
        of_waiting.or_else(own).unwrap_or(refusal.status)
    }

    fn values<'v>(
        &'v self,
        refusal: &'v Refusal<'v>,
        status: StatusCode,
        wait: Option<Duration>,
    ) -> impl Fn(&str) -> Cow<'v, str> {
        let reason = refusal.reason.as_str();
        move |name| match name {
            "detail" => refusal.detail.into(),
            "reason" => reason.into(),
            "title" => refusal.reason.title().into(),
            "upstream" => refusal.upstream.into(),
            "request_id" => refusal.request_id.into(),
            "status" => status.as_u16().to_string().into(),
            "seconds" => wait.map(seconds).unwrap_or_default().to_string().into(),
            "milliseconds" => wait.map_or(0, |wait| wait.as_millis().max(1)).to_string().into(),
            word => {
                let words = self.words.get(word);
                let own = words.and_then(|words| words.get(reason).or_else(|| words.get(DEFAULT)));
                own.map(String::as_str).unwrap_or_default().into()
            }
        }
    }
}

/// Fields of an answer, filled in; one that no header can have is left out.
pub(super) fn put<'v>(headers: &mut HeaderMap, fields: &Fields, values: &dyn Fn(&str) -> Cow<'v, str>) {
    for (name, template) in fields {
        if let Ok(value) = HeaderValue::try_from(template.fill(values)) {
            headers.insert(name.clone(), value);
        }
    }
}

pub(super) fn fields(spec: &BTreeMap<String, Template>, at: &[At], faults: &mut Faults) -> Fields {
    let all = spec.iter().filter_map(|(name, template)| {
        let name = header_name(name, &[at, &way![name]].concat(), faults)?;
        Some((name, template.clone()))
    });
    all.collect()
}

fn fixed(spec: &BTreeMap<String, String>, at: &[At], faults: &mut Faults) -> Vec<(HeaderName, HeaderValue)> {
    let mut all = Vec::new();
    for (name, value) in spec {
        let here = [at, &way![name]].concat();
        let Some(name) = header_name(name, &here, faults) else { continue };
        match HeaderValue::try_from(value) {
            Ok(value) => all.push((name, value)),
            Err(_) => faults.tell(here, "has a value that no header field can have", ""),
        }
    }
    all
}

/// A header name that a dialect may set: framing and Fender's own fields are not its to say.
fn header_name(name: &str, at: &[At], faults: &mut Faults) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        faults.tell(at.to_vec(), "is not a header name", "");
        return None;
    };
    let framing = ["content-length", "transfer-encoding", "connection", "trailer", "upgrade"];
    if framing.contains(&header.as_str()) || header.as_str().starts_with("fender-") {
        faults.tell(at.to_vec(), "is Fender's own to say", "take this field out");
        return None;
    }
    Some(header)
}

pub(super) fn content_type(text: &str, at: Vec<At>, faults: &mut Faults) -> HeaderValue {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    if text.is_empty() {
        return JSON;
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| {
        faults.tell(at, "has a value that no header field can have", "");
        JSON
    })
}

pub(super) fn status_of(code: u16, at: Vec<At>, faults: &mut Faults) -> Option<StatusCode> {
    let code = StatusCode::from_u16(code).ok().filter(|code| (200..=599).contains(&code.as_u16()));
    if code.is_none() {
        faults.tell(at, "must be a status from 200 to 599", "");
    }
    code
}

/// Whether all names of a template are known; if not, it is told.
pub(super) fn check_names(template: &Template, names: &[&str], at: &[At], faults: &mut Faults) -> bool {
    let unknown: Vec<&str> = template.names().filter(|name| !names.contains(name)).collect();
    if !unknown.is_empty() {
        let message = format!("has names that nothing fills in: {}", unknown.join(", "));
        faults.tell(at.to_vec(), message, format!("names that may stand here: {}", names.join(", ")));
    }
    unknown.is_empty()
}

pub(super) fn is_json(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
}

pub(super) fn is_json_text(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn known_reason(reason: &str, at: &[At], faults: &mut Faults) {
    if reason != DEFAULT && Reason::of(reason).is_none() {
        let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        faults.tell(at.to_vec(), "is no reason", format!("reasons are default, {}", all.join(", ")));
    }
}

fn sample(reason: Reason) -> Refusal<'static> {
    Refusal {
        reason,
        status: StatusCode::BAD_GATEWAY,
        detail: "\"\\\n",
        upstream: "a",
        request_id: "b",
        retry_after: None,
        given_up: false,
    }
}

/// Whole seconds, never too early and never none (RFC 9110 section 10.2.3).
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

const DEFAULT: &str = "default";
const BUILT_IN: &[&str] = &["detail", "reason", "title", "upstream", "request_id", "status"];
const WAITS: &[&str] = &["seconds", "milliseconds"];
