//! What is hidden of a file with syntax errors, where keys cannot be trusted.
//!
//! Only its bones are shown: punctuation, small numbers, and the words of Fender's own vocabulary. A misplaced quote can
//! turn anything into anything, a secret into a key too; so where a word stands proves nothing, only which word it is.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use super::defaults;

/// All of the text that could be a value.
pub(super) fn values(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        words(line, start, &mut hidden);
        start += line.len();
    }
    hidden
}

fn words(line: &str, start: usize, hidden: &mut Vec<Range<usize>>) {
    let (mut from, mut quoted) = (None, false);
    for (offset, letter) in line.char_indices().chain([(line.len(), ' ')]) {
        match (is_bone(letter), from) {
            (false, None) => from = Some(offset),
            (true, Some(begin)) => {
                let word = line.get(begin..offset).unwrap_or_default();
                hide_parts(word, quoted, start + begin, hidden);
                from = None;
            }
            _ => {}
        }
        quoted |= matches!(letter, '"' | '\'');
    }
}

/// All of a word but a small number, a boolean, and what of a dotted name is Fender's.
fn hide_parts(word: &str, quoted: bool, start: usize, hidden: &mut Vec<Range<usize>>) {
    let is_number = word.len() <= 5 && word.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && !quoted || matches!(word, "true" | "false") {
        return;
    }
    let mut at = start;
    for part in word.split('.') {
        if !KEYS.contains(part) {
            hidden.push(at..at + part.len());
        }
        at += part.len() + 1;
    }
}

/// Every name of a key or a table that Fender knows, a part of a dotted name each.
static KEYS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let lines = defaults::TEXT.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let names = lines.filter_map(|line| match line.strip_prefix('[') {
        Some(table) => table.split_once(']').map(|(name, _)| name.trim_start_matches('[')),
        None => line.split_once(" =").map(|(name, _)| name),
    });
    names.flat_map(|name| name.split('.')).filter(|part| part.bytes().all(is_of_a_key)).collect()
});

const fn is_of_a_key(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_' || byte == b'-'
}

fn is_bone(letter: char) -> bool {
    letter.is_whitespace() || "[]{}=,'\"#".contains(letter)
}
