//! Bad TOML, and all that is said about it at once: reviewed as text, since a user reads it.

use fender::config::{Problems, load_text, load_text_ahead};

fn problems(text: &str) -> Problems {
    load_text("fender.toml", text).expect_err("the config is wrong")
}

fn ahead(text: &str) -> Problems {
    load_text_ahead("fender.toml", text).expect_err("the config is wrong")
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let text = r#"
profil = "production"

[server]
listen = "localhost:8700"
workers = -1
drain_timeout = 25
max_request_body = "10MB"
header_timeout = "0s"
trust_client_headers = "loopbak"

[upstream.openai]
url = "https://user:hunter2@api.openai.com"
route = "/openai"
preset = "a1"
htp = "1"

[upstream.openai.timeout]
conect = "5s"
attempt = "60s"
total = "30s"

[upstream.openai.headers]
set = { "bad name" = "x", connection = "close" }

[upstream.nowhere]
route = "/openai"

[[route]]
path = "/a"
upstream = "opnai"

[[route]]
path = "b?c"
upstream = "openai"
methods = ["get"]
retry = { budget = { ratio = 0.5 } }
"#;
    insta::assert_snapshot!(problems(text).render(false));
}

#[test]
fn broken_syntax_is_told_line_by_line_with_the_rest() {
    let text = "[server]\nworkers = \nlisten = [\"127.0.0.1:1\"\n\n[upstream.a]\nurl = 'http://a'\nurl = 'http://b'\n\"x = 1\n[admin]\nlisten = \"127.0.0.1\"\n";
    insta::assert_snapshot!(problems(text).render(false));
}

#[test]
fn references_that_lead_nowhere_are_all_told() {
    let text = r#"
[admin]
token = [{ name = "a", role = "viewer", secret = "${env:FENDER_TEST_UNSET_A}" }]
[upstream.a]
url = "${env:FENDER_TEST_UNSET_B}"
route = "/a"
headers = { set = { authorization = "Bearer ${file:no/such/file}", x = "${vault:x}", y = "${env:OPEN", z = "$${literal}" } }
"#;
    insta::assert_snapshot!(problems(text).render(false));
}

#[test]
fn what_is_not_built_yet_is_refused_with_its_place() {
    let text = r#"
[dead_letter]
path = "/var/lib/fender.db"
[upstream.a]
url = "http://a"
route = "/a"
dialect = "bedrock"
stream = { keepalive = "15s" }
[[route]]
path = "/b"
upstream = "a"
stream = { keepalive = "15s" }
"#;
    insta::assert_snapshot!(problems(text).render(false));
}

#[test]
fn contradictions_are_told_with_both_places() {
    let text = r#"
[server]
listen = ["0.0.0.0:8701", "127.0.0.1:9000", "127.0.0.1:9000"]
drain_timeout = "5s"
drain_quiet = "10s"
[admin]
public_listen = "127.0.0.1:9000"
[upstream.a]
url = "http://a"
urls = ["http://b"]
dialect = "anthropic"
retry = { backoff = { base = "10s", max = "1s", factor = 0.5 }, budget = { ratio = 1.5, min_per_second = -1.0 } }
breaker = { window = "10s", window_requests = 5, failure_rate = 0.0, open_for = "10m", max_open_for = "5m", key = "header:" }
dead_letter = { credentials = "seal" }
fallback = [{ upstream = "b" }, { upstream = "nobody" }, { stale = "1m", upstream = "b" }, { path = "/x", stale = "1m" }]
[upstream.b]
urls = []
fallback = [{ upstream = "c", on = [99, "5xy"] }]
tls = { client_cert_file = "missing.pem" }
[upstream.c]
url = "ftp://c"
fallback = [{ upstream = "b" }]
[[route]]
path = "/x"
upstream = "a"
[[route]]
path = "/x/"
upstream = "b"
"#;
    insta::assert_snapshot!(ahead(text).render(false));
}

#[test]
fn the_one_line_form_names_key_value_and_reason() {
    let text = "[upstream.a]\nurl = 'http://a'\n[[route]]\npath = '/a'\nupstream = 'a'\ntimeout = { total = '5x' }\n";
    insta::assert_snapshot!(problems(text).to_string());
}

#[test]
fn a_colored_rendering_says_the_same() {
    let problems = problems("[serverr]\n");
    let plain: String = problems
        .render(true)
        .split('\u{1b}')
        .map(|part| part.split_once('m').map_or(part, |(_, rest)| rest))
        .collect();
    assert_eq!(plain, problems.render(false));
}

#[test]
fn quantities_are_refused_by_type_and_by_bound() {
    let text = r#"
[server]
workers = 99999
max_connections = 0
max_header_bytes = "1KiB"
buffer_memory = 5
header_timeout = "1h30m"
body_idle_timeout = 1979-05-27
drain_timeout = "99999999999999999999s"
[access_log]
enabled = "true"
[upstream.a]
url = "http://a:0"
pool = { max_idle = 0, idle_timeout = "0s" }
[upstream.b]
url = "http://b/x?y=1"
[upstream.c]
url = "http://c#d"
[upstream.d]
url = "b.example"
[upstream."bad name"]
url = "http://[::1]:99999"
"#;
    insta::assert_snapshot!(problems(text).render(false));
}

#[test]
fn a_value_of_the_wrong_type_is_told_once() {
    let text = "upstream = []\nroute = {}\nserver = 1\nadmin = 'x'\nprofile = 3\naccess_log = [1]\n";
    insta::assert_snapshot!(problems(text).to_string());
}

#[test]
fn a_webhook_that_would_never_be_told_is_refused() {
    let text = r#"
[upstream.a]
url = "http://a"
route = "/a"
[[notify]]
url = "http://hook"
on = []
secret = "s"
[[notify]]
url = "https://hook/services/T0/B0"
on = ["breaker.opened", "breaker.opened", "breaker.open"]
"#;
    insta::assert_snapshot!(problems(text).render(false));
}

#[test]
fn an_event_that_nobody_knows_is_told_once() {
    for (on, count) in
        [("[\"breaker.open\"]", 1), ("[\"no\", \"neither\"]", 2), ("[]", 1), ("\"breaker.opened\"", 1)]
    {
        let text = format!(
            "[upstream.a]\nurl = \"http://a\"\nroute = \"/a\"\n[[notify]]\nurl = \"http://hook\"\nsecret = \"s\"\non = {on}\n"
        );
        let said = problems(&text).render(false);
        assert_eq!(said.matches("error:").count(), count, "{on}: {said}");
    }
}

#[test]
fn where_traces_go_and_how_many_is_checked_with_its_place() {
    for (line, says) in [
        ("otlp_endpoint = \"ftp://collector\"", "must start with http:// or https://"),
        ("otlp_endpoint = \"http://u:p@collector\"", "must not bear a user name or a password"),
        ("otlp_endpoint = \"http://collector?token=x\"", "must not bear a query"),
        ("sample = 1.5", "trace.sample"),
        ("sample = -0.1", "trace.sample"),
    ] {
        let problems = load_text("fender.toml", &format!("[trace]\n{line}\n")).expect_err(line);
        let told = problems.to_string();
        assert!(told.contains(says) && told.contains("fender.toml:2:"), "{line}: {told}");
    }
    for good in
        ["otlp_endpoint = \"\"\nsample = 0", "otlp_endpoint = \"https://collector:4318/base\"\nsample = 1.0"]
    {
        load_text("fender.toml", &format!("[trace]\n{good}\n")).expect(good);
    }
}
