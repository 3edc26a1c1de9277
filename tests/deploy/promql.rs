//! As much of PromQL as it takes to say which metrics and labels an expression names.

use std::collections::BTreeSet;

/// One name in an expression.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Metric(String),
    /// A label that a selector of that metric asks for.
    Selected(String, String),
    /// A label by which series are grouped or matched.
    Grouped(String),
}

/// The words after which labels stand in parentheses.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// All names of an expression whose variables are filled in.
pub(super) fn names(expr: &str) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    let tokens = tokens(expr);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let next = tokens.get(at).map_or("", String::as_str);
        if GROUPING.contains(&token.as_str()) && next == "(" {
            at += 1;
            while let Some(label) = tokens.get(at).filter(|label| *label != ")") {
                if is_name(label) {
                    found.insert(Name::Grouped(label.clone()));
                }
                at += 1;
            }
        } else if is_name(token)
            && !["(", "by", "without"].contains(&next)
            && !WORDS.contains(&token.as_str())
        {
            found.insert(Name::Metric(token.clone()));
            if next == "{" {
                at += 1;
                while let Some(label) = tokens.get(at).filter(|label| *label != "}") {
                    if is_name(label) {
                        found.insert(Name::Selected(token.clone(), label.clone()));
                    }
                    at += 1;
                }
            }
        }
    }
    found
}

/// Words that are no metric although no parenthesis follows them.
const WORDS: [&str; 9] =
    ["and", "or", "unless", "bool", "offset", "on", "ignoring", "group_left", "group_right"];

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Words and single marks; strings, numbers with their units and what stands in brackets are left out.
fn tokens(expr: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = expr.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '"' {
            let mut escaped = false;
            for c in rest.by_ref() {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => break,
                    _ => {}
                }
            }
        } else if c == '[' {
            rest.by_ref().find(|c| *c == ']');
        } else if c.is_ascii_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(more) = rest.next_if(|c| c.is_ascii_alphanumeric() || "_:.".contains(*c)) {
                word.push(more);
            }
            tokens.push(word);
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

#[test]
fn metrics_and_labels_are_told_from_the_rest() {
    let found = names(
        "histogram_quantile(0.9, sum by (le, up) (rate(a_bucket{x=~\"b{y=\\\"\",z!=\"\"}[5m]))) > 1e3 \
         and on (job) c or vector(0) unless sum(d offset 5m)",
    );
    let metric = |name: &str| Name::Metric(name.to_owned());
    let selected = |label: &str| Name::Selected("a_bucket".to_owned(), label.to_owned());
    let grouped = |label: &str| Name::Grouped(label.to_owned());
    let expected = [
        metric("a_bucket"),
        metric("c"),
        metric("d"),
        selected("x"),
        selected("z"),
        grouped("job"),
        grouped("le"),
        grouped("up"),
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}
