//! A Fender before upstreams of every mood, so that each of its policies has something to say.

use crate::support::{Fender, Setup, Upstream};

pub(super) struct Scene {
    pub(super) fender: Fender,
    setup: Setup,
    _upstreams: Vec<Upstream>,
    _folder: tempfile::TempDir, // of the store; gone after the process
}

/// An event stream as OpenAI writes it.
const EVENTS: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n\
    data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" there\"}}]}\n\n\
    data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: [DONE]\n\n";

fn answering(status: &str, fields: &str, body: &str) -> Upstream {
    Upstream::answering(format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n{body}", body.len()))
}

impl Scene {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let well = Upstream::ok("fine");
        let streams = answering("200 OK", "content-type: text/event-stream\r\n", EVENTS);
        let fails = answering("500 Oops", "", "");
        let asks = answering("429 Slow Down", "retry-after: 1\r\n", "");
        let spent = answering("402 Pay", "", "");
        let upstream = |name: &str, url: &str, lines: &str| {
            format!("[upstream.{name}]\nurl = \"{url}\"\nroute = \"/{name}\"\n{lines}\n")
        };
        let nobody = Upstream::nobody();
        let upstreams = [
            format!("[dead_letter]\npath = \"{}\"\n", folder.path().join("letters.db").display()),
            upstream(
                "well",
                &well.url(),
                "health = { path = \"/\", interval = \"1s\" }\nrate_limit = [{ requests = 5, per = \"1s\" }]",
            ),
            upstream("streams", &streams.url(), "dialect = \"openai\""),
            // Opens at the third failure and stays open; its writes are kept, where they are small.
            upstream(
                "down",
                &fails.url(),
                "criticality = \"high\"\nretry.max_attempts = 1\ndead_letter = { mode = \"on_failure\", max_body = \"64B\" }\n\
                 breaker = { consecutive_failures = 3, open_for = \"5m\" }",
            ),
            // Nobody is there: each attempt fails before it was sent, and letters are tried again and again.
            upstream(
                "absent",
                &nobody,
                "health = { path = \"/\", interval = \"1s\", unhealthy_after = 1 }\nbreaker.enabled = false\n\
                 retry.backoff = { base = \"1ms\", jitter = \"none\" }\n\
                 retry.budget = { ratio = 0.01, min_per_second = 0.5, window = \"2s\" }\n\
                 dead_letter = { mode = \"on_failure\", replay = { backoff = { strategy = \"fixed\", base = \"200ms\" } } }",
            ),
            upstream(
                "flaps",
                &fails.url(),
                "retry.max_attempts = 1\nbreaker = { consecutive_failures = 1, open_for = \"300ms\", max_open_for = \"300ms\" }\n\
                 [[upstream.flaps.fallback]]\non = [\"breaker_open\"]\nresponse = { status = 200, body = \"later\" }",
            ),
            upstream("asks", &asks.url(), "retry.max_attempts = 1"),
            upstream("spent", &spent.url(), "throttle.max_pause = \"1s\""),
            upstream("shed", &well.url(), "criticality = \"low\"\nshed_at = \"severe\""),
        ];
        let setup = Setup::new(upstreams.concat()).admin("public_listen = \"127.0.0.1:0\"\n");
        let fender = setup.clone().start();
        Self { fender, setup, _upstreams: vec![well, streams, fails, asks, spent], _folder: folder }
    }

    /// One round of traffic to all of them.
    pub(super) fn play(&self) {
        let mut client = self.fender.client();
        // The first of all may have happened, and is parked; later ones are refused by the breaker, and kept.
        for path in ["/down/", "/absent/"] {
            client.request("POST", path, "", b"a write");
        }
        for _ in 0..4 {
            for path in ["/well/a", "/well/b", "/down/", "/absent/", "/flaps/", "/asks/", "/spent/", "/shed/"]
            {
                client.request("GET", path, "", b"");
            }
        }
        client.request(
            "POST",
            "/streams/v1/chat/completions",
            "content-type: application/json\r\n",
            b"{\"stream\":true}",
        );
        client.request("POST", "/down/", "", &[b'x'; 100]);
        client.request("GET", "/no/such/route", "", b"");
    }

    /// A config that is refused takes the place of the one in force.
    pub(super) fn break_config(&self) {
        self.fender.rewrite_config(&self.setup.clone().head("nonsense = 1\n"));
        self.fender.sighup();
    }
}
