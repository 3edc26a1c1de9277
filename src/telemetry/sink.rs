//! Lines to a stream, written by a thread of its own, so that whoever logs never waits.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Lines that may wait to be written; more are dropped and counted.
const LINES_MAX: usize = 4096;

/// A stream that takes nothing just now is asked again after this long, so often; then the line is dropped.
const WAIT: std::time::Duration = std::time::Duration::from_millis(10);
const WAITS_MAX: u32 = 100;

/// Where lines go.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Stop,
}

impl Sink {
    /// Starts the thread that writes to `out`. Where no thread can be had, lines are dropped and counted.
    #[must_use]
    pub(super) fn new(name: &str, out: impl Write + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(LINES_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&dropped);
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(move || write_all(&lines, out, &counted)).ok();
        Self { queue, dropped, thread: Arc::new(Mutex::new(thread)) }
    }

    /// Queues a line, which brings its own line end.
    pub(super) fn line(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped because the reader did not keep up.
    #[must_use]
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is queued and stops.
    #[expect(clippy::disallowed_methods, reason = "called when the process ends, by its last thread")]
    pub(super) fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A reader that hangs with a full queue is not waited for: the process is about to end.
        if let Some(thread) = thread
            && self.queue.try_send(Message::Stop).is_ok()
        {
            for _ in 0..100 {
                if thread.is_finished() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

fn write_all(lines: &Receiver<Message>, mut out: impl Write, dropped: &AtomicU64) {
    while let Ok(Message::Line(line)) = lines.recv() {
        if write_line(&line, &mut out).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes a line, waiting a while for a reader that does not block the writer by itself.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which has nothing else to do")]
fn write_line(mut line: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut waits = 0;
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && waits < WAITS_MAX => {
                waits += 1;
                std::thread::sleep(WAIT);
            }
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// One event's bytes, queued as a whole when it is dropped.
#[derive(Debug)]
pub(super) struct Line {
    sink: Sink,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.sink.line(std::mem::take(&mut self.bytes));
        }
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Sink {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { sink: self.clone(), bytes: Vec::with_capacity(256) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{self, ErrorKind, Write};
    use std::sync::{Arc, Mutex};

    use super::Sink;

    /// A stream that does what a script says, then takes all.
    struct Scripted {
        script: VecDeque<Result<usize, ErrorKind>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.script.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What two lines become, and how many of them are counted as lost.
    fn two_lines(script: impl IntoIterator<Item = Result<usize, ErrorKind>>) -> (String, u64) {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let out = Scripted { script: script.into_iter().collect(), written: Arc::clone(&written) };
        let sink = Sink::new("test", out);
        sink.line(b"first\n".to_vec());
        sink.line(b"second\n".to_vec());
        sink.close();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        (text, sink.dropped())
    }

    #[test]
    fn a_stream_that_takes_nothing_for_a_while_gets_every_line_whole() {
        let full = || Err(ErrorKind::WouldBlock);
        let script = [full(), Ok(2), full(), full(), Err(ErrorKind::Interrupted), Ok(1), full()];
        assert_eq!(two_lines(script), ("first\nsecond\n".to_owned(), 0));
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_one_is_written() {
        assert_eq!(two_lines([Err(ErrorKind::BrokenPipe)]), ("second\n".to_owned(), 1));
    }
}
