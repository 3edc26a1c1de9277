//! The dialects: what APIs answer, as tables; their streams, whole and in pieces; Fender's own answers in their words.

mod answers;
mod command;
mod files;
mod own_words;
mod scanner;
mod stream_reader;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use fender::dialect::{Dialect, Head, Meaning, Ruling, builtin};

/// 2026-11-22T08:00:00Z.
const NOW: Duration = Duration::from_secs(1_795_334_400);

fn dialect(name: &str) -> Arc<Dialect> {
    builtin::dialect(name).unwrap_or_else(|| panic!("no dialect {name}"))
}

/// What a whole answer means, as the proxy finds out: by its head, and by its body where the head does not do.
fn meaning(dialect: &Dialect, status: u16, headers: &[(&str, &str)], body: &str) -> Meaning {
    let field = |name: &str| headers.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
    let head = Head { status, field: &field, unix_now: NOW };
    match dialect.of_head(&head) {
        Ruling::Known(meaning) => meaning,
        Ruling::Read { .. } => dialect.of_body(&head, body.as_bytes(), true).expect("it is whole"),
    }
}

#[test]
fn every_built_in_dialect_compiles() {
    for name in builtin::names() {
        let compiled = builtin::compile(name).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(compiled.name(), name);
        assert!(!compiled.about().is_empty(), "{name} says nothing about itself");
    }
    assert_eq!(builtin::names().count(), 12);
}
