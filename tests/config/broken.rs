//! Bytes that are no config: an error, never a panic.

use std::path::Path;

use fender::config::{defaults, load, load_text, load_text_ahead};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,400}") {
        survives(&text);
    }

    #[test]
    fn no_mutation_of_the_defaults_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[\\[\\]{}=\"'.,#$\n a-z0-9-]{0,12}"), 1..6)
    ) {
        let mut text = defaults::TEXT.to_owned();
        for (at, length, insert) in edits {
            let start = text.floor_char_boundary(at.index(text.len()));
            let end = text.floor_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end.max(start), &insert);
        }
        survives(&text);
    }
}

fn survives(text: &str) {
    for outcome in [load_text("x.toml", text), load_text_ahead("x.toml", text)] {
        if let Err(problems) = outcome {
            assert!(!problems.is_empty(), "an error says why");
            problems.render(true);
        }
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let key = "a.".repeat(79) + "a";
    let mut value = "1".to_owned();
    for _ in 0..78 {
        value = format!("{{{key} = {value}}}");
    }
    for text in [
        format!("{} = 1", "a.".repeat(5_000) + "a"),
        format!("[{}]", "a.".repeat(5_000) + "a"),
        format!("x = {}", "[".repeat(20_000)),
        format!("x = {}", "{a=".repeat(20_000)),
        format!("[{key}]\n{key} = {value}"),
    ] {
        survives(&text);
        assert!(load_text("x.toml", &text).is_err());
    }
}

#[test]
fn many_problems_in_one_file_are_bounded() {
    let text: String = (0..5000).map(|number| format!("key{number} = 1\n")).collect();
    let problems = load_text("x.toml", &text).expect_err("no such keys");
    assert!(problems.len() <= 201, "{}", problems.len());
}

#[test]
fn bytes_that_are_not_text_are_told_with_their_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fender.toml");
    std::fs::write(&file, b"profile = \"testing\"\n# \xff\n").expect("written");
    let said = load(&file).expect_err("not UTF-8").to_string();
    assert!(said.contains("is not UTF-8 text (line 2)"), "{said}");
}

#[test]
fn a_file_that_is_too_large_missing_or_a_folder_without_configs_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fender.txt");
    std::fs::write(&file, "#".repeat((4 << 20) + 1)).expect("written");
    let said = |path: &Path| load(path).expect_err("unreadable").render(false);
    assert!(said(&file).contains("larger than 4MiB"));
    assert!(said(&folder.path().join("none.toml")).contains("cannot read"));
    assert!(said(folder.path()).contains("holds no *.toml file"));
}
