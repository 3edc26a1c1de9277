//! Whether a letter from elsewhere is one that a capture could have made: an import must bring nothing that no client could
//! have had sent, and no credential in the clear.

use http::Method;
use http::uri::PathAndQuery;

use super::letter::{Content, Letter};

/// An upstream's name has at most 64 bytes in a config; a route's is its prefix.
const UPSTREAM_MAX: usize = 256;
const ROUTE_MAX: usize = 1024;

/// Header fields that bear credentials. Captures leave them out, whatever the config says.
const CREDENTIALS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"];

/// What is wrong with it, without a word of what it bears.
pub(super) fn check(letter: &Letter, content: Option<&Content>) -> Result<(), String> {
    if letter.upstream.len() > UPSTREAM_MAX {
        return Err(format!("`upstream` is longer than {UPSTREAM_MAX} bytes"));
    }
    if letter.route.len() > ROUTE_MAX {
        return Err(format!("`route` is longer than {ROUTE_MAX} bytes"));
    }
    match Method::from_bytes(letter.method.as_bytes()) {
        Err(_) => return Err("`method` is no method".to_owned()),
        Ok(Method::CONNECT | Method::TRACE) => {
            return Err("`method` is one of which no letters are kept".to_owned());
        }
        Ok(_) => {}
    }
    path(&letter.path)?;
    let stored = content.into_iter().flat_map(|content| &content.headers).map(|(name, _)| name);
    let key = letter.key_header.iter().map(|(name, _)| name);
    for name in stored.chain(key) {
        if let Some(known) = CREDENTIALS.iter().find(|known| name.eq_ignore_ascii_case(known)) {
            return Err(format!("it bears `{known}`: credentials are not kept in letters"));
        }
    }
    Ok(())
}

/// A path of two slashes is one: it is captured as it comes, sent in origin form, and an export of it comes back.
fn path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("`path` does not begin with a slash".to_owned());
    }
    // A fragment is cut off by the parser, and is nothing that a client sends.
    let target = path.parse::<PathAndQuery>().ok().filter(|target| target.as_str() == path);
    let Some(target) = target else { return Err("`path` is no request target".to_owned()) };
    if target.path().split('/').any(climbs) {
        return Err("`path` has dot segments, which are resolved before a request is sent".to_owned());
    }
    Ok(())
}

/// Whether the segment is `.` or `..`, however it is written.
fn climbs(segment: &str) -> bool {
    segment.len() <= "%2e%2e".len()
        && [".", ".."].contains(&segment.to_ascii_lowercase().replace("%2e", ".").as_str())
}
