//! Every key that a story can name is one whose line is known.

use std::fs;
use std::path::Path;

use fender::config::load_text;

/// The texts in quotes that are keys: words of small letters, with dots between them.
fn keys(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let texts = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    texts.filter(|text| text.contains('.') && text.split('.').all(is_word)).map(str::to_owned).collect()
}

#[test]
fn a_storys_keys_have_lines() {
    let text = "[upstream.a]\nurl = \"http://a\"\nroute = \"/\"\n[[upstream.a.rate_limit]]\nrequests = 1\nper = \"1s\"\n";
    let origins = load_text("fender.toml", text).unwrap().origins();
    let mut named = 0;
    for file in
        ["telemetry/story/keys.rs", "proxy/admit.rs", "proxy/body.rs", "proxy/notes.rs", "proxy/refused.rs"]
    {
        let source =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).unwrap();
        for key in keys(&source) {
            named += 1;
            let set_by = origins.of("a", "/", &key);
            assert!(set_by.is_some(), "{file} names {key}, which src/config/origins.rs does not look up");
        }
    }
    assert!(named > 40, "only {named} keys were found");
    for key in ["idempotent", "shed_at", "rate_limit", "rate_limit[0].requests"] {
        assert!(origins.of("a", "/", key).is_some(), "{key}");
    }
}
