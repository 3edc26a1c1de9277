//! What is hidden of a file with syntax errors, where keys cannot be trusted.
//!
//! Only its bones are shown: keys, punctuation, small numbers. A misplaced quote can turn anything into anything, a
//! secret into the value of a harmless key too.

use std::ops::Range;

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
    let mut from = None;
    let mut seen = Seen { word: false, quote: false };
    for (offset, letter) in line.char_indices().chain([(line.len(), ' ')]) {
        match (is_bone(letter), from) {
            (false, None) => from = Some(offset),
            (true, Some(begin)) => {
                if !seen.is_harmless(line, begin, offset) {
                    hidden.push(start + begin..start + offset);
                }
                seen.word = true;
                from = None;
            }
            _ => {}
        }
        seen.quote |= matches!(letter, '"' | '\'');
    }
}

/// What stands before a word on its line.
struct Seen {
    word: bool,
    quote: bool,
}

impl Seen {
    /// A key before its equals sign, the name of a table, a number, a boolean.
    fn is_harmless(&self, line: &str, begin: usize, end: usize) -> bool {
        let (Some(before), Some(word), Some(after)) =
            (line.get(..begin), line.get(begin..end), line.get(end..))
        else {
            return false;
        };
        if self.quote {
            return false;
        }
        let bare = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        let is_key = bare && after.starts_with(" =") && (!self.word || before.ends_with(['{', ',', ' ']));
        let is_table = bare && matches!(before, "[" | "[[") && after.starts_with(']');
        let is_number = word.len() <= 5 && word.bytes().all(|byte| byte.is_ascii_digit());
        is_key || is_table || is_number || matches!(word, "true" | "false")
    }
}

fn is_bone(letter: char) -> bool {
    letter.is_whitespace() || "[]{}=,'\"#".contains(letter)
}
