//! An upstream that does what a script says, byte by byte, one thread a connection.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::wire::{Body, End, Head, Wire};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

impl Received {
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }
}

pub(crate) struct Upstream {
    address: SocketAddr,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    requests: Mutex<Vec<Received>>,
    came: Condvar,
}

impl Upstream {
    /// Every connection is handed to the script; it closes when the script returns.
    pub(crate) fn scripted(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::scripted_at("127.0.0.1:0", script)
    }

    /// The same, where it is said.
    pub(crate) fn scripted_at(
        address: &str,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let theirs = Arc::clone(&record);
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = theirs.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (script, record) = (Arc::clone(&script), Arc::clone(&theirs));
                thread::spawn(move || script(&mut Connection::new(stream, number, record)));
            }
        });
        Self { address, record }
    }

    /// Answers every request with these bytes, on connections that stay.
    pub(crate) fn answering(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::scripted(
            move |connection| while connection.request().is_some() && connection.send(bytes.as_ref()) {},
        )
    }

    /// Answers the n-th request of all with the n-th of these statuses (`"200 OK"`, then fields if any), and all later ones
    /// with the last.
    pub(crate) fn in_turn(answers: &[&str]) -> Self {
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let turn = AtomicUsize::new(0);
        Self::scripted(move |connection| {
            while connection.request().is_some() {
                let turn = turn.fetch_add(1, Ordering::SeqCst);
                let answer = answers.get(turn).or(answers.last()).expect("at least one answer");
                let body = format!("answer {}", turn + 1);
                let (status, fields) = answer.split_once('\n').unwrap_or((answer, ""));
                let fields: String = fields.lines().map(|field| format!("{field}\r\n")).collect();
                let length = body.len();
                if !connection
                    .send(format!("HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\n\r\n{body}"))
                {
                    break;
                }
            }
        })
    }

    /// Answers 200 with a body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    /// Answers with three events, the next one when it is told that the last one has arrived.
    pub(crate) fn events() -> (Self, SyncSender<()>) {
        let (arrived, wait) = sync_channel(1);
        let wait = Mutex::new(wait);
        let upstream = Self::scripted(move |connection| {
            connection.request();
            connection.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            for number in 0..3 {
                connection.send(format!("9\r\ndata: {number}\n\n\r\n"));
                wait.lock().unwrap().recv_timeout(PATIENCE).expect("the event arrives");
            }
            connection.send("0\r\n\r\n");
        });
        (upstream, arrived)
    }

    /// An address where nobody listens.
    pub(crate) fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `[upstream.api]` at the root, with more lines of its own.
    pub(crate) fn as_api(&self, lines: &str) -> String {
        format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"\n{lines}\n", self.url())
    }

    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Lets go of the requests that came so far.
    pub(crate) fn forget(&self) {
        self.record.requests.lock().unwrap().clear();
    }

    /// All requests so far, those too whose body was cut.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.record.requests.lock().unwrap().clone()
    }

    /// Those that came whole: what an application would have acted on.
    pub(crate) fn whole(&self) -> Vec<Received> {
        self.requests().into_iter().filter(|received| received.body.end == End::Clean).collect()
    }

    /// The request with this number, counted from 1, waited for.
    pub(crate) fn request(&self, number: usize) -> Received {
        let until = Instant::now() + PATIENCE;
        let mut requests = self.record.requests.lock().unwrap();
        loop {
            if let Some(request) = requests.get(number - 1) {
                return request.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "request {number} did not come, only {}", requests.len());
            requests = self.record.came.wait_timeout(requests, left).unwrap().0;
        }
    }
}

/// One connection, in the hands of a script.
pub(crate) struct Connection {
    /// Counted from 1.
    pub(crate) number: usize,
    wire: Wire,
    record: Arc<Record>,
}

impl Connection {
    fn new(stream: TcpStream, number: usize, record: Arc<Record>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { number, wire: Wire::new(stream), record }
    }

    /// The next whole request; none when the other side has hung up.
    pub(crate) fn request(&mut self) -> Option<Received> {
        let head = self.head()?;
        let received = self.body(head);
        (received.body.end == End::Clean).then_some(received)
    }

    /// Only the head, for scripts that answer before the body.
    pub(crate) fn head(&mut self) -> Option<Head> {
        self.wire.head()
    }

    /// The rest of the request whose head was read.
    pub(crate) fn body(&mut self, head: Head) -> Received {
        let body = self.wire.request_body(&head);
        let received = Received { head, body };
        self.remember(received.clone());
        received
    }

    /// Counts a head as a request whose body is not looked at.
    pub(crate) fn remember_head(&mut self, head: Head) {
        self.remember(Received {
            head,
            body: Body { bytes: Vec::new(), trailers: Vec::new(), end: End::Cut },
        });
    }

    fn remember(&mut self, received: Received) {
        self.record.requests.lock().unwrap().push(received);
        self.record.came.notify_all();
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes)
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        self.wire.exactly(count)
    }

    /// Waits for the other side to hang up.
    pub(crate) fn until_closed(&mut self) -> End {
        self.wire.until_closed()
    }

    /// Closes now, rather than when the script returns.
    pub(crate) fn close(&mut self) {
        self.wire.stream().shutdown(std::net::Shutdown::Both).ok();
    }

    /// The next close is a reset: what was not yet read on the other side is lost.
    pub(crate) fn reset(&mut self) {
        socket2::SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
