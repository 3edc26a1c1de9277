//! The control thread: signals, reloads, names, the admin side. Nothing here is on a request's way.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::exporter::Exporter;
use super::{Error, build};
use crate::admin::{self, Admin, InForce, Line, ReloadRequest};
use crate::clock;
use crate::config::watch::Watcher;
use crate::config::{self, Config, Notify, Problem};
use crate::deadletter::Keys;
use crate::drain::{Phase, Times};
use crate::inbound::listen::Door;
use crate::inbound::tls::Acceptor;
use crate::notify::Hooks;
use crate::route::Table;
use crate::telemetry::events::{DrainStarted, Ready, Reloaded, StoreChanged, emit, emit_counted, emit_told};
use crate::upstream::follow;

/// How often the watched files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Admin connections at once, on each of its listeners.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// A TLS handshake on the admin listener takes no longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

pub(super) struct Control {
    pub config: Config,
    pub hooks: Hooks,
    pub watcher: Watcher,
    pub path: PathBuf,
    pub admin: Arc<Admin>,
    pub door: Arc<Door>,
    pub admin_tls: Option<Arc<Acceptor>>,
    pub workers: usize,
    pub exporter: Arc<Exporter>,
}

/// What time alone decides is looked at so often.
const WATCH: Duration = Duration::from_millis(500);

/// Keeps breakers and the degradation level up to date where no traffic does it.
async fn watch_over(admin: Arc<Admin>) {
    let mut store = StoreChanged { healthy: true, full: false };
    let mut tick = tokio::time::interval(WATCH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = admin.feed.turned() => {}
            _ = tick.tick() => {}
        }
        let table = admin.table.load_full();
        let now = clock::now();
        table.upstreams().iter().for_each(|upstream| upstream.policies().tick(now));
        if let Some(letters) = &admin.letters {
            let figures = letters.figures();
            let found = StoreChanged { healthy: figures.healthy, full: figures.full };
            if found != store {
                emit_told(&found, &admin.feed);
                store = found;
            }
        }
        let store_unhealthy = admin.letters.as_ref().is_some_and(|store| !store.takes_letters());
        admin.degradation.review(table.upstreams(), store_unhealthy, now);
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Control {
    /// Runs until the process has been told to end and has drained; returns the requests that were cut.
    pub(super) fn run(
        mut self,
        admin: std::net::TcpListener,
        public: Option<std::net::TcpListener>,
        reloads: mpsc::Receiver<ReloadRequest>,
    ) -> Result<u64, Error> {
        let failed = |error: std::io::Error| Error::Start(format!("control: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let cut = runtime.block_on(async {
            let mut signals = Signals::new().map_err(failed)?;
            let open = admin::router(Arc::clone(&self.admin), false);
            let whole = admin::router(Arc::clone(&self.admin), true);
            tokio::spawn(listen(
                TcpListener::from_std(admin).map_err(failed)?,
                whole,
                self.admin_tls.clone(),
            ));
            if let Some(public) = public {
                tokio::spawn(listen(TcpListener::from_std(public).map_err(failed)?, open, None));
            }
            follow_names(&self.admin.table.load(), None);
            // From the first event on.
            self.renew_hooks(&self.config.notify.clone(), 0).map_err(Error::Config)?;
            tokio::spawn(watch_over(Arc::clone(&self.admin)));
            tokio::spawn(super::sampling::run(Arc::clone(&self.admin)));
            tokio::spawn(Arc::clone(&self.exporter).run());
            self.announce_ready().await;
            let cause = self.serve(&mut signals, reloads).await;
            let cut = self.drain(cause, &mut signals).await;
            self.hooks.end().await;
            Ok(cut)
        });
        runtime.shutdown_background();
        cut
    }

    async fn announce_ready(&self) {
        while !self.admin.started_up() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let table = self.admin.table.load_full();
        emit(&Ready {
            version: env!("CARGO_PKG_VERSION"),
            workers: self.workers,
            upstreams: table.upstreams().len(),
            routes: table.plans().len(),
        });
        // The system's roots are read ahead of the first connection, by a thread that nothing waits for.
        std::thread::spawn(move || table.upstreams().iter().for_each(|upstream| upstream.warm_up()));
    }

    /// Everything until the end begins.
    async fn serve(
        &mut self,
        signals: &mut Signals,
        mut reloads: mpsc::Receiver<ReloadRequest>,
    ) -> &'static str {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut phase = self.admin.drain.watch();
        loop {
            let cause = tokio::select! {
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => return "request",
                _ = signals.terminate.recv() => return "SIGTERM",
                _ = signals.interrupt.recv() => return "SIGINT",
                _ = signals.hangup.recv() => "signal",
                Some(request) = reloads.recv() => {
                    let reloaded = self.reload("api");
                    // Whoever asked may have hung up since; the reload stands.
                    drop(request.answer.send(reloaded));
                    continue;
                }
                _ = look.tick() => if self.watcher.changed() { "file" } else { continue },
            };
            // The problems are in the log and in the metric.
            drop(self.reload(cause));
        }
    }

    /// Reads the config again and swaps it in, whole or not at all.
    fn reload(&mut self, cause: &'static str) -> Result<(), Vec<Problem>> {
        self.watcher.changed(); // What is read now is known; an edit from here on is seen at the next look.
        let reloaded = self.try_reload();
        self.admin.config_refused.store(reloaded.is_err(), Ordering::Relaxed);
        let text = reloaded
            .as_ref()
            .err()
            .map(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        emit_counted(&Reloaded { cause, refused: text.as_deref() }, &self.admin.metrics, &self.admin.feed);
        reloaded
    }

    fn try_reload(&mut self) -> Result<(), Vec<Problem>> {
        let loaded = config::load(&self.path).map_err(config::Problems::into_vec)?;
        let beyond = loaded.needs_restart(&self.config);
        if !beyond.is_empty() {
            return Err(beyond);
        }
        let unusable = |what: String| vec![Problem::unusable(what)];
        let acceptor =
            |tls: Option<&config::ServerTls>, alpn| tls.map(|tls| Acceptor::new(tls, alpn)).transpose();
        let server_tls = acceptor(loaded.config.server.tls.as_ref(), super::ALPN_SERVER).map_err(unusable)?;
        let admin_tls = acceptor(loaded.config.admin.tls.as_ref(), super::ALPN_ADMIN).map_err(unusable)?;
        let proxy = Arc::clone(&self.door.proxy);
        let previous = proxy.table.load_full();
        let collector = self.exporter.collector(&loaded.config.trace).map_err(unusable)?;
        let table = build::table(
            &loaded.config,
            &self.admin.metrics,
            self.workers + 1, // The replays' connections are their own.
            &proxy.feed,
            Some(&previous),
        );
        let sampling = self.exporter.sampling(&loaded.config.trace);
        let table = Arc::new(table.map_err(unusable)?.traced(sampling));
        self.renew_hooks(&loaded.config.notify, self.admin.feed.newest()).map_err(unusable)?;
        // Nothing fails from here on.
        for (old, new) in [(self.door.tls.as_ref(), server_tls), (self.admin_tls.as_deref(), admin_tls)] {
            if let (Some(old), Some(new)) = (old, new) {
                old.renew(&new);
            }
        }
        if let Some(letters) = &proxy.letters {
            letters.store.rekey(Keys::of(&loaded.config.dead_letter));
        }
        self.exporter.leads_to(collector);
        follow_names(&table, Some(&previous));
        let warmed = Arc::clone(&table);
        std::thread::spawn(move || warmed.upstreams().iter().for_each(|upstream| upstream.warm_up()));
        let in_force = InForce::now(&loaded);
        proxy.server.store(Arc::new(loaded.config.server.clone()));
        proxy.table.store(table);
        self.admin.config.store(Arc::new(in_force));
        self.admin.settings.store(Arc::new(loaded.config.admin.clone()));
        self.watcher.follow(loaded.files);
        self.config = loaded.config;
        Ok(())
    }

    fn renew_hooks(&mut self, settings: &[Notify], seen: u64) -> Result<(), String> {
        let figures = self.hooks.renew(settings, seen)?;
        self.admin.own.webhooks.store(Arc::new(figures));
        self.admin.own.webhook_events_lost.store(self.hooks.lost());
        Ok(())
    }

    /// Unready, still serving, until nothing is in flight or time is up; a second signal ends it at once.
    async fn drain(&self, cause: &'static str, signals: &mut Signals) -> u64 {
        let drain = &self.admin.drain;
        emit_told(&DrainStarted { cause, in_flight: drain.in_flight() }, &self.admin.feed);
        drain.advance(Phase::Draining);
        let server = &self.config.server;
        let times = Times { timeout: server.drain_timeout, quiet: server.drain_quiet, min: server.drain_min };
        tokio::select! {
            cut = drain.quiet(times) => cut,
            _ = signals.terminate.recv() => drain.in_flight(),
            _ = signals.interrupt.recv() => drain.in_flight(),
        }
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Keeps the addresses of all endpoints fresh that were not followed before.
fn follow_names(table: &Table, previous: Option<&Table>) {
    for upstream in table.upstreams() {
        let followed =
            previous.is_some_and(|table| table.upstreams().iter().any(|known| Arc::ptr_eq(known, upstream)));
        if followed {
            continue;
        }
        for endpoint in upstream.endpoints() {
            let refresh = upstream.settings().pool.dns_refresh;
            tokio::spawn(follow(upstream.name().to_owned(), Arc::downgrade(endpoint), refresh));
        }
    }
}

/// Takes admin connections, a bounded number at once. Where there are as many, the one that has been silent for longest gives way:
/// a probe must always find a place.
async fn listen(listener: TcpListener, router: Router, tls: Option<Arc<Acceptor>>) {
    let mut open: VecDeque<(Line, AbortHandle)> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                open.retain(|(_, serving)| !serving.is_finished());
                if open.len() >= ADMIN_CONNECTIONS_MAX {
                    match open.iter().position(|(line, _)| !line.is_busy()).and_then(|at| open.remove(at)) {
                        Some((_, silent)) => silent.abort(),
                        None => continue, // All are at work.
                    }
                }
                let line = Line::new(peer.ip());
                let serving = tokio::spawn(serve((stream, line.clone()), router.clone(), tls.clone()));
                open.push_back((line, serving.abort_handle()));
            }
            Err(error) => {
                tracing::error!(%error, "admin: cannot take connections; trying again");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

async fn serve((stream, line): (TcpStream, Line), router: Router, tls: Option<Arc<Acceptor>>) {
    let Some(tls) = tls else { return admin::serve(router, stream, line).await };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok((stream, _))) => admin::serve(router, stream, line).await,
        Ok(Err(error)) => tracing::debug!(%error, "admin: TLS handshake failed"),
        Err(_) => tracing::debug!("admin: TLS handshake took too long"),
    }
}
