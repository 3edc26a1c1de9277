//! The request target: dot segments resolved, all else as it came.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

/// Resolves `.` and `..` segments, percent-encoded ones too (RFC 3986 section 5.2.4); what would climb above the root stays
/// there. A path without any is not copied. Anything else, empty segments and encoded slashes included, stays as it came.
#[must_use]
pub(super) fn resolve(path: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'.', b'%', path.as_bytes()).is_none()
        || !path.split('/').any(|segment| dots(segment) > 0)
    {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        ends_in_slash = true;
        match dots(segment) {
            0 => {
                kept.push(segment);
                ends_in_slash = false;
            }
            1 => {}
            _ => {
                kept.pop();
            }
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if ends_in_slash {
        resolved.push('/');
    }
    Cow::Owned(resolved)
}

/// How many dots the segment consists of, if it consists of one or two and nothing else; otherwise 0.
fn dots(segment: &str) -> usize {
    if segment.is_empty() || segment.len() > 6 {
        return 0;
    }
    let mut rest = segment.as_bytes();
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => tail,
            _ => return 0,
        };
        count += 1;
    }
    if count <= 2 { count } else { 0 }
}

/// Path and query to send, behind the endpoint's own base path: what follows `prefix` in `path` (the resolved path of `uri`),
/// and the query as it came. `None` if that is no target, which a path that was one before cannot become.
#[must_use]
#[expect(clippy::ptr_arg, reason = "that it is borrowed says that it is the path of `uri`, unchanged")]
pub fn outgoing(uri: &Uri, path: &Cow<'_, str>, prefix: Option<&str>) -> Option<PathAndQuery> {
    let prefix = prefix.filter(|prefix| *prefix != "/");
    if prefix.is_none() && matches!(path, Cow::Borrowed(_)) {
        return Some(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    }
    let rest = prefix.and_then(|prefix| path.strip_prefix(prefix)).unwrap_or(path);
    let query = uri.query();
    let mut target = String::with_capacity(rest.len() + query.map_or(0, str::len) + 2);
    if !rest.starts_with('/') {
        target.push('/');
    }
    target.push_str(rest);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(target)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved_and_nothing_else_is_touched() {
        for (given, wanted) in [
            ("/a/b", "/a/b"),
            ("/a//b/", "/a//b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../etc", "/etc"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/...", "/a/..."),
            ("/a/..b", "/a/..b"),
            ("/a%2f..%2fb", "/a%2f..%2fb"),
            ("/a/..;/b", "/a/..;/b"),
        ] {
            assert_eq!(resolve(given), wanted, "{given}");
        }
    }

    #[test]
    fn the_prefix_goes_and_the_query_stays() {
        for (given, prefix, wanted) in [
            ("/openai/v1/x?a=%20b&c", Some("/openai"), "/v1/x?a=%20b&c"),
            ("/openai", Some("/openai"), "/"),
            ("/openai?", Some("/openai"), "/?"),
            ("/openai/", Some("/openai"), "/"),
            ("/x/../y?q", None, "/y?q"),
            ("/x?q", Some("/"), "/x?q"),
            ("/x?q", None, "/x?q"),
        ] {
            let uri: Uri = given.parse().unwrap();
            let path = resolve(uri.path());
            assert_eq!(outgoing(&uri, &path, prefix).unwrap(), wanted, "{given}");
        }
    }
}
