//! The forms in which APIs tell a wait.

use std::time::Duration;

use fender::policy::told::{LONGEST, Told, told};
use proptest::prelude::*;

use super::{millis, secs};

/// 2026-11-22T08:00:00Z.
const NOW: u64 = 1_795_334_400;

fn of(fields: &[(&str, &str)]) -> Option<Told> {
    told(&|name| fields.iter().find(|(of, _)| *of == name).map(|(_, value)| *value), secs(NOW))
}

fn wait(name: &str, value: &str) -> Option<Duration> {
    let told = of(&[(name, value)])?;
    assert_eq!(told.source, name);
    Some(told.wait)
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (value, wanted) in [
        ("20", Some(secs(20))),
        (" 20 ", Some(secs(20))),
        ("0", Some(Duration::ZERO)),
        ("0.25", Some(millis(250))),
        ("1.0000000019", Some(Duration::new(1, 1))),
        ("Sun, 22 Nov 2026 08:00:30 GMT", Some(secs(30))),
        ("Sunday, 22-Nov-26 08:00:30 GMT", Some(secs(30))),
        ("Sun Nov 22 08:00:30 2026", Some(secs(30))),
        ("Sun, 22 Nov 2026 07:59:30 GMT", Some(Duration::ZERO)),
        ("86400", Some(secs(86_400))),
        ("99999999999999999999999", Some(LONGEST)),
        ("Fri, 22 Nov 2030 08:00:30 GMT", Some(LONGEST)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        (".5", None),
        ("5.", None),
        ("1.2.3", None),
        ("NaN", None),
        ("inf", None),
        ("٣", None),
        ("soon", None),
        ("20, 30", None),
        ("Sun, 32 Nov 2026 08:00:30 GMT", None),
    ] {
        assert_eq!(wait("retry-after", value), wanted, "{value:?}");
    }
}

#[test]
fn milliseconds_are_believed_first() {
    assert_eq!(wait("retry-after-ms", "1200"), Some(millis(1200)));
    assert_eq!(wait("retry-after-ms", "0.5"), Some(Duration::from_micros(500)));
    assert_eq!(wait("x-ms-retry-after-ms", "1200"), Some(millis(1200)));
    assert_eq!(wait("x-amz-retry-after", "1200"), Some(millis(1200)));
    let all = [
        ("retry-after", "2"),
        ("retry-after-ms", "1200"),
        ("x-ms-retry-after-ms", "1300"),
        ("ratelimit-reset", "9"),
    ];
    assert_eq!(of(&all), Some(Told { wait: millis(1200), source: "retry-after-ms" }));
    assert_eq!(of(&[("retry-after-ms", "soon"), ("retry-after", "2")]).unwrap().source, "retry-after");
}

#[test]
fn the_rate_limit_field_in_its_drafts() {
    assert_eq!(wait("ratelimit-reset", "30"), Some(secs(30)));
    for (value, wanted) in [
        ("\"default\";r=0;t=30", Some(30)),
        ("\"default\"; r=0; t=30", Some(30)),
        ("\"a\";r=0;t=30, \"b\";r=0;t=90, \"c\";r=5;t=300", Some(90)),
        ("\"a\";r=3;t=30, \"b\";r=5;t=90", Some(30)),
        ("\"a\";t=90, \"b\";t=40, \"c\";r=5;t=10", Some(40)),
        ("\"odd, ;t=1\";r=0;t=30", Some(30)),
        ("limit=100, remaining=0, reset=30", Some(30)),
        ("limit=100,remaining=0,reset=30", Some(30)),
        ("\"default\";r=0", None),
        ("\"default\";r=0;t=-3", None),
        ("\"default;r=0;t=3", None),
        ("limit=100, reset=soon", None),
        (";;;,,,===", None),
    ] {
        assert_eq!(wait("ratelimit", value), wanted.map(secs), "{value:?}");
    }
}

#[test]
fn a_reset_is_a_wait_an_epoch_or_a_date_told_apart_by_its_size() {
    for name in ["x-ratelimit-reset", "x-rate-limit-reset"] {
        for (value, wanted) in [
            ("30", Some(secs(30))),
            ("1.5", Some(millis(1500))),
            ("1795334430", Some(secs(30))),
            ("1795334430.25", Some(millis(30_250))),
            ("1795334430500", Some(millis(30_500))),
            ("1795334370", Some(Duration::ZERO)),
            ("999999999", Some(LONGEST)),
            ("99999999999999999999", Some(LONGEST)),
            ("6m0s", Some(secs(360))),
            ("2026-11-22T08:00:30Z", Some(secs(30))),
            ("-30", None),
        ] {
            assert_eq!(wait(name, value), wanted, "{value:?}");
        }
    }
    assert_eq!(wait("x-ratelimit-reset-after", "1.337"), Some(millis(1337)));
}

#[test]
fn durations_as_go_writes_them() {
    for (value, wanted) in [
        ("1s", Some(secs(1))),
        ("6m0s", Some(secs(360))),
        ("120ms", Some(millis(120))),
        ("1h2m3.5s", Some(millis(3_723_500))),
        ("7.66s", Some(millis(7660))),
        ("2m59.56s", Some(millis(179_560))),
        ("5us", Some(Duration::from_micros(5))),
        ("5µs", Some(Duration::from_micros(5))),
        ("5ns", Some(Duration::from_nanos(5))),
        ("999999999999h", Some(LONGEST)),
        ("s", None),
        ("1", Some(secs(1))),
        ("1x", None),
        ("1s2", None),
        ("1.s", None),
        ("-1s", None),
        ("1s 2ms", None),
        ("1d", None),
    ] {
        assert_eq!(wait("x-ratelimit-reset-requests", value), wanted, "{value:?}");
    }
}

#[test]
fn dates_as_rfc_3339_writes_them() {
    let name = "anthropic-ratelimit-requests-reset";
    for (value, wanted) in [
        ("2026-11-22T08:00:30Z", Some(secs(30))),
        ("2026-11-22t08:00:30z", Some(secs(30))),
        ("2026-11-22 08:00:30Z", Some(secs(30))),
        ("2026-11-22T08:00:30.125Z", Some(millis(30_125))),
        ("2026-11-22T09:00:30+01:00", Some(secs(30))),
        ("2026-11-22T02:30:30-05:30", Some(secs(30))),
        ("2026-11-22T07:00:00Z", Some(Duration::ZERO)),
        ("1969-12-31T23:59:59Z", Some(Duration::ZERO)),
        ("0000-01-01T00:00:00Z", Some(Duration::ZERO)),
        ("9999-12-31T23:59:60Z", Some(LONGEST)),
        ("2026-11-22T08:00:30", None),
        ("2026-11-22T08:00Z", None),
        ("2026-11-22T08:00:30.Z", None),
        ("2026-11-22T08:00:30.x5Z", None),
        ("2026-13-22T08:00:30Z", None),
        ("2026-02-29T08:00:30Z", None),
        ("2026-11-31T08:00:30Z", None),
        ("2026-11-22T24:00:30Z", None),
        ("2026-11-22T08:60:30Z", None),
        ("2026-11-22T08:00:61Z", None),
        ("2026-11-22T08:00:30+24:00", None),
        ("2026-11-22T08:00:30+0100", None),
        ("2026-11-22T08:00:30Zulu", None),
        ("26-11-22T08:00:30Z", None),
        ("2026-11-22", None),
        ("T", None),
    ] {
        assert_eq!(wait(name, value), wanted, "{value:?}");
    }
}

#[test]
fn of_several_limits_the_longest_that_is_used_up() {
    let (requests, tokens) = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens");
    let (left_requests, left_tokens) = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens");
    let waits = [(requests, "1s"), (tokens, "6m0s")];
    for (left, wanted, source) in [
        (vec![(left_requests, "0"), (left_tokens, "100")], secs(1), requests),
        (vec![(left_requests, "99"), (left_tokens, "0")], secs(360), tokens),
        (vec![(left_requests, "0"), (left_tokens, "0")], secs(360), tokens),
        (vec![(left_requests, "0")], secs(1), requests),
        (vec![(left_requests, "99")], secs(360), tokens),
        (vec![(left_requests, "99"), (left_tokens, "-1")], secs(360), tokens),
        (vec![(left_requests, "99"), (left_tokens, "99")], secs(1), requests),
        (vec![], secs(1), requests),
    ] {
        let fields = [&waits[..], &left[..]].concat();
        assert_eq!(of(&fields), Some(Told { wait: wanted, source }), "{left:?}");
    }
    let anthropic = [
        ("anthropic-ratelimit-requests-reset", "2026-11-22T08:00:10Z"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T08:00:40Z"),
        ("anthropic-ratelimit-input-tokens-remaining", "0"),
        ("anthropic-ratelimit-output-tokens-reset", "2026-11-22T08:09:00Z"),
        ("anthropic-ratelimit-output-tokens-remaining", "8000"),
    ];
    let wanted = Told { wait: secs(40), source: "anthropic-ratelimit-input-tokens-reset" };
    assert_eq!(of(&anthropic), Some(wanted));
    let mut with_word = anthropic.to_vec();
    with_word.push(("retry-after", "7"));
    assert_eq!(of(&with_word).unwrap().source, "retry-after");
}

#[test]
fn nothing_told_is_nothing() {
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[("x-ratelimit-remaining-requests", "0")]), None);
}

const NAMES: &[&str] = &[
    "retry-after-ms",
    "retry-after",
    "ratelimit-reset",
    "ratelimit",
    "x-ratelimit-reset-after",
    "x-ratelimit-reset",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-tokens-reset",
];

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_wait_too_long(
        which in 0..NAMES.len(),
        text in prop_oneof![
            any::<String>(),
            "[0-9.]{0,30}",
            "[0-9.hmsnuµ]{0,20}",
            "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})?",
            "[\"a-z0-9;,= ]{0,40}",
            "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        ],
        now in any::<u64>(),
    ) {
        let field = |name: &str| (name == NAMES[which]).then_some(text.as_str());
        let told = told(&field, secs(now));
        prop_assert!(told.is_none_or(|told| told.wait <= LONGEST));
    }

    #[test]
    fn every_moment_of_four_centuries_reads_back(seconds in 0..12_622_780_800_u64) {
        let text = fender::clock::rfc3339(seconds * 1000);
        let field = |name: &str| (name == "anthropic-ratelimit-tokens-reset").then_some(text.as_str());
        let now = secs(seconds.saturating_sub(100));
        prop_assert_eq!(told(&field, now).map(|told| told.wait), Some(secs(seconds) - now));
    }
}
