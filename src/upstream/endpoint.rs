//! One URL of an upstream, and the choice among several.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use http::HeaderValue;

use crate::config::{Scheme, Url};

/// An endpoint to which no connection could be opened rests this long, doubling up to the longest, as long as another is
/// there to take its place.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_LONGEST: Duration = Duration::from_secs(30);

/// One URL of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub url: Url,
    /// What goes into `Host`.
    pub host_header: HeaderValue,
    /// Its addresses as last resolved; empty until then.
    addresses: watch::Sender<Arc<[SocketAddr]>>,
    /// Counts the changes of its addresses, from 1.
    moves: AtomicU64,
    in_flight: AtomicUsize,
    rest: Mutex<Rest>,
    /// Spreads connections over the addresses.
    turn: AtomicU64,
}

#[derive(Debug, Default)]
struct Rest {
    failures: u32,
    until: Option<Instant>,
}

impl Endpoint {
    /// An endpoint that nothing is known of yet, but for a literal address.
    #[must_use]
    pub fn new(url: Url) -> Self {
        let literal = literal(&url).into_iter().collect::<Vec<_>>();
        let host_header =
            HeaderValue::from_str(url.authority().as_str()).unwrap_or(HeaderValue::from_static(""));
        Self {
            url,
            host_header,
            addresses: watch::Sender::new(literal.into()),
            moves: AtomicU64::new(1),
            in_flight: AtomicUsize::new(0),
            rest: Mutex::default(),
            turn: AtomicU64::new(0),
        }
    }

    /// Spoken to under TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == Scheme::Https
    }

    /// Whether the URL names an address, so that nothing has to be looked up.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        literal(&self.url).is_some()
    }

    /// Looked up anew: connections to what is no longer among its addresses take no further request.
    pub(super) fn learn(&self, found: Vec<SocketAddr>) {
        let news = self.addresses.send_if_modified(|known| {
            let news = !same(known, &found);
            if news {
                *known = found.into();
            }
            news
        });
        if news {
            self.moves.fetch_add(1, Ordering::Release);
        }
    }

    /// Its addresses as last found.
    #[must_use]
    pub fn known(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.addresses.borrow())
    }

    /// Nothing has been found yet.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        self.addresses.borrow().is_empty()
    }

    /// Waits for the first address.
    pub(super) async fn resolved(&self) {
        let mut known = self.addresses.subscribe();
        // The sender is held here: this cannot fail.
        drop(known.wait_for(|addresses| !addresses.is_empty()).await);
    }

    /// Whether a connection still leads to one of its addresses. Each change is looked at once a connection.
    pub(super) fn leads_to(&self, lead: &Lead) -> bool {
        let moves = self.moves.load(Ordering::Acquire);
        if lead.known_at.load(Ordering::Relaxed) == moves {
            return true;
        }
        let still = self.addresses.borrow().iter().any(|address| address.ip() == lead.peer);
        if still {
            lead.known_at.store(moves, Ordering::Relaxed);
        }
        still
    }

    /// Requests that are on their way at it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The addresses, each call beginning with another one.
    #[must_use]
    pub fn addresses_in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.borrow().to_vec();
        if addresses.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len() as u64;
            addresses.rotate_left(usize::try_from(turn).unwrap_or(0));
        }
        addresses
    }

    /// A connection was opened, or could not be.
    pub fn connected(&self, succeeded: bool, now: Instant) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if succeeded {
            *rest = Rest::default();
            return;
        }
        let pause = REST_FIRST.saturating_mul(1 << rest.failures.min(8)).min(REST_LONGEST);
        rest.failures += 1;
        rest.until = Some(now + pause);
    }

    /// Whether it is left alone for now: no connection could be opened, and another endpoint stands in.
    #[must_use]
    pub fn rests(&self, now: Instant) -> bool {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).until.is_some_and(|until| now < until)
    }
}

/// Where a connection leads, and after which of its endpoint's moves that was last found to be right.
#[derive(Debug)]
pub struct Lead {
    peer: IpAddr,
    known_at: AtomicU64,
}

impl Lead {
    /// Not yet compared with the endpoint's addresses.
    #[must_use]
    pub(super) const fn to(peer: SocketAddr) -> Self {
        Self { peer: peer.ip(), known_at: AtomicU64::new(0) }
    }
}

fn same(known: &[SocketAddr], found: &[SocketAddr]) -> bool {
    known.len() == found.len() && found.iter().all(|address| known.contains(address))
}

fn literal(url: &Url) -> Option<SocketAddr> {
    url.host().parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, url.port()))
}

/// A request that is on its way at an endpoint.
#[derive(Debug)]
pub struct Busy(Arc<Endpoint>);

impl Busy {
    /// Counts one more request at `endpoint` until it is dropped.
    #[must_use]
    pub fn at(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Chooses an endpoint: of two different ones taken at random the one with less in flight ("the power of two choices"), those that rest
/// and those in `avoid` only if there is no other.
#[must_use]
pub(super) fn choose(
    endpoints: &[Arc<Endpoint>],
    avoid: &[usize],
    now: Instant,
    mut dice: impl FnMut(usize) -> usize,
) -> usize {
    if endpoints.len() < 2 {
        return 0;
    }
    let awake = |at: &usize| endpoints.get(*at).is_some_and(|endpoint| !endpoint.rests(now));
    let mut fit: Vec<usize> = (0..endpoints.len()).filter(|at| !avoid.contains(at)).filter(awake).collect();
    if fit.is_empty() {
        fit = (0..endpoints.len()).filter(|at| !avoid.contains(at)).collect();
    }
    let one = if fit.is_empty() { 0 } else { fit.swap_remove(dice(fit.len())) };
    let other = if fit.is_empty() { one } else { fit.swap_remove(dice(fit.len())) };
    let load = |at: usize| {
        endpoints.get(at).map_or(usize::MAX, |endpoint| endpoint.in_flight.load(Ordering::Relaxed))
    };
    if load(other) < load(one) { other } else { one }
}
