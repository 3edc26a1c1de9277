//! Paths as they may be shown.

use std::borrow::Cow;
use std::ops::Range;

use super::pattern::Pattern;

/// A path, and its query, without what the patterns and the names of parameters say is secret.
pub(super) fn masked<'p>(path: &'p str, patterns: &[Pattern], parameters: &[String]) -> Cow<'p, str> {
    let plain = plain(path);
    let hidden = hidden(&plain, patterns, parameters);
    if hidden.is_empty() {
        return Cow::Borrowed(path);
    }
    let path = &*plain;
    let mut shown = String::with_capacity(path.len());
    let mut at = 0;
    for range in hidden {
        if range.start >= at {
            shown.push_str(path.get(at..range.start).unwrap_or_default());
            shown.push_str("***");
        }
        at = at.max(range.end);
    }
    shown.push_str(path.get(at..).unwrap_or_default());
    Cow::Owned(shown)
}

/// What of a path and its query is secret, in order.
pub(super) fn secrets(path: &str, patterns: &[Pattern], parameters: &[String]) -> Vec<String> {
    let plain = plain(path);
    let hidden = hidden(&plain, patterns, parameters);
    hidden.into_iter().filter_map(|range| plain.get(range).map(str::to_owned)).collect()
}

fn hidden(path: &str, patterns: &[Pattern], parameters: &[String]) -> Vec<Range<usize>> {
    if patterns.is_empty() && parameters.is_empty() {
        return Vec::new();
    }
    let (route, query) = path.split_once('?').unwrap_or((path, ""));
    let mut hidden: Vec<Range<usize>> = patterns.iter().flat_map(|pattern| pattern.find_all(route)).collect();
    let mut at = route.len() + 1;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !value.is_empty() && parameters.iter().any(|one| one.eq_ignore_ascii_case(name)) {
            hidden.push(at + name.len() + 1..at + pair.len());
        }
        at += pair.len() + 1;
    }
    hidden.sort_by_key(|range| (range.start, range.end));
    hidden
}

/// The path with what is percent-encoded without need decoded: nothing is to hide behind a form that means the same
/// (RFC 3986 section 6.2.2.2). What divides a path or a query stays as it is written.
fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('%') {
        plain.push_str(before);
        let code = behind.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.map(char::from).filter(|letter| letter.is_ascii_graphic() && !"/?&=%#".contains(*letter)) {
            Some(letter) => {
                plain.push(letter);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                plain.push('%');
                rest = behind;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}
