//! The load: one thread over epoll, in a process of its own. It says `ready` when each connection has had an answer, waits for a
//! line, loads for a while, and prints what it came to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::wire::{Answer, request};

const TIMER: u64 = u64::MAX;

/// Nothing that is measured is silent for so long.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// When the next request goes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// On each connection as soon as the one before is answered.
    Closed,
    /// The same, each on a connection of its own.
    Fresh,
    /// So many a second, answered or not.
    Open(u32),
}

impl Pace {
    pub(crate) fn word(self) -> String {
        match self {
            Self::Closed => "closed".to_owned(),
            Self::Fresh => "fresh".to_owned(),
            Self::Open(rate) => rate.to_string(),
        }
    }

    fn read(word: &str) -> Self {
        match word {
            "closed" => Self::Closed,
            "fresh" => Self::Fresh,
            rate => Self::Open(rate.parse().expect("a rate")),
        }
    }
}

/// The role. `path` may hold `{N}`: request by request this is the next of the numbers below N.
pub(crate) fn run(target: SocketAddr, path: &str, connections: usize, pace: &str, slice: Duration) {
    let pace = Pace::read(pace);
    let mut client = Client::new(target, requests(path, pace == Pace::Fresh), connections, pace);
    client.closed(Duration::ZERO);
    ready();
    client.latencies.clear();
    let start = Instant::now();
    match pace {
        Pace::Open(rate) => client.open(rate, slice),
        Pace::Closed | Pace::Fresh => client.closed(slice),
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut latencies = client.latencies;
    latencies.sort_unstable();
    let at =
        |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default() as f64 / 1e3;
    let count = latencies.len();
    println!("{count} {} {} {} {}", count as f64 / seconds, at(50), at(90), at(99));
}

/// The role: opens connections, has some answers on each, and holds them.
pub(crate) fn hold(target: SocketAddr, path: &str, connections: usize) {
    let request = requests(path, false).remove(0);
    let mut buffer = vec![0; 64 * 1024];
    let mut streams = Vec::new();
    let mut ask = |stream: &mut TcpStream| {
        stream.write_all(&request).expect("it takes a request");
        let mut answer = Answer::default();
        while !answer.take(stream, &mut buffer).expect("it answers") {}
    };
    // The same work for each number of connections, one request at a time.
    for _ in 0..connections {
        let mut stream = TcpStream::connect(target).expect("the target accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a TCP socket");
        ask(&mut stream);
        streams.push(stream);
    }
    for at in 0..10_000_usize.saturating_sub(connections) {
        ask(&mut streams[at % connections]);
    }
    ready();
}

fn ready() {
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).expect("the driver is there");
}

fn requests(path: &str, close: bool) -> Vec<Vec<u8>> {
    let Some((before, rest)) = path.split_once('{') else { return vec![request(path, close)] };
    let (count, behind) = rest.split_once('}').expect("a number in braces");
    let count: usize = count.parse().expect("a number");
    (0..count).map(|nth| request(&format!("{before}{nth}{behind}"), close)).collect()
}

struct Connection {
    stream: TcpStream,
    answer: Answer,
    started: Instant,
    /// The answer is whole, the end of the connection is yet to come.
    answered: bool,
}

struct Client {
    target: SocketAddr,
    requests: Vec<Vec<u8>>,
    next: usize,
    pace: Pace,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    latencies: Vec<u64>,
}

impl Client {
    fn new(target: SocketAddr, requests: Vec<Vec<u8>>, connections: usize, pace: Pace) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
        let connections = (0..connections).map(|at| connect(target, &epoll, at)).collect();
        let (buffer, latencies) = (vec![0; 256 * 1024], Vec::with_capacity(1 << 20));
        Self { target, requests, next: 0, pace, epoll, connections, buffer, latencies }
    }

    /// Each connection asks at once, and again after each answer until the time is over.
    fn closed(&mut self, slice: Duration) {
        let until = Instant::now() + slice;
        for at in 0..self.connections.len() {
            self.send(at, Instant::now());
        }
        let mut under_way = self.connections.len();
        let mut events = Vec::with_capacity(1024);
        while under_way > 0 {
            self.wait(&mut events);
            for event in events.drain(..) {
                let at = event.data.u64() as usize;
                if !self.read(at) {
                    continue;
                }
                let now = Instant::now();
                if now < until {
                    self.send(at, now);
                } else {
                    under_way -= 1;
                }
            }
        }
    }

    /// So many requests a second, evenly, each on the connection that has been idle longest. One that finds none counts from when it
    /// was due.
    fn open(&mut self, rate: u32, slice: Duration) {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).expect("a timer");
        let gap = Duration::from_secs(1) / rate;
        let spec = Timespec { tv_sec: 0, tv_nsec: gap.subsec_nanos().into() };
        let every = Itimerspec { it_interval: spec, it_value: spec };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every).expect("a timer");
        epoll::add(&self.epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN).expect("a timer");
        let mut left = (slice.as_secs_f64() * f64::from(rate)) as usize;
        let mut under_way = 0;
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut due: VecDeque<Instant> = VecDeque::new();
        let mut events = Vec::with_capacity(1024);
        while left + under_way + due.len() > 0 {
            self.wait(&mut events);
            for event in events.drain(..) {
                if event.data.u64() == TIMER {
                    let mut ticks = [0; 8];
                    rustix::io::read(&timer, &mut ticks).expect("a timer");
                    for _ in 0..u64::from_ne_bytes(ticks).min(left as u64) {
                        left -= 1;
                        match idle.pop_front() {
                            Some(at) => {
                                under_way += 1;
                                self.send(at, Instant::now());
                            }
                            None => due.push_back(Instant::now()),
                        }
                    }
                    continue;
                }
                let at = event.data.u64() as usize;
                if self.read(at) {
                    match due.pop_front() {
                        Some(since) => self.send(at, since),
                        None => {
                            under_way -= 1;
                            idle.push_back(at);
                        }
                    }
                }
            }
        }
    }

    fn wait(&self, events: &mut Vec<Event>) {
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&PATIENCE)) {
            Ok(0) => panic!("no answer from {} for {} s", self.target, PATIENCE.tv_sec),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
    }

    fn send(&mut self, at: usize, started: Instant) {
        if self.pace == Pace::Fresh && self.connections[at].answered {
            self.connections[at] = connect(self.target, &self.epoll, at);
        }
        let connection = &mut self.connections[at];
        connection.started = started;
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        let count = connection.stream.write(request).expect("it takes a request");
        assert_eq!(count, request.len(), "an idle socket takes a small request whole");
    }

    /// Whether this connection is done with its request.
    fn read(&mut self, at: usize) -> bool {
        let connection = &mut self.connections[at];
        if connection.answered {
            let count = connection.stream.read(&mut self.buffer).expect("the connection ends cleanly");
            assert_eq!(count, 0, "nothing follows the answer");
            // An end is told again and again.
            epoll::delete(&self.epoll, &connection.stream).expect("a socket");
        } else {
            match connection.answer.take(&mut connection.stream, &mut self.buffer) {
                Ok(true) if self.pace == Pace::Fresh => {
                    connection.answered = true;
                    return false;
                }
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("an answer was cut: {error}"),
            }
        }
        self.latencies.push(u64::try_from(connection.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        true
    }
}

fn connect(target: SocketAddr, epoll: &OwnedFd, at: usize) -> Connection {
    let stream = TcpStream::connect(target).expect("the target accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_nonblocking(true).expect("a socket that does not block");
    epoll::add(epoll, &stream, EventData::new_u64(at as u64), EventFlags::IN).expect("a socket");
    Connection { stream, answer: Answer::default(), started: Instant::now(), answered: false }
}
