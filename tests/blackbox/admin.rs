//! What operators, probes and scrapers see; and what nobody may.

use crate::support::{Client, Fender, Setup, Upstream, check};

#[test]
fn probes_and_summary_are_json_and_open() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for path in ["/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(fender.admin_get(path).status(), 200, "{path}");
    }
    let health = fender.admin_get("/health");
    assert!(health.field("content-type").starts_with("application/json"));
    let health = health.json();
    assert_eq!(
        (health["status"].as_str(), health["level"].as_str()),
        (Some("healthy"), Some("normal")),
        "{health}"
    );
    assert_eq!(health["pending_letters"], 0);
    assert_eq!(health["upstreams"]["api"], "healthy");
    let at = health["at"].as_str().expect("a time");
    assert!(at.len() >= 20 && at.ends_with('Z') && at.as_bytes()[10] == b'T', "{at}");
    assert_eq!(fender.admin_get("/nowhere").status(), 404);
}

#[test]
fn a_dead_upstream_does_not_make_it_unready() {
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"", Upstream::nobody()));
    fender.get("/");
    assert_eq!(fender.admin_get("/health/ready").status(), 200);
}

#[test]
fn the_public_listener_shows_the_open_paths_alone() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).admin("public_listen = \"127.0.0.1:0\"").start();
    let public = |path: &str| Client::connect(fender.public()).request("GET", path, "", b"").status();
    for open in ["/metrics", "/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(public(open), 200, "{open}");
    }
    for closed in ["/health", "/health/detailed", "/api/v1/config", "/api/v1/overview", "/"] {
        assert_eq!(public(closed), 404, "{closed}");
    }
    let refused = Client::connect(fender.public()).request("POST", "/api/v1/config/reload", "", b"");
    assert!([404, 405].contains(&refused.status()));
}

#[test]
fn without_a_token_the_api_is_closed() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for path in ["/api/v1/config", "/api/v1/nowhere"] {
        assert_eq!(fender.admin_get(path).status(), 401, "{path}");
    }
    assert_eq!(fender.admin_post("/api/v1/config/reload", Some("")).status(), 401);
}

#[test]
fn an_unknown_path_of_the_api_is_404_to_those_who_may_ask() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api(""))
        .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"open-sesame\"")
        .start();
    for (token, status) in [(None, 401), (Some("wrong"), 401), (Some("open-sesame"), 404)] {
        assert_eq!(fender.admin_post("/api/v1/nowhere", token).status(), status, "{token:?}");
    }
}

/// What the config determines is there before the first request, at 0.
#[test]
fn metrics_exist_from_the_start() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let metrics = fender.metrics();
    for name in [
        "fender_requests_total",
        "fender_request_duration_seconds_count",
        "fender_response_stream_seconds_count",
        "fender_attempts_total",
        "fender_attempt_duration_seconds_count",
        "fender_in_flight",
        "fender_upstream_connections",
        "fender_upstream_connects_total",
        "fender_connections",
        "fender_buffer_bytes",
        "fender_config_reload_success",
        "fender_config_reload_timestamp_seconds",
        "fender_build_info",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(metrics.keys().any(|series| series.split('{').next() == Some(name)), "{name} is missing");
    }
    for name in ["fender_attempts_total", "fender_upstream_connects_total", "fender_in_flight"] {
        assert!(
            metrics.keys().any(|series| series.starts_with(name) && series.contains("upstream=\"api\"")),
            "{name}"
        );
        assert_eq!(fender.metric(name, &[("upstream", "api")]), 0.0, "{name}");
    }
    assert_eq!(fender.metric("fender_config_reload_success", &[]), 1.0);
}

#[test]
fn metrics_count_what_happened() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    for _ in 0..7 {
        fender.get("/some/long/path?with=query");
    }
    let sum = |name, labels: &[(&str, &str)]| fender.metric(name, labels);
    let labels = [("upstream", "api"), ("code", "200"), ("source", "upstream")];
    crate::support::eventually("seven are counted", || sum("fender_requests_total", &labels) == 7.0);
    assert_eq!(sum("fender_attempts_total", &[("upstream", "api"), ("outcome", "success")]), 7.0);
    assert_eq!(sum("fender_request_duration_seconds_count", &[]), 7.0);
    assert!(sum("fender_upstream_connects_total", &[("upstream", "api")]) >= 1.0);
    assert!(sum("fender_connections", &[]) >= 0.0);
    let series = fender.metrics().len();
    for number in 0..50 {
        fender.client().request(
            "GET",
            &format!("/{number}"),
            &format!("host-{number}: x\r\nuser-agent: a{number}\r\n"),
            b"",
        );
    }
    assert_eq!(fender.metrics().len(), series, "series follow request data");
}

#[test]
fn secrets_are_shown_nowhere() {
    const SECRET: &str = "s3cret-of-the-test";
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let lines = "[upstream.api.headers]\nset = { authorization = \"Bearer ${env:TEST_SECRET}\" }\n[access_log]\nenabled = true";
    let fender = Setup::new(upstream.as_api(lines))
        .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"${env:TEST_SECRET}\"")
        .environment("TEST_SECRET", SECRET)
        .start();
    fender.post("/", &format!("x-api-key: {SECRET}\r\ncookie: {SECRET}\r\n"), b"x");
    assert_eq!(upstream.request(1).field("authorization"), Some(format!("Bearer {SECRET}")));
    let shown = Client::connect(fender.admin()).request(
        "GET",
        "/api/v1/config",
        &format!("authorization: Bearer {SECRET}\r\n"),
        b"",
    );
    let said =
        [fender.log(), format!("{:?}", fender.metrics()), shown.text(), fender.admin_get("/health").text()];
    for text in said {
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn check_tells_every_problem_with_its_place_and_no_secret() {
    let output = check(
        "[upstream.api]\nurll = \"http://a.test\"\nurl = \"http://b.test\"\n[upstream.api.timeout]\nconnect = \"-3s\"\n\
         [upstream.api.headers]\nset = { authorization = \"Bearer hidden-word\", x = \"${env:NOT_SET_ANYWHERE}\" }\n\
         [[route]]\npath = \"/x\"\nupstream = \"nobody\"\n",
    );
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["urll", "url", "connect", "NOT_SET_ANYWHERE", "nobody", "fender.toml:2", "^"] {
        assert!(said.contains(part), "{part} is not told:\n{said}");
    }
    assert!(!said.contains("hidden-word"), "{said}");
}

#[test]
fn check_passes_a_good_file() {
    let output = check("[upstream.api]\nurl = \"http://a.test\"\nroute = \"/\"\n");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_request_is_one_line_of_the_access_log_where_asked_for() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api("[access_log]\nenabled = true"));
    let answer = fender.get("/path");
    let id = answer.field("fender-request-id");
    let line = fender.logged_where("the line of the request", |line| line.to_string().contains(&id));
    assert!(line.to_string().contains("200"), "{line}");
}

#[test]
fn what_is_refused_is_a_line_of_the_access_log_too() {
    let fender = Fender::start(
        "[upstream.api]\nurl = \"http://127.0.0.1:1\"\nroute = \"/api\"\n[access_log]\nenabled = true",
    );
    for (request, reason) in
        [("GET /none HTTP/1.1\r\nhost: a\r\n\r\n", "no_route"), ("GET / HTTP/1.1\n\n", "bad_request")]
    {
        let id = fender.raw(request).0.field("fender-request-id");
        let line = fender.logged_where("the line of the request", |line| line.to_string().contains(&id));
        assert_eq!(line["reason"], reason);
    }
}

#[test]
fn the_soft_limit_of_open_files_is_no_limit() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).after("ulimit -S -n 64");
    let limits = fender.proc("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let figures: Vec<_> = line.split_whitespace().skip(3).collect();
    assert!(figures[0] == figures[1] && figures[0] != "64", "{line}");
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let mut client = fender.client();
            assert_eq!(client.request("GET", "/", "", b"").status(), 200);
            client
        })
        .collect();
    drop(clients);
}

/// A scrape is taken every few seconds, from each pod.
#[test]
fn ten_upstreams_are_scraped_in_64_kib() {
    let upstream = Upstream::ok("ok");
    let one = |number| {
        format!("[upstream.service-{number}]\nurl = \"{}\"\nroute = \"/s{number}\"\n", upstream.url())
    };
    let fender = Fender::start((0..10).map(one).collect::<String>());
    for number in 0..10 {
        assert_eq!(fender.get(&format!("/s{number}/path")).status(), 200);
        assert_eq!(fender.post(&format!("/s{number}/path"), "", b"x").status(), 200);
    }
    let scraped = fender.admin_get("/metrics");
    assert!(scraped.body.len() < 64 * 1024, "{}", scraped.body.len());
}
