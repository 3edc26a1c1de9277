//! The admin side's connections in memory, under virtual time.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::routing::get;
use axum::{Extension, Router};
use fender::admin::{Line, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::time::{Instant, sleep};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Serves the near end of a line that takes this many bytes; after how many seconds it has ended.
fn served(body: usize, room: usize) -> (tokio::task::JoinHandle<u64>, DuplexStream) {
    let (near, far) = duplex(room);
    let router = Router::new().route("/", get(move || async move { "x".repeat(body) }));
    let serving = tokio::spawn(async move {
        let start = Instant::now();
        serve(router, near, Line::new(Ipv4Addr::LOCALHOST.into())).await;
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

/// Takes the answer by pieces of this size, one a second; how many whole ones came.
async fn taken_by(piece: usize, far: &mut DuplexStream) -> usize {
    let (mut pieces, mut buffer) = (0, vec![0; piece]);
    while far.read_exact(&mut buffer).await.is_ok() {
        pieces += 1;
        sleep(Duration::from_secs(1)).await;
    }
    pieces
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_being_taken_is_not_cut() {
    let (serving, mut far) = served(100 * 64 * 1024, 128 * 1024);
    far.write_all(ASK).await.unwrap();
    assert_eq!(taken_by(64 * 1024, &mut far).await, 100);
    // The last pieces lie in the line when it has written them.
    assert!((95..=100).contains(&serving.await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_taken_drop_by_drop_is_cut() {
    let (serving, mut far) = served(1_000_000, 64);
    far.write_all(ASK).await.unwrap();
    assert!(taken_by(1024, &mut far).await <= 21);
    assert_eq!(serving.await.unwrap(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_comes_loses_its_place() {
    let (serving, far) = served(10, 4096);
    assert_eq!(serving.await.unwrap(), 10);
    drop(far);
}

/// Serves an answer that goes on until its reader leaves: a drop each second.
fn endless(room: usize, piece: usize) -> (tokio::task::JoinHandle<u64>, DuplexStream) {
    let (near, far) = duplex(room);
    let answer = move |Extension(line): Extension<Line>| async move {
        line.has_no_end();
        let (mut feeding, body) = duplex(64);
        tokio::spawn(async move {
            while feeding.write_all(&vec![b'x'; piece]).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        Body::new(Drops(body))
    };
    let router = Router::new().route("/", get(answer));
    let serving = tokio::spawn(async move {
        let start = Instant::now();
        serve(router, near, Line::new(Ipv4Addr::LOCALHOST.into())).await;
        start.elapsed().as_secs()
    });
    (serving, far)
}

/// A body that is what a line brings.
struct Drops(DuplexStream);

impl http_body::Body for Drops {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        let taken = Bytes::copy_from_slice(buffer.filled());
        Poll::Ready((!taken.is_empty()).then(|| Ok(http_body::Frame::data(taken))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_who_takes_what_there_is_keeps_its_place() {
    let (serving, mut far) = endless(4096, 10);
    far.write_all(ASK).await.unwrap();
    let start = Instant::now();
    let mut buffer = [0; 256];
    while start.elapsed() < Duration::from_secs(3600) {
        assert!(far.read(&mut buffer).await.unwrap() > 0, "cut after {:?}", start.elapsed());
    }
    drop(far);
    assert!(serving.await.unwrap() >= 3600);
}

#[tokio::test(start_paused = true)]
async fn a_follower_who_takes_nothing_loses_its_place() {
    let (serving, mut far) = endless(256, 60);
    far.write_all(ASK).await.unwrap();
    assert!(serving.await.unwrap() <= 40);
    drop(far);
}
