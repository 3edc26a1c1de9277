//! A letter as one line of JSON: how it is told, exported and taken in again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codec::Sum;
use super::letter::{Attempt, Because, Content, Credentials, Letter, State};
use super::query::StoreError;
use super::sendable;
use crate::clock;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::told::rfc3339;
use crate::policy::verdict::Verdict;

/// A letter as the API tells it: the names and forms of contract 6, and what else is worth telling.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Letter")]
pub struct Told {
    id: String,
    upstream: String,
    route: String,
    state: String,
    verdict: String,
    reason: Option<String>,
    parked_because: Option<String>,
    method: String,
    path: String,
    order_key: Option<String>,
    idempotency_key: Option<String>,
    body_bytes: u64,
    created_at: String,
    updated_at: String,
    next_attempt_at: Option<String>,
    heartbeat_at: Option<String>,
    expires_at: String,
    etag: String,
    attempts: Vec<ToldAttempt>,
    attempts_made: u32,
    priority: i32,
    repeatable: bool,
    /// The id of the key that it is sealed with at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_with: Option<String>,
    /// Why it cannot be read, where its key is not configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locked: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Attempt")]
struct ToldAttempt {
    at: String,
    outcome: String,
    status: Option<u16>,
    error: Option<String>,
    duration_ms: u64,
    answer: Option<String>,
}

impl From<&Letter> for Told {
    fn from(letter: &Letter) -> Self {
        Self {
            id: letter.id.to_string(),
            upstream: letter.upstream.clone(),
            route: letter.route.clone(),
            state: letter.state.as_str().to_owned(),
            verdict: letter.verdict.as_str().to_owned(),
            reason: letter.reason.map(|reason| reason.as_str().to_owned()),
            parked_because: letter.parked_because.map(|because| because.as_str().to_owned()),
            method: letter.method.clone(),
            path: letter.path.clone(),
            order_key: letter.order_key.clone(),
            idempotency_key: letter.idempotency_key.clone(),
            body_bytes: letter.body_bytes,
            created_at: time(letter.created_at_ms),
            updated_at: time(letter.updated_at_ms),
            next_attempt_at: letter.next_attempt_at_ms.map(time),
            heartbeat_at: letter.heartbeat_at_ms.map(time),
            expires_at: time(letter.expires_at_ms),
            etag: letter.etag(),
            attempts: letter.attempts.iter().map(ToldAttempt::from).collect(),
            attempts_made: letter.attempts_made,
            priority: letter.priority,
            repeatable: letter.repeatable,
            sealed_with: letter.sealed.map(|sealed| sealed.key.to_string()),
            locked: letter
                .sealed
                .filter(|sealed| sealed.locked)
                .map(|sealed| StoreError::Locked { id: letter.id, key: sealed.key }.to_string()),
        }
    }
}

impl Told {
    /// Without what the upstream answered: like bodies, that is for operators.
    #[must_use]
    pub fn without_answers(mut self) -> Self {
        self.attempts.iter_mut().for_each(|attempt| attempt.answer = None);
        self
    }
}

impl From<&Attempt> for ToldAttempt {
    fn from(attempt: &Attempt) -> Self {
        Self {
            at: time(attempt.at_ms),
            outcome: attempt.outcome.as_str().to_owned(),
            status: attempt.status,
            error: attempt.error.clone(),
            duration_ms: attempt.duration_ms,
            answer: attempt.answer.clone(),
        }
    }
}

/// An exported line: a letter, and what its replays bear.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    told: Told,
    key_header: Option<(String, String)>,
    body_sha256: String,
    /// `None`, like the body, of a damaged letter.
    headers: Option<Vec<(String, HeaderText)>>,
    body_base64: Option<String>,
    /// The names of the credentials that the seal keeps here, and that do not go elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    credentials_left_out: Vec<String>,
}

/// A header's value: text where it is text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum HeaderText {
    Text(String),
    Bytes { base64: String },
}

/// What a line holds.
pub(super) struct Parsed {
    pub(super) letter: Letter,
    pub(super) body_sum: Sum,
    pub(super) content: Option<Content>,
}

/// The line of a letter; without `content` it is damaged.
pub(super) fn write(
    letter: &Letter,
    body_sum: &[u8],
    content: Option<&Content>,
) -> Result<String, StoreError> {
    let header = |(name, value): &(String, Vec<u8>)| {
        let text = match std::str::from_utf8(value) {
            Ok(text) => HeaderText::Text(text.to_owned()),
            Err(_) => HeaderText::Bytes { base64: STANDARD.encode(value) },
        };
        (name.clone(), text)
    };
    // How it is sealed here says nothing where it goes; that it could not be read does.
    let mut told = Told::from(letter);
    told.sealed_with = told.sealed_with.filter(|_| told.locked.is_some());
    let sealed = content.and_then(|content| content.credentials.as_ref());
    let line = Line {
        told,
        key_header: letter.key_header.clone(),
        body_sha256: STANDARD.encode(body_sum),
        headers: content.map(|content| content.headers.iter().map(header).collect()),
        body_base64: content.map(|content| STANDARD.encode(&content.body)),
        credentials_left_out: sealed.map(Credentials::names).unwrap_or_default(),
    };
    serde_json::to_string(&line).map_err(|error| StoreError::Invalid(error.to_string()))
}

/// The letter of a line, or what is wrong with it.
pub(super) fn read(line: &str) -> Result<Parsed, StoreError> {
    let line: Line =
        serde_json::from_str(line).map_err(|error| StoreError::Invalid(format!("not a letter: {error}")))?;
    if let Some(locked) = &line.told.locked {
        return Err(StoreError::Invalid(format!("not a whole letter: {locked}; export it where it is")));
    }
    let parsed = line.parse();
    let parsed =
        parsed.map_err(|field| StoreError::Invalid(format!("not a letter: `{field}` makes no sense")))?;
    sendable::check(&parsed.letter, parsed.content.as_ref())
        .map_err(|why| StoreError::Invalid(format!("not a letter: {why}")))?;
    Ok(parsed)
}

impl Line {
    /// The parts, or the name of the field that makes no sense.
    fn parse(self) -> Result<Parsed, &'static str> {
        let body_sum = STANDARD.decode(&self.body_sha256).ok().and_then(|sum| sum.try_into().ok());
        let body_sum = body_sum.ok_or("body_sha256")?;
        let content = match (self.headers, self.body_base64) {
            (Some(headers), Some(body)) => {
                let headers = headers.into_iter().map(|(name, value)| match value {
                    HeaderText::Text(text) => Ok((name, text.into_bytes())),
                    HeaderText::Bytes { base64 } => {
                        STANDARD.decode(base64).map(|value| (name, value)).map_err(|_| "headers")
                    }
                });
                let body = STANDARD.decode(body).map_err(|_| "body_base64")?;
                if super::codec::sum_of_body(&body) != body_sum {
                    return Err("body_sha256");
                }
                Some(Content {
                    headers: headers.collect::<Result<_, _>>()?,
                    body: body.into(),
                    credentials: None,
                })
            }
            (None, None) => None,
            (Some(_), None) => return Err("body_base64"),
            (None, Some(_)) => return Err("headers"),
        };
        let mut letter = self.told.letter(self.key_header)?;
        if !self.credentials_left_out.is_empty() && matches!(letter.state, State::Pending | State::Sending) {
            // It would be sent without them.
            (letter.state, letter.parked_because) = (State::Parked, Some(Because::Credential));
            (letter.next_attempt_at_ms, letter.heartbeat_at_ms) = (None, None);
        }
        if let Some(content) = &content {
            letter.body_bytes = u64::try_from(content.body.len()).unwrap_or(u64::MAX);
        }
        Ok(Parsed { letter, body_sum, content })
    }
}

impl Told {
    fn letter(self, key_header: Option<(String, String)>) -> Result<Letter, &'static str> {
        let word = |because: String| Because::of(&because).ok_or("parked_because");
        let version = self.etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"'));
        Ok(Letter {
            id: self.id.parse().map_err(|_| "id")?,
            upstream: self.upstream,
            route: self.route,
            state: State::of(&self.state).ok_or("state")?,
            verdict: Verdict::ALL
                .into_iter()
                .find(|verdict| verdict.as_str() == self.verdict)
                .ok_or("verdict")?,
            reason: self.reason.map(|word| Reason::of(&word).ok_or("reason")).transpose()?,
            parked_because: self.parked_because.map(word).transpose()?,
            method: self.method,
            path: self.path,
            order_key: self.order_key,
            idempotency_key: self.idempotency_key,
            key_header,
            body_bytes: Some(self.body_bytes).filter(|bytes| *bytes <= MOST).ok_or("body_bytes")?,
            created_at_ms: ms(&self.created_at).ok_or("created_at")?,
            updated_at_ms: ms(&self.updated_at).ok_or("updated_at")?,
            next_attempt_at_ms: maybe(self.next_attempt_at).ok_or("next_attempt_at")?,
            heartbeat_at_ms: maybe(self.heartbeat_at).ok_or("heartbeat_at")?,
            expires_at_ms: ms(&self.expires_at).ok_or("expires_at")?,
            version: version
                .and_then(|version| version.parse().ok())
                .filter(|version| *version <= MOST)
                .ok_or("etag")?,
            attempts: self.attempts.into_iter().map(ToldAttempt::attempt).collect::<Result<_, _>>()?,
            priority: self.priority,
            repeatable: self.repeatable,
            attempts_made: self.attempts_made,
            sealed: None,
        })
    }
}

impl ToldAttempt {
    fn attempt(self) -> Result<Attempt, &'static str> {
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == self.outcome);
        Ok(Attempt {
            at_ms: ms(&self.at).ok_or("attempts.at")?,
            outcome: outcome.ok_or("attempts.outcome")?,
            status: self.status,
            error: self.error,
            duration_ms: Some(self.duration_ms)
                .filter(|ms| *ms <= LONGEST_MS)
                .ok_or("attempts.duration_ms")?,
            answer: self.answer,
        })
    }
}

/// The largest number that a line may bring: it is counted on from there, and must not run over.
pub(super) const MOST: u64 = 1 << 53;

/// The longest attempt that a line may tell of, 34 years: the store keeps their sum.
pub(super) const LONGEST_MS: u64 = 1 << 40;

/// The last millisecond that four digits of a year can tell; later ones read as it.
pub(super) const LAST_MS: u64 = 253_402_300_799_999;

/// Milliseconds since 1970 as `2026-01-02T03:04:05.678Z`.
fn time(unix_ms: u64) -> String {
    let shown = unix_ms.min(LAST_MS);
    let text = clock::rfc3339(shown);
    format!("{}.{:03}Z", text.trim_end_matches('Z'), shown % 1000)
}

fn ms(text: &str) -> Option<u64> {
    u64::try_from(rfc3339::parse(text)?.as_millis()).ok()
}

fn maybe(text: Option<String>) -> Option<Option<u64>> {
    match text {
        Some(text) => ms(&text).map(Some),
        None => Some(None),
    }
}
