//! Several URLs of one upstream: which is asked, and which is left in peace.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Fender, PATIENCE, Upstream, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn over(urls: &[String]) -> Fender {
    // One attempt a request, and no breaker: what is looked at is the choice among the endpoints.
    let alone = "retry = { max_attempts = 1 }\nbreaker = { enabled = false }";
    Fender::start(format!("[upstream.api]\nurls = {urls:?}\nroute = \"/\"\n{alone}"))
}

/// Answers once its gate is open.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let (open, changed) = &*self.0;
        drop(changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap());
    }

    fn upstream(&self) -> Upstream {
        let gate = self.clone();
        Upstream::scripted(move |connection| {
            while connection.request().is_some() {
                gate.wait();
                connection.send(OK);
            }
        })
    }
}

#[test]
fn of_two_endpoints_the_less_busy_one_is_asked() {
    let (slow_gate, quick_gate) = (Gate::default(), Gate::default());
    let (slow, quick) = (slow_gate.upstream(), quick_gate.upstream());
    let fender = over(&[slow.url(), quick.url()]);
    let clients: Vec<_> = (1..=6)
        .map(|number| {
            let mut client = fender.client();
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            eventually("it arrives", || slow.requests().len() + quick.requests().len() == number);
            client
        })
        .collect();
    assert_eq!((slow.requests().len(), quick.requests().len()), (3, 3));
    quick_gate.open();
    eventually("the quick one has answered", || fender.metric("fender_in_flight", &[]) == 3.0);
    for _ in 0..20 {
        assert_eq!(fender.get("/").status(), 200);
    }
    assert_eq!((slow.requests().len(), quick.requests().len()), (3, 23));
    slow_gate.open();
    for mut client in clients {
        assert_eq!(client.response("GET").status(), 200);
    }
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_rests() {
    let alive = Upstream::ok("ok");
    let fender = over(&[Upstream::nobody(), alive.url()]);
    let start = Instant::now();
    for _ in 0..60 {
        assert_eq!(fender.get("/").status(), 200);
    }
    // Its rests are 1 s, 2 s, 4 s and so on.
    let most = (start.elapsed().as_secs_f64() + 1.0).log2() + 1.0;
    let failed = fender.metric("fender_upstream_connects_total", &[("result", "connect")]);
    assert!(failed >= 1.0 && failed <= most, "tried {failed} times in {:?}", start.elapsed());
    assert_eq!(alive.requests().len(), 60);
}

#[test]
fn an_endpoint_that_has_rested_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let alive = Upstream::ok("ok");
    let fender = over(&[format!("http://{address}"), alive.url()]);
    eventually("it was tried", || {
        fender.get("/");
        fender.metric("fender_upstream_connects_total", &[("result", "connect")]) >= 1.0
    });
    let listener = std::net::TcpListener::bind(address).unwrap();
    let came = thread::spawn(move || listener.accept().is_ok());
    eventually("it is tried again", || {
        let mut client = fender.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        thread::sleep(Duration::from_millis(10));
        came.is_finished()
    });
    assert!(came.join().unwrap());
}

#[test]
fn where_all_endpoints_are_dead_the_answer_says_so_at_once() {
    let fender = over(&[Upstream::nobody(), Upstream::nobody()]);
    let start = Instant::now();
    for _ in 0..5 {
        fender.post("/", "", b"x").is_problem(502, "connect");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}
