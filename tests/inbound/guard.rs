//! What the guard does in time, under virtual time.

use std::io::ErrorKind;
use std::time::Duration;

use fender::inbound::guard::Guard;
use fender::policy::blame::ClientFault;
use fender::proxy::wire::Wire;
use fender::upstream::Interims;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::line::{Line, guarded};

pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

const MAX: usize = 64 * 1024;
const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n";

/// What one read brings; `None`: nothing within a day.
async fn read(guard: &mut Guard<Line>) -> Option<String> {
    let mut space = vec![0; MAX];
    let count = timeout(Duration::from_secs(86_400), guard.read(&mut space)).await.ok()?.unwrap();
    Some(String::from_utf8(space[..count].to_vec()).unwrap())
}

/// Nothing can be read now.
async fn silent(guard: &mut Guard<Line>) -> bool {
    timeout(Duration::from_millis(1), guard.read(&mut [0; 64])).await.is_err()
}

/// The upstream sent an interim response.
fn hint(wire: &Wire, link: &'static str) {
    let link = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static(link))]);
    wire.interim(StatusCode::EARLY_HINTS, &link);
}

fn seconds_since(start: Instant) -> u64 {
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_takes_too_long_is_refused() {
    let (mut guard, wire, far) = guarded(MAX);
    let start = Instant::now();
    tokio::join!(
        async {
            for byte in ASK.bytes().cycle().take(20) {
                far.send([byte]);
                sleep(Duration::from_secs(1)).await;
            }
        },
        async {
            assert_eq!(read(&mut guard).await.unwrap(), "GET / HTTP/1.1\r\nhost: refused\r\n\r\n");
            assert_eq!(seconds_since(start), 10);
        }
    );
    assert_eq!((wire.refused(1), wire.refused(2)), (Some(ClientFault::HeadTooSlow), None));
    assert_eq!(read(&mut guard).await, None, "nothing that follows is read");
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_comes_just_ends() {
    let (mut guard, wire, _far) = guarded(MAX);
    let start = Instant::now();
    assert_eq!(read(&mut guard).await.unwrap(), "");
    assert_eq!((seconds_since(start), wire.refused(1)), (10, None));
}

#[tokio::test(start_paused = true)]
async fn between_two_requests_a_connection_may_rest() {
    let (mut guard, wire, far) = guarded(MAX);
    far.send(ASK);
    assert_eq!(read(&mut guard).await.unwrap(), ASK);
    assert_eq!(read(&mut guard).await, None);
    far.send("GET");
    let start = Instant::now();
    assert!(read(&mut guard).await.unwrap().contains("refused"));
    assert_eq!((seconds_since(start), wire.refused(2)), (10, Some(ClientFault::HeadTooSlow)));
}

#[tokio::test(start_paused = true)]
async fn each_head_has_its_own_time() {
    let (mut guard, wire, far) = guarded(MAX);
    let (first, rest) = ASK.split_at(5);
    far.send(first);
    assert!(timeout(Duration::from_secs(9), guard.read(&mut [0; 64])).await.is_err());
    far.send([rest, first].concat());
    assert_eq!(read(&mut guard).await.unwrap(), ASK);
    assert!(timeout(Duration::from_secs(9), guard.read(&mut [0; 64])).await.is_err());
    far.send(rest);
    assert_eq!(read(&mut guard).await.unwrap(), ASK);
    assert_eq!((wire.refused(1), wire.refused(2)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_an_upgrade_are_held_until_it_is_decided() {
    for tunnel in [true, false] {
        let (mut guard, wire, far) = guarded(MAX);
        far.send(format!("{UPGRADE}{ASK}"));
        assert_eq!(read(&mut guard).await.unwrap(), UPGRADE);
        assert!(silent(&mut guard).await);
        if tunnel {
            wire.becomes_tunnel();
            assert_eq!(read(&mut guard).await.unwrap(), ASK);
            far.send("no \0 HTTP");
            assert_eq!(read(&mut guard).await.unwrap(), "no \0 HTTP");
        } else {
            wire.stays_http();
            assert_eq!(read(&mut guard).await.unwrap(), ASK);
            far.send("no \0 HTTP\r\n\r\n");
            assert!(read(&mut guard).await.unwrap().contains("refused"));
            assert!(matches!(wire.refused(3), Some(ClientFault::Bad(_))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_wakes_the_reader() {
    let (mut guard, wire, far) = guarded(MAX);
    far.send(format!("{UPGRADE}bytes"));
    assert_eq!(read(&mut guard).await.unwrap(), UPGRADE);
    let (came, ()) = tokio::join!(read(&mut guard), async {
        sleep(Duration::from_secs(3)).await;
        wire.becomes_tunnel();
    });
    assert_eq!(came.unwrap(), "bytes");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_has_a_bound() {
    let (mut guard, wire, far) = guarded(MAX);
    far.send(UPGRADE);
    assert_eq!(read(&mut guard).await.unwrap(), UPGRADE);
    far.send(vec![b'x'; 100_000]);
    assert!(silent(&mut guard).await);
    assert!(far.unread() > 75_000, "{} are left", far.unread());
    wire.becomes_tunnel();
    let mut came = 0;
    while came < 100_000 {
        came += read(&mut guard).await.unwrap().len();
    }
    assert_eq!(came, 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_behind_an_upgrade_is_noticed() {
    let (mut guard, _wire, far) = guarded(MAX);
    far.send(UPGRADE);
    assert_eq!(read(&mut guard).await.unwrap(), UPGRADE);
    far.end();
    assert_eq!(read(&mut guard).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn an_interim_response_stands_only_where_nothing_is_half_written() {
    let (mut guard, wire, far) = guarded(MAX);
    far.send(ASK);
    read(&mut guard).await;
    hint(&wire, "");
    assert!(silent(&mut guard).await);
    assert_eq!(far.written(), "HTTP/1.1 103 Early Hints\r\nlink: \r\n\r\n");
    guard.write_all(b"HTTP/1.1 200 OK\r\ncontent-").await.unwrap();
    hint(&wire, "too late");
    assert!(silent(&mut guard).await);
    guard.write_all(b"length: 0\r\n\r\n").await.unwrap();
    guard.flush().await.unwrap();
    assert!(silent(&mut guard).await);
    assert_eq!(
        far.written(),
        "HTTP/1.1 103 Early Hints\r\nlink: \r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    );
}

#[tokio::test(start_paused = true)]
async fn an_interim_response_wakes_the_reader_and_is_written_whole() {
    let (mut guard, wire, far) = guarded(MAX);
    far.send(ASK);
    read(&mut guard).await;
    far.takes(5);
    tokio::join!(
        async {
            assert!(timeout(Duration::from_secs(5), guard.read(&mut [0; 64])).await.is_err());
            guard.write_all(b"HTTP/1.1 204 Fine\r\n\r\n").await.unwrap();
        },
        async {
            sleep(Duration::from_secs(1)).await;
            hint(&wire, "early");
            sleep(Duration::from_secs(1)).await;
            assert_eq!(far.written(), "HTTP/");
            sleep(Duration::from_secs(10)).await;
            far.takes(usize::MAX);
        }
    );
    assert_eq!(far.written(), "HTTP/1.1 103 Early Hints\r\nlink: early\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_train_of_interim_responses_is_heard_to_the_32nd() {
    let (mut guard, wire, far) = guarded(MAX);
    for _ in 0..2 {
        wire.begins(Duration::ZERO);
        let before = far.written().matches("103").count();
        (0..1000).for_each(|_| hint(&wire, "on and on"));
        assert!(silent(&mut guard).await);
        assert_eq!(far.written().matches("103").count() - before, 32);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    for interim in [false, true] {
        let (mut guard, wire, far) = guarded(MAX);
        wire.begins(Duration::from_secs(5));
        if interim {
            hint(&wire, "early");
        }
        far.takes(3);
        let start = Instant::now();
        let writing = timeout(Duration::from_secs(60), guard.write_all(b"HTTP/1.1 200 OK\r\n\r\n")).await;
        let stalled = writing.expect("it is given up").unwrap_err();
        assert_eq!((stalled.kind(), seconds_since(start)), (ErrorKind::TimedOut, 5), "interim: {interim}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_little_now_and_then_is_not() {
    let (mut guard, wire, far) = guarded(MAX);
    wire.begins(Duration::from_secs(5));
    far.takes(1);
    tokio::join!(async { guard.write_all(b"0123456789").await.unwrap() }, async {
        for _ in 0..10 {
            sleep(Duration::from_secs(4)).await;
            far.takes(1);
        }
    });
    assert_eq!(far.written(), "0123456789");
}

/// A guard that has refused its first request, and answered it.
async fn refusing() -> (Guard<Line>, super::line::Far) {
    let (mut guard, wire, far) = guarded(MAX);
    far.send("GET / HTTP/1.1\nhost: a\n\n");
    read(&mut guard).await;
    assert!(matches!(wire.refused(1), Some(ClientFault::Bad(_))));
    guard.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    (guard, far)
}

#[tokio::test(start_paused = true)]
async fn lingering_is_bounded_in_time() {
    let (mut guard, far) = refusing().await;
    let start = Instant::now();
    tokio::select! {
        ended = guard.shutdown() => ended.unwrap(),
        () = async { loop { far.send("more"); sleep(Duration::from_millis(10)).await } } => {}
    }
    assert_eq!(start.elapsed().as_millis().div_ceil(10), 100);
    assert!(far.was_shut() && !far.was_reset());
}

#[tokio::test(start_paused = true)]
async fn lingering_is_bounded_in_bytes() {
    let (mut guard, far) = refusing().await;
    far.send(vec![b'x'; 2 * 1024 * 1024]);
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(far.unread(), 1024 * 1024);
}

#[tokio::test(start_paused = true)]
async fn lingering_ends_with_the_client() {
    let (mut guard, far) = refusing().await;
    far.send("the rest");
    far.end();
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!((start.elapsed(), far.unread()), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn between_two_requests_nothing_lingers() {
    let (mut guard, _wire, far) = guarded(MAX);
    far.send(ASK);
    read(&mut guard).await;
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert!(start.elapsed().is_zero() && far.was_shut());
}

#[tokio::test(start_paused = true)]
async fn where_asked_for_a_connection_ends_with_a_reset() {
    for (asked, shut) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut guard, wire, far) = guarded(MAX);
        wire.reset_at_end(asked);
        if shut {
            guard.shutdown().await.unwrap();
            assert_eq!(far.was_shut(), !asked, "an orderly end would come before the reset");
        }
        drop(guard);
        assert_eq!(far.was_reset(), asked);
    }
}
