//! A client that sends no more, told from one that is gone, under virtual time.

use std::time::Duration;

use fender::inbound::guard::Guard;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::line::{Far, Line, guarded};

const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// How long reading goes on without a word of an end; none: for longer than an hour.
async fn lasts(guard: &mut Guard<Line>) -> Option<Duration> {
    let start = Instant::now();
    let read = timeout(Duration::from_secs(3600), guard.read(&mut [0; 64])).await.ok()?;
    assert_eq!(read.unwrap(), 0);
    Some(start.elapsed())
}

async fn ask(guard: &mut Guard<Line>, far: &Far) {
    far.send(ASK);
    assert_eq!(guard.read(&mut [0; 64]).await.unwrap(), ASK.len());
}

#[tokio::test(start_paused = true)]
async fn who_listens_on_is_waited_for_to_the_end_of_the_answer() {
    let (mut guard, wire, far) = guarded(1024);
    ask(&mut guard, &far).await;
    wire.request_came(1, true);
    far.end();
    assert_eq!(lasts(&mut guard).await, None);
    assert_eq!(far.written(), CONTINUE);
    guard.write_all(ANSWER.as_bytes()).await.unwrap();
    assert_eq!(lasts(&mut guard).await, None, "its answer is not complete");
    wire.request_done();
    assert!(timeout(Duration::from_millis(1), guard.read(&mut [0; 8])).await.is_err(), "nor flushed");
    guard.flush().await.unwrap();
    assert_eq!(lasts(&mut guard).await, Some(Duration::ZERO));
    assert_eq!(far.written(), format!("{CONTINUE}{ANSWER}"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_answer_wakes_who_waits_for_it() {
    let (mut guard, wire, far) = guarded(1024);
    ask(&mut guard, &far).await;
    wire.request_came(1, true);
    far.end();
    let (lasted, ()) = tokio::join!(lasts(&mut guard), async {
        sleep(Duration::from_millis(70_100)).await;
        wire.request_done();
    });
    assert_eq!(lasted, Some(Duration::from_millis(70_100)));
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_is_noticed_at_once() {
    let (mut guard, wire, far) = guarded(1024);
    ask(&mut guard, &far).await;
    wire.request_came(1, true);
    far.leave();
    assert!(lasts(&mut guard).await.unwrap() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_in_the_middle_of_an_answer_is_noticed_by_what_follows_or_after_a_second() {
    for (version, begun) in [(true, true), (false, false)] {
        let (mut guard, wire, far) = guarded(1024);
        ask(&mut guard, &far).await;
        wire.request_came(1, version);
        if begun {
            guard.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        }
        far.leave();
        let lasted = lasts(&mut guard).await.unwrap();
        assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&lasted), "{lasted:?}");
        assert!(!far.written().contains("100"), "nothing may stand there");
    }
    let (mut guard, wire, far) = guarded(1024);
    ask(&mut guard, &far).await;
    wire.request_came(1, true);
    guard.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    far.end();
    assert!(timeout(Duration::from_millis(500), guard.read(&mut [0; 8])).await.is_err());
    guard.write_all(b"date: now\r\n").await.unwrap();
    assert_eq!(lasts(&mut guard).await, None, "it took a byte and listens on");
}

#[tokio::test(start_paused = true)]
async fn between_two_requests_an_end_is_an_end() {
    let (mut guard, wire, far) = guarded(1024);
    ask(&mut guard, &far).await;
    wire.request_came(1, true);
    wire.request_done();
    far.end();
    assert_eq!(lasts(&mut guard).await, Some(Duration::ZERO));
    assert_eq!(far.written(), "");
}
