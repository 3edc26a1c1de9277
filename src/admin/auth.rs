//! Who may call the API.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::line::Line;
use super::problem::No;
use super::state::Admin;
use crate::clock;
use crate::config::{self, Role, Token};
use crate::policy::key::Key;
use crate::policy::limit::{Limits, RateLimit, RateLimitWord};

/// Who calls: a token that is known.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    name: String,
    role: Role,
    upstreams: Option<Vec<String>>,
    /// `None`: whoever has the file itself.
    token: Option<Token>,
}

impl Caller {
    /// Whoever has the file itself may do all.
    pub(crate) fn with_the_file() -> Self {
        Self { name: "command line".to_owned(), role: Role::Operator, upstreams: None, token: None }
    }

    fn of(token: &Token) -> Self {
        let Token { name, role, upstreams, .. } = token.clone();
        Self { name, role, upstreams, token: Some(token.clone()) }
    }

    /// Whether its token is still what it was: a reload may have changed or removed it.
    pub(super) fn is_still_known(&self, settings: &config::Admin) -> bool {
        self.token.as_ref().is_none_or(|token| settings.token.contains(token))
    }

    /// The token's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it is bounded to; `None`: nothing.
    pub(super) fn upstreams(&self) -> Option<&[String]> {
        self.upstreams.as_deref()
    }

    /// Whether it sees this upstream.
    pub(super) fn reaches(&self, upstream: &str) -> bool {
        self.upstreams.as_ref().is_none_or(|own| own.iter().any(|name| name == upstream))
    }

    /// It may look. Every token may.
    pub(super) const fn views(&self) -> bool {
        matches!(self.role, Role::Viewer | Role::Operator)
    }

    /// It may look at all of the process.
    pub(super) fn views_all(&self) -> bool {
        self.views() && self.upstreams.is_none()
    }

    /// It may act.
    pub(super) fn operates(&self) -> bool {
        self.role == Role::Operator
    }

    /// It may act on all of the process.
    pub(super) fn operates_all(&self) -> bool {
        self.operates() && self.upstreams.is_none()
    }

    /// One line for each act: who, what, which.
    pub(super) fn audit(&self, what: &str, which: &str, done: bool) {
        tracing::info!(who = self.name, what, which, done, "audit");
    }

    /// One line for each act that the token does not reach.
    pub(super) fn audit_refused(&self, method: &Method, path: &str) {
        tracing::warn!(who = self.name, %method, path, "audit: refused");
    }
}

/// Wrong tokens are counted by the address that they come from: so many at once, then so many a second. From an address
/// beyond that no token is looked at, not even a right one: else guessing would go on behind the refusals.
#[derive(Debug)]
pub(super) struct Guesses {
    limits: Mutex<Limits>,
    /// When it was last told that there were too many.
    told: Mutex<Option<Instant>>,
}

/// The log is told no more often that there are too many: it has better things to hold.
const TELL_EVERY: Duration = Duration::from_secs(10);

const GUESSES_AT_ONCE: u32 = 100;
const GUESSES_PER_SECOND: u32 = 10;

impl Default for Guesses {
    fn default() -> Self {
        let limit = RateLimit {
            requests: GUESSES_PER_SECOND,
            per: Duration::from_secs(1),
            burst: GUESSES_AT_ONCE,
            key: Key::Word(RateLimitWord::Upstream),
            max_wait: Duration::ZERO,
        };
        Self { limits: Mutex::new(Limits::new(&[limit])), told: Mutex::default() }
    }
}

impl Guesses {
    /// Whether it is worth telling again that there are too many.
    fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|last| now.saturating_duration_since(last) >= TELL_EVERY);
        if news {
            *told = Some(now);
        }
        news
    }

    /// Whose token it is, if it is anybody's.
    fn judge<'a>(
        &self,
        from: IpAddr,
        now: Instant,
        known: impl FnOnce() -> Option<&'a Token>,
    ) -> Result<&'a Token, No> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let key = [origin(from)];
        let slot = limits
            .ask(&key, now)
            .map_err(|refused| No::Enough(refused.retry_after.as_secs().saturating_add(1)))?;
        let token = known().ok_or(No::Unknown)?;
        limits.give_back(slot, &key);
        Ok(token)
    }
}

/// Whoever has one address of a /64 has all of them.
fn origin(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        }
    }
}

/// Lets only those into the API whose token is known, whether or not the path exists.
pub(super) async fn authenticate(
    State(admin): State<Arc<Admin>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    match known(&admin, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(no) => no.into_response(),
    }
}

fn known(admin: &Admin, request: &Request) -> Result<Caller, No> {
    let secret = bearer(request.headers()).ok_or(No::Unknown)?;
    let from = request.extensions().get::<Line>().map_or(UNKNOWN, Line::peer);
    let settings = admin.settings.load();
    let judged = admin.own.guesses.judge(from, clock::now(), || owner(&settings, secret));
    if let Err(No::Enough(_)) = judged
        && admin.own.guesses.is_news(clock::now())
    {
        tracing::warn!(%from, "audit: too many wrong tokens");
    }
    judged.map(Caller::of)
}

/// Where a connection in memory comes from.
const UNKNOWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// What follows "Bearer".
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

/// Whose secret it is. Every configured one is compared, in the same time whatever the difference.
fn owner<'a>(settings: &'a config::Admin, secret: &[u8]) -> Option<&'a Token> {
    let mut found = None;
    for token in &settings.token {
        if same(token.secret.expose().as_bytes(), secret) {
            found = Some(token);
        }
    }
    found
}

/// Compares without a branch on the contents; the length alone may be learnt from the time.
fn same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0_u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    one.len() == other.len() && !one.is_empty() && difference == 0
}
