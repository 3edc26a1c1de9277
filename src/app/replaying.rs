//! The thread that takes letters back to the proxy, and the store's end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;

use super::Error;
use crate::clock;
use crate::deadletter::State;
use crate::drain::Phase;
use crate::proxy::Proxy;
use crate::replay::Replayer;

/// At the end of the drain, writes in flight get so long to be stored.
const STORE_WITHIN: Duration = Duration::from_secs(3);

/// What still runs then gets so long to say why it ends.
const SPEAK_WITHIN: Duration = Duration::from_millis(500);

/// And the store so long to have it all on disk.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Starts the replays, if writes are kept. `worker`: the number of the connections that are theirs alone.
pub(super) fn start(proxy: &Arc<Proxy>, worker: usize) -> Result<Option<JoinHandle<()>>, Error> {
    let Some(letters) = &proxy.letters else { return Ok(None) };
    let failed = |error: std::io::Error| Error::Start(format!("replay: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let replayer = Replayer::new(Arc::clone(proxy), letters.store.clone(), worker);
    let thread = std::thread::Builder::new().name("fender-replay".to_owned());
    let running = thread.spawn(move || {
        runtime.block_on(replayer.run());
        runtime.shutdown_background();
    });
    running.map(Some).map_err(failed)
}

/// Tells what is in flight that the time is up: writes are stored, streams say their last words. Both are waited for.
#[expect(clippy::disallowed_methods, reason = "the last thread of a process that ends has nobody to hold up")]
pub(super) fn store_what_is_under_way(proxy: &Proxy) {
    proxy.drain.advance(Phase::Storing);
    let until = clock::now() + STORE_WITHIN;
    while proxy.keeping.load(Ordering::Acquire) > 0 && clock::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    let until = clock::now() + SPEAK_WITHIN;
    while proxy.drain.in_flight() > 0 && clock::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for the replays to end and for the store to have all on disk; how many letters wait for the next start.
pub(super) fn end(proxy: &Proxy, replaying: Option<JoinHandle<()>>) -> u64 {
    let Some(letters) = &proxy.letters else { return 0 };
    if let Some(thread) = replaying
        && thread.join().is_err()
    {
        tracing::error!("the replays ended in a panic");
    }
    let closing = async { tokio::time::timeout(CLOSE_WITHIN, letters.store.close()).await };
    match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) if runtime.block_on(closing).is_ok() => {}
        _ => tracing::error!("the store did not close in time"),
    }
    let figures = letters.store.figures();
    figures.total(State::Pending) + figures.total(State::Sending)
}
