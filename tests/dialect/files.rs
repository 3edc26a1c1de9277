//! The files of the dialects, and what a user may do to them.

use fender::config::load_text;
use fender::dialect::{Dialect, builtin};
use proptest::prelude::*;

/// A built-in dialect's file as a user's own, under `[dialect.mine]`.
fn as_own(name: &str) -> String {
    let text = builtin::text(name).expect("it is built in");
    let mut own = String::from("[dialect.mine]\n");
    for line in text.lines() {
        let line = match (line.strip_prefix("[["), line.strip_prefix('[')) {
            (Some(rest), _) => format!("[[dialect.mine.{rest}"),
            (None, Some(rest)) => format!("[dialect.mine.{rest}"),
            (None, None) => line.to_owned(),
        };
        own.push_str(&line);
        own.push('\n');
    }
    own
}

#[test]
fn a_user_may_write_what_the_built_in_ones_say() {
    for name in builtin::names() {
        let text =
            format!("{}[upstream.a]\nurl = 'http://a'\nroute = '/a'\ndialect = 'mine'\n", as_own(name));
        let loaded = load_text("fender.toml", &text)
            .unwrap_or_else(|problems| panic!("{name}: {}", problems.render(false)));
        let mine = loaded.config.upstream["a"].spoken();
        let same = Dialect::compile(name, loaded.config.dialect["mine"].clone()).expect("it compiled");
        let built_in = builtin::dialect(name).expect("it is built in");
        assert_eq!(mine.name(), "mine");
        // Without `extends` it starts from generic, which says the key that is honoured, and so do they all.
        assert!(same == *built_in, "{name} differs");
    }
}

#[test]
fn every_host_belongs_to_one_dialect() {
    for host in ["api.openai.com", "x.openai.azure.com", "slack.com", "hooks.slack.com", "1.api.greenapi.com"]
    {
        let owners: Vec<&str> = builtin::names()
            .filter(|name| builtin::dialect(name).is_some_and(|dialect| dialect.is_of(host)))
            .collect();
        assert_eq!(owners.len(), 1, "{host}: {owners:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is written: it is read, or all that is wrong is told; nothing panics.
    #[test]
    fn damaged_files_are_refused_or_read(
        name in prop::sample::select(builtin::names().collect::<Vec<&'static str>>()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}=\"'a-z0-9,.*/~\n -]{0,3}", 0..4_usize), 1..4),
    ) {
        let mut text = as_own(name);
        for (at, put, gone) in damage {
            let from = text.floor_char_boundary(at.index(text.len()));
            let to = text.floor_char_boundary((from + gone).min(text.len())).max(from);
            text.replace_range(from..to, &put);
        }
        match load_text("fender.toml", &text) {
            Ok(loaded) => drop(loaded.explain("a")),
            Err(problems) => prop_assert!(!problems.render(false).is_empty()),
        }
    }
}
