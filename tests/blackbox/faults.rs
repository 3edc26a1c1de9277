//! The sixteen faults of Failover Bench (github.com/failoverbench/failoverbench, method 0.1) against one provider, with a
//! second one behind it, streamed and not. Each is judged by what the caller got and by what both providers saw.

use std::time::{Duration, Instant};

use crate::support::turns::Step::{self, Answer, End as Ends, Hang, Pause, Piece, Reset, Stream};
use crate::support::turns::in_turns;
use crate::support::{End, Fender, Response, Upstream};

const JSON: &str = "content-type: application/json";

/// Sixty words: what is missing shows.
fn words() -> Vec<String> {
    (1..=60).map(|number| format!("word{number}")).collect()
}

fn text() -> String {
    words().join(" ")
}

fn completion(model: &str) -> Step {
    let text = text();
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"total_tokens":70}}}}"#
    );
    Answer("200 OK", JSON, body)
}

fn chunk(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// The first so many words of the answer, as events.
fn beginning(count: usize) -> Vec<Step> {
    let mut steps = vec![Stream, Piece(chunk(r#"{"role":"assistant","content":""}"#, "null"))];
    for (number, word) in words().into_iter().enumerate().take(count) {
        let space = if number == 0 { "" } else { " " };
        steps.push(Piece(chunk(&format!(r#"{{"content":"{space}{word}"}}"#), "null")));
    }
    steps
}

fn streamed() -> Vec<Step> {
    let mut steps = beginning(60);
    steps.push(Piece(chunk("{}", "\"stop\"")));
    steps.push(Piece("data: [DONE]\n\n".to_owned()));
    steps.push(Ends);
    steps
}

fn with(mut steps: Vec<Step>, more: impl IntoIterator<Item = Step>) -> Vec<Step> {
    steps.extend(more);
    steps
}

fn failure(status: &'static str, fields: &'static str, code: &str) -> Vec<Step> {
    let body = format!(r#"{{"error":{{"message":"no","type":"{code}","param":null,"code":"{code}"}}}}"#);
    vec![Answer(status, fields, body)]
}

/// A provider, another one behind it, and Fender before both.
struct Pair {
    first: Upstream,
    second: Upstream,
    fender: Fender,
    stream: bool,
}

impl Pair {
    fn new(stream: bool, commit: &str, turns: Vec<Vec<Step>>, more: &str) -> Self {
        let whole = |model| if stream { streamed() } else { vec![completion(model)] };
        let mut turns = turns;
        turns.push(whole("first"));
        Self::of(stream, commit, in_turns(turns), in_turns(vec![whole("second")]), more)
    }

    fn of(stream: bool, commit: &str, first: Upstream, second: Upstream, more: &str) -> Self {
        let upstream = |name: &str, url: &str, lines: &str| {
            format!(
                "[upstream.{name}]\nurl = \"{url}\"\ndialect = \"openai\"\nidempotent = \"auto\"\n\
                 timeout = {{ attempt = \"1s\", total = \"20s\", idle = \"800ms\" }}\n\
                 stream = {{ commit = \"{commit}\", first_content = \"600ms\" }}\n\
                 retry.backoff = {{ base = \"20ms\", factor = 2.0, jitter = \"none\" }}\n{lines}\n"
            )
        };
        let on = "[\"exhausted\", \"timeout\", \"connect\", \"reset\", \"breaker_open\", \"throttled\", \"quota\"]";
        let fall = format!("{more}\nroute = \"/\"\nfallback = [{{ on = {on}, upstream = \"second\" }}]");
        let config = upstream("first", &first.url(), &fall) + &upstream("second", &second.url(), "");
        let fender = Fender::start(config);
        Self { first, second, fender, stream }
    }

    fn ask(&self) -> Response {
        let body = format!(r#"{{"model":"m","stream":{},"messages":[]}}"#, self.stream);
        let fields = "content-type: application/json\r\nauthorization: Bearer sk-test\r\n";
        self.fender.client().request("POST", "/v1/chat/completions", fields, body.as_bytes())
    }

    fn asked(&self) -> (usize, usize) {
        (self.first.requests().len(), self.second.requests().len())
    }

    /// The words that a caller reads out of it.
    fn read(&self, answer: &Response) -> String {
        let body = answer.text();
        if !self.stream {
            let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            return json["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
        }
        let events = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let deltas = events.filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok());
        deltas.filter_map(|json| json["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    }

    fn passes(&self, answer: &Response, asked: (usize, usize)) {
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!((self.read(answer), answer.end), (text(), End::Clean));
        assert_eq!(self.asked(), asked);
    }

    /// What was passed on already cannot be taken back: the caller hears in its API's words that it failed, and sees it.
    fn fails_clearly(&self, answer: &Response, words: usize) {
        assert_eq!(answer.status(), 200);
        assert_eq!(self.read(answer), text().split(' ').take(words).collect::<Vec<_>>().join(" "));
        assert_ne!(answer.end, End::Clean);
        if self.stream {
            let last = answer.text();
            let last = last.trim_end().rsplit("data: ").next().expect("an event");
            let json: serde_json::Value = serde_json::from_str(last).expect("an error event");
            assert!(json["error"]["message"].is_string(), "{last}");
            assert!(!answer.text().contains("[DONE]"));
        }
    }
}

const BOTH: [bool; 2] = [false, true];

#[test]
fn s01_a_told_wait_is_sat_out() {
    for stream in BOTH {
        let turns = vec![failure("429 Slow", "retry-after: 1", "rate_limit_exceeded")];
        let pair = Pair::new(stream, "first_event", turns, "");
        let begun = Instant::now();
        pair.passes(&pair.ask(), (2, 0));
        assert!(begun.elapsed() >= Duration::from_secs(1));
        assert_eq!(pair.fender.metric("fender_waits_obeyed_total", &[("upstream", "first")]), 1.0);
    }
}

#[test]
fn s02_a_limit_without_a_word_is_not_hammered() {
    for stream in BOTH {
        let turns = vec![failure("429 Slow", "", "rate_limit_exceeded"); 9];
        let pair = Pair::new(stream, "first_event", turns, "");
        let begun = Instant::now();
        pair.passes(&pair.ask(), (3, 1));
        assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
    }
}

#[test]
fn s03_one_failure_costs_one_retry() {
    for stream in BOTH {
        let pair = Pair::new(stream, "first_event", vec![failure("500 Oops", "", "server_error")], "");
        pair.passes(&pair.ask(), (2, 0));
    }
}

#[test]
fn s04_an_outage_is_left_for_the_other_provider() {
    for stream in BOTH {
        let turns = vec![failure("503 Busy", "", "server_is_overloaded"); 9];
        let pair = Pair::new(stream, "first_event", turns, "");
        pair.passes(&pair.ask(), (3, 1));
    }
}

#[test]
fn s05_a_reset_before_the_answer_is_tried_again() {
    for stream in BOTH {
        let pair = Pair::new(stream, "first_event", vec![vec![Reset]], "");
        pair.passes(&pair.ask(), (2, 0));
    }
}

#[test]
fn s06_no_answer_is_left_after_its_time() {
    for stream in BOTH {
        let pair = Pair::new(stream, "first_event", vec![vec![Hang]; 3], "");
        let begun = Instant::now();
        pair.passes(&pair.ask(), (3, 1));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn s07_a_late_first_token_is_left_for_the_other_provider() {
    let late = with(beginning(0), [Pause(5000)]);
    for commit in ["first_content", "complete"] {
        let pair = Pair::new(true, commit, vec![late.clone(); 3], "");
        pair.passes(&pair.ask(), (3, 1));
        let ends = [("upstream", "first"), ("end", "first_content")];
        assert_eq!(pair.fender.metric("fender_stream_ends_total", &ends), 3.0);
    }
    // Its first event is not its first content: where that has been passed on already, it is cut.
    let pair = Pair::new(true, "first_event", vec![late], "");
    pair.fails_clearly(&pair.ask(), 0);
    let pair = Pair::new(false, "first_event", vec![vec![Pause(5000), completion("first")]; 3], "");
    pair.passes(&pair.ask(), (3, 1));
}

#[test]
fn s08_a_cut_stream_is_never_a_short_answer() {
    for cut in [Reset, Ends] {
        let broken = with(beginning(40), [cut]);
        let pair = Pair::new(true, "complete", vec![broken.clone()], "");
        pair.passes(&pair.ask(), (2, 0));
        let pair = Pair::new(true, "first_content", vec![broken], "");
        pair.fails_clearly(&pair.ask(), 40);
    }
}

#[test]
fn s08_a_cut_body_is_never_a_short_answer() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"choices\":[";
    let broken = || {
        Upstream::scripted(move |connection| {
            connection.request();
            connection.send(head);
        })
    };
    let pair = Pair::of(false, "first_event", broken(), in_turns(vec![vec![completion("second")]]), "");
    assert_ne!(pair.ask().end, End::Clean);
    let pair = Pair::of(false, "complete", broken(), in_turns(vec![vec![completion("second")]]), "");
    pair.passes(&pair.ask(), (3, 1));
}

#[test]
fn s09_a_stall_is_noticed() {
    let stalled = with(beginning(20), [Hang]);
    let pair = Pair::new(true, "complete", vec![stalled.clone()], "");
    pair.passes(&pair.ask(), (2, 0));
    let pair = Pair::new(true, "first_content", vec![stalled], "");
    pair.fails_clearly(&pair.ask(), 20);
    pair.passes(&pair.ask(), (2, 0)); // And it serves on.
}

#[test]
fn s10_a_malformed_chunk_is_a_failure() {
    let rest = [Piece("data: {\"id\":\"c\",\"choices\":[{\"del\n\n".to_owned())];
    let garbled = with(beginning(30), rest.into_iter().chain([Piece("data: [DONE]\n\n".to_owned()), Ends]));
    let pair = Pair::new(true, "complete", vec![garbled.clone()], "");
    pair.passes(&pair.ask(), (2, 0));
    let pair = Pair::new(true, "first_content", vec![garbled], "");
    pair.fails_clearly(&pair.ask(), 30);
}

#[test]
fn s11_an_answer_that_is_whole_needs_no_end_mark() {
    let whole = with(beginning(60), [Piece(chunk("{}", "\"stop\"")), Ends]);
    for commit in ["first_event", "complete"] {
        let pair = Pair::new(true, commit, vec![whole.clone()], "");
        pair.passes(&pair.ask(), (1, 0));
    }
}

#[test]
fn s12_and_s13_the_callers_own_fault_is_told_at_once() {
    for code in ["context_length_exceeded", "content_filter"] {
        for stream in BOTH {
            let pair = Pair::new(stream, "first_event", vec![failure("400 Bad Request", JSON, code)], "");
            let answer = pair.ask();
            assert_eq!((answer.status(), pair.asked()), (400, (1, 0)));
            assert!(answer.text().contains(code), "{}", answer.text());
        }
    }
}

#[test]
fn s14_the_other_provider_is_asked_the_same_from_the_beginning() {
    let broken = with(beginning(40), [Reset]);
    let pair = Pair::new(true, "complete", vec![broken; 3], "");
    pair.passes(&pair.ask(), (3, 1));
    let (asked, again) = (pair.first.request(1).text(), pair.second.request(1).text());
    assert_eq!(asked, again, "nothing of the broken answer goes along");

    // And if that one refuses, the first failure is not hidden.
    let refusing = in_turns(vec![failure("503 Busy", JSON, "server_is_overloaded")]);
    let cut = with(beginning(40), [Reset]);
    let pair = Pair::of(true, "complete", in_turns(vec![cut]), refusing, "");
    let answer = pair.ask();
    assert_eq!((answer.status(), answer.field("fender-reason").as_str()), (502, "reset"));
    assert_eq!(answer.field("x-should-retry"), "false");
    let json: serde_json::Value = serde_json::from_str(&answer.text()).expect("the API's envelope");
    assert!(json["error"]["type"].is_string(), "{json}");
}

#[test]
fn s15_an_outage_is_served_from_elsewhere_and_the_provider_comes_back() {
    let breaker = "breaker = { consecutive_failures = 3, open_for = \"600ms\", half_open_probes = 1 }";
    for stream in BOTH {
        let turns = vec![failure("503 Busy", "", "server_is_overloaded"); 3];
        let pair = Pair::new(stream, "first_event", turns, breaker);
        for _ in 0..20 {
            let answer = pair.ask();
            assert_eq!((pair.read(&answer), answer.end), (text(), End::Clean));
        }
        crate::support::eventually("the provider serves again", || {
            pair.ask().field("fender-fallback").is_empty()
        });
        assert_eq!(pair.asked().0, 4, "three failures and one probe that went well");
    }
}

#[test]
fn s16_the_answer_says_who_gave_it() {
    for stream in BOTH {
        let turns = vec![failure("503 Busy", "", "server_is_overloaded"); 9];
        let pair = Pair::new(stream, "first_event", turns, "");
        let answer = pair.ask();
        assert_eq!(answer.field("fender-fallback"), "second");
        assert_eq!(answer.field("fender-reason"), "exhausted");
        assert_eq!(answer.field("fender-attempts"), "4");
    }
}

#[test]
fn a_used_up_quota_goes_straight_to_the_other_provider_and_pauses_its_credential() {
    for stream in BOTH {
        let turns = vec![failure("429 Slow", JSON, "insufficient_quota"); 9];
        let pair = Pair::new(stream, "first_event", turns, "throttle.max_pause = \"700ms\"");
        pair.passes(&pair.ask(), (1, 1));
        pair.passes(&pair.ask(), (1, 2));
        let other = "authorization: Bearer sk-other\r\n";
        pair.fender.client().request("POST", "/v1/chat/completions", other, b"{}");
        assert_eq!(pair.asked(), (2, 3), "another credential is asked all the same");
        std::thread::sleep(Duration::from_millis(800));
        pair.passes(&pair.ask(), (3, 4)); // One probe.
    }
}

#[test]
fn an_error_event_before_any_content_is_that_failure() {
    let event = "event: error\ndata: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\",\"code\":\"server_is_overloaded\"}}\n\n";
    for commit in ["first_event", "first_content", "complete"] {
        let pair = Pair::new(true, commit, vec![vec![Stream, Piece(event.to_owned()), Ends]; 2], "");
        pair.passes(&pair.ask(), (3, 0));
        let transient = [("upstream", "first"), ("outcome", "transient")];
        assert_eq!(pair.fender.metric("fender_attempts_total", &transient), 2.0);
    }
    // After content it is passed on, and the breaker hears of it all the same.
    let late = with(beginning(5), [Piece(event.to_owned()), Ends]);
    let pair = Pair::new(true, "first_content", vec![late], "breaker.consecutive_failures = 1");
    let answer = pair.ask();
    assert!(answer.text().ends_with(event), "{}", answer.text());
    let error = [("upstream", "first"), ("end", "error")];
    assert_eq!(pair.fender.metric("fender_stream_ends_total", &error), 1.0);
    assert_eq!(pair.ask().field("fender-fallback"), "second");
}
