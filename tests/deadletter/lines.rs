//! Letters as lines: out of one store, into another.

use fender::deadletter::{
    Act, Because, Begin, Draft, Filter, Imported, LetterId, Settled, State, StoreError,
};

use super::{Bench, draft, keyed};

pub(super) fn exported(bench: &Bench) -> Vec<String> {
    let (mut lines, mut after) = (Vec::new(), None);
    loop {
        let page = bench.ask(async |store| store.export(Filter::default(), after).await).unwrap();
        lines.extend(page.lines);
        after = page.next;
        if after.is_none() {
            return lines;
        }
    }
}

pub(super) fn import(bench: &Bench, line: &str) -> Result<Imported, StoreError> {
    bench.ask(async |store| store.import(line).await)
}

/// One of each kind.
fn varied() -> Bench {
    let bench = Bench::new();
    let delivered = bench.capture(draft("delivered"));
    bench.deliver(delivered);
    let key_header = Some(("idempotency-key".to_owned(), "é\"\n".to_owned()));
    bench.capture(Draft { key_header, repeatable: true, priority: -3, ..keyed("first", "k") });
    bench.capture(Draft { idempotency_key: Some("i".to_owned()), ..keyed("second", "k") });
    bench.capture(Draft {
        begin: Begin::Parked(Because::Credential),
        headers: vec![],
        ..draft(vec![0, 255, 128])
    });
    let again = bench.capture(draft(""));
    bench.begin(again).unwrap();
    bench.settle(again, Settled::Again { next_attempt_at_ms: 1_800_000_000_001 });
    for _ in 0..230 {
        bench.capture(draft("many"));
    }
    bench.ask(async |store| store.bulk(Filter::default(), 20, Act::Discard).await).unwrap();
    bench
}

#[test]
fn export_import_export_is_byte_for_byte_the_same() {
    let (from, to) = (varied(), Bench::new());
    let lines = exported(&from);
    assert_eq!(lines.len(), 235);
    for line in lines.iter().rev() {
        assert!(matches!(import(&to, line), Ok(Imported::New(_))));
    }
    assert_eq!(exported(&to), lines);
    assert_eq!(to.store().figures().letters, from.store().figures().letters);
    assert_eq!(to.due("api", false), from.due("api", false), "keys keep their order whatever came in first");
}

#[test]
fn importing_twice_is_importing_once() {
    let (from, to) = (varied(), Bench::new());
    let lines = exported(&from);
    lines.iter().for_each(|line| assert!(matches!(import(&to, line), Ok(Imported::New(_)))));
    lines.iter().for_each(|line| assert!(matches!(import(&to, line), Ok(Imported::Already(_)))));
    assert_eq!(exported(&to), lines);
}

#[test]
fn a_line_bears_the_names_of_the_contract() {
    let bench = Bench::new();
    bench.capture(keyed("hello", "k"));
    let line: serde_json::Value = serde_json::from_str(&exported(&bench)[0]).unwrap();
    for name in [
        "id",
        "upstream",
        "route",
        "state",
        "verdict",
        "reason",
        "parked_because",
        "method",
        "path",
        "order_key",
        "idempotency_key",
        "body_bytes",
        "created_at",
        "updated_at",
        "next_attempt_at",
        "heartbeat_at",
        "etag",
        "attempts",
        "headers",
        "body_base64",
    ] {
        assert!(line.get(name).is_some(), "{name}");
    }
    assert_eq!((line["body_base64"].as_str(), line["state"].as_str()), (Some("aGVsbG8="), Some("pending")));
    assert_eq!(line["etag"], "\"1\"");
    assert_eq!(line["attempts"][0]["at"], "2023-11-14T22:13:20.123Z");
}

#[test]
fn a_letter_on_its_way_is_judged_where_it_comes_in() {
    let (from, to) = (Bench::new(), Bench::new());
    let careful = from.capture(draft("once"));
    let repeatable = from.capture(Draft { repeatable: true, ..draft("twice") });
    from.begin(careful).unwrap();
    from.begin(repeatable).unwrap();
    exported(&from).iter().for_each(|line| assert!(import(&to, line).is_ok()));
    assert_eq!(to.letter(careful).parked_because, Some(Because::Ambiguous));
    assert_eq!(to.letter(repeatable).state, State::Pending);
}

#[test]
fn what_is_no_letter_is_refused_in_words() {
    let bench = Bench::new();
    bench.capture(draft("hello"));
    let line = exported(&bench).remove(0);
    let other = Bench::new();
    let says = |line: &str| match import(&other, line) {
        Err(StoreError::Invalid(what)) => what,
        else_ => panic!("{else_:?}"),
    };
    assert!(says("{").contains("not a letter"));
    assert!(says(&line.replace("\"pending\"", "\"lost\"")).contains("`state`"));
    assert!(says(&line.replace("aGVsbG8=", "aGVsbG9=")).contains("body"));
    assert!(says(&line.replace("aGVsbG8=", "aGVsbG8h")).contains("`body_sha256`"));
    let id = "7".repeat(26);
    assert!(id.parse::<LetterId>().is_ok());
    let own = bench.ask(async |store| store.list(Filter::default(), 1, None).await).unwrap().letters[0].id;
    assert!(says(&line.replace(&own.to_string(), &id)).contains("`id`"));
    assert_eq!(other.store().figures().total(State::Pending), 0);
}

/// A line of a letter, one of its fields changed.
fn changed(line: &str, field: &str, value: impl Into<serde_json::Value>) -> String {
    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
    line[field] = value.into();
    line.to_string()
}

#[test]
fn what_no_client_could_have_had_sent_is_refused() {
    let (from, to) = (Bench::new(), Bench::new());
    from.capture(draft("hello"));
    let line = exported(&from).remove(0);
    let long = "x".repeat(100_000);
    let refused = [
        ("path", "", "a slash"),
        ("path", "no-slash", "a slash"),
        ("path", "@x", "a slash"),
        ("path", "*", "a slash"),
        ("path", "http://evil/x", "a slash"),
        ("path", "/../../x", "dot segments"),
        ("path", "/a/./b", "dot segments"),
        ("path", "/a/..", "dot segments"),
        ("path", "/a/%2e%2E/b", "dot segments"),
        ("path", "/a/.%2e?x=1", "dot segments"),
        ("path", "/a b", "no request target"),
        ("path", "/a\r\nx-evil: 1", "no request target"),
        ("path", "/a\u{0}", "no request target"),
        ("path", "/a\u{7f}", "no request target"),
        ("path", "/a#b", "no request target"),
        ("method", "", "no method"),
        ("method", "GE T", "no method"),
        ("method", "POST\r\n", "no method"),
        ("method", "CONNECT", "no letters"),
        ("method", "TRACE", "no letters"),
        ("upstream", &long, "`upstream` is longer"),
        ("route", &long, "`route` is longer"),
    ];
    for (field, value, why) in refused {
        let Err(StoreError::Invalid(said)) = import(&to, &changed(&line, field, value)) else {
            panic!("{field} {value:.20} is taken in")
        };
        assert!(said.starts_with("not a letter: ") && said.contains(why), "{field} {value:.20}: {said}");
        assert!(said.len() < 200 && !said.contains("evil"), "{said:.300}");
    }
    let fine = ["/", "/a/...", "/a/..b//c", "/a%2f..%2fb", "/x?a=../..&b=/./", "/{a}é?b='é'"];
    for path in fine {
        let other = Bench::new();
        assert!(import(&other, &changed(&line, "path", path)).is_ok(), "{path}");
    }
    assert_eq!(to.store().figures().total(State::Pending), 0);
}

#[test]
fn a_letter_that_bears_a_credential_is_refused_and_the_credential_not_told() {
    let (from, to) = (Bench::new(), Bench::new());
    from.capture(draft("hello"));
    let line = exported(&from).remove(0);
    for name in ["authorization", "Authorization", "PROXY-AUTHORIZATION", "cookie", "X-Api-Key", "api-key"] {
        let pair = serde_json::json!([name, "very-secret"]);
        for line in [
            changed(&line, "headers", serde_json::json!([["accept", "*/*"], pair])),
            changed(&line, "key_header", pair.clone()),
        ] {
            let Err(StoreError::Invalid(said)) = import(&to, &line) else { panic!("{name} is taken in") };
            assert!(said.contains(&format!("`{}`", name.to_ascii_lowercase())), "{said}");
            assert!(!said.contains("very-secret"), "{said}");
        }
    }
    assert_eq!(to.store().figures().total(State::Pending), 0);
}
