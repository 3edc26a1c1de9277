//! What decides beside the reasons that an answer bears: breakers that turn, probes, fallbacks that do not answer, what the
//! client asked for, an upstream that is slow to say what its client no longer waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use super::{every_line_is_known, id_of, settled, story, why};
use crate::blackbox::letters::{TOKENS_OF_ALL, keeping};
use crate::support::{Fender, PATIENCE, Response, Setup, Upstream, eventually};

fn busy() -> Upstream {
    Upstream::answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
}

fn state(fender: &Fender, state: &str) -> f64 {
    fender.metric("fender_breaker_state", &[("upstream", "api"), ("route", ""), ("state", state)])
}

fn page_of(fender: &Fender, answer: &Response) -> String {
    let id = id_of(answer);
    every_line_is_known(&story(fender, &id));
    settled(&why(fender, &id))
}

#[test]
fn the_failure_that_opens_a_breaker_and_the_probe_that_closes_it() {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let status = if told.load(Ordering::SeqCst) { "200 OK" } else { "503 Busy" };
            connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let lines = "retry.max_attempts = 1\nthrottle.adapt = false\nbreaker = { minimum_requests = 4, failure_rate = 0.5, \
                 consecutive_failures = 0, open_for = \"300ms\", half_open_probes = 1, ramp = \"0s\" }";
    let fender = Setup::new(upstream.as_api(lines)).admin(TOKENS_OF_ALL).start();
    (0..3).for_each(|_| assert_eq!(fender.get("/").status(), 503));
    insta::assert_snapshot!("opens_a_breaker", page_of(&fender, &fender.get("/last")));
    eventually("half open", || state(&fender, "half_open") == 1.0);
    insta::assert_snapshot!("a_probe_that_fails", page_of(&fender, &fender.get("/probe")));
    well.store(true, Ordering::SeqCst);
    eventually("half open", || state(&fender, "half_open") == 1.0);
    let answer = fender.get("/probe");
    assert_eq!(answer.status(), 200);
    insta::assert_snapshot!("a_probe_that_closes_it", page_of(&fender, &answer));
}

#[test]
fn a_fallback_that_brings_no_answer_either() {
    let lines = format!(
        "retry.max_attempts = 1\n[[upstream.api.fallback]]\non = [\"exhausted\"]\nupstream = \"other\"\n\
         [[upstream.api.fallback]]\non = [\"exhausted\"]\nstale = \"60s\"\n\
         [upstream.other]\nurl = \"{}\"\nretry.max_attempts = 1\n",
        Upstream::nobody()
    );
    let upstream = busy();
    let fender = Setup::new(upstream.as_api(&lines)).admin(TOKENS_OF_ALL).start();
    insta::assert_snapshot!("fallbacks_that_fail", page_of(&fender, &fender.get("/")));
    let (answer, _) = fender.raw("GET / HTTP/1.1\r\nhost: a\r\nfender-policy: no-fallback\r\n\r\n");
    let page = page_of(&fender, &answer);
    assert!(
        page.contains("no fallback  not to upstream other: the client wants none (fender-policy)"),
        "{page}"
    );
}

#[test]
fn a_write_whose_client_wants_no_letter() {
    let upstream = busy();
    let (setup, _folder) =
        keeping(&upstream.as_api("retry.max_attempts = 1\ndead_letter.mode = \"on_failure\""));
    let fender = setup.start();
    let answer = fender.post("/", "fender-policy: no-dead-letter\r\n", b"x");
    assert_eq!((answer.status(), answer.field("fender-letter").as_str()), (503, ""));
    insta::assert_snapshot!(page_of(&fender, &answer));
}

/// Nobody has heard what came of it: no story says that somebody did.
#[test]
fn a_write_that_is_finished_though_its_client_has_gone() {
    for (answer, expected) in [("429 Slow", "parked"), ("200 OK", "acted")] {
        let (tell, told) = sync_channel(1);
        let told = Mutex::new(told);
        let upstream = Upstream::scripted(move |connection| {
            connection.request();
            told.lock().unwrap().recv_timeout(PATIENCE).expect("it is told to answer");
            connection.send(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n"));
        });
        let lines = "retry.max_attempts = 1\nthrottle.adapt = false\ndead_letter.mode = \"on_failure\"";
        let (setup, _folder) = keeping(&upstream.as_api(lines));
        let fender = setup.start();
        let mut client = fender.client();
        client.send("POST /send HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
        let id = upstream.request(1).field("x-request-id").unwrap();
        drop(client);
        // The hang-up is noticed before the answer may come.
        eventually("it runs on by itself", || fender.metric("fender_connections", &[]) == 0.0);
        tell.send(()).unwrap();
        let told = story(&fender, &id);
        assert_eq!((told["status"].as_u64(), told["end"].as_str()), (Some(499), Some("cancelled")), "{told}");
        assert_eq!(told["owner"]["who"], "client", "{told}");
        insta::assert_snapshot!(
            format!("finished_without_its_client_{expected}"),
            settled(&why(&fender, &id))
        );
        let answered = |code: &str| fender.metric("fender_requests_total", &[("code", code)]);
        assert_eq!((answered("499"), answered("429") + answered("200")), (1.0, 0.0));
    }
}

#[test]
fn what_happens_at_a_fallbacks_upstream_behind_its_head_is_told_of_it() {
    let other = Upstream::scripted(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        connection.close();
    });
    let lines = format!(
        "retry.max_attempts = 1\n[[upstream.api.fallback]]\non = [\"connect\"]\nupstream = \"other\"\n\
         [upstream.other]\nurl = \"{}\"\nretry.max_attempts = 1\nbreaker = {{ consecutive_failures = 1 }}\n",
        other.url()
    );
    let nobody = format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\n{lines}", Upstream::nobody());
    let fender = Setup::new(nobody).admin(TOKENS_OF_ALL).start();
    let answer = fender.get("/");
    assert_eq!(fender.logged("response cut")["upstream"], "other");
    insta::assert_snapshot!("cut_at_a_fallbacks_upstream", page_of(&fender, &answer));
}
