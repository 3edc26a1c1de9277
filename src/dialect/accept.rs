//! The answers to writes that are stored.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::envelope::{Fields, check_names, content_type, fields, is_json, is_json_text, put, status_of};
use super::fault::{Faults, way};
use super::pattern::Pattern;
use super::spec::{AcceptanceSpec, Spec};
use super::template::Template;
use super::words::{Acceptance, Spoken};
use crate::policy::reason::Reason;

/// One form of the answer.
#[derive(Debug)]
pub(super) struct Accepted {
    path: Option<Pattern>,
    status: StatusCode,
    content_type: HeaderValue,
    headers: Fields,
    body: Template,
}

impl Accepted {
    pub(super) fn compile(spec: &Spec, faults: &mut Faults) -> Vec<Self> {
        spec.acceptance.iter().enumerate().map(|(number, spec)| Self::of(number, spec, faults)).collect()
    }

    fn of(number: usize, spec: &AcceptanceSpec, faults: &mut Faults) -> Self {
        let at = |key: &str| way!["acceptance", number, key];
        let status = spec.status.and_then(|code| status_of(code, at("status"), faults));
        let accepted = Self {
            path: spec.path.clone(),
            status: status.unwrap_or(StatusCode::OK),
            content_type: content_type(&spec.content_type, at("content_type"), faults),
            headers: fields(&spec.headers, &at("headers"), faults),
            body: spec.body.clone(),
        };
        for (name, template) in &spec.headers {
            check_names(template, NAMES, &way!["acceptance", number, "headers", name], faults);
        }
        let known = check_names(&spec.body, NAMES, &at("body"), faults);
        let json = is_json(&accepted.content_type) && !spec.body.is_empty();
        if known && json && !is_json_text(&accepted.text(&SAMPLE)) {
            faults.tell(
                at("body"),
                "must be JSON once its names are filled in",
                "put quotes around names of texts",
            );
        }
        accepted
    }

    pub(super) fn is_for(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|pattern| pattern.fits(path))
    }

    pub(super) fn speak(&self, acceptance: &Acceptance<'_>) -> Spoken {
        let mut headers = HeaderMap::new();
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
        }
        put(&mut headers, &self.headers, &|name| value(name, acceptance));
        Spoken { status: self.status, headers, body: Bytes::from(self.text(acceptance)) }
    }

    fn text(&self, acceptance: &Acceptance<'_>) -> String {
        let values = |name: &str| value(name, acceptance);
        if is_json(&self.content_type) { self.body.fill_json(&values) } else { self.body.fill(&values) }
    }
}

fn value<'a>(name: &str, acceptance: &Acceptance<'a>) -> Cow<'a, str> {
    match name {
        "letter" => acceptance.letter.into(),
        "upstream" => acceptance.upstream.into(),
        "reason" => acceptance.reason.map(Reason::as_str).unwrap_or_default().into(),
        "durable" => acceptance.durable.into(),
        "unix" => created(acceptance.letter).to_string().into(),
        _ => "".into(),
    }
}

/// The seconds since 1970 at which a letter was stored: the first ten characters of its id are the milliseconds, in
/// Crockford's base 32. 0 if it is no such id.
fn created(letter: &str) -> u64 {
    let mut digits = letter
        .bytes()
        .take(10)
        .map(|byte| DIGITS.iter().position(|digit| *digit == byte.to_ascii_lowercase()));
    let milliseconds = digits.try_fold(0_u64, |sum, digit| Some((sum << 5) | u64::try_from(digit?).ok()?));
    milliseconds.filter(|_| letter.len() == 26).unwrap_or(0) / 1000
}

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const NAMES: &[&str] = &["letter", "upstream", "reason", "durable", "unix"];
const SAMPLE: Acceptance<'_> =
    Acceptance { letter: "\"\\\n", upstream: "a", reason: None, durable: "full", path: "/" };
