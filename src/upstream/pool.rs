//! The connections of one upstream that one worker holds.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;

use super::cell::Upstream;
use super::connect::{Http1, Opened, Speak};
use super::endpoint::{Busy, Endpoint, Lead};
use super::upload::UploadBody;
use crate::clock;

/// A connection that has rested longer than this is asked whether its peer has closed it before it is used.
const TRUSTED_REST: Duration = Duration::from_millis(1);

/// HTTP/2 connections to one endpoint from one worker; beyond them requests queue on the least busy one.
const HTTP2_CONNECTIONS_MAX: usize = 8;

/// One worker's connections to the endpoints of one upstream.
#[derive(Debug)]
pub(super) struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    /// How many of them rest.
    idle: AtomicUsize,
}

/// One endpoint's.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    http2: Vec<Arc<Http2>>,
    /// What ALPN chose last; `None` = not known yet.
    http2_chosen: Option<bool>,
    gate: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
    open: Open,
}

/// A shared HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    sender: http2::SendRequest<UploadBody>,
    streams: AtomicUsize,
    /// Streams that the peer takes at once.
    room: Arc<AtomicUsize>,
    lead: Lead,
    /// Since when it has no streams, if it has none.
    resting: Mutex<Instant>,
    _open: Open,
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub struct Open(Arc<AtomicI64>);

impl Open {
    /// One more in `count`.
    #[must_use]
    pub fn count(count: &Arc<AtomicI64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection taken from the pool, or opened.
#[derive(Debug)]
pub enum Taken {
    Http1(Http1, Open),
    Http2(Arc<Http2>),
}

impl Taken {
    /// Others use it at the same time: it cannot be stale unnoticed.
    #[must_use]
    pub const fn shared(&self) -> bool {
        matches!(self, Self::Http2(_))
    }
}

impl Pool {
    /// An empty pool for `endpoints` endpoints.
    #[must_use]
    pub(super) fn new(endpoints: usize) -> Self {
        let shelves = std::iter::repeat_with(Shelf::default).take(endpoints).collect();
        Self { shelves: Mutex::new(shelves), idle: AtomicUsize::new(0) }
    }

    /// Connections at rest, shared ones too.
    #[must_use]
    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// A connection to the endpoint `at` that can take a request at once. `careful`: a stale one would cost the client its
    /// request, so one that has rested is asked first whether its peer has closed it.
    #[must_use]
    pub(super) fn take(
        &self,
        at: usize,
        endpoint: &Endpoint,
        speak: Speak,
        idle_timeout: Duration,
        careful: bool,
        now: Instant,
    ) -> Option<Taken> {
        self.change(|shelves| {
            let shelf = shelves.get_mut(at)?;
            if speak != Speak::Http1
                && let Some(shared) = shelf.least_busy(endpoint, false)
            {
                return Some(shared.lend());
            }
            if speak == Speak::Http2 {
                return None;
            }
            while let Some(idle) = shelf.idle.pop() {
                let rested = now.saturating_duration_since(idle.since);
                let alive = idle.connection.sender.is_ready()
                    && rested < idle_timeout
                    && endpoint.leads_to(&idle.connection.lead);
                if alive && (!careful || rested < TRUSTED_REST || idle.connection.socket.quiet()) {
                    return Some(Taken::Http1(idle.connection, idle.open));
                }
            }
            None
        })
    }

    /// The gate through which connections are opened one at a time, where the next may be shared.
    #[must_use]
    pub(super) fn gate(&self, endpoint: usize, speak: Speak) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let shelves = self.shelves();
        let shelf = shelves.get(endpoint)?;
        let may_be_shared =
            speak == Speak::Http2 || (speak == Speak::Negotiate && shelf.http2_chosen != Some(false));
        may_be_shared.then(|| Arc::clone(&shelf.gate))
    }

    /// The HTTP/2 connection to use where no further one may be opened.
    #[must_use]
    pub(super) fn full(&self, at: usize, endpoint: &Endpoint) -> Option<Taken> {
        self.change(|shelves| shelves.get_mut(at)?.least_busy(endpoint, true).map(Http2::lend))
    }

    /// Takes in a connection that was opened; a shared one is there for others from now on.
    #[must_use]
    pub(super) fn opened(&self, at: usize, opened: Opened, open: Open) -> Taken {
        self.change(|shelves| {
            let shelf = shelves.get_mut(at);
            match opened {
                Opened::Http1(connection) => {
                    if let Some(shelf) = shelf {
                        shelf.http2_chosen = Some(false);
                    }
                    Taken::Http1(connection, open)
                }
                Opened::Http2(sender, room, lead) => {
                    let shared = Arc::new(Http2 {
                        sender,
                        streams: AtomicUsize::new(0),
                        room,
                        lead,
                        resting: Mutex::new(clock::now()),
                        _open: open,
                    });
                    if let Some(shelf) = shelf {
                        shelf.http2_chosen = Some(true);
                        shelf.http2.push(Arc::clone(&shared));
                    }
                    shared.lend()
                }
            }
        })
    }

    /// Closes what has rested for `idle_timeout`, what the peer has closed, and what rests at an address that its endpoint no
    /// longer has. A shared connection that is at work there takes no further stream, and closes behind its last one.
    pub(super) fn sweep(&self, endpoints: &[Arc<Endpoint>], idle_timeout: Duration) {
        let now = clock::now();
        self.change(|shelves| {
            for (shelf, endpoint) in shelves.iter_mut().zip(endpoints) {
                shelf.idle.retain(|idle| {
                    !idle.connection.sender.is_closed()
                        && now.saturating_duration_since(idle.since) < idle_timeout
                        && endpoint.leads_to(&idle.connection.lead)
                });
                shelf.http2.retain(|shared| {
                    let rested = shared.rested(now).is_some_and(|rested| rested >= idle_timeout);
                    shared.fit(endpoint) && !rested
                });
            }
        });
    }

    fn rest(&self, at: usize, connection: Http1, open: Open, now: Instant) {
        self.change(|shelves| {
            if let Some(shelf) = shelves.get_mut(at) {
                shelf.idle.push(Idle { connection, since: now, open });
            }
        });
    }

    /// A stream of `shared` has ended. With its last one the connection rests, if it `may`; else it closes.
    fn ended(&self, at: usize, shared: &Arc<Http2>, may_rest: impl FnOnce() -> bool) {
        let last = shared.streams.load(Ordering::Relaxed) == 1;
        if last {
            *shared.resting.lock().unwrap_or_else(PoisonError::into_inner) = clock::now();
        }
        let stays = !last || may_rest();
        self.change(|shelves| {
            shared.streams.fetch_sub(1, Ordering::Relaxed);
            if let Some(shelf) = shelves.get_mut(at).filter(|_| !stays) {
                shelf.http2.retain(|kept| !Arc::ptr_eq(kept, shared));
            }
        });
    }

    /// Whatever changes on the shelves changes here, so that the count of what rests is right.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Shelf>) -> T) -> T {
        let mut shelves = self.shelves();
        let changed = change(&mut shelves);
        self.idle.store(shelves.iter().map(Shelf::resting).sum(), Ordering::Relaxed);
        changed
    }

    fn shelves(&self) -> MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// The shared connection with the fewest streams, if it has room, or if all are to be used `beyond` their room.
    fn least_busy(&mut self, endpoint: &Endpoint, beyond: bool) -> Option<&Arc<Http2>> {
        self.http2.retain(|shared| shared.fit(endpoint));
        let best = self.http2.iter().min_by_key(|shared| shared.streams.load(Ordering::Relaxed))?;
        let room = best.streams.load(Ordering::Relaxed) < best.room.load(Ordering::Relaxed);
        (room || (beyond && self.http2.len() >= HTTP2_CONNECTIONS_MAX)).then_some(best)
    }

    fn resting(&self) -> usize {
        let free = |shared: &&Arc<Http2>| shared.streams.load(Ordering::Relaxed) == 0;
        self.idle.len() + self.http2.iter().filter(free).count()
    }
}

impl Http2 {
    /// Can take streams, and leads to where its endpoint is.
    fn fit(&self, endpoint: &Endpoint) -> bool {
        !self.sender.is_closed() && endpoint.leads_to(&self.lead)
    }

    /// One more stream, until [`Pool::ended`].
    fn lend(self: &Arc<Self>) -> Taken {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Taken::Http2(Arc::clone(self))
    }

    /// For how long it has had no streams; `None` while it has some.
    fn rested(&self, now: Instant) -> Option<Duration> {
        let since = *self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        (self.streams.load(Ordering::Relaxed) == 0).then(|| now.saturating_duration_since(since))
    }

    /// A handle to send with.
    #[must_use]
    pub fn sender(&self) -> http2::SendRequest<UploadBody> {
        self.sender.clone()
    }
}

/// A connection on loan to one request. Dropping it closes the connection (or resets the stream); [`Loan::give_back`] keeps it.
#[derive(Debug)]
pub struct Loan {
    upstream: Arc<Upstream>,
    worker: usize,
    endpoint: usize,
    held: Held,
    _busy: Option<Busy>,
}

#[derive(Debug)]
enum Held {
    Http1(Option<(Http1, Open)>),
    Http2(Arc<Http2>),
}

impl Loan {
    /// Lends `taken`; returns also the senders' side.
    #[must_use]
    pub fn new(
        upstream: &Arc<Upstream>,
        worker: usize,
        endpoint: usize,
        taken: Taken,
        busy: Option<Busy>,
    ) -> Self {
        let held = match taken {
            Taken::Http1(connection, open) => Held::Http1(Some((connection, open))),
            Taken::Http2(shared) => Held::Http2(shared),
        };
        Self { upstream: Arc::clone(upstream), worker, endpoint, held, _busy: busy }
    }

    /// Which of the upstream's endpoints it leads to.
    #[must_use]
    pub const fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// The HTTP/1.1 connection, if it is one.
    pub fn http1(&mut self) -> Option<&mut Http1> {
        match &mut self.held {
            Held::Http1(Some((connection, _))) => Some(connection),
            Held::Http1(None) | Held::Http2(_) => None,
        }
    }

    /// The HTTP/2 connection, if it is one.
    #[must_use]
    pub fn http2(&self) -> Option<&Http2> {
        match &self.held {
            Held::Http2(shared) => Some(shared),
            Held::Http1(_) => None,
        }
    }

    /// The exchange ended cleanly `now`: the connection may serve again.
    pub fn give_back(mut self, now: Instant) {
        if let Held::Http1(held) = &mut self.held
            && let Some((connection, open)) = held.take()
            && !connection.sender.is_closed()
            && self.upstream.endpoints().get(self.endpoint).is_some_and(|at| at.leads_to(&connection.lead))
            && self.upstream.has_room(self.worker)
            && let Some(pool) = self.upstream.pool(self.worker)
        {
            pool.rest(self.endpoint, connection, open, now);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Held::Http2(shared) = &self.held
            && let Some(pool) = self.upstream.pool(self.worker)
        {
            pool.ended(self.endpoint, shared, || self.upstream.has_room(self.worker));
        }
    }
}
