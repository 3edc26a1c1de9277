//! What of a config file is never shown.
//!
//! Values of secrets are known by their keys. In a file with syntax errors keys cannot be trusted: see `scrub`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::scrub;
use super::unbuilt::matches;

/// The byte ranges of `text` that must not be shown.
pub(super) fn hidden_in(text: &str, table: &DeTable<'_>, broken: bool) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    in_table(text, table, &mut Vec::new(), &mut hidden, 0);
    if broken {
        hidden.extend(scrub::values(text));
    }
    hidden
}

/// `text[range]` with what is hidden replaced, byte for byte.
pub(super) fn masked(text: &str, range: Range<usize>, hidden: &[Range<usize>]) -> String {
    let Some(shown) = text.get(range.clone()) else {
        return String::new();
    };
    let mut near: Vec<Range<usize>> =
        hidden.iter().filter(|one| one.start < range.end && range.start < one.end).cloned().collect();
    near.sort_by_key(|one| one.start);
    let mut near = near.into_iter().peekable();
    let mut hidden_until = 0;
    let mut masked = String::with_capacity(shown.len());
    for (offset, letter) in shown.char_indices() {
        let at = range.start + offset;
        while let Some(one) = near.next_if(|one| one.start <= at) {
            hidden_until = hidden_until.max(one.end);
        }
        if letter != '\n' && at < hidden_until {
            masked.extend(std::iter::repeat_n('*', letter.len_utf8()));
        } else {
            masked.push(letter);
        }
    }
    masked
}

/// A text that stands at this path, with what is hidden of it replaced; what it refers to stays a reference.
pub(super) fn text(raw: &str, path: &[String]) -> String {
    let all = 0..raw.len();
    let hidden = if is_secret(path) { outside_references(raw, all) } else { secrets_of_url(raw, all, path) };
    let (mut shown, mut at) = (String::with_capacity(raw.len()), 0);
    for range in hidden.into_iter().filter(|range| !range.is_empty()) {
        shown.push_str(raw.get(at..range.start).unwrap_or_default());
        shown.push_str(HIDDEN); // Not even how long it is.
        at = range.end;
    }
    shown.push_str(raw.get(at..).unwrap_or_default());
    shown
}

/// A URL without its path, which may bear a secret.
pub(super) fn url(raw: &str) -> String {
    let authority = raw.find("://").map_or(raw.len(), |at| at + 3);
    let path = raw.get(authority..).and_then(|rest| rest.find('/')).map_or(raw.len(), |at| authority + at);
    let (before, after) = raw.split_at_checked(path).unwrap_or((raw, ""));
    if after.trim_matches('/').is_empty() { raw.to_owned() } else { format!("{before}/{HIDDEN}") }
}

/// What stands for a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// A string's range without its quotes, so that what is hidden still reads as a string.
pub(super) fn inside_quotes(text: &str, span: Range<usize>) -> Range<usize> {
    let Some(written) = text.get(span.clone()) else {
        return span;
    };
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'');
    let quotes = written.bytes().take_while(|byte| is_quote(byte)).count().min(3);
    let quotes = if quotes == 2 { 1 } else { quotes };
    let end = span.end.saturating_sub(quotes).max(span.start + quotes);
    span.start + quotes..end
}

fn in_table(
    text: &str,
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    hidden: &mut Vec<Range<usize>>,
    depth: usize,
) {
    for (key, value) in table.iter() {
        path.push(key.get_ref().to_string());
        in_value(text, value, path, hidden, depth + 1);
        path.pop();
    }
}

fn in_value(
    text: &str,
    value: &Spanned<DeValue<'_>>,
    path: &mut Vec<String>,
    hidden: &mut Vec<Range<usize>>,
    depth: usize,
) {
    if depth > DEPTH_MAX {
        hidden.push(value.span()); // Nobody looks further down, so nothing of it is shown.
        return;
    }
    match value.get_ref() {
        DeValue::Table(table) => in_table(text, table, path, hidden, depth),
        DeValue::Array(array) => {
            path.push("*".to_owned());
            for item in array.iter() {
                in_value(text, item, path, hidden, depth + 1);
            }
            path.pop();
        }
        DeValue::String(_) => {
            let inside = inside_quotes(text, value.span());
            if is_secret(path) {
                hidden.extend(outside_references(text, inside));
            } else {
                hidden.extend(secrets_of_url(text, inside, path));
            }
        }
        _ if is_secret(path) => hidden.push(value.span()),
        _ => {}
    }
}

/// Whether what stands at this path, or anything below it, is a secret; `*` stands for an element of an array.
pub(super) fn is_secret(path: &[String]) -> bool {
    SECRETS.iter().any(|pattern| {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let depth = pattern.len().min(path.len());
        // A prefix of a secret's path holds it too, when somebody writes a text where a table should be.
        (path.len() >= pattern.len() || depth > 1)
            && pattern.iter().zip(path).take(depth).all(|(want, have)| matches(want, have))
    }) || path.last().is_some_and(|key| sounds_secret(key))
}

/// What of a range is no reference: `${env:NAME}` gives nothing away, and says what to mend.
fn outside_references(text: &str, span: Range<usize>) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut at = span.start;
    while let Some(rest) = text.get(at..span.end) {
        let references = ["${env:", "${file:"].iter().filter_map(|opening| rest.find(opening)).min();
        let length = references.and_then(|start| Some((start, rest.get(start..)?.find('}')? + 1)));
        let Some((start, length)) = length else { break };
        hidden.push(at..at + start);
        at += start + length;
    }
    hidden.push(at..span.end);
    hidden
}

/// Whether a key of this name holds a secret, wherever it stands.
fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let names_file = key.ends_with("_file") || key.ends_with("credentials");
    !names_file && SOUNDS.iter().any(|sound| key.contains(sound))
}

/// Of a URL: user name and password, path segments that look like tokens, and the query.
fn secrets_of_url(text: &str, span: Range<usize>, path: &[String]) -> Vec<Range<usize>> {
    // The whole path of a webhook's is what lets one post there.
    let webhook = matches!(path, [table, _, key] if table == "notify" && key == "url");
    let Some(written) = text.get(span.clone()) else {
        return Vec::new();
    };
    let Some(scheme) = written.find("://") else {
        return Vec::new();
    };
    let mut hidden = Vec::new();
    let mut at = span.start + scheme + 3;
    let whole = written.get(scheme + 3..).unwrap_or_default();
    if let Some(query) = whole.find(['?', '#']).filter(|query| query + 1 < whole.len()) {
        hidden.push(at + query + 1..span.end);
    }
    for (number, segment) in whole.split('/').enumerate() {
        let secret = match number {
            0 => segment.rfind('@').unwrap_or(0),
            _ if webhook || looks_like_token(segment) => segment.len(),
            _ => 0,
        };
        if secret > 0 {
            hidden.push(at..at + secret);
        }
        at += segment.len() + 1;
    }
    united(hidden)
}

/// In their order, none within another.
fn united(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut all: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

fn looks_like_token(segment: &str) -> bool {
    !segment.contains("${") && (segment.contains(':') || segment.contains('@') || segment.len() >= 24)
}

/// Keys whose values, and all below them, are never shown.
const SECRETS: &[&str] = &[
    "admin.token.*.secret",
    "notify.*.secret",
    "dead_letter.encryption_key",
    "dead_letter.old_encryption_keys",
    "upstream.*.headers.set",
];

/// Keys that sound like secrets, wherever they stand: a misspelt table must not give one away.
const SOUNDS: &[&str] = &[
    "secret",
    "token",
    "password",
    "passwd",
    "authorization",
    "api-key",
    "api_key",
    "apikey",
    "encryption",
    "credential",
    "cookie",
];

const DEPTH_MAX: usize = 64;
