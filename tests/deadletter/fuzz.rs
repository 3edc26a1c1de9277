//! What comes from outside and means no good: lines to import, cursors, filters.

use fender::deadletter::{Because, Begin, Cursor, Draft, Filter, Letter, LetterId, State, StoreError};
use fender::policy::reason::Reason;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::Config;
use proptest::{option, prop_assert_eq, sample};

use super::lines::{exported, import};
use super::{Bench, attempt, draft, now_ms};

/// The line of a letter with the value of one field replaced.
fn line_with(field: &str, value: &str) -> String {
    let bench = Bench::new();
    bench.capture(draft("hello"));
    let mut line: serde_json::Value = serde_json::from_str(&exported(&bench)[0]).unwrap();
    *line.pointer_mut(field).unwrap() = serde_json::from_str(value).unwrap();
    line.to_string()
}

#[test]
fn numbers_that_would_run_over_are_refused() {
    let bench = Bench::new();
    for (field, value, named) in [
        ("/etag", r#""\"9223372036854775807\"""#, "`etag`"),
        ("/etag", r#""\"18446744073709551615\"""#, "`etag`"),
        ("/attempts/0/duration_ms", "9223372036854775807", "`attempts.duration_ms`"),
        ("/body_bytes", "18446744073709551615", "`body_bytes`"),
        ("/priority", "2147483648", "2147483648"),
        ("/attempts_made", "-1", "-1"),
        ("/attempts/0/status", "65536", "65536"),
    ] {
        let Err(StoreError::Invalid(what)) = import(&bench, &line_with(field, value)) else {
            panic!("{field} = {value} came in")
        };
        assert!(what.contains("not a letter") && what.contains(named), "{field} = {value}: {what}");
    }
    // The largest that come in can still be counted on from.
    for (field, value) in [
        ("/etag", r#""\"9007199254740992\"""#),
        ("/attempts/0/duration_ms", "1099511627776"),
        ("/attempts_made", "4294967295"),
        ("/priority", "-2147483648"),
    ] {
        import(&bench, &line_with(field, value)).unwrap();
    }
    for id in bench.due("api", false) {
        bench.deliver(id);
    }
    bench.capture(Draft {
        attempts: vec![attempt(fender::policy::outcome::Outcome::Transient); 3],
        ..draft("x")
    });
    assert_eq!(bench.store().figures().total(State::Delivered), 4);
    assert!(bench.ask(async |store| store.stats(Filter::default()).await).is_ok());
}

#[test]
fn a_line_that_means_no_good_is_refused_in_words_and_leaves_nothing() {
    let bench = Bench::new();
    let good = line_with("/route", "\"/r\"");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let with = |member: &str| good.replacen('{', &format!("{{{member},"), 1);
    for (what, line) in [
        ("deep nesting", nested(100_000)),
        ("deep nesting in a member", with(&format!("\"x\":{}", nested(100_000)))),
        ("a number beyond all floats", with("\"priority\":1e999")),
        ("a member twice", with("\"upstream\":\"other\"")),
        ("a member of the line twice", with("\"body_base64\":\"\"")),
        ("a NUL", with("\"x\":\"\u{0}\"")),
        ("a mebibyte of nothing", format!("{{\"id\":\"{}\"}}", "x".repeat(1 << 20))),
        ("no base 64", line_with("/body_base64", "\"a-b_\"")),
        ("base 64 with an end in the middle", line_with("/body_base64", "\"aGVs=bG8=\"")),
        ("base 64 without its end", line_with("/body_base64", "\"aGVsbG8\"")),
        ("a header of no base 64", line_with("/headers/0/1", "{\"base64\":\"!\"}")),
        ("a header of a number", line_with("/headers/0/1", "1")),
        ("a year without end", line_with("/created_at", "\"99999-01-01T00:00:00Z\"")),
        ("an array", format!("[{good}]")),
        ("two letters", format!("{good}{good}")),
    ] {
        match import(&bench, &line) {
            Err(StoreError::Invalid(said)) => {
                assert!(said.starts_with("not a letter") && said.len() < 300, "{what}: {said}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(bench.ask(async |store| store.list(Filter::default(), 10, None).await).unwrap().letters, []);
    import(&bench, &with("\"x\":[[[\"\\u0000\"]]]")).expect("what it does not know it passes over");
}

/// Letters of all kinds, as the store lists them.
fn varied() -> (Bench, Vec<Letter>) {
    let bench = Bench::with(|settings| settings.sync = fender::config::model::Sync::Normal);
    for number in 0_usize..60 {
        let begin = match number % 3 {
            0 => Begin::Parked(Because::Ambiguous),
            _ => Begin::Pending { next_attempt_at_ms: 1 },
        };
        let id = bench.capture(Draft {
            upstream: UPSTREAMS[number % 3].to_owned(),
            order_key: KEYS.get(number % 7).map(|key| (*key).to_owned()),
            reason: REASONS.get(number % 4).copied(),
            begin,
            ..draft("x")
        });
        if number % 3 == 1 && number % 7 > 4 {
            bench.deliver(id);
        }
    }
    let letters = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap().letters;
    (bench, letters)
}

const UPSTREAMS: [&str; 3] = ["api", "'; DROP TABLE letters; --", "\u{0}é%_"];
const KEYS: [&str; 5] = ["k", "", "\u{0}", "%", "' OR 1=1 --"];
const REASONS: [Reason; 3] = [Reason::Timeout, Reason::Connect, Reason::Exhausted];

fn filters(from: u64, to: u64) -> impl Strategy<Value = Filter> {
    let times = move || {
        option::weighted(0.3, prop_oneof![from..=to, from..=to, any::<u64>(), Just(0), Just(u64::MAX)])
    };
    let upstream = || prop_oneof![sample::select(UPSTREAMS.to_vec()).prop_map(str::to_owned), ".{0,3}"];
    let key = prop_oneof![sample::select(KEYS.to_vec()).prop_map(str::to_owned), ".{0,3}"];
    (
        option::weighted(0.3, sample::select(State::ALL.to_vec())),
        option::weighted(0.3, upstream()),
        option::weighted(0.3, proptest::collection::vec(upstream(), 0..4)),
        option::weighted(0.3, key),
        option::weighted(0.3, sample::select(REASONS.to_vec())),
        times(),
        times(),
    )
        .prop_map(|(state, upstream, upstreams, key, reason, since_ms, until_ms)| Filter {
            state,
            upstream,
            upstreams,
            key,
            reason,
            since_ms,
            until_ms,
        })
}

fn meets(filter: &Filter, letter: &Letter) -> bool {
    let is = |wanted: &Option<String>, is: Option<&String>| wanted.is_none() || wanted.as_ref() == is;
    filter.state.is_none_or(|state| state == letter.state)
        && is(&filter.upstream, Some(&letter.upstream))
        && filter.upstreams.as_ref().is_none_or(|some| some.contains(&letter.upstream))
        && is(&filter.key, letter.order_key.as_ref())
        && (filter.reason.is_none() || filter.reason == letter.reason)
        && filter.since_ms.is_none_or(|since| letter.created_at_ms >= since)
        && filter.until_ms.is_none_or(|until| letter.created_at_ms < until)
}

#[test]
fn any_filter_and_any_cursor_find_what_a_look_at_each_letter_finds() {
    let before = now_ms();
    let (bench, letters) = varied();
    let cursors = option::of((prop_oneof![before..=now_ms(), any::<u64>()], any::<u128>()));
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    proptest::proptest!(config, |(filter in filters(before, now_ms()), limit in 1_u32..70, cursor in cursors)| {
        let cursor = cursor.map(|(at, dice)| (at, LetterId::after(None, at, dice)));
        let asked: Option<Cursor> = cursor.map(|(at, id)| format!("{at:x}-{id}").parse().unwrap());
        let page = bench.ask(async |store| store.list(filter.clone(), limit, asked).await).unwrap();
        let all: Vec<&Letter> = letters
            .iter()
            .filter(|letter| meets(&filter, letter))
            .filter(|letter| cursor.is_none_or(|cursor| (letter.created_at_ms, letter.id) < cursor))
            .collect();
        let found: Vec<&Letter> = page.letters.iter().collect();
        prop_assert_eq!(&found[..], &all[..all.len().min(limit as usize)]);
        prop_assert_eq!(page.next.is_some(), all.len() > limit as usize);
    });
}

#[test]
fn any_text_is_a_cursor_of_the_list_or_refused_in_words() {
    let texts = prop_oneof![".{0,60}", "[0-9a-f+-]{0,20}-[0-9a-z]{20,30}"];
    let config = Config { failure_persistence: None, ..Config::default() };
    proptest::proptest!(config, |(text in texts)| {
        match text.parse::<Cursor>() {
            Ok(cursor) => prop_assert_eq!(cursor.to_string().parse(), Ok(cursor)),
            Err(error) => prop_assert_eq!(error.to_string(), "not a cursor of this list"),
        }
    });
}
