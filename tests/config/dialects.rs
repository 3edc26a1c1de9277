//! `dialect` and `[dialect.NAME]`: which dialect an upstream speaks, and what a user may say of one.

use fender::config::{Config, Problems, load_text};
use fender::dialect::{Asked, Head, Place, Ruling};
use fender::policy::outcome::Outcome;

fn config(text: &str) -> Config {
    load_text("fender.toml", text).unwrap_or_else(|problems| panic!("{}", problems.render(false))).config
}

fn problems(text: &str) -> Problems {
    load_text("fender.toml", text).expect_err("the config is wrong")
}

fn spoken(keys: &str) -> String {
    let config = config(&format!("[upstream.a]\nroute = '/a'\n{keys}"));
    config.upstream["a"].spoken().name().to_owned()
}

#[test]
fn auto_goes_by_the_host_and_then_by_the_preset() {
    for (url, wanted) in [
        ("https://api.openai.com", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://API.Anthropic.com", "anthropic"),
        ("https://mine.openai.azure.com/openai", "azure-openai"),
        ("https://generativelanguage.googleapis.com/v1beta", "gemini"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://graph.facebook.com/v21.0", "whatsapp"),
        ("https://7103.api.greenapi.com", "green-api"),
        ("https://api.green-api.com", "green-api"),
        ("https://api.twilio.com", "twilio"),
        ("https://slack.com/api", "slack"),
        ("https://api.telegram.org", "telegram"),
        ("https://api.sendgrid.com", "sendgrid"),
        ("https://example.com", "generic"),
        ("https://api.openai.com.evil.example", "generic"),
        ("https://notslack.com", "generic"),
        ("http://127.0.0.1:9", "generic"),
    ] {
        assert_eq!(spoken(&format!("url = '{url}'")), wanted, "{url}");
    }
    assert_eq!(spoken("url = 'http://127.0.0.1:9'\npreset = 'ai'"), "openai");
    assert_eq!(spoken("url = 'https://api.anthropic.com'\npreset = 'ai'"), "anthropic");
    assert_eq!(spoken("url = 'https://api.anthropic.com'\ndialect = 'generic'"), "generic");
    assert_eq!(spoken("url = 'http://mock:9'\ndialect = 'slack'"), "slack");
}

#[test]
fn a_dialect_of_ones_own_is_taught_in_the_same_words() {
    let config = config(
        "[upstream.a]\nurl = 'https://x.example.com'\nroute = '/a'\n\
         [dialect.mine]\nextends = 'openai'\nhosts = ['*.example.com']\nidempotency_header = 'x-once'\n\
         request.recipient = ['/who']\n\
         [[dialect.mine.rule]]\nstatus = 418\noutcome = 'throttled'\n",
    );
    let mine = config.upstream["a"].spoken();
    assert_eq!(mine.name(), "mine");
    assert_eq!(mine.idempotency_header().map(http::HeaderName::as_str), Some("x-once"));
    let head = Head { status: 418, field: &|_| None, unix_now: std::time::Duration::ZERO };
    let Ruling::Known(meaning) = mine.of_head(&head) else { panic!("no rule reads the body") };
    assert_eq!(meaning.outcome, Outcome::Throttled);
    assert!(mine.repeats("POST", "/v1/chat/completions"), "what is not said is openai's");
    let asked = Asked { path: "/", query: None, content_type: None, body: br#"{"who":"b","model":"m"}"# };
    assert_eq!(mine.find(Place::Recipient, &asked).as_deref(), Some("b"));
    assert_eq!(mine.find(Place::Model, &asked).as_deref(), Some("m"));
}

#[test]
fn a_built_in_dialect_is_changed_key_by_key() {
    let config = config(
        "[upstream.a]\nurl = 'https://slack.com/api'\nroute = '/a'\n\
         [dialect.slack]\nmasked_headers = ['x-slack']\nrefusal.words.error.timeout = 'late'\n",
    );
    let slack = config.upstream["a"].spoken();
    assert_eq!(slack.name(), "slack");
    assert_eq!(slack.secret_headers().len(), 1);
    assert!(slack.reads_bodies(), "the rest is as it was");
    let unchanged = fender::dialect::builtin::dialect("slack").expect("it is built in");
    assert_ne!(**slack, *unchanged);
}

#[test]
fn fallbacks_keep_to_the_dialect_that_is_spoken() {
    let text = |other: &str| {
        format!(
            "[upstream.a]\nurl = 'https://api.openai.com'\nroute = '/a'\nfallback = [{{ upstream = 'b' }}]\n\
             [upstream.b]\nurl = '{other}'\n"
        )
    };
    assert!(
        problems(&text("https://api.anthropic.com")).to_string().contains("speaks the dialect anthropic")
    );
    config(&text("https://eu.api.openai.com"));
}

#[test]
fn what_is_wrong_with_a_dialect_is_told_with_its_place() {
    let text = r#"
[upstream.a]
url = "https://x.example.com/v1"
route = "/a"
dialect = "antropic"
[upstream.b]
url = "https://x.example.com/v1"
route = "/b"
dialect = "bedrock"
[dialect.one]
extends = "opnai"
colour = 1
hosts = ["https://a"]
repeatable = ["/v1/x"]
masked_paths = ["bot{}", "/a/{}x{}"]
max_body = "0B"
[dialect.two]
extends = "two"
field = { x = ["nope"] }
request.order = ["to"]
[[dialect.two.rule]]
status = ["6xx", 99]
json = { y = "z", "/a/0/b" = 1, "/a/*/b" = 2, "/c" = ["*", 1] }
outcome = "throttle"
wait = { json = "/w", form = "hours" }
[dialect.three]
extends = "four"
[dialect.four]
extends = "three"
stream.event = [{ data = "x" }, { kind = "end", event = 3 }]
[dialect.slack]
refusal.body = '{"ok":{detail}, {nothing}'
refusal.waiting.body = '{"ok":{detail}'
refusal.status.opn = 99
refusal.headers = { connection = "close", "bad name" = "x" }
refusal.words.detail.default = "x"
[[dialect.slack.acceptance]]
body = '{"id":{letter}}'
"#;
    insta::assert_snapshot!(problems(text).render(false));
}
