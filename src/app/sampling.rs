//! Looks at the counters now and then: for the charts' last minutes, and for the report's last month.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::admin::Admin;
use crate::clock;
use crate::config::Config;
use crate::telemetry::history::STEP;

/// At the end the file gets so long: a disk that hangs must not hold it up.
const SAVE_WITHIN: Duration = Duration::from_secs(2);

/// Beside the store, if there is one: elsewhere Fender writes nothing.
pub(super) fn file(config: &Config) -> Option<PathBuf> {
    config.keeps_letters().then(|| {
        let mut name = config.dead_letter.path.clone().into_os_string();
        name.push(".report");
        name.into()
    })
}

/// Runs until the process ends.
pub(super) async fn run(admin: Arc<Admin>) {
    let mut tick = tokio::time::interval(STEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        read_once_held(&admin).await;
        let now = clock::now();
        admin.history.step(&admin.metrics, now);
        admin.history.count(&admin.metrics, now, clock::unix_ms());
        if admin.history.is_due() {
            let history = Arc::clone(&admin.history);
            let saved = off_to_the_side(move || history.save()).await;
            told(saved, &mut failing);
        }
    }
}

/// Reads what an earlier process has kept, once the store is held: until then that process may still write it.
async fn read_once_held(admin: &Admin) {
    let held = admin.letters.as_ref().is_some_and(|store| store.figures().healthy);
    if held && admin.history.is_to_be_read() {
        let history = Arc::clone(&admin.history);
        let read = off_to_the_side(move || {
            history.load();
            Ok(())
        });
        told(read.await, &mut false);
    }
}

/// A disk may hang: the control thread must not.
async fn off_to_the_side(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))
}

/// A disk that fails is told once, and once when it is well again.
fn told(done: std::io::Result<()>, failing: &mut bool) {
    let failed = done.is_err();
    match done {
        Err(error) if !*failing => {
            tracing::warn!(%error, "the report's file cannot be written: it is tried again");
        }
        Ok(()) if *failing => tracing::info!("the report's file is written again"),
        Ok(()) | Err(_) => {}
    }
    *failing = failed;
}

/// The last words, while the store is still held.
pub(super) fn end(admin: &Admin) {
    admin.history.count(&admin.metrics, clock::now(), clock::unix_ms());
    let history = Arc::clone(&admin.history);
    let (done, saved) = sync_channel(1);
    // Nobody may be there any more to hear of it.
    std::thread::spawn(move || drop(done.send(history.save())));
    let saved = saved.recv_timeout(SAVE_WITHIN).unwrap_or_else(|late| Err(std::io::Error::other(late)));
    if let Err(error) = saved {
        tracing::warn!(%error, "the report's file cannot be written: what happened since the last time is lost to it");
    }
}
