//! The policies' tables: what has no meaning is refused with its place, what is merely odd is warned of.

use fender::config::{load_text, load_text_ahead};

#[test]
fn numbers_without_a_meaning_are_refused() {
    let text = r#"
[upstream.a]
url = "http://a"
route = "/a"
[upstream.a.retry]
max_attempts = 0
retry_after = "0s"
max_body = "0B"
budget = { ratio = nan, min_per_second = inf, window = "0s" }
backoff = { base = "0s", factor = -1.0, schedule = ["0s"] }
[upstream.a.breaker]
window = "0s"
window_requests = 0
minimum_requests = 0
failure_rate = -0.1
slow_rate = inf
open_for = "0s"
max_open_for = "99999999999d"
half_open_probes = 0
half_open_timeout = "0s"
[upstream.a.concurrency]
max = 0
queue = -1
queue_timeout = "0s"
[upstream.a.throttle]
max_pause = "0s"
max_wait = "-1s"
[[upstream.a.rate_limit]]
requests = 0
per = "0s"
[upstream.a.health]
interval = "0s"
unhealthy_after = 0
healthy_after = 0
[[upstream.a.fallback]]
stale = "0s"
[upstream.b]
url = "http://b"
route = "/b"
retry = { budget = { ratio = inf } }
breaker = { failure_rate = nan, slow_rate = 1.01, window_requests = 4294967296, consecutive_failures = -1 }
concurrency = { max = 4294967296 }
"#;
    insta::assert_snapshot!(load_text("fender.toml", text).expect_err("it is wrong").to_string());
}

#[test]
fn tables_that_contradict_themselves_are_refused() {
    let text = r#"
[upstream.a]
url = "http://a"
route = "/a"
timeout = { attempt = "10s", total = "5s" }
retry = { backoff = { base = "2s", max = "1s", factor = 0.5, strategy = "schedule", schedule = [] } }
breaker = { open_for = "20s", max_open_for = "10s", window_requests = 1000001, half_open_probes = 1001 }
[[route]]
path = "/b"
upstream = "a"
breaker = { window_requests = 9, minimum_requests = 10 }
timeout = { attempt = "3s", total = "2s" }
"#;
    insta::assert_snapshot!(load_text("fender.toml", text).expect_err("it is wrong").to_string());
}

#[test]
fn what_is_merely_odd_is_warned_of() {
    let text = r#"
[upstream.a]
url = "http://a"
route = "/a"
timeout = { attempt = "90s" }
retry = { backoff = { base = "20s" }, budget = { ratio = 0.0, min_per_second = 0.0 } }
breaker = { open_for = "10m", slow_call = "2m" }
health = { path = "/up", timeout = "15s" }
[[upstream.a.rate_limit]]
max_wait = "5m"
[[upstream.a.fallback]]
on = []
stale = "1m"
[[route]]
path = "/b"
methods = ["POST"]
upstream = "a"
breaker = { failures = [] }
fallback = [{ stale = "1m" }]
"#;
    let warnings = load_text("fender.toml", text).expect("odd, and in order").warnings;
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// The defaults, each preset and each profile are neither, once the store has a place that lasts.
#[test]
fn what_ships_is_neither_wrong_nor_odd() {
    for preset in ["internal", "ai", "messaging"] {
        for profile in ["production", "development", "testing"] {
            let text = format!(
                "profile = \"{profile}\"\n[upstream.a]\nurl = \"http://a\"\nroute = \"/\"\npreset = \"{preset}\"\n\
                 headers.set = {{ authorization = \"Bearer own\" }}\n[dead_letter]\npath = \"/var/lib/fender/letters.db\"\n"
            );
            let loaded = load_text_ahead("fender.toml", &text).expect("in order");
            assert!(loaded.warnings.is_empty(), "{preset}, {profile}: {:?}", loaded.warnings);
        }
    }
}

/// A letter's credential is never stored: somebody has to supply it again.
#[test]
fn kept_letters_without_a_credential_of_fenders_own_are_warned_of() {
    let text = |set: &str| {
        format!("[upstream.a]\nurl = 'http://a'\nroute = '/'\ndead_letter.mode = 'outbox'\n{set}")
    };
    let warned = |text: &str| {
        let warnings = load_text("fender.toml", text).expect("in order").warnings;
        warnings.iter().any(|warning| warning.to_string().contains("credential"))
    };
    assert!(warned(&text("")));
    assert!(!warned(&text("headers.set = { authorization = 'Bearer own' }")));
}
