//! The admin side's connections in memory, under virtual time.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fender::admin::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Serves the near end of a line that takes this many bytes; after how many seconds it has ended.
fn served(body: usize, room: usize) -> (tokio::task::JoinHandle<u64>, DuplexStream) {
    let (near, far) = duplex(room);
    let router = Router::new().route("/", get(move || async move { "x".repeat(body) }));
    let serving = tokio::spawn(async move {
        let start = Instant::now();
        serve(router, near).await;
        start.elapsed().as_secs()
    });
    (serving, far)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_on_and_on_is_asked_to_leave() {
    let (serving, mut far) = served(10, 4096);
    let mut asked = 0;
    while far.write_all(ASK).await.is_ok() {
        let mut answer = [0; 4096];
        if far.read(&mut answer).await.unwrap_or(0) == 0 {
            break;
        }
        asked += 1;
        sleep(Duration::from_secs(1)).await;
    }
    assert!((9..=11).contains(&asked), "{asked}");
    assert_eq!(serving.await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_no_answer_loses_its_place() {
    let (serving, mut far) = served(1_000_000, 64);
    far.write_all(ASK).await.unwrap();
    assert_eq!(serving.await.unwrap(), 20);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_comes_loses_its_place() {
    let (serving, far) = served(10, 4096);
    assert_eq!(serving.await.unwrap(), 10);
    drop(far);
}
