//! The scanner against serde_json, and prefixes against the whole.

use fender::dialect::scan::{Extent, Pointers, Raw, Unaskable};
use proptest::prelude::*;
use serde_json::Value;

const POINTERS: [&str; 9] = ["/a", "/b", "/a/b", "/a/a/0", "/b/1", "/a/1/b", "/0", "/c~1d", "/e~0/a"];

fn pointers(all: &[&str]) -> Pointers {
    let mut pointers = Pointers::default();
    for (number, pointer) in all.iter().enumerate() {
        assert_eq!(pointers.add(pointer), Ok(number), "{pointer}");
    }
    pointers
}

/// What stands at each pointer, in words that can be compared.
fn scanned(pointers: &Pointers, text: &[u8], whole: bool) -> (Extent, Vec<Option<String>>) {
    let mut found = vec![None; pointers.count()];
    let extent = pointers.scan(text, whole, |pointer, value| {
        assert!(found[pointer].is_none(), "the first one counts, and no other");
        found[pointer] = Some(written(value));
    });
    (extent, found)
}

fn written(value: Raw<'_>) -> String {
    match value {
        Raw::Number(number) => String::from_utf8_lossy(number).into_owned(),
        Raw::Bool(flag) => flag.to_string(),
        Raw::Null => "null".to_owned(),
        Raw::Object => "{".to_owned(),
        Raw::Array => "[".to_owned(),
        Raw::Text(..) => format!("{:?}", value.text()),
    }
}

fn of_serde(value: &Value) -> String {
    match value {
        Value::Object(_) => "{".to_owned(),
        Value::Array(_) => "[".to_owned(),
        Value::String(text) => format!("{:?}", Some(std::borrow::Cow::Borrowed(text.as_str()))),
        plain => plain.to_string(),
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just(0.5), Just(-1.5e300), Just(1e-9)].prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c/d".to_owned()),
        Just("e~".to_owned()),
        Just("0".to_owned()),
        "[a-e\\\\\"]{0,3}"
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Any JSON, written tightly, loosely or with every letter escaped.
fn text() -> impl Strategy<Value = String> {
    (json(), 0..3).prop_map(|(value, style)| match style {
        0 => value.to_string(),
        1 => format!(" \r\n\t{value:#} \n"),
        _ => value.to_string().replace("\"a\"", r#""\u0061""#),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_found_is_what_serde_json_finds(text in text()) {
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        let (extent, found) = scanned(&pointers(&POINTERS), text.as_bytes(), true);
        prop_assert_eq!(extent, Extent::Whole);
        for (pointer, found) in POINTERS.iter().zip(found) {
            prop_assert_eq!(found, value.pointer(pointer).map(of_serde), "{} in {}", pointer, text);
        }
    }

    #[test]
    fn no_prefix_contradicts_the_whole(text in text()) {
        let pointers = pointers(&POINTERS);
        let (_, whole) = scanned(&pointers, text.as_bytes(), true);
        for end in 0..text.len() {
            let (extent, found) = scanned(&pointers, &text.as_bytes()[..end], false);
            prop_assert!(extent != Extent::Malformed, "{:?}", &text.as_bytes()[..end]);
            for (begun, whole) in found.iter().zip(&whole) {
                prop_assert!(begun.is_none() || begun == whole);
            }
        }
    }

    /// What serde_json takes the scanner takes, and what it refuses for its form the scanner refuses too.
    #[test]
    fn the_scanner_is_as_strict_as_serde_json(text in text(), at in any::<prop::sample::Index>(), put in "[\\[\\]{}:,\"a0\\-.eE\\\\ tn]{0,2}") {
        let mut text = text;
        let mut cut = at.index(text.len() + 1);
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.insert_str(cut, &put);
        let (extent, _) = scanned(&pointers(&POINTERS), text.as_bytes(), true);
        let taken = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(extent == Extent::Whole, taken, "{}", text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let pointers = pointers(&POINTERS);
        let (extent, _) = scanned(&pointers, &bytes, true);
        if serde_json::from_slice::<Value>(&bytes).is_ok() {
            prop_assert_eq!(extent, Extent::Whole);
        }
    }
}

#[test]
fn every_element_is_seen_where_a_star_stands() {
    let mut pointers = Pointers::default();
    let inner = pointers.add("/a/*/b/*").expect("a pointer");
    let plain = pointers.add("/a/*/c").expect("a pointer");
    let mut found = Vec::new();
    let text = br#"{"a":[{"b":[1,2],"c":"x"},7,{"c":"y","b":[3]},{"b":{"0":4}}]}"#;
    let extent = pointers.scan(text, true, |pointer, value| found.push((pointer, written(value))));
    assert_eq!(extent, Extent::Whole);
    let x = |text: &str| format!("Some({text:?})");
    let wanted = [
        (inner, "1".to_owned()),
        (inner, "2".to_owned()),
        (plain, x("x")),
        (plain, x("y")),
        (inner, "3".to_owned()),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn the_first_of_two_like_keys_counts() {
    let (_, found) = scanned(&pointers(&["/a/b", "/a/c"]), br#"{"a":{"b":1,"b":2},"a":{"b":3,"c":4}}"#, true);
    assert_eq!(found, [Some("1".to_owned()), None]);
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let none = Pointers::default();
    assert_eq!(none.scan(nested(127).as_bytes(), true, |_, _| {}), Extent::Whole);
    assert_eq!(none.scan(nested(100_000).as_bytes(), true, |_, _| {}), Extent::Malformed);
    assert_eq!(none.scan(b"12", false, |_, _| {}), Extent::Begun);
    assert_eq!(none.scan(b"12", true, |_, _| {}), Extent::Whole);
}

#[test]
fn a_pointer_that_cannot_be_asked_for_is_told() {
    let mut pointers = Pointers::default();
    assert_eq!(pointers.add("a"), Err(Unaskable::NoPointer));
    assert_eq!(pointers.add("/~2"), Err(Unaskable::NoPointer));
    assert_eq!(pointers.add(&"/a".repeat(17)), Err(Unaskable::TooDeep));
    assert_eq!(pointers.add("/a/0"), Ok(0));
    assert_eq!(pointers.add("/a/*"), Err(Unaskable::NumberAndEach));
    assert_eq!(pointers.add("/a/0"), Ok(0), "the same number for the same pointer");
    let all: Vec<_> = (0..300).map(|number| pointers.add(&format!("/{number}x"))).collect();
    assert!(all.contains(&Err(Unaskable::TooMany)));
}
