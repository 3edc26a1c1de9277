//! Who wins: defaults < preset < profile < upstream < route, key by key.

use std::time::Duration;

use fender::config::{Config, Preset, load_text, load_text_ahead};

fn config(text: &str) -> Config {
    load_text_ahead("fender.toml", text)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
        .config
}

/// A file for one upstream `a`, and the attempt timeout and breaker.open_for that come out, in milliseconds.
fn check(file: &str, attempt: u64, open_for: u64) {
    let config = config(file);
    let upstream = &config.upstream["a"];
    assert_eq!(upstream.timeout.attempt, Duration::from_millis(attempt), "attempt\n{file}");
    assert_eq!(upstream.breaker.open_for, Duration::from_millis(open_for), "open_for\n{file}");
}

#[test]
fn later_layers_win_key_by_key() {
    let a = "[upstream.a]\nurl = 'http://a'\nroute = '/a'\n";
    check(a, 15_000, 10_000);
    check(&format!("{a}preset = 'internal'"), 15_000, 10_000);
    check(&format!("{a}preset = 'ai'"), 600_000, 30_000);
    check(&format!("{a}preset = 'messaging'"), 30_000, 60_000);
    check(&format!("profile = 'development'\n{a}"), 15_000, 2_000);
    check(&format!("profile = 'development'\n{a}preset = 'ai'"), 600_000, 2_000);
    check(&format!("profile = 'testing'\n{a}preset = 'ai'"), 2_000, 30_000);
    check(
        &format!("profile = 'testing'\n{a}preset = 'ai'\ntimeout.attempt = '1s'\nbreaker.open_for = '3s'"),
        1_000,
        3_000,
    );
}

#[test]
fn presets_and_profiles_say_what_the_contract_says() {
    let a = "[upstream.a]\nurl = 'http://a'\nroute = '/a'\n";
    let ai = config(&format!("{a}preset = 'ai'"));
    let ai = &ai.upstream["a"];
    assert_eq!(ai.preset, Preset::Ai);
    assert_eq!(ai.timeout.connect, Duration::from_secs(5));
    assert_eq!(ai.timeout.total, Duration::from_secs(600));
    assert_eq!(ai.stream.first_content, Some(Duration::from_secs(60)));
    assert_eq!(ai.breaker.consecutive_failures, 3);
    let testing = config(&format!("profile = 'testing'\n{a}"));
    assert_eq!(testing.upstream["a"].retry.max_attempts, 1);
    assert_eq!(config(&format!("profile = 'development'\n{a}")).server.drain_quiet, Duration::ZERO);
    assert_eq!(config(a).server.drain_quiet, Duration::from_secs(5));
}

#[test]
fn a_route_overrides_single_keys_of_its_upstream() {
    let config = config(
        "[upstream.a]\nurl = 'http://a'\ntimeout = { connect = '1s', total = '9s' }\nretry.max_body = '2MiB'\n\
         [[route]]\npath = '/fast/'\nupstream = 'a'\nmethods = ['GET']\ntimeout = { total = '3s' }\nidempotent = 'yes'\n\
         [[route]]\nhost = 'Api.Local'\npath = '/'\nupstream = 'a'\nstrip_prefix = false\n",
    );
    let [fast, rest] = config.route.as_slice() else { panic!("two routes") };
    assert_eq!((fast.name.as_str(), fast.path.as_str()), ("/fast", "/fast"));
    assert_eq!(fast.plan.timeout.total, Duration::from_secs(3));
    assert_eq!(fast.plan.timeout.connect, Duration::from_secs(1));
    assert_eq!(fast.plan.retry.max_body, 2 << 20);
    assert_eq!(fast.plan.idempotent, fender::config::Idempotent::Yes);
    assert!(fast.strip_prefix);
    assert_eq!((rest.name.as_str(), rest.host.as_deref()), ("api.local/", Some("api.local")));
    assert_eq!(rest.plan.timeout.total, Duration::from_secs(9));
    assert!(!rest.strip_prefix);
}

#[test]
fn the_shorthand_adds_a_route_with_the_upstreams_plan() {
    let config = config("[upstream.a]\nurl = 'https://a/base/'\nroute = '/a'\npreset = 'ai'\n");
    let [route] = config.route.as_slice() else { panic!("one route") };
    assert_eq!((route.path.as_str(), route.upstream.as_str()), ("/a", "a"));
    assert_eq!(route.plan.timeout, config.upstream["a"].timeout);
    assert_eq!(config.upstream["a"].urls.len(), 1);
    assert_eq!(config.upstream["a"].urls[0].base_path(), "/base");
}

#[test]
fn arrays_replace_whole_and_entries_start_from_their_defaults() {
    let config = config(
        "[upstream.a]\nurl = 'http://a'\nretry.on = [500]\nrate_limit = [{ requests = 3 }]\n\
         [upstream.a.dead_letter.replay]\nbackoff.base = '3s'\nby_outcome = { throttled = { strategy = 'schedule' } }\n\
         [[route]]\npath = '/a'\nupstream = 'a'\nrate_limit = [{ per = '2s' }]\n",
    );
    let a = &config.upstream["a"];
    assert_eq!(a.retry.on, [fender::policy::trigger::Trigger::Status(500)]);
    assert_eq!((a.rate_limit[0].requests, a.rate_limit[0].per), (3, Duration::from_secs(1)));
    let throttled = &a.dead_letter.replay.by_outcome[&fender::config::ReplayOutcome::Throttled];
    assert_eq!(throttled.base, Duration::from_secs(3));
    let limit = &config.route[0].plan.rate_limit[0];
    assert_eq!((limit.requests, limit.per), (10, Duration::from_secs(2)));
}

#[test]
fn an_empty_file_is_the_defaults_with_a_warning() {
    let loaded = load_text("fender.toml", "").expect("in order");
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.config.server.listen, ["127.0.0.1:8700".parse().expect("an address")]);
    assert_eq!(loaded.config.server.max_request_body, None);
}

#[test]
fn one_address_may_stand_without_brackets() {
    let loaded = load_text("fender.toml", "server.listen = '[::1]:1'").expect("in order");
    assert_eq!(loaded.config.server.listen, ["[::1]:1".parse().expect("an address")]);
}
