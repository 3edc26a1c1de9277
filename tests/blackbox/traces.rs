//! Traces: what a collector is sent of requests, of their attempts and of letters, and what it never is.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::letters::{TOKENS_OF_ALL, call, keeping};
use crate::support::{Authority, End, Fender, PATIENCE, Protocol, Service, Setup, Upstream, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn collector() -> Upstream {
    Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
}

fn traced(collector: &Upstream, upstreams: &str, sample: &str) -> Setup {
    let trace = format!("[trace]\notlp_endpoint = \"{}\"\nsample = {sample}\n", collector.url());
    Setup::new(format!("{upstreams}\n{trace}")).server("drain_quiet = \"0s\"")
}

/// One span, as the collector was sent it.
#[derive(Debug, Clone)]
struct Span(Value);

impl Span {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    fn kind(&self) -> u64 {
        self.0["kind"].as_u64().unwrap()
    }

    /// An attribute as text; "" if it is not there.
    fn says(&self, name: &str) -> String {
        says(&self.0["attributes"], name)
    }

    fn failed(&self) -> bool {
        self.0["status"]["code"] == 2
    }

    fn nanos(&self, field: &str) -> u64 {
        self.text(field).parse().expect("nanoseconds")
    }

    fn events(&self) -> Vec<String> {
        let all = self.0["events"].as_array().cloned().unwrap_or_default();
        all.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn says(attributes: &Value, name: &str) -> String {
    let all = attributes.as_array().expect("a list");
    let found: Vec<_> = all.iter().filter(|one| one["key"] == name).collect();
    assert!(found.len() < 2, "{name} stands twice: {attributes}");
    let Some(value) = found.first().and_then(|one| one["value"].as_object()?.values().next()) else {
        return String::new();
    };
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// All that the collector was sent once the process has ended.
fn all(fender: &Fender, collector: &Upstream) -> Vec<Span> {
    fender.sigterm();
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    received(collector)
}

fn received(collector: &Upstream) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.head.target(), "/v1/traces");
        assert_eq!(request.field("content-type").as_deref(), Some("application/json"));
        let body: Value = serde_json::from_str(&request.text()).expect("JSON");
        let one = &body["resourceSpans"][0];
        assert_eq!(says(&one["resource"]["attributes"], "service.name"), "fender");
        assert_eq!(says(&one["resource"]["attributes"], "service.instance.id").len(), 36);
        spans.extend(one["scopeSpans"][0]["spans"].as_array().expect("spans").iter().cloned().map(Span));
    }
    for span in &spans {
        assert!((span.text("traceId").len(), span.text("spanId").len()) == (32, 16), "{span:?}");
        assert!(span.nanos("startTimeUnixNano") <= span.nanos("endTimeUnixNano"), "{span:?}");
    }
    spans
}

/// The request's own span and its attempts', in order.
fn tree(spans: &[Span]) -> (Span, Vec<Span>) {
    let (roots, attempts): (Vec<Span>, Vec<Span>) = spans.iter().cloned().partition(|span| span.kind() != 3);
    assert_eq!(roots.len(), 1, "{roots:?}");
    for attempt in &attempts {
        assert_eq!(attempt.text("parentSpanId"), roots[0].text("spanId"));
        assert_eq!(attempt.text("traceId"), roots[0].text("traceId"));
        assert!(attempt.nanos("startTimeUnixNano") >= roots[0].nanos("startTimeUnixNano"));
        assert!(attempt.nanos("endTimeUnixNano") <= roots[0].nanos("endTimeUnixNano"));
    }
    (roots[0].clone(), attempts)
}

#[test]
fn a_request_and_its_attempts_are_one_tree_below_the_clients_span() {
    let (collector, upstream) = (collector(), Upstream::in_turn(&["503 Busy", "200 OK"]));
    let fender = traced(&collector, &upstream.as_api(""), "0.0").start();
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=b\r\n");
    let answer = fender.client().request("GET", "/x/y?secret=1", &fields, b"");
    assert_eq!(answer.status(), 200);

    let (root, attempts) = tree(&all(&fender, &collector));
    assert_eq!((root.text("traceId"), root.text("parentSpanId"), root.kind()), (TRACE, PARENT, 2));
    assert_eq!(root.text("name"), "GET /");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/x/y"),
        ("url.scheme", "http"),
        ("http.route", "/"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("fender.upstream", "api"),
        ("fender.source", "upstream"),
        ("fender.end", "complete"),
        ("fender.verdict", "done"),
        ("fender.attempts", "2"),
        ("fender.request_id", &answer.field("fender-request-id")),
        ("error.type", ""),
        ("url.query", ""),
    ] {
        assert_eq!(root.says(name), value, "{name} of {root:?}");
    }
    assert!(!root.failed() && root.events().contains(&"retry".to_owned()), "{root:?}");

    let port = upstream.address().port().to_string();
    for (attempt, [status, error, outcome, resend]) in
        attempts.iter().zip([["503", "503", "transient", ""], ["200", "", "success", "1"]])
    {
        assert_eq!((attempt.kind(), attempt.text("name")), (3, "GET"));
        for (name, value) in [
            ("http.response.status_code", status),
            ("error.type", error),
            ("fender.outcome", outcome),
            ("http.request.resend_count", resend),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("gen_ai.provider.name", ""),
        ] {
            assert_eq!(attempt.says(name), value, "{name} of {attempt:?}");
        }
        assert_eq!(attempt.failed(), status == "503");
    }
    for (number, attempt) in attempts.iter().enumerate() {
        let sent = upstream.request(number + 1);
        let parent = format!("00-{TRACE}-{}-01", attempt.text("spanId"));
        assert_eq!(sent.field("traceparent"), Some(parent));
        assert_eq!(sent.field("tracestate").as_deref(), Some("a=b"));
    }
    assert_eq!(attempts.len(), 2);
}

#[test]
fn what_is_not_sampled_is_sent_up_as_it_came_and_nothing_is_exported() {
    let (collector, upstream) = (collector(), Upstream::ok("fine"));
    let fender = traced(&collector, &upstream.as_api(""), "0.0").start();
    let parent = format!("00-{TRACE}-{PARENT}-00");
    fender.client().request("GET", "/", &format!("traceparent: {parent}\r\ntracestate: a=b\r\n"), b"");
    let id = fender.get("/").field("fender-request-id");
    assert_eq!(upstream.request(1).field("traceparent"), Some(parent));
    assert_eq!(upstream.request(1).field("tracestate").as_deref(), Some("a=b"));
    let begun = upstream.request(2).field("traceparent").unwrap();
    assert!(begun.starts_with(&format!("00-{id}-")) && begun.ends_with("-00"), "{begun}");
    assert!(all(&fender, &collector).is_empty());
    assert_eq!(collector.connections(), 0);
}

#[test]
fn a_parent_decides_and_else_the_share_does_but_only_where_the_client_is_believed() {
    let parent = |flag: &str| format!("traceparent: 00-{TRACE}-{PARENT}-{flag}\r\n");
    for (trust, sample, flag, traced_is) in [
        ("always", "1.0", "00", 0),
        ("always", "0.0", "01", 1),
        ("never", "0.0", "01", 0),
        ("never", "1.0", "00", 1),
    ] {
        let (collector, upstream) = (collector(), Upstream::ok("fine"));
        let setup = traced(&collector, &upstream.as_api(""), sample);
        let fender = setup.server(&format!("\ntrust_client_headers = \"{trust}\"")).start();
        fender.client().request("GET", "/", &parent(flag), b"");
        let spans = all(&fender, &collector);
        let case = format!("{trust} {sample} {flag}");
        assert_eq!(spans.iter().filter(|span| span.kind() == 2).count(), traced_is, "{case}");
        assert!(spans.iter().all(|span| span.text("traceId") == TRACE), "{case}");
    }
}

#[test]
fn a_trace_that_begins_here_bears_the_requests_id() {
    let (collector, upstream) = (collector(), Upstream::ok("fine"));
    let fender = traced(&collector, &upstream.as_api(""), "1.0").start();
    let id =
        fender.client().request("GET", "/", "tracestate: of=another\r\n", b"").field("fender-request-id");
    let (root, attempts) = tree(&all(&fender, &collector));
    assert_eq!((root.text("traceId"), root.text("parentSpanId")), (id.as_str(), ""));
    let sent = upstream.request(1);
    assert_eq!(sent.field("traceparent"), Some(format!("00-{id}-{}-01", attempts[0].text("spanId"))));
    assert_eq!(sent.field("tracestate"), None);
}

#[test]
fn what_fails_says_why() {
    let (collector, upstream) = (collector(), Upstream::nobody());
    let api = format!("[upstream.api]\nurl = \"{upstream}\"\nroute = \"/api\"\nretry.max_attempts = 1\n");
    let fender = traced(&collector, &api, "1.0").start();
    assert_eq!(fender.get("/api").status(), 502);
    assert_eq!(fender.get("/elsewhere").status(), 404);
    let spans = all(&fender, &collector);
    let (lost, sent): (Vec<Span>, Vec<Span>) =
        spans.into_iter().partition(|span| span.says("url.path") == "/elsewhere");
    let (root, attempts) = tree(&sent);
    assert!(root.failed() && root.says("fender.source") == "fender", "{root:?}");
    assert_eq!(
        (attempts[0].says("error.type"), attempts[0].says("fender.verdict")),
        ("connect".into(), "never_sent".into())
    );
    let lost = tree(&lost).0;
    assert_eq!(
        (lost.says("http.response.status_code"), lost.says("fender.reason")),
        ("404".into(), "no_route".into())
    );
    assert!(!lost.failed(), "the client's own fault: {lost:?}");
}

#[test]
fn a_client_that_hangs_up_leaves_an_attempt_that_was_cancelled() {
    let (collector, hold) = (collector(), sync_channel::<()>(0).1);
    let hold = std::sync::Mutex::new(hold);
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        connection.until_closed();
        drop(hold.lock());
    });
    let fender = traced(&collector, &upstream.as_api(""), "1.0").start();
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    upstream.request(1);
    drop(client);
    eventually("the request is over", || fender.metric("fender_in_flight", &[]) == 0.0);
    let (root, attempts) = tree(&all(&fender, &collector));
    assert_eq!(
        (root.says("fender.end"), root.says("fender.reason"), root.says("http.response.status_code")),
        ("cancelled".into(), "cancelled".into(), String::new()),
        "nobody was answered"
    );
    assert_eq!(attempts[0].says("error.type"), "cancelled");
}

#[test]
fn an_answer_that_breaks_off_says_why_and_not_that_it_was_good() {
    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    });
    let collector = collector();
    let fender = traced(&collector, &upstream.as_api(""), "1.0").start();
    assert_ne!(fender.get("/").end, End::Clean);
    let (root, attempts) = tree(&all(&fender, &collector));
    assert_eq!((root.says("fender.end"), root.says("error.type")), ("cut".into(), "reset".into()));
    let attempt = &attempts[0];
    assert_eq!(
        (attempt.says("error.type"), attempt.says("fender.outcome")),
        ("reset".into(), "transient".into())
    );
    assert!(attempt.failed() && attempt.0["status"]["message"].as_str().unwrap().len() > 5, "{attempt:?}");
}

#[test]
fn a_parent_that_is_told_twice_is_none() {
    for sample in ["0.0", "1.0"] {
        let (collector, upstream) = (collector(), Upstream::ok("fine"));
        let fender = traced(&collector, &upstream.as_api(""), sample).start();
        let other = TRACE.replace('0', "1");
        let fields = [TRACE, &other].map(|trace| format!("traceparent: 00-{trace}-{PARENT}-01\r\n")).concat();
        let id = fender.client().request("GET", "/", &format!("{fields}tracestate: a=b\r\n"), b"");
        let id = id.field("fender-request-id");
        let sent = upstream.request(1);
        let parents = sent.head.all("traceparent");
        assert!(parents.len() == 1 && parents[0].contains(&id), "{parents:?}");
        assert_eq!(sent.field("tracestate"), None);
        let spans = all(&fender, &collector);
        assert_eq!(spans.len(), if sample == "1.0" { 2 } else { 0 });
        assert!(spans.iter().all(|span| span.text("traceId") == id), "{spans:?}");
    }
}

#[test]
fn a_client_that_is_not_believed_cannot_choose_an_id_that_is_always_taken() {
    let (collector, upstream) = (collector(), Upstream::ok("fine"));
    let setup = traced(&collector, &upstream.as_api(""), "0.000001");
    let fender = setup.server("\ntrust_client_headers = \"never\"").start();
    let chosen = format!("traceparent: 00-{:032x}-{PARENT}-01\r\n", 1_u128 << 64);
    let mut client = fender.client();
    (0..20).for_each(|_| assert_eq!(client.request("GET", "/", &chosen, b"").status(), 200));
    drop(client);
    let spans = all(&fender, &collector);
    assert!(spans.is_empty(), "{spans:?}");
}

#[test]
fn a_span_lies_between_the_moments_of_its_client() {
    let now = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let (collector, upstream) = (collector(), Upstream::ok("fine"));
    let fender = traced(&collector, &upstream.as_api(""), "1.0").start();
    let mut client = fender.client();
    let moments: Vec<(u64, u64)> = (0..10)
        .map(|_| {
            let before = now();
            client.request("GET", "/", "", b"");
            (before, now())
        })
        .collect();
    drop(client);
    let spans = all(&fender, &collector);
    let roots: Vec<_> = spans.iter().filter(|span| span.kind() == 2).collect();
    assert_eq!(roots.len(), moments.len());
    for (root, (before, after)) in roots.iter().zip(moments) {
        assert!(root.nanos("startTimeUnixNano") >= before, "{root:?} began before {before}");
        assert!(root.nanos("startTimeUnixNano") <= after, "{root:?} began after {after}");
    }
}

fn models(collector: &Upstream, upstream: &Upstream) -> Fender {
    let lines = format!("[upstream.ai]\nurl = \"{}\"\nroute = \"/\"\ndialect = \"openai\"", upstream.url());
    traced(collector, &lines, "1.0").start()
}

const ASKED: &[u8] = br#"{"model":"gpt-5","messages":[{"role":"user","content":"the-prompt"}]}"#;

fn of_a_model(attempt: &Span) {
    for (name, value) in [
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "gpt-5"),
        ("gen_ai.response.model", "gpt-5-2025"),
        ("gen_ai.usage.input_tokens", "12"),
        ("gen_ai.usage.output_tokens", "345"),
    ] {
        assert_eq!(attempt.says(name), value, "{name} of {attempt:?}");
    }
}

#[test]
fn a_models_answer_tells_its_tokens() {
    let body = r#"{"model":"gpt-5-2025","choices":[{"message":{"content":"the-completion"}}],"usage":{"prompt_tokens":12,"completion_tokens":345}}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (collector, upstream) = (collector(), Upstream::answering(format!("{head}{body}")));
    let fender = models(&collector, &upstream);
    assert_eq!(fender.post("/v1/chat/completions", "", ASKED).status(), 200);
    let (_, attempts) = tree(&all(&fender, &collector));
    of_a_model(&attempts[0]);
    assert_no_words(&collector, &["the-prompt", "the-completion"]);
}

#[test]
fn so_does_its_stream_and_the_attempt_lasts_to_its_end() {
    let (go_on, wait) = sync_channel::<()>(1);
    let wait = std::sync::Mutex::new(wait);
    let collector = collector();
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        connection
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        for event in [
            r#"{"model":"gpt-5-2025","choices":[{"delta":{"content":"the-completion"}}]}"#,
            r#"{"model":"gpt-5-2025","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":345}}"#,
            "[DONE]",
        ] {
            let event = format!("data: {event}\n\n");
            connection.send(format!("{:x}\r\n{event}\r\n", event.len()));
            if event.contains("delta") {
                wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            }
        }
        connection.send("0\r\n\r\n");
    });
    let fender = models(&collector, &upstream);
    let mut client = fender.client();
    let length = ASKED.len();
    client.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
    client.send(ASKED);
    assert_eq!(client.head().unwrap().status(), 200);
    let first = client.chunk().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("the-completion"));
    let held = Instant::now();
    std::thread::sleep(Duration::from_millis(50)); // a length that the span is to have
    go_on.send(()).unwrap();
    while client.chunk().is_some_and(|chunk| !chunk.is_empty()) {}
    let held = u64::try_from(held.elapsed().as_nanos()).unwrap().min(50_000_000);
    let (_, attempts) = tree(&all(&fender, &collector));
    of_a_model(&attempts[0]);
    assert!(attempts[0].nanos("endTimeUnixNano") - attempts[0].nanos("startTimeUnixNano") >= held);
    assert_no_words(&collector, &["the-prompt", "the-completion"]);
}

/// Nothing that was ever sent to the collector holds one of these.
fn assert_no_words(collector: &Upstream, words: &[&str]) {
    for request in collector.requests() {
        for word in words {
            assert!(!request.text().contains(word), "{word} in {}", request.text());
        }
    }
}

#[test]
fn secrets_are_in_no_span() {
    let words = ["the-token", "the-query", "the-header", "the-body", "the-answer", "the-cookie", "the-base"];
    let (collector, upstream) = (
        collector(),
        Upstream::answering(
            "HTTP/1.1 400 the-answer\r\nx-a: the-answer\r\ncontent-length: 10\r\n\r\nthe-answer",
        ),
    );
    let lines = format!(
        "[upstream.bot]\nurl = \"{}/the-base\"\nroute = \"/tg\"\ndialect = \"telegram\"",
        upstream.url()
    );
    let fender = traced(&collector, &lines, "1.0").start();
    let fields = "authorization: Bearer the-header\r\ncookie: a=the-cookie\r\nx-other: the-header\r\n";
    for path in
        ["/tg/botthe-token/sendMessage?q=the-query", "/nowhere/bot12345:the-token/sendMessage?q=the-query"]
    {
        fender.client().request("POST", path, fields, b"{\"chat_id\":1,\"text\":\"the-body\"}");
    }
    let spans = all(&fender, &collector);
    assert_eq!(spans.iter().filter(|span| span.kind() == 2).count(), 2, "{spans:?}");
    assert!(spans.iter().any(|span| span.says("url.path") == "/tg/bot***/sendMessage"), "{spans:?}");
    assert_no_words(&collector, &words);
}

#[test]
fn a_letters_delivery_goes_back_to_the_span_of_its_capture_also_after_a_restart() {
    let collector = collector();
    let refused = Upstream::in_turn(&["503 Busy"]);
    let lines = "retry.max_attempts = 1\nthrottle = { adapt = false }\nbreaker.enabled = false\ndead_letter.mode = \"on_failure\"\n\
        dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"2s\", jitter = \"none\" }, per_second = 1000.0 }";
    let (_, folder) = keeping("");
    let with_store = |upstream: &Upstream| {
        let path = folder.path().join("letters");
        traced(&collector, &format!("[dead_letter]\npath = {path:?}\n{}", upstream.as_api(lines)), "0.0")
    };
    let fender = with_store(&refused).start();
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\nidempotency-key: k\r\n");
    let answer = fender.post("/send", &fields, b"hello");
    assert_eq!(answer.status(), 202);
    let letter = answer.field("fender-letter");
    let (captured, _) = tree(&all(&fender, &collector));
    assert_eq!(captured.says("fender.letter"), letter);
    assert!(captured.events().contains(&"letter".to_owned()), "{captured:?}");

    collector.forget();
    let upstream = Upstream::ok("taken");
    let fender = with_store(&upstream).start();
    let sent = upstream.request(1);
    eventually("delivered", || fender.metric("fender_dead_letters", &[("state", "delivered")]) == 1.0);
    let (root, attempts) = tree(&all(&fender, &collector));
    assert_eq!((root.kind(), root.text("name"), root.says("fender.letter")), (5, "replay api", letter));
    assert_eq!((root.says("fender.reason"), root.failed()), (String::new(), false));
    let link = &root.0["links"][0];
    assert_eq!(
        (link["traceId"].as_str(), link["spanId"].as_str()),
        (Some(TRACE), Some(captured.text("spanId")))
    );
    assert_ne!(root.text("traceId"), TRACE);
    let parent = format!("00-{}-{}-01", root.text("traceId"), attempts[0].text("spanId"));
    assert_eq!(sent.field("traceparent"), Some(parent));
    assert_eq!(attempts[0].says("http.response.status_code"), "200");
}

/// Letters of a write that was refused once, kept at `folder`, for an upstream that speaks `openai`.
fn letters_at(folder: &std::path::Path, collector: &Upstream, upstream: &Upstream, sample: &str) -> Setup {
    let lines = "dialect = \"openai\"\nretry.max_attempts = 1\nthrottle = { adapt = false }\nbreaker.enabled = false\ndead_letter.mode = \"on_failure\"\n\
        dead_letter.replay = { backoff = { strategy = \"fixed\", base = \"2s\", jitter = \"none\" }, per_second = 1000.0 }";
    let path = folder.join("letters");
    traced(collector, &format!("[dead_letter]\npath = {path:?}\n{}", upstream.as_api(lines)), sample)
}

#[test]
fn a_letter_whose_request_was_not_traced_is_not_traced() {
    let (collector, refused, (_, folder)) =
        (collector(), Upstream::in_turn(&["429 Slow\nretry-after: 1"]), keeping(""));
    let setup = letters_at(folder.path(), &collector, &refused, "0.0");
    let fender = setup.server("\ntrust_client_headers = \"never\"").start();
    // The first client is not believed, the second says nothing.
    let claimed = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    for fields in [claimed.as_str(), ""] {
        assert_eq!(fender.post("/v1/chat/completions", fields, ASKED).status(), 202);
    }
    assert!(all(&fender, &collector).is_empty());

    let upstream = Upstream::ok("taken");
    let fender = letters_at(folder.path(), &collector, &upstream, "1.0").start();
    eventually("delivered", || fender.metric("fender_dead_letters", &[("state", "delivered")]) == 2.0);
    let spans = all(&fender, &collector);
    assert!(spans.is_empty(), "{spans:?}");
}

#[test]
fn a_letters_delivery_lasts_to_its_answers_end_and_says_how_that_was() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let body = r#"{"model":"gpt-5-2025","usage":{"prompt_tokens":12,"completion_tokens":345}}"#;
    let whole = format!("{head}content-length: {}\r\n\r\n", body.len());
    let short = format!("{head}content-length: 500\r\n\r\n");
    for (head, end, error) in [(whole, "complete", ""), (short, "cut", "reset")] {
        let (collector, refused, (_, folder)) =
            (collector(), Upstream::in_turn(&["429 Slow\nretry-after: 1"]), keeping(""));
        let fender = letters_at(folder.path(), &collector, &refused, "1.0").start();
        assert_eq!(fender.post("/v1/chat/completions", "", ASKED).status(), 202);
        all(&fender, &collector);
        collector.forget();

        let upstream = Upstream::scripted(move |connection| {
            connection.request();
            connection.send(head.as_str());
            std::thread::sleep(Duration::from_millis(50)); // a length that the span is to have
            connection.send(body);
        });
        let fender = letters_at(folder.path(), &collector, &upstream, "0.0").start();
        eventually("delivered", || fender.metric("fender_dead_letters", &[("state", "delivered")]) == 1.0);
        let (root, attempts) = tree(&all(&fender, &collector));
        of_a_model(&attempts[0]);
        assert_eq!((root.says("fender.end"), root.says("error.type")), (end.into(), error.into()));
        assert_eq!((attempts[0].says("error.type"), attempts[0].failed()), (error.into(), !error.is_empty()));
        let lasted = attempts[0].nanos("endTimeUnixNano") - attempts[0].nanos("startTimeUnixNano");
        assert!(lasted >= 50_000_000, "{lasted}");
    }
}

#[test]
fn a_delivery_that_the_end_of_the_process_cuts_off_is_told_too() {
    let (collector, refused, (_, folder)) =
        (collector(), Upstream::in_turn(&["429 Slow\nretry-after: 1"]), keeping(""));
    let fender = letters_at(folder.path(), &collector, &refused, "1.0").start();
    assert_eq!(fender.post("/v1/chat/completions", "", ASKED).status(), 202);
    all(&fender, &collector);
    collector.forget();

    let upstream = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let setup = letters_at(folder.path(), &collector, &upstream, "0.0").server("\ndrain_timeout = \"200ms\"");
    let fender = setup.start();
    upstream.request(1);
    let (root, attempts) = tree(&all(&fender, &collector));
    assert_eq!((root.text("name"), attempts.len()), ("replay api", 1));
    assert_eq!((attempts[0].says("error.type"), attempts[0].failed()), ("cancelled".into(), true));
    assert!(root.failed(), "{root:?}");
}

#[test]
fn a_stale_connection_and_a_fallback_are_attempts_too() {
    let collector = collector();
    // The first connection is closed once its first request is answered, without a word.
    let flaky = Upstream::scripted(|connection| {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        while connection.request().is_some() {
            if connection.number > 1 {
                connection.send("HTTP/1.1 500 Bad\r\ncontent-length: 0\r\n\r\n");
            } else {
                connection.send(good);
                connection.request();
                return;
            }
        }
    });
    let other = Upstream::ok("other");
    let lines = "retry.max_attempts = 1\nfallback = [{ on = [\"exhausted\"], upstream = \"other\" }]";
    let both = format!("{}\n[upstream.other]\nurl = \"{}\"\n", flaky.as_api(lines), other.url());
    let fender = traced(&collector, &both, "0.0").start();
    let mut client = fender.client();
    client.request("GET", "/first", "", b"");
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let answer = client.request("GET", "/", &fields, b"");
    assert_eq!(answer.text(), "other");
    drop(client);
    let (root, attempts) = tree(&all(&fender, &collector));
    let made = answer.field("fender-attempts");
    assert_eq!((made.as_str(), root.says("fender.attempts")), ("2", made.clone()));
    assert_eq!(root.says("fender.source"), "fallback");
    assert!(root.events().contains(&"fallback".to_owned()), "{root:?}");
    let told: Vec<[String; 4]> = attempts
        .iter()
        .map(|attempt| {
            ["fender.upstream", "fender.stale_connection", "error.type", "http.request.resend_count"]
                .map(|name| attempt.says(name))
        })
        .collect();
    let stale = told.first().cloned().unwrap_or_default();
    assert_eq!((stale[0].as_str(), stale[1].as_str(), stale[3].as_str()), ("api", "true", ""), "{told:?}");
    assert_eq!(
        told.get(1..),
        Some(&[["api", "", "500", "1"], ["other", "", "", "2"]].map(|all| all.map(str::to_owned))[..])
    );
    for pair in attempts.windows(2) {
        assert!(pair[0].nanos("endTimeUnixNano") <= pair[1].nanos("startTimeUnixNano"), "{pair:?}");
    }
}

#[test]
fn a_collector_that_is_down_slow_or_refuses_costs_spans_and_nothing_else() {
    let silent = Upstream::scripted(|connection| {
        connection.request();
        connection.until_closed();
    });
    let refusing = Upstream::answering("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n");
    for (name, collector) in
        [("down", Upstream::nobody()), ("silent", silent.url()), ("refusing", refusing.url())]
    {
        let upstream = Upstream::ok("fine");
        let trace = format!("[trace]\notlp_endpoint = \"{collector}\"\nsample = 1.0\n");
        let setup = Setup::new(format!("{}\n{trace}", upstream.as_api(""))).server("drain_quiet = \"0s\"");
        let fender = setup.start();
        let mut client = fender.client();
        for _ in 0..1_500 {
            let answer = client.request("GET", "/", "", b"");
            assert_eq!((answer.status(), answer.end), (200, End::Clean), "{name}");
        }
        drop(client);
        let begun = Instant::now();
        fender.sigterm();
        assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0), "{name}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{name}: {:?}", begun.elapsed());
        let lost: u64 = fender
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["message"] == "spans lost")
            .map(|line| line["spans"].as_u64().unwrap())
            .sum();
        assert_eq!(lost, 3_000, "{name}: every span that was lost is told\n{}", fender.log());
    }
}

#[test]
fn a_collector_that_asks_to_wait_is_sent_the_batch_again() {
    let (collector, upstream) = (
        Upstream::in_turn(&["503 Busy\nretry-after: 0", "429 Slow\nretry-after: 0", "200 OK"]),
        Upstream::ok("fine"),
    );
    let fender = traced(&collector, &upstream.as_api(""), "1.0").admin(TOKENS_OF_ALL).start();
    fender.get("/");
    let [first, second, third] = [1, 2, 3].map(|number| collector.request(number).text());
    assert!(first == second && second == third);
    eventually("it is told", || {
        let (_, overview) = call(&fender, "GET", "/api/v1/overview", "operators-secret", &Value::Null);
        overview["traces"] == json!({ "on": true, "waiting": 0, "sent": 2, "dropped": 0 })
    });
    fender.sigterm();
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(collector.requests().len(), 3);
}

fn figures(fender: &Fender) -> Value {
    call(fender, "GET", "/api/v1/overview", "operators-secret", &Value::Null).1["traces"].clone()
}

#[test]
fn what_a_collector_rejects_in_a_good_answer_is_lost_and_told() {
    let said = r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}"#;
    let collector =
        Upstream::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()));
    let upstream = Upstream::ok("fine");
    let fender = traced(&collector, &upstream.as_api(""), "1.0").admin(TOKENS_OF_ALL).start();
    fender.get("/");
    eventually("it is told", || {
        figures(&fender) == json!({ "on": true, "waiting": 0, "sent": 1, "dropped": 1 })
    });
    eventually("it is logged", || fender.log().contains("the collector rejected them: too old"));
    assert_eq!(collector.requests().len(), 1);
}

#[test]
fn a_collector_that_takes_them_and_never_ends_its_answer_is_not_sent_them_again() {
    let collector = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{");
        connection.until_closed();
    });
    let upstream = Upstream::ok("fine");
    let fender = traced(&collector, &upstream.as_api(""), "1.0").admin(TOKENS_OF_ALL).start();
    fender.get("/");
    collector.request(1);
    assert_eq!(figures(&fender)["waiting"], 2, "what is being sent waits");
    eventually("they are sent", || figures(&fender)["sent"] == 2);
    assert_eq!(collector.requests().len(), 1);
}

#[test]
fn spans_for_which_there_is_no_room_are_logged_while_the_collector_is_well() {
    let (go_on, wait) = sync_channel::<()>(1);
    let wait = std::sync::Mutex::new(wait);
    let collector = Upstream::scripted(move |connection| {
        connection.request();
        if connection.number == 1 {
            wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    });
    let upstream = Upstream::ok("fine");
    let fender = traced(&collector, &upstream.as_api(""), "1.0").start();
    let mut client = fender.client();
    (0..1_500).for_each(|_| assert_eq!(client.request("GET", "/", "", b"").status(), 200));
    go_on.send(()).unwrap();
    eventually("it is logged", || fender.log().contains("more came than could be sent"));
}

#[test]
fn endpoint_and_share_change_with_the_config() {
    let (first, second, upstream) = (collector(), collector(), Upstream::ok("fine"));
    let off = Setup::new(upstream.as_api("")).server("drain_quiet = \"0s\"");
    let fender = off.clone().start();
    let reloaded = |setup: &Setup, count: usize| {
        fender.rewrite_config(setup);
        fender.sighup();
        eventually("reloaded", || fender.log().matches("config reloaded").count() >= count);
    };
    fender.get("/");
    reloaded(&traced(&first, &upstream.as_api(""), "1.0"), 1);
    fender.get("/one");
    assert!(first.request(1).text().contains("/one"));
    let base = format!("{}/base/v1/traces", second.url());
    let named =
        Setup::new(format!("{}\n[trace]\notlp_endpoint = \"{base}\"\nsample = 1.0", upstream.as_api("")));
    reloaded(&named.server("drain_quiet = \"0s\""), 2);
    fender.get("/two");
    let request = second.request(1);
    assert_eq!(request.head.target(), "/base/v1/traces");
    assert!(request.text().contains("/two"));
    reloaded(&off, 3);
    fender.get("/three");
    fender.sigterm();
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[test]
fn a_collector_under_tls_is_checked_against_the_systems_roots() {
    let (authority, upstream) = (Authority::new(), Upstream::ok("fine"));
    let own = authority.sign("localhost");
    for trusted in [true, false] {
        let service = Service::start(Protocol::Tls(authority.server(&own, &[], false)));
        let url = format!("https://localhost:{}", service.address().port());
        let trace = format!("[trace]\notlp_endpoint = \"{url}\"\nsample = 1.0\n");
        let setup = Setup::new(format!("{}\n{trace}", upstream.as_api(""))).server("drain_quiet = \"0s\"");
        let roots = if trusted { authority.certificate() } else { Authority::new().certificate() };
        let fender = setup.environment("SSL_CERT_FILE", roots.to_str().unwrap()).start();
        fender.get("/");
        fender.sigterm();
        assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
        let posted: Vec<_> = service.requests().iter().map(|head| head.uri.path().to_owned()).collect();
        assert_eq!(posted.iter().any(|path| path == "/v1/traces"), trusted, "{posted:?}\n{}", fender.log());
        assert_eq!(fender.log().contains("spans lost"), !trusted);
    }
}

#[test]
fn the_resource_is_named_by_the_environment() {
    let (collector, upstream) = (collector(), Upstream::ok("fine"));
    let setup = traced(&collector, &upstream.as_api(""), "1.0");
    let fender = setup.environment("OTEL_SERVICE_NAME", "checkout-fender").start();
    fender.get("/");
    fender.sigterm();
    assert_eq!(fender.wait_exit(PATIENCE).code(), Some(0));
    assert!(collector.request(1).text().contains("checkout-fender"));
}
