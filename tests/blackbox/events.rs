//! Event streams under the generic dialect: when they count as begun, and what bounds them.

use std::time::{Duration, Instant};

use crate::support::turns::Step::{End as Ends, Hang, Lines, Pause, Piece, Reset, Stream};
use crate::support::turns::{Step, in_turns};
use crate::support::{End, Fender};

const FAST: &str = "retry = { backoff = { base = \"5ms\", jitter = \"none\" } }\n";

fn event(text: &str) -> Step {
    Piece(format!("data: {text}\n\n"))
}

#[test]
fn what_breaks_before_its_first_event_is_tried_again() {
    for broken in [vec![Stream, Reset], vec![Stream, Piece("da".to_owned()), Reset], vec![Lines, Reset]] {
        let upstream = in_turns(vec![broken.clone(), vec![Stream, event("whole"), Ends]]);
        let fender = Fender::start(upstream.as_api(FAST));
        let answer = fender.get("/");
        assert_eq!((answer.text().as_str(), answer.end), ("data: whole\n\n", End::Clean), "{broken:?}");
        assert_eq!(answer.field("fender-attempts"), "2");
        assert_eq!(fender.metric("fender_stream_ends_total", &[("end", "reset")]), 1.0);
        assert_eq!(fender.metric("fender_stream_ends_total", &[("end", "complete")]), 1.0);
        assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "transient")]), 1.0);
        assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "success")]), 1.0);
    }
}

#[test]
fn what_breaks_after_it_has_begun_is_a_cut_and_the_breaker_hears_of_it() {
    let upstream = in_turns(vec![vec![Stream, event("one"), Reset]]);
    let fender = Fender::start(upstream.as_api("breaker = { consecutive_failures = 1 }"));
    let answer = fender.get("/");
    assert_eq!((answer.text().as_str(), answer.field("fender-attempts").as_str()), ("data: one\n\n", "1"));
    assert_ne!(answer.end, End::Clean);
    assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "transient")]), 1.0);
    assert_eq!(fender.metric("fender_attempts_total", &[("outcome", "success")]), 0.0);
    fender.get("/").is_problem(503, "breaker_open");
}

#[test]
fn a_stream_that_is_held_to_its_end_is_passed_on_whole_or_not_at_all() {
    let whole = vec![Stream, event("one"), event("two"), Ends];
    let upstream = in_turns(vec![vec![Stream, event("one"), Reset], whole]);
    let fender = Fender::start(upstream.as_api(&format!("stream.commit = \"complete\"\n{FAST}")));
    let answer = fender.get("/");
    assert_eq!((answer.text().as_str(), answer.end), ("data: one\n\ndata: two\n\n", End::Clean));
    assert_eq!(answer.field("fender-attempts"), "2");
}

#[test]
fn no_more_is_held_than_the_config_allows() {
    let upstream = in_turns(vec![vec![Stream, event(&"x".repeat(3000)), event("y"), Reset]]);
    let lines = format!("stream = {{ commit = \"complete\", hold_max = \"2KiB\" }}\n{FAST}");
    let fender = Fender::start(upstream.as_api(&lines));
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.field("fender-attempts").as_str()), (200, "1"));
    assert!(answer.text().starts_with("data: xxx"));
    assert_ne!(answer.end, End::Clean);
}

#[test]
fn a_quiet_stream_is_not_taken_for_a_dead_one() {
    let upstream = in_turns(vec![vec![Stream, Pause(1600), event("late"), Ends]]);
    let fender = Fender::start(upstream.as_api("timeout.attempt = \"1200ms\""));
    let begun = Instant::now();
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status(), 200);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(client.chunk().expect("an event"), b"data: late\n\n");
}

#[test]
fn the_first_content_has_a_clock_of_its_own() {
    let lines = format!("stream = {{ first_content = \"300ms\", commit = \"first_content\" }}\n{FAST}");
    let silent = vec![Stream, Piece(": alive\n\n".to_owned()), Hang];
    let upstream = in_turns(vec![silent.clone(), vec![Stream, event("there"), Ends]]);
    let fender = Fender::start(upstream.as_api(&lines));
    assert_eq!(fender.get("/").text(), "data: there\n\n");
    assert_eq!(fender.metric("fender_stream_ends_total", &[("end", "first_content")]), 1.0);
    assert_eq!(fender.metric("fender_stream_first_content_seconds_count", &[]), 1.0);

    let upstream = in_turns(vec![silent]);
    let fender = Fender::start(upstream.as_api(&format!("{lines}breaker = {{ enabled = false }}")));
    fender.get("/").is_problem(504, "first_content");

    // Passed on already, it is cut.
    let upstream = in_turns(vec![vec![Stream, Piece(": alive\n\n".to_owned()), Hang]]);
    let fender =
        Fender::start(upstream.as_api("stream = { first_content = \"300ms\", commit = \"first_byte\" }"));
    let answer = fender.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (200, ": alive\n\n"));
    assert_ne!(answer.end, End::Clean);
}

#[test]
fn idle_and_whole_have_clocks_of_their_own() {
    for (lines, end) in [("timeout.idle = \"300ms\"", "idle"), ("timeout.stream = \"300ms\"", "timeout")] {
        let upstream = in_turns(vec![vec![Stream, event("one"), Hang]]);
        let fender = Fender::start(upstream.as_api(lines));
        let answer = fender.get("/");
        assert_eq!(answer.text(), "data: one\n\n", "{lines}");
        assert_ne!(answer.end, End::Clean, "{lines}");
        assert_eq!(fender.metric("fender_stream_ends_total", &[("end", end)]), 1.0, "{lines}");
    }
}

#[test]
fn events_pass_one_by_one_however_they_are_split() {
    let (upstream, arrived) = crate::support::Upstream::events();
    let fender = Fender::start(upstream.as_api("dialect = \"openai\"\nstream.end_mark = false"));
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status(), 200);
    for number in 0..3 {
        assert_eq!(client.chunk().expect("an event"), format!("data: {number}\n\n").into_bytes());
        arrived.send(()).expect("it waits");
    }
    assert_eq!(client.chunk().expect("the end"), b"");
}

#[test]
fn who_hangs_up_ends_the_stream() {
    let upstream = in_turns(vec![vec![Stream, event("one"), Hang]]);
    let fender = Fender::start(upstream.as_api(""));
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    client.chunk();
    drop(client);
    crate::support::eventually("it is counted as the client's end", || {
        fender.metric("fender_stream_ends_total", &[("end", "client")]) == 1.0
            && fender.metric("fender_attempts_total", &[("outcome", "cancelled")]) == 1.0
    });
}
