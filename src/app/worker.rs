//! Worker threads: each with a runtime, listening sockets and connection pools of its own.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};

use super::Error;
use crate::admin::Admin;
use crate::clock;
use crate::drain::Phase;
use crate::inbound::listen::{Door, accept};
use crate::ready::Pending;

/// A worker's housekeeping: its pulse, and the connections that have rested too long.
const TICK: Duration = Duration::from_secs(1);

/// At the end a worker gets this long to drop its connections.
const JOIN_MAX: Duration = Duration::from_secs(2);

/// How many workers: as configured, or the cores that affinity and cgroup grant.
#[must_use]
pub(super) fn count(configured: usize) -> usize {
    if configured > 0 { configured } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Starts one worker for each of `serving`; `sockets` holds one for each of them, per address.
///
/// # Errors
/// A thread, a runtime or a socket that cannot be had.
pub(super) fn start(
    sockets: Vec<Vec<StdListener>>,
    door: &Arc<Door>,
    admin: &Arc<Admin>,
    serving: Vec<Pending>,
) -> Result<Vec<JoinHandle<()>>, Error> {
    let failed = |error: std::io::Error| Error::Start(format!("worker: {error}"));
    let mut addresses: Vec<_> = sockets.into_iter().map(Vec::into_iter).collect();
    let mut threads = Vec::with_capacity(serving.len());
    for (number, pending) in serving.into_iter().enumerate() {
        let own: Vec<StdListener> = addresses.iter_mut().filter_map(Iterator::next).collect();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (door, admin) = (Arc::clone(door), Arc::clone(admin));
        let thread = std::thread::Builder::new().name(format!("fender-{number}"));
        threads
            .push(thread.spawn(move || work(runtime, own, &door, &admin, number, pending)).map_err(failed)?);
    }
    Ok(threads)
}

fn work(
    runtime: Runtime,
    sockets: Vec<StdListener>,
    door: &Arc<Door>,
    admin: &Arc<Admin>,
    number: usize,
    pending: Pending,
) {
    runtime.block_on(async {
        for socket in sockets {
            match TcpListener::from_std(socket) {
                Ok(listener) => drop(tokio::spawn(accept(listener, Arc::clone(door), number))),
                Err(error) => {
                    tracing::error!(%error, worker = number, "listener");
                    return; // The token stays taken: the process never becomes ready.
                }
            }
        }
        tokio::spawn(housekeeping(Arc::clone(admin), number));
        if number == 0 {
            tokio::spawn(checks(Arc::clone(admin)));
        }
        drop(pending);
        let mut phase = door.proxy.drain.watch();
        // The sender lives in the proxy, which this worker holds.
        drop(phase.wait_for(|phase| *phase == Phase::Cut).await);
    });
    runtime.shutdown_background(); // Every connection that is still open ends here, visibly cut.
}

async fn housekeeping(admin: Arc<Admin>, worker: usize) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        clock::align();
        if let Some(pulse) = admin.pulses.get(worker) {
            pulse.beat(admin.since_start(), Handle::current().metrics().num_alive_tasks());
        }
        for upstream in admin.table.load().upstreams() {
            upstream.sweep(worker);
        }
    }
}

/// Asks the upstreams that have an active check how they are; over the first worker's connections.
async fn checks(admin: Arc<Admin>) {
    loop {
        let now = clock::now();
        let table = admin.table.load_full();
        let due = table.upstreams().iter().filter_map(|upstream| upstream.check_if_due(0, now));
        let next = due.min().unwrap_or(now + TICK).min(now + TICK);
        drop(table);
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Waits for the workers to end, but not for ever: the process ends in any case.
#[expect(clippy::disallowed_methods, reason = "the last thread of a process that ends has nobody to hold up")]
pub(super) fn join(threads: &[JoinHandle<()>]) {
    let step = Duration::from_millis(2);
    let mut waited = Duration::ZERO;
    while waited < JOIN_MAX && !threads.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(step);
        waited += step;
    }
}
