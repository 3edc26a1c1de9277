//! References to secrets are followed, and what they stand for is never shown.

use fender::config::{Kind, Loaded, Problems, load_text_ahead, load_text_with};
use proptest::prelude::*;

const PLANTED: &str = "hunter2-planted-secret";

fn environment(name: &str) -> Option<String> {
    match name {
        "PLANTED" => Some(PLANTED.to_owned()),
        "TWO" => Some("2".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Result<Loaded, Problems> {
    load_text_with("fender.toml", text, &environment)
}

fn header(value: &str) -> String {
    let text = format!("[upstream.a]\nurl = 'http://a'\nroute = '/a'\nheaders.set = {{ x = '{value}' }}");
    let loaded = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.config.upstream["a"].headers.set["x"].expose().to_owned()
}

#[test]
fn references_are_followed_anywhere_in_a_string() {
    assert_eq!(header("Bearer ${env:PLANTED}!"), format!("Bearer {PLANTED}!"));
    assert_eq!(header("${env:TWO}${env:TWO}"), "22");
    assert_eq!(header("$${env:TWO} $$ $x {y}"), "${env:TWO} $$ $x {y}");
    let loaded = load("[upstream.a]\nurl = 'http://a'\nroute = '/a'\nhttp = '${env:TWO}'").expect("in order");
    assert_eq!(loaded.config.upstream["a"].http, fender::config::HttpVersion::Two);
}

#[test]
fn a_secret_file_loses_one_trailing_newline_and_is_watched() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "a\n\n").expect("written");
    let file = folder.path().join("fender.toml");
    let text =
        "[upstream.a]\nurl = 'http://a'\nroute = '/a'\nhealth.path = ''\nheaders.set.x = '${file:key}'";
    std::fs::write(&file, text.replace("health.path = ''\n", "")).expect("written");
    let problems = fender::config::load(&file).expect_err("a newline is left").to_string();
    assert!(problems.contains("line break"), "{problems}");
    std::fs::write(folder.path().join("key"), "a\n").expect("written");
    let loaded = fender::config::load(&file).expect("in order");
    assert_eq!(loaded.config.upstream["a"].headers.set["x"].expose(), "a");
    assert!(loaded.files.contains(&folder.path().join("key")));
    assert!(loaded.files.contains(&file));
}

#[test]
fn no_debug_print_of_a_config_shows_a_secret() {
    let text = "[[admin.token]]\nname = 'a'\nrole = 'viewer'\nsecret = '${env:PLANTED}'\n\
                [upstream.a]\nurl = 'https://a/bot${env:PLANTED}'\nroute = '/a'\n\
                headers.set = { authorization = 'Bearer ${env:PLANTED}', y = 'literal-hunter2' }";
    let loaded = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    let printed = format!("{loaded:?} {:?} {}", loaded.config, loaded.explain("a").expect("there is one"));
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(loaded.explain("a").expect("there is one").contains("${env:PLANTED}"));
}

/// What is said about a bad config with a literal or a referred secret in it.
fn never_shown(text: &str) {
    let outcomes = [load(text), load_text_ahead("fender.toml", text)];
    for problems in outcomes.into_iter().filter_map(Result::err) {
        for said in
            [problems.render(false), problems.render(true), problems.to_string(), format!("{problems:?}")]
        {
            assert!(!said.contains("hunter2"), "{text}\n----\n{said}");
        }
    }
}

#[test]
fn problems_never_show_a_literal_secret() {
    for text in [
        "[[admin.token]]\nname = 'a'\nrole = 'x'\nsecret = 'hunter2'",
        "[[admin.token]]\nname = 'a'\nrole = 'viewer'\nsecret = 'hunter2 with spaces'",
        "[[admin.token]]\nname = 'a'\nrole = 'viewer'\nsecert = 'hunter2'",
        "admin.token = [{ nam = 'a', role = 'viewer', secert = 'hunter2' }]",
        "[admin]\ntoken = 'hunter2'",
        "[dead_letter]\nencryption_key = 'hunter2'\nold_encryption_keys = ['hunter2', 'hunter2']",
        "[dead_letter]\nencryption_key = ['hunter2']",
        "[[notify]]\nurl = 'x'\nsecret = 'hunter2'",
        "[[notify]]\nurl = 'http://h?hunter2 x'\nsecret = ''",
        "[[notify]]\nurl = 'http://h/?token=hunter2'\nsecret = ''",
        "[[notify]]\nurl = 'http://h/a?token=hunter2&x=/y#'",
        "notify = [{ url = 'http://h?token=hunter2', on = [1] }]",
        "[[notify]]\nurl = 'http://h?token=hunter2'\n[[notify]]\nurl = 'http://h?token=hunter2'",
        "[upstream.a]\nurl = 'https://a?key=hunter2'",
        "[upstream.a]\nurl = 'https://me:hunter2?x@a'",
        "[upstream.a]\nurl = 'https://a/b?x=/y:z/hunter2'",
        "[upstream.a]\nurl = 'https://a/b?key=hunter2'",
        "[trace]\notlp_endpoint = 'https://a?key=hunter2'",
        "[upstream.a]\nurl = 'https://me:hunter2@a'",
        "[upstream.a]\nurl = 'https://a/bot123:hunter2/?x'",
        "[upstream.a]\nurl = 'http://a'\nheaders = 'hunter2'",
        "[upstream.a]\nurl = 'http://a'\nheaders.set = 'hunter2'",
        "[upstream.a]\nurl = 'http://a'\nheaders.set = { \"bad name\" = 'hunter2', x = [1, 'hunter2'] }",
        "[upstream.a]\nurl = 'http://a'\nheaders.sett = { x = 'hunter2' }",
        "[upstream.a]\nurl = 'http://a'\nheaders.set.x = \"hunter2\\u0001\"",
        "[upstream.a]\nurl = 'http://a'\nheaders.set.x = \"\"\"\nhunter2\n\"\"\"",
        "[upstream.a.headers]\nset = { authorization = 'hunter2' ",
        "[upstream.a.headers.set]\nauthorization = 'hunter2\n",
        "[upstream.a.headers.set]\nauthorization = hunter2\n",
        "[[admin.token]]\nsecret = \"hunter2\nname = ",
        "[[admin.token]]\nsecret = [\n'hunter2',\n'hunter2' x\n]",
        "[upstream.a]\nurl = https://me:hunter2@a",
        "upstream.a = { headers = { set = { authorization = 'hunter2' } ",
        "[x]\npassword = 'hunter2' y",
        "[upstream.a.headers]\nset = { authorization = 'Bearer hunter2x-key = \"hunter2\" }",
        "[upstream.a.headers]\nset = { authorization = 'Bearer\nhunter2 = 'x' }",
        "[upstream.a.headers]\nset = { authorization = 'Bearer\n[hunter2]",
    ] {
        never_shown(text);
    }
}

#[test]
fn problems_never_show_what_a_reference_stands_for() {
    for line in [
        "url = '${env:PLANTED}'",
        "url = 'http://a'\npreset = '${env:PLANTED}'",
        "url = 'http://a'\nroute = '${env:PLANTED}'",
        "url = 'http://a'\ntimeout.total = '${env:PLANTED}'",
        "url = 'http://a'\npool.max_idle = '${env:PLANTED}'",
        "url = 'http://a'\nidempotency_header = '${env:PLANTED} '",
        "url = 'http://a'\ntls.ca_file = '/${file:no-such}${env:PLANTED}'",
        "url = 'http://a'\ndialect = '${env:PLANTED}'",
        "url = 'http://a'\nfallback = [{ upstream = '${env:PLANTED}', on = ['${env:PLANTED}'] }]",
        "url = 'http://a'\nfallback = [{ upstream = '${env:PLANTED}' }]",
        "url = 'http://a'\nbreaker.key = '${env:PLANTED}'",
    ] {
        never_shown(&format!("[upstream.a]\n{line}\n"));
    }
    never_shown("[server]\nlisten = '${env:PLANTED}'");
    never_shown("profile = '${env:PLANTED}'");
    never_shown("[[route]]\nupstream = '${env:PLANTED}'\npath = '/'\nhost = '${env:PLANTED}:1'");
    never_shown("[server.tls]\ncert_file = '${env:PLANTED}'\nkey_file = 'x'");
}

const GOOD: &str = "[admin]\nlisten = '127.0.0.1:1'\n[[admin.token]]\nname = 'ops'\nrole = 'viewer'\nsecret = 'hunter2'\n\n\
    [upstream.a]\nurl = 'http://a'\n[upstream.a.headers]\nset = { authorization = 'Bearer hunter2', x-key = \"hunter2\" }\nremove = []\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_with_syntax_errors_shows_no_secret(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, "[\\[\\]{}=\"'.,#$\n a-z0-9-]{0,4}"), 1..4)
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, insert) in edits {
            let start = at.index(text.len());
            text.replace_range(start..(start + length).min(text.len()), &insert);
        }
        if let Err(problems) = load(&text) {
            let broken = problems.iter().any(|problem| problem.kind == Kind::Syntax);
            prop_assert!(!broken || !problems.render(false).contains("hunter2"), "{}", problems.render(false));
        }
    }
}
