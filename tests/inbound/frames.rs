//! What the watch over an HTTP/2 client's frames does in time, under virtual time.

use std::time::Duration;

use bytes::BytesMut;
use fender::inbound::frames::{Frames, fits};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::line::{Far, Line};
use crate::support::frames::{CONTINUATION, DATA, HEADERS, PREFACE, SETTINGS, frame};

const TIMEOUT: Duration = Duration::from_secs(10);
const END_HEADERS: u8 = 4;

fn watched() -> (Frames<Line>, Far) {
    let (line, far) = Line::new();
    (Frames::new(line, BytesMut::new(), TIMEOUT), far)
}

/// Reads until nothing comes for a day, or to an error: after how many seconds, if one.
async fn fails(frames: &mut Frames<Line>) -> Option<u64> {
    let start = Instant::now();
    loop {
        match timeout(Duration::from_secs(86_400), frames.read(&mut [0; 7])).await {
            Err(_) => return None,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Some(start.elapsed().as_secs()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_said_hello_may_rest() {
    let (mut frames, far) = watched();
    far.send([PREFACE, SETTINGS].concat());
    assert_eq!(fails(&mut frames).await, None);
    far.send([frame(HEADERS, END_HEADERS, 1, &[1; 300]), frame(DATA, 0, 1, &[2; 300])].concat());
    assert_eq!(fails(&mut frames).await, None);
    far.send(&frame(DATA, 0, 1, &[2; 300])[..50]);
    assert_eq!(fails(&mut frames).await, None, "a body has a clock of its own");
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_has_its_time() {
    for (begun, what) in [
        (vec![], "nothing at all"),
        (PREFACE.to_vec(), "no hello"),
        ([PREFACE, &SETTINGS[..5]].concat(), "half a frame's head"),
        ([PREFACE, SETTINGS, &frame(HEADERS, 0, 1, &[1; 20])].concat(), "no end of the block"),
        ([PREFACE, SETTINGS, &frame(HEADERS, END_HEADERS, 1, &[1; 20])[..20]].concat(), "half a payload"),
        (
            [PREFACE, SETTINGS, &frame(HEADERS, 0, 1, &[]), &frame(CONTINUATION, 0, 1, &[])].concat(),
            "on and on",
        ),
    ] {
        let (mut frames, far) = watched();
        far.send(begun);
        assert_eq!(fails(&mut frames).await, Some(10), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_comes_byte_by_byte_has_no_more_time() {
    let (mut frames, far) = watched();
    far.send([PREFACE, SETTINGS].concat());
    let (failed, ()) = tokio::join!(fails(&mut frames), async {
        for byte in frame(HEADERS, END_HEADERS, 1, &[1; 100]) {
            far.send([byte]);
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(failed, Some(10));
}

#[tokio::test(start_paused = true)]
async fn each_block_has_its_own_time() {
    let (mut frames, far) = watched();
    let block = frame(HEADERS, END_HEADERS, 1, &[1; 10]);
    let (first, rest) = block.split_at(12);
    far.send([PREFACE, SETTINGS, first].concat());
    let (failed, ()) = tokio::join!(fails(&mut frames), async {
        for _ in 0..3 {
            sleep(Duration::from_secs(9)).await;
            far.send([rest, first].concat());
        }
    });
    assert_eq!(failed, Some(37));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_after_a_minute() {
    let (mut frames, far) = watched();
    far.takes(3);
    let start = Instant::now();
    assert!(frames.write_all(&[0; 100]).await.is_err());
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[test]
fn a_head_is_measured_as_it_would_stand_in_http1() {
    let request = |fields: usize, length: usize| {
        let mut request = Request::get("http://a.test/p?q");
        for number in 0..fields {
            request = request.header(format!("x-{number:02}"), "v".repeat(length));
        }
        request.body(()).unwrap()
    };
    assert!(fits(&request(99, 1), 64 * 1024) && !fits(&request(100, 1), 64 * 1024));
    // GET /p?q; host: a.test with its line end; ten lines of x-NN: v
    let bytes = 3 + 4 + 14 + 10 * (4 + 4 + 10);
    assert!(fits(&request(10, 10), bytes) && !fits(&request(10, 10), bytes - 1));
}
