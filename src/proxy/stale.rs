//! Last good answers, kept to be given again when the upstream fails: each to the same request of the same caller alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, CACHE_CONTROL, HeaderName, RANGE, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::exchange::Exchange;
use super::keys;
use crate::memory::{Lease, Memory};
use crate::policy::keyed::Keyed;

/// Answers that are kept at most.
const ANSWERS_MAX: usize = 1024;

/// The largest body that is kept.
const BODY_MAX: u64 = 1024 * 1024;

/// Of `buffer_memory` answers hold one part in so many: bodies that wait for another attempt, or to be stored, need the rest.
const SHARE: u64 = 4;

/// What an answer costs beside its body.
const ANSWER_COST: u64 = 1024;

/// All that is kept; its bytes are leased from `buffer_memory`.
#[derive(Debug)]
pub struct Stale {
    answers: Mutex<Keyed<Kept>>,
    memory: Arc<Memory>,
    /// What the answers hold: never more than their share.
    held: AtomicU64,
}

/// One answer as it came.
#[derive(Debug)]
struct Kept {
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
    /// The request's fields that the answer varies by, as they were.
    varies: Vec<(HeaderName, Option<HeaderValue>)>,
    lease: Lease,
}

/// An answer given again.
#[derive(Debug)]
pub(super) struct Again {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Stale {
    /// Nothing is kept yet.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(Keyed::new(ANSWERS_MAX)), memory, held: AtomicU64::new(0) })
    }

    /// The last good answer to this request, if it is no older than `age_max`.
    pub(super) fn find(&self, exchange: &Exchange, age_max: Duration, now: Instant) -> Option<Again> {
        if exchange.method != Method::GET || exchange.headers.contains_key(RANGE) {
            return None;
        }
        let mut answers = self.answers();
        let kept = answers.get(key(exchange))?;
        let age = now.saturating_duration_since(kept.at);
        let same = kept.varies.iter().all(|(name, value)| exchange.headers.get(name) == value.as_ref());
        if age > age_max || !same {
            return None;
        }
        let mut headers = kept.headers.clone();
        let before: u64 =
            headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
        headers.insert(AGE, before.saturating_add(age.as_secs()).into());
        Some(Again { headers, body: kept.body.clone() })
    }

    /// What copies the answer on its way down, if it may be kept.
    pub(super) fn copy(
        self: &Arc<Self>,
        exchange: &Exchange,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Copying> {
        let asked = exchange.method == Method::GET && !exchange.headers.contains_key(RANGE);
        if !asked || status != StatusCode::OK || forbidden(headers) || forbidden(&exchange.headers) {
            return None;
        }
        let mut varies = Vec::new();
        for value in headers.get_all(VARY) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let name = HeaderName::from_bytes(name).ok()?; // "*" is none: no other request is the same.
                let value = exchange.headers.get(&name).cloned();
                varies.push((name, value));
            }
        }
        let mut lease = self.memory.lease();
        if !lease.grow(ANSWER_COST) {
            self.give_way();
            return None;
        }
        let mut headers = headers.clone();
        headers.remove(SET_COOKIE);
        let key = key(exchange);
        Some(Copying {
            stale: Arc::clone(self),
            key,
            headers,
            varies,
            body: BytesMut::new(),
            lease: Some(lease),
        })
    }

    /// Memory is short: what has been of no use for longest goes.
    fn give_way(&self) {
        self.let_go(&mut self.answers());
    }

    /// Keeps an answer, and lets older ones go until all of them fit into their share.
    fn take(&self, key: u64, kept: Kept) {
        let mut answers = self.answers();
        self.held.fetch_add(kept.lease.bytes(), Ordering::Relaxed);
        // The answer before is let go, and so is one that gives way to the number.
        if let Some(before) = answers.remove(key) {
            self.held.fetch_sub(before.lease.bytes(), Ordering::Relaxed);
        }
        if answers.len() >= ANSWERS_MAX {
            self.let_go(&mut answers);
        }
        answers.put(key, kept);
        while self.held.load(Ordering::Relaxed) > self.memory.limit() / SHARE && self.let_go(&mut answers) {}
    }

    fn let_go(&self, answers: &mut Keyed<Kept>) -> bool {
        let gone = answers.evict();
        if let Some(kept) = &gone {
            self.held.fetch_sub(kept.lease.bytes(), Ordering::Relaxed);
        }
        gone.is_some()
    }

    fn answers(&self) -> MutexGuard<'_, Keyed<Kept>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 9111 section 5.2: who says no-store is not kept.
fn forbidden(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        words.any(|word| word.eq_ignore_ascii_case(b"no-store"))
    })
}

fn key(exchange: &Exchange) -> u64 {
    let usual = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE]
        .map(|name| exchange.headers.get(name).map(HeaderValue::as_bytes));
    let route = exchange.finish.route();
    keys::hash((route, exchange.target.as_str(), keys::caller(&exchange.headers), usual))
}

/// An answer that is copied while it is passed on; kept once it is whole.
#[derive(Debug)]
pub struct Copying {
    stale: Arc<Stale>,
    key: u64,
    headers: HeaderMap,
    varies: Vec<(HeaderName, Option<HeaderValue>)>,
    body: BytesMut,
    /// Gone once the body has outgrown its bound.
    lease: Option<Lease>,
}

impl Copying {
    /// One more piece of the body.
    pub fn piece(&mut self, data: &[u8]) {
        let Some(lease) = &mut self.lease else { return };
        let fits = (self.body.len() + data.len()) as u64 <= BODY_MAX;
        if fits && lease.grow(data.len() as u64) {
            self.body.extend_from_slice(data);
        } else {
            self.lease = None;
            self.body = BytesMut::new();
            if fits {
                self.stale.give_way();
            }
        }
    }

    /// The answer is whole.
    pub fn keep(self, now: Instant) {
        let Some(lease) = self.lease else { return };
        let kept =
            Kept { headers: self.headers, body: self.body.freeze(), at: now, varies: self.varies, lease };
        self.stale.take(self.key, kept);
    }
}
