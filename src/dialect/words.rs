//! Fender's own answers in an API's words.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::policy::reason::Reason;

/// What Fender has to say in place of an upstream's answer.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// Why.
    pub reason: Reason,
    /// The status that the generic dialect would answer with.
    pub status: StatusCode,
    /// In words for the client: without an upstream's address, without a secret.
    pub detail: &'a str,
    /// The upstream's name.
    pub upstream: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// When to ask again.
    pub retry_after: Option<Duration>,
    /// Whether Fender has tried, or keeps the write: its clients are not to try again by themselves.
    pub given_up: bool,
}

/// A write that is stored.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance<'a> {
    /// The letter's id.
    pub letter: &'a str,
    /// The upstream's name.
    pub upstream: &'a str,
    /// Why it was stored; `None`: it was stored first.
    pub reason: Option<Reason>,
    /// How durable it is: `full` or `normal`.
    pub durable: &'a str,
    /// The method and path of the write: an API's answers differ by what was asked.
    pub path: &'a str,
}

/// An answer in an API's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, the content type too; the waits are told here, as the API tells them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}
