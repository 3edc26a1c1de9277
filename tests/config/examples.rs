//! The files of `config/` are true.

use fender::config::defaults::{self, resolved};
use fender::config::{Preset, Profile, load_text, load_text_ahead, load_text_with};

const MINIMAL: &str = include_str!("../../config/minimal.toml");
const FULL: &str = include_str!("../../config/full.toml");

#[test]
fn the_smallest_example_is_in_order() {
    let loaded =
        load_text("minimal.toml", MINIMAL).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.config.route[0].path, "/openai");
}

#[test]
fn the_full_example_is_in_order() {
    let environment = |name: &str| Some(format!("value-of-{name}"));
    let loaded = load_text_with("full.toml", FULL, &environment)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_resolved_defaults_are_what_an_empty_upstream_comes_to() {
    for (preset, name) in
        [(Preset::Ai, "ai"), (Preset::Messaging, "messaging"), (Preset::Internal, "internal")]
    {
        for (profile, environment) in [
            (Profile::Production, "production"),
            (Profile::Development, "development"),
            (Profile::Testing, "testing"),
        ] {
            let read = |text: &str| {
                load_text_ahead("x.toml", text)
                    .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
                    .config
            };
            let printed = resolved(preset, profile)
                .replace("[upstream.NAME]\n", "[upstream.NAME]\nurl = 'http://a'\nroute = '/a'\n");
            let empty = format!(
                "profile = '{environment}'\n[upstream.NAME]\nurl = 'http://a'\nroute = '/a'\npreset = '{name}'"
            );
            assert_eq!(read(&printed), read(&empty), "{name} {environment}");
        }
    }
}

#[test]
fn what_is_in_force_is_explained_with_who_set_it() {
    let text = "profile = 'testing'\n[upstream.a]\nurl = 'http://a'\nroute = '/a'\npreset = 'ai'\ntimeout.total = '9s'\n\
                headers.set = { authorization = 'Bearer hunter2' }\n[[route]]\npath = '/b'\nupstream = 'a'\ntimeout.total = '3s'\n";
    let loaded =
        load_text("fender.toml", text).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    insta::assert_snapshot!(loaded.explain("a").expect("there is one"));
    assert!(loaded.explain("b").is_none());
}

#[test]
fn the_defaults_file_is_documented_key_by_key() {
    for line in defaults::TEXT.lines().filter(|line| line.len() > 110) {
        assert!(line.contains('#'), "a long line without a comment: {line}");
    }
}
