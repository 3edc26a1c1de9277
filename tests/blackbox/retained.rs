//! What is kept in memory for a second send has one bound, and beyond it requests pass all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{Fender, Setup, Upstream, eventually};

const LIMIT: f64 = 64.0 * 1024.0;
const BODY: usize = 48 * 1024;

fn kept(fender: &Fender) -> f64 {
    fender.metric("fender_buffer_bytes", &[])
}

#[test]
fn bodies_beyond_the_memory_for_them_pass_unretained() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("buffer_memory = \"64KiB\"").start();
    let done = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most: f64 = 0.0;
            while !done.load(Ordering::SeqCst) {
                most = most.max(kept(&fender));
                thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let mut clients: Vec<_> = (0..8).map(|_| fender.client()).collect();
        for client in &mut clients {
            client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY}\r\n\r\n"));
            client.send([b'x'; BODY - 1]);
        }
        let begun = || fender.metric("fender_in_flight", &[("upstream", "api")]) == 8.0;
        eventually("all have begun and something is kept", || begun() && kept(&fender) > 0.0);
        for client in &mut clients {
            client.send("x");
            assert_eq!(client.response("PUT").status(), 200);
        }
        done.store(true, Ordering::SeqCst);
        watching.join().unwrap()
    });
    assert!(most <= LIMIT, "{most} bytes were kept");
    eventually("all is let go", || kept(&fender) == 0.0);
    let unretained = fender.metric("fender_bodies_unretained_total", &[("upstream", "api")]);
    // How many depends on how many had ended when the last of them were read.
    assert!((1.0..=8.0).contains(&unretained), "{unretained} were not kept");
    let whole = upstream.whole();
    assert!(whole.len() == 8 && whole.iter().all(|received| received.body.bytes.len() == BODY));
}

#[test]
fn what_clients_leave_behind_is_let_go() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).server("buffer_memory = \"64KiB\"").start();
    let mut client = fender.client();
    client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY}\r\n\r\n"));
    client.send([b'x'; 1024]);
    eventually("it is kept", || kept(&fender) >= 1024.0);
    drop(client);
    // What stays is the story of a client that hung up.
    eventually("it is let go", || kept(&fender) < 1024.0);
}
