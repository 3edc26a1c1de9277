//! Listening sockets, one per worker and address, and the loop that takes connections from them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use super::tls::Acceptor;
use crate::drain::Phase;
use crate::proxy::Proxy;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// Where the system has no descriptor or memory for a connection, the next try waits: from the first to the longest.
const ACCEPT_PAUSE_FIRST: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// Beyond `max_connections` so many more are answered 503; what comes beyond these is closed without a word.
const REFUSED_AT_ONCE_MAX: usize = 128;

/// A client that vanished without a word is noticed after about two minutes.
const KEEPALIVE: Duration = Duration::from_secs(75);

/// What all connections of the front door share.
#[derive(Debug)]
pub struct Door {
    pub proxy: Arc<Proxy>,
    pub tls: Option<Acceptor>,
    pub connections: Arc<AtomicUsize>,
    pub connections_max: usize,
}

/// Binds `address` once for each of `workers`. `v6_alone`: an IPv6 wildcard does not take IPv4 connections too, because
/// another listener does.
///
/// # Errors
/// The address is taken, or may not be used. One that another process shares out in the same way counts as taken.
pub fn bind(address: SocketAddr, workers: usize, v6_alone: bool) -> io::Result<Vec<StdListener>> {
    if workers < 2 {
        return Ok(vec![socket(address, false, v6_alone)?]);
    }
    // Without this probe a second Fender would silently take half of the first one's connections.
    drop(socket(address, false, v6_alone)?);
    let first = socket(address, true, v6_alone)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(bound, true, v6_alone)?);
    }
    Ok(sockets)
}

fn socket(address: SocketAddr, shared: bool, v6_alone: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(v6_alone)?;
    }
    socket.set_nonblocking(true)?;
    // Connections have these from their listener (tcp(7)): five system calls fewer for each.
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(Duration::from_secs(15)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes connections until the process is cut.
pub async fn accept(listener: TcpListener, door: Arc<Door>, worker: usize) {
    let mut phase = door.proxy.drain.watch();
    let mut pause = ACCEPT_PAUSE_FIRST;
    loop {
        let accepted = tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Cut) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE_FIRST;
                take(&door, stream, peer, worker);
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot take connections; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_LONGEST);
            }
        }
    }
}

fn take(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr, worker: usize) {
    let open = Opened::count(&door.connections);
    let over = open.number.saturating_sub(door.connections_max);
    if over > REFUSED_AT_ONCE_MAX {
        return;
    }
    let door = Arc::clone(door);
    tokio::spawn(async move {
        connection::serve(&door, stream, peer, worker, over > 0).await;
        drop(open);
    });
}

/// The client gave up before it was taken: no reason to pause.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// A connection, counted until it is dropped.
struct Opened {
    count: Arc<AtomicUsize>,
    number: usize,
}

impl Opened {
    fn count(count: &Arc<AtomicUsize>) -> Self {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Self { count: Arc::clone(count), number }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[test]
    fn connections_have_their_options_from_the_listener() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1, false).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        drop(client);
    }
}
