//! The base URL of a service.

use fender::config::{HookUrl, Scheme, Url};

#[test]
fn a_url_is_taken_apart() {
    for (text, scheme, host, port, base) in [
        ("http://a", Scheme::Http, "a", 80, ""),
        ("https://a.example/", Scheme::Https, "a.example", 443, ""),
        ("https://a:8443/v1/x/", Scheme::Https, "a", 8443, "/v1/x"),
        ("http://[::1]:9", Scheme::Http, "::1", 9, ""),
        ("http://[2001:db8::1]/b", Scheme::Http, "2001:db8::1", 80, "/b"),
        ("HTTP://127.0.0.1:80", Scheme::Http, "127.0.0.1", 80, ""),
    ] {
        let url = Url::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(
            (url.scheme(), url.host(), url.port(), url.base_path()),
            (scheme, host, port, base),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_base_url_is_refused() {
    for text in [
        "",
        "a",
        "//a",
        "/a",
        "a:80",
        "ftp://a",
        "http://",
        "http:///x",
        "http://:80",
        "http://a:",
        "http://a:0",
        "http://a:65536",
        "http://a:x",
        "http://u@a",
        "http://u:p@a",
        "http://a?x",
        "http://a/?x",
        "http://a#x",
        "http://a/../b",
        "http://a/./b",
        "http://a//b",
        "http://a b",
        "http://[::1",
        "http://::1",
        "http://a\\b",
        "http://\u{e4}",
    ] {
        assert!(Url::parse(text).is_err(), "{text:?} was taken");
    }
}

#[test]
fn printing_a_url_hides_its_path() {
    let url = Url::parse("https://api.telegram.org/bot123:hunter2").expect("a URL");
    assert_eq!(
        format!("{url} {url:?}"),
        "https://api.telegram.org/(hidden) https://api.telegram.org/(hidden)"
    );
}

#[test]
fn the_url_of_a_webhook_may_bear_a_query() {
    for (text, base, rest) in [
        ("https://a", "", ""),
        ("https://a/", "", ""),
        ("https://a/hook", "/hook", ""),
        ("https://a/hook/", "/hook", "/"),
        ("https://a?token=x", "", "/?token=x"),
        ("https://a/?token=x", "", "/?token=x"),
        ("https://a/hook?sig=a%2Fb&x=/y?z", "/hook", "?sig=a%2Fb&x=/y?z"),
        ("https://a/hook/?token=x", "/hook", "/?token=x"),
    ] {
        let url = HookUrl::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!((url.base().base_path(), url.rest()), (base, rest), "{text}");
        let shown = format!("{url} {url:?}");
        assert!(!shown.contains("token") && !shown.contains("sig") && !shown.contains("hook"), "{shown}");
    }
    for text in
        ["https://a?x#y", "https://a#?x", "https://u:p@a?x", "https://?x", "ftp://a?x", "https://a?a b", "?x"]
    {
        let why = HookUrl::parse(text).expect_err(text);
        assert!(!why.contains("a b"), "{why}");
    }
}
