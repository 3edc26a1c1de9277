//! Who may call the API.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::config::{self, Role, Token};

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// 401: no token, or none that is known.
    Unknown,
    /// 403: the token's role or scope does not reach so far.
    Beyond,
}

/// Who calls: a token that is known.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    name: String,
    role: Role,
    upstreams: Option<Vec<String>>,
}

impl Caller {
    /// Whoever has the file itself may do all.
    pub(crate) fn with_the_file() -> Self {
        Self { name: "command line".to_owned(), role: Role::Operator, upstreams: None }
    }

    /// Of this token.
    pub(super) fn of(token: &Token) -> Self {
        Self { name: token.name.clone(), role: token.role, upstreams: token.upstreams.clone() }
    }

    /// What it is bounded to; `None`: nothing.
    pub(super) fn upstreams(&self) -> Option<&[String]> {
        self.upstreams.as_deref()
    }

    /// Whether it sees this upstream.
    pub(super) fn reaches(&self, upstream: &str) -> bool {
        self.upstreams.as_ref().is_none_or(|own| own.iter().any(|name| name == upstream))
    }

    /// It may act.
    ///
    /// # Errors
    /// 403 for a viewer.
    pub(super) fn operates(&self) -> Result<(), Refused> {
        if self.role == Role::Operator { Ok(()) } else { Err(Refused::Beyond) }
    }

    /// It may act on all of the process.
    ///
    /// # Errors
    /// 403 for a viewer, and for an operator of some upstreams.
    pub(super) fn operates_all(&self) -> Result<(), Refused> {
        if self.upstreams.is_none() { self.operates() } else { Err(Refused::Beyond) }
    }

    /// One line for each act: who, what, which.
    pub(super) fn audit(&self, what: &str, which: &str, done: bool) {
        tracing::info!(who = self.name, what, which, done, "audit");
    }
}

/// The token that the call bears, if it may act on all of the process.
///
/// # Errors
/// See [`Refused`].
pub(super) fn operator_of_all<'a>(
    settings: &'a config::Admin,
    headers: &HeaderMap,
) -> Result<&'a Token, Refused> {
    let token = known(settings, headers).ok_or(Refused::Unknown)?;
    if token.role == Role::Operator && token.upstreams.is_none() { Ok(token) } else { Err(Refused::Beyond) }
}

/// The token that the call bears. Every configured one is compared, in the same time whatever the difference.
pub(super) fn known<'a>(settings: &'a config::Admin, headers: &HeaderMap) -> Option<&'a Token> {
    let given = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, secret) = given.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let mut found = None;
    for token in &settings.token {
        if same(token.secret.expose().as_bytes(), secret.trim_ascii()) {
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
