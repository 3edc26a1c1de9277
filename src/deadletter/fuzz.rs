//! Lines of letters: any letter, any change of its line, any text.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::test_runner::Config;
use proptest::{option, proptest, sample};

use super::codec::sum_of_body;
use super::id::LetterId;
use super::letter::{Attempt, Because, Content, Letter, State};
use super::line::{LAST_MS, LONGEST_MS, MOST, Parsed, read, write};
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let attempt = (
        0..=LAST_MS,
        sample::select(Outcome::ALL.to_vec()),
        any::<Option<u16>>(),
        any::<Option<String>>(),
        0..=LONGEST_MS,
    );
    let attempt = attempt.prop_map(|(at_ms, outcome, status, error, duration_ms)| Attempt {
        at_ms,
        outcome,
        status,
        answer: error.clone(),
        error,
        duration_ms,
    });
    vec(attempt, 0..4)
}

/// Paths that a client can have sent, near to those that none can.
fn paths() -> impl Strategy<Value = String> {
    "/(([a-z0-9é:@!$&'()*+,;=_~{}|^-]|%2f|%2E[a-z]|[.]{3}|[a-z][.]{1,2}){1,6}/{0,2}){0,4}([?][a-z0-9=&/?.%:@]{0,20})?"
}

fn letters() -> impl Strategy<Value = (Letter, Content)> {
    let headers = vec((any::<String>(), vec(any::<u8>(), 0..20)), 0..4);
    let method = sample::select(vec!["POST", "PUT", "PATCH", "DELETE", "M-SEARCH", "x"]);
    let words = (
        sample::select(State::ALL.to_vec()),
        sample::select(Verdict::ALL.to_vec()),
        option::of(sample::select(Reason::ALL.to_vec())),
        option::of(sample::select(Because::ALL.to_vec())),
    );
    let names = (any::<[String; 2]>(), paths(), method);
    let texts = (names, any::<[Option<String>; 2]>(), any::<Option<(String, String)>>());
    let times = (0..=LAST_MS, 0..=LAST_MS, option::of(0..=LAST_MS), option::of(0..=LAST_MS), 0..=LAST_MS);
    let numbers = (0..=MOST, any::<i32>(), any::<bool>(), any::<u32>(), any::<u128>());
    let content = (headers, vec(any::<u8>(), 0..200));
    (words, texts, times, numbers, content, attempts()).prop_map(
        |(words, texts, times, numbers, (headers, body), attempts)| {
            let (([upstream, route], path, method), [order_key, idempotency_key], key_header) = texts;
            let (version, priority, repeatable, attempts_made, dice) = numbers;
            let letter = Letter {
                id: LetterId::after(None, times.0, dice),
                upstream,
                route,
                state: words.0,
                verdict: words.1,
                reason: words.2,
                parked_because: words.3,
                method: method.to_owned(),
                path,
                order_key,
                idempotency_key,
                key_header,
                body_bytes: u64::try_from(body.len()).unwrap(),
                created_at_ms: times.0,
                updated_at_ms: times.1,
                next_attempt_at_ms: times.2,
                heartbeat_at_ms: times.3,
                expires_at_ms: times.4,
                version,
                attempts,
                priority,
                repeatable,
                attempts_made,
                sealed: None,
            };
            (letter, Content { headers, body: body.into(), credentials: None })
        },
    )
}

fn written(letter: &Letter, content: Option<&Content>, body: &[u8]) -> String {
    write(letter, &sum_of_body(body), content).unwrap()
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_letter_reads_back_as_written((letter, content) in letters(), damaged in any::<bool>()) {
        let kept = Some(&content).filter(|_| !damaged);
        let line = written(&letter, kept, &content.body);
        prop_assert!(!line.contains('\n'));
        let parsed = read(&line).unwrap();
        prop_assert_eq!((&parsed.letter, parsed.content.as_ref()), (&letter, kept));
        prop_assert_eq!(parsed.body_sum, sum_of_body(&content.body));
    }

    /// A line that was cut, flipped or added to is refused in words, or bears a body that its own checksum confirms.
    #[test]
    fn no_change_of_a_line_brings_another_body(
        (letter, content) in letters(),
        changes in vec((any::<sample::Index>(), 0_u8..3, "[ -~]|[\\x00-\\x1f]"), 1..6),
    ) {
        let mut line: Vec<char> = written(&letter, Some(&content), &content.body).chars().collect();
        for (at, kind, with) in changes {
            let at = at.index(line.len().max(1)).min(line.len().saturating_sub(1));
            match kind {
                0 if !line.is_empty() => drop(line.remove(at)),
                1 => line.splice(at..at, with.chars()).for_each(drop),
                _ => line.truncate(at.max(1)),
            }
        }
        match read(&line.into_iter().collect::<String>()) {
            Ok(Parsed { body_sum, content: Some(content), .. }) => {
                prop_assert_eq!(sum_of_body(&content.body), body_sum);
            }
            Ok(Parsed { content: None, .. }) => {}
            Err(error) => prop_assert!(error.to_string().starts_with("not a letter: "), "{}", error),
        }
    }

    #[test]
    fn any_text_is_refused_in_words(text in prop_oneof![any::<String>(), json()]) {
        let Err(error) = read(&text) else { panic!("{text:?} is a letter") };
        prop_assert!(error.to_string().starts_with("not a letter: "), "{}", error);
    }
}

/// JSON of no letter.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e999".to_owned()),
        Just("-99999999999999999999999".to_owned()),
        "\"[a-z\\\\]{0,5}\"",
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        let name = sample::select(vec!["id", "state", "upstream", "attempts", "headers", "body_base64", "x"]);
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec((name, inner), 0..5).prop_map(|members| {
                let members: Vec<String> =
                    members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}
