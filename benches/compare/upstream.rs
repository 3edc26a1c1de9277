//! The upstream: epoll and prepared answers, so that it costs little beside any proxy. `/…/N` is answered with N bytes.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::thread;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::{Domain, Protocol, Socket, Type};

const LISTENER: u64 = u64::MAX;

/// The role: serves until it is killed, with as many threads as it has cores.
pub(crate) fn serve(listen: SocketAddr) {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers: Vec<_> = (0..cores).map(|_| thread::spawn(move || Server::new(listen).run())).collect();
    for worker in workers {
        worker.join().expect("a worker serves until it is killed");
    }
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: HashMap<usize, Rc<Vec<u8>>>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// What came of a head that is not whole yet.
    held: Vec<u8>,
    /// The answer to the request under way, once its head is known.
    answer: Option<Rc<Vec<u8>>>,
    body_left: usize,
    written: usize,
    close: bool,
    waits_to_write: bool,
}

impl Server {
    fn new(listen: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_reuse_port(true).expect("SO_REUSEPORT");
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket.bind(&listen.into()).expect("the port is free");
        socket.listen(4096).expect("it listens");
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
        epoll::add(&epoll, &socket, EventData::new_u64(LISTENER), EventFlags::IN).expect("a listener");
        Self {
            epoll,
            listener: socket.into(),
            connections: Vec::new(),
            free: Vec::new(),
            answers: HashMap::new(),
            buffer: vec![0; 64 * 1024],
        }
    }

    fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("epoll: {error}"),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    at => {
                        let at = at as usize;
                        if self.turn(at).is_none() {
                            self.connections[at] = None;
                            self.free.push(at);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("a socket that does not block");
            stream.set_nodelay(true).expect("a TCP socket");
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(&self.epoll, &stream, EventData::new_u64(at as u64), EventFlags::IN)
                .expect("a socket");
            self.connections[at] = Some(Connection {
                stream,
                held: Vec::new(),
                answer: None,
                body_left: 0,
                written: 0,
                close: false,
                waits_to_write: false,
            });
        }
    }

    /// Reads and writes as far as it goes; none when the connection is over.
    fn turn(&mut self, at: usize) -> Option<()> {
        let connection = self.connections.get_mut(at)?.as_mut()?;
        if connection.waits_to_write {
            return connection.write(&self.epoll, at);
        }
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
            Err(_) => return None,
        };
        let whole;
        let mut came = &self.buffer[..count];
        if connection.answer.is_none() {
            if !connection.held.is_empty() {
                connection.held.extend_from_slice(came);
                whole = std::mem::take(&mut connection.held);
                came = &whole;
            }
            let Some(end) = memchr::memmem::find(came, b"\r\n\r\n") else {
                connection.held = came.to_vec();
                return Some(());
            };
            let head = std::str::from_utf8(&came[..end]).ok()?;
            let path = head.split(' ').nth(1)?;
            let size: usize = path.rsplit('/').next()?.parse().ok()?;
            connection.answer = Some(Rc::clone(self.answers.entry(size).or_insert_with(|| prepared(size))));
            connection.body_left = field(head, "content-length").map_or(0, |n| n.parse().expect("a length"));
            connection.close = field(head, "connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
            came = &came[end + 4..];
        }
        connection.body_left = connection.body_left.saturating_sub(came.len());
        if connection.body_left > 0 {
            return Some(());
        }
        connection.write(&self.epoll, at)
    }
}

impl Connection {
    fn write(&mut self, epoll: &OwnedFd, at: usize) -> Option<()> {
        let answer = Rc::clone(self.answer.as_ref()?);
        while self.written < answer.len() {
            match self.stream.write(&answer[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.waits_to_write {
                        self.waits_to_write = true;
                        epoll::modify(epoll, &self.stream, EventData::new_u64(at as u64), EventFlags::OUT)
                            .ok()?;
                    }
                    return Some(());
                }
                Err(_) => return None,
            }
        }
        if self.waits_to_write {
            self.waits_to_write = false;
            epoll::modify(epoll, &self.stream, EventData::new_u64(at as u64), EventFlags::IN).ok()?;
        }
        self.answer = None;
        self.written = 0;
        (!self.close).then_some(())
    }
}

fn prepared(size: usize) -> Rc<Vec<u8>> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + size, b'x');
    Rc::new(answer)
}

/// The value of a header field.
pub(crate) fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then_some(value.trim())
    })
}
