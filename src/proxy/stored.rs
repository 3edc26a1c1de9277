//! What of a request is stored with its letter, what the seal alone keeps of it, and how both go up again.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, EXPECT, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::exchange::Exchange;
use super::headers::{Named, hop_by_hop};
use super::keys::CREDENTIALS;
use super::traced::TRACEPARENT;
use crate::config;
use crate::deadletter::{Content, Credentials};
use crate::route::Plan;

/// A credential that the client bore, and that neither the seal nor Fender itself supplies at replay.
pub(super) fn credential_missing(exchange: &Exchange) -> bool {
    if exchange.plan.settings().dead_letter.credentials == config::Credentials::Seal {
        return false;
    }
    let rule = &exchange.plan.settings().dead_letter;
    let supplied = |name: &HeaderName| exchange.plan.set().iter().any(|(set, _)| set == name);
    let own = exchange.plan.upstream().dialect().secret_headers();
    let in_path = matches!(path(exchange), Cow::Owned(_));
    in_path
        || CREDENTIALS.iter().chain(own).chain(&rule.redact).any(|name| {
            exchange.headers.contains_key(name) && !supplied(name) && !exchange.plan.remove().contains(name)
        })
}

/// What the seal keeps of the request, where the config has it so: its secret path, and the fields that are secret and that
/// Fender does not set itself.
pub(super) fn credentials(exchange: &Exchange) -> Option<Credentials> {
    let plan = &exchange.plan;
    if plan.settings().dead_letter.credentials != config::Credentials::Seal {
        return None;
    }
    let whole = matches!(path(exchange), Cow::Owned(_)).then(|| exchange.target.as_str().to_owned());
    let named = Named::by_connection(&exchange.headers);
    let sealed = |name: &HeaderName| {
        is_secret(exchange, name)
            && !plan.set().iter().any(|(own, _)| own == name)
            && !plan.remove().contains(name)
            && passes(exchange, name, &named)
    };
    let headers = fields(exchange, sealed);
    (whole.is_some() || !headers.is_empty()).then_some(Credentials { path: whole, headers })
}

/// Path and query without the credentials that the API has in them: what lacks one is replayed by nobody.
pub(super) fn path(exchange: &Exchange) -> Cow<'_, str> {
    exchange.plan.upstream().dialect().masked(exchange.target.as_str())
}

/// The client's fields, without what is secret, the hop's own, or made anew at replay.
pub(super) fn headers(exchange: &Exchange) -> Vec<(String, Vec<u8>)> {
    let named = Named::by_connection(&exchange.headers);
    let mut headers = fields(exchange, |name| !is_secret(exchange, name) && passes(exchange, name, &named));
    if !exchange.headers.contains_key("x-request-id") {
        headers.push(("x-request-id".to_owned(), exchange.id.as_str().as_bytes().to_vec()));
    }
    if let Some(trace) = &exchange.finish.trace {
        trace.remember(&mut headers, is_secret(exchange, &TRACEPARENT));
    }
    headers
}

fn fields(exchange: &Exchange, kept: impl Fn(&HeaderName) -> bool) -> Vec<(String, Vec<u8>)> {
    let kept = exchange.headers.iter().filter(|(name, _)| kept(name));
    kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn is_secret(exchange: &Exchange, name: &HeaderName) -> bool {
    let plan = &exchange.plan;
    CREDENTIALS.contains(name)
        || plan.upstream().dialect().secret_headers().contains(name)
        || plan.settings().dead_letter.redact.contains(name)
        || plan.set().iter().any(|(own, _)| own == name)
}

/// Whether a field goes up at all, and is not made anew there.
fn passes(exchange: &Exchange, name: &HeaderName, named: &Named) -> bool {
    !hop_by_hop(name.as_str())
        && !name.as_str().starts_with("fender-")
        && (exchange.trusted || !name.as_str().starts_with("x-forwarded-"))
        && !named.contains(name.as_str())
        && ![CONTENT_LENGTH, EXPECT].contains(name)
}

/// The stored fields as they go up again.
pub(super) fn restored(content: &Content, key: Option<&(String, String)>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(content.headers.len() + 2);
    let sealed = content.credentials.iter().flat_map(|own| &own.headers);
    for (name, value) in content.headers.iter().chain(sealed) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    if let Some((name, value)) = key
        && let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
    {
        headers.insert(name, value);
    }
    headers
}

/// What of sealed credentials an answer must not repeat to those who read it.
pub(super) fn secrets(credentials: &Credentials, plan: &Plan) -> Vec<String> {
    let mut secrets = Vec::new();
    for (_, value) in &credentials.headers {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        // A scheme, a cookie's name: what stands behind them is the secret.
        secrets.extend(value.split([' ', ';', ',']).map(str::to_owned));
        secrets
            .extend(value.split(';').filter_map(|pair| pair.split_once('=')).map(|(_, own)| own.to_owned()));
        secrets.push(value.to_owned());
    }
    let path = credentials.path.as_deref().unwrap_or_default();
    secrets.extend(plan.upstream().dialect().secrets_in(path));
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}
