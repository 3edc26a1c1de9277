//! Paths as they may be shown.

use std::borrow::Cow;
use std::ops::Range;

use super::pattern::Pattern;

/// A path, and its query, without what the patterns and the names of parameters say is secret.
pub(super) fn masked<'p>(path: &'p str, patterns: &[Pattern], parameters: &[String]) -> Cow<'p, str> {
    if patterns.is_empty() && parameters.is_empty() {
        return Cow::Borrowed(path);
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
    if hidden.is_empty() {
        return Cow::Borrowed(path);
    }
    hidden.sort_by_key(|range| (range.start, range.end));
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
