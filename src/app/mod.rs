//! The composition root: builds the parts from the config, starts and drains them in order. The only room that knows
//! everyone; nobody knows it but the commands.

mod build;
mod control;
mod exporter;
mod replaying;
mod sampling;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use self::exporter::Exporter;
use crate::admin::{Admin, InForce, Own};
use crate::clock;
use crate::config::watch::Watcher;
use crate::config::{self, Loaded};
use crate::deadletter::Store;
use crate::drain::{Drain, Phase};
use crate::inbound::listen::{Door, bind};
use crate::inbound::tls::Acceptor;
use crate::memory::Memory;
use crate::notify::Hooks;
use crate::proxy::stale::Stale;
use crate::proxy::{Letters, Proxy};
use crate::ready::{Pulse, Readiness};
use crate::telemetry::access;
use crate::telemetry::events::{self, ConfigWarning, Listening, StoreOpened, StoreUnopened, emit};
use crate::telemetry::feed::Feed;
use crate::telemetry::history::History;
use crate::telemetry::logging::Logging;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Degradation;

pub use build::{table, verify};

/// What ALPN offers on the front door, best first; and on the admin listener.
const ALPN_SERVER: &[&[u8]] = &[b"h2", b"http/1.1"];
const ALPN_ADMIN: &[&[u8]] = &[b"http/1.1"];

/// Why the process cannot start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address}: {error}{hint}")]
    Listen { address: SocketAddr, error: std::io::Error, hint: &'static str },
    #[error("{0}")]
    Config(String),
    #[error("start: {0}")]
    Start(String),
}

/// Everything that runs, before it does.
pub struct App {
    config: config::Config,
    watcher: Watcher,
    path: PathBuf,
    proxy: Arc<Proxy>,
    admin: Arc<Admin>,
    door: Arc<Door>,
    admin_tls: Option<Arc<Acceptor>>,
    sockets: Sockets,
    reloads: mpsc::Receiver<crate::admin::ReloadRequest>,
    serving: Vec<crate::ready::Pending>,
    exporter: Arc<Exporter>,
}

/// All listening sockets: of the front door one a worker for each address.
struct Sockets {
    server: Vec<Vec<std::net::TcpListener>>,
    admin: std::net::TcpListener,
    public: Option<std::net::TcpListener>,
}

impl App {
    /// Builds every part and binds every socket; nothing runs yet, but clients may already connect. `watcher` has watched
    /// the config's path since before it was read.
    ///
    /// # Errors
    /// An address that cannot be listened on, or a file that cannot be used.
    pub fn new(
        loaded: Loaded,
        path: PathBuf,
        mut watcher: Watcher,
        logging: Arc<Logging>,
    ) -> Result<Self, Error> {
        let in_force = InForce::now(&loaded);
        let Loaded { config, warnings, files, .. } = loaded;
        watcher.follow(files);
        warnings.iter().for_each(|warning| emit(&ConfigWarning { problem: &warning.to_string() }));
        raise_descriptor_limit();
        let workers = worker::count(config.server.workers);
        let sockets = Sockets::bind(&config, workers)?;
        let metrics = Arc::new(Metrics::new().map_err(|error| Error::Start(error.to_string()))?);
        let memory = Memory::new(config.server.buffer_memory);
        let feed = Feed::new(&memory);
        let degradation = Degradation::new(&feed);
        let table = table(&config, &metrics, workers + 1, &feed, None).map_err(Error::Config)?;
        let exporter = Exporter::leading(&config.trace, &memory).map_err(Error::Config)?;
        let letters = letters(&config, &metrics)?;
        let proxy = Arc::new(Proxy {
            table: Arc::new(ArcSwap::from_pointee(table.traced(exporter.sampling(&config.trace)))),
            server: ArcSwap::from_pointee(config.server.clone()),
            stale: Stale::new(Arc::clone(&memory)),
            memory,
            drain: Drain::new(workers + 1),
            degradation,
            feed,
            letters,
            keeping: Arc::default(),
        });
        let acceptor = |tls: &Option<_>, alpn| tls.as_ref().map(|tls| Acceptor::new(tls, alpn)).transpose();
        let connections = Arc::new(AtomicUsize::new(0));
        let door = Arc::new(Door {
            proxy: Arc::clone(&proxy),
            tls: acceptor(&config.server.tls, ALPN_SERVER).map_err(Error::Config)?,
            connections: Arc::clone(&connections),
            connections_max: config.server.max_connections,
        });
        let (reload, reloads) = mpsc::channel(1);
        let readiness = Readiness::default();
        let serving = std::iter::repeat_with(|| readiness.awaits("worker")).take(workers).collect();
        let admin = Arc::new(Admin {
            table: Arc::clone(&proxy.table),
            drain: proxy.drain.clone(),
            memory: Arc::clone(&proxy.memory),
            degradation: Arc::clone(&proxy.degradation),
            letters: proxy.letters.as_ref().map(|letters| letters.store.clone()),
            metrics,
            readiness,
            pulses: std::iter::repeat_with(Pulse::default).take(workers).collect(),
            history: History::new(sampling::file(&config), clock::now()),
            started: clock::now(),
            connections,
            logging,
            settings: ArcSwap::from_pointee(config.admin.clone()),
            reload,
            feed: Arc::clone(&proxy.feed),
            config: ArcSwap::from_pointee(in_force),
            config_refused: AtomicBool::new(false),
            own: Own::default(),
            tracer: Arc::clone(exporter.tracer()),
        });
        let admin_tls = acceptor(&config.admin.tls, ALPN_ADMIN).map_err(Error::Config)?.map(Arc::new);
        Ok(Self { config, watcher, path, proxy, admin, door, admin_tls, sockets, reloads, serving, exporter })
    }

    /// Where requests are taken; with port 0 in the config the port that the system chose.
    #[must_use]
    pub fn server_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.server.iter().filter_map(|sockets| sockets.first()?.local_addr().ok()).collect()
    }

    /// Where the admin side listens.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.sockets.admin.local_addr().ok()
    }

    /// All figures of the process.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.admin.metrics)
    }

    /// The admin side, which outlives the run.
    #[must_use]
    pub fn admin(&self) -> Arc<Admin> {
        Arc::clone(&self.admin)
    }

    /// The handle by which another part of the process ends it: see [`Drain`].
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.proxy.drain.clone()
    }

    /// Runs until told to end (a signal, or the drain handle), then drains.
    ///
    /// # Errors
    /// A thread or a runtime that cannot be had.
    pub fn run(self) -> Result<(), Error> {
        let (proxy, admin) = (Arc::clone(&self.proxy), Arc::clone(&self.admin));
        self.announce();
        let workers = worker::start(self.sockets.server, &self.door, &admin, self.serving)?;
        let control = control::Control {
            config: self.config,
            hooks: Hooks::new(&proxy.feed),
            watcher: self.watcher,
            path: self.path,
            admin: Arc::clone(&admin),
            door: self.door,
            admin_tls: self.admin_tls,
            workers: workers.len(),
            exporter: Arc::clone(&self.exporter),
        };
        let replaying = replaying::start(&proxy, workers.len())?;
        let cut = control.run(self.sockets.admin, self.sockets.public, self.reloads)?;
        replaying::store_what_is_under_way(&proxy);
        proxy.drain.advance(Phase::Cut);
        worker::join(&workers);
        sampling::end(&admin);
        // Side by side: neither holds up the other, and the end comes no later for it.
        let until = clock::now() + exporter::FLUSH_WITHIN;
        let letters_pending = std::thread::scope(|side| {
            side.spawn(|| self.exporter.flush(until));
            replaying::end(&proxy, replaying)
        });
        self.exporter.flush(until); // What the last deliveries left.
        self.exporter.close();
        emit(&events::DrainEnded { cut, letters_pending });
        access::close();
        admin.logging.close();
        Ok(())
    }

    fn announce(&self) {
        for address in self.server_addresses() {
            emit(&Listening { listener: "server", address, tls: self.door.tls.is_some() });
        }
        if let Some(address) = self.admin_address() {
            emit(&Listening { listener: "admin", address, tls: self.admin_tls.is_some() });
            if !address.ip().is_loopback() && self.admin_tls.is_none() {
                emit(&ConfigWarning {
                    problem: "admin.listen is not on loopback and [admin.tls] is not set: tokens cross the network in the clear",
                });
            }
        }
        if let Some(address) = self.sockets.public.as_ref().and_then(|socket| socket.local_addr().ok()) {
            emit(&Listening { listener: "public", address, tls: false });
        }
    }
}

/// Opens the store, if some upstream's writes are kept.
fn letters(config: &config::Config, metrics: &Metrics) -> Result<Option<Letters>, Error> {
    if !config.keeps_letters() {
        return Ok(None);
    }
    let commits = metrics.commit_seconds();
    let opened = Store::open_or_wait(&config.dead_letter, commits);
    let (store, opened) = opened.map_err(|error| Error::Start(error.to_string()))?;
    match opened {
        Ok(opened) => emit(&StoreOpened::from(&opened)),
        Err(error) => emit(&StoreUnopened { error: &error.to_string() }),
    }
    let durable = match config.dead_letter.sync {
        config::Sync::Full => "full",
        config::Sync::Normal => "normal",
    };
    Ok(Some(Letters { store, durable }))
}

impl Sockets {
    fn bind(config: &config::Config, workers: usize) -> Result<Self, Error> {
        let listeners =
            config.server.listen.iter().chain([&config.admin.listen]).chain(&config.admin.public_listen);
        let v4_ports: Vec<u16> =
            listeners.filter(|address| address.is_ipv4()).map(SocketAddr::port).collect();
        let bound = |address: SocketAddr, count| {
            bind(address, count, v4_ports.contains(&address.port())).map_err(|error| Error::Listen {
                address,
                hint: hint(&error),
                error,
            })
        };
        let one = |address| Ok(bound(address, 1)?.into_iter().next());
        let missing = || Error::Start("no socket".to_owned());
        Ok(Self {
            server: config
                .server
                .listen
                .iter()
                .map(|address| bound(*address, workers))
                .collect::<Result<_, _>>()?,
            admin: one(config.admin.listen)?.ok_or_else(missing)?,
            public: config.admin.public_listen.map(one).transpose()?.flatten(),
        })
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (does another Fender, or the application, listen there already?)",
        std::io::ErrorKind::PermissionDenied => " (ports below 1024 are for root: choose another)",
        std::io::ErrorKind::AddrNotAvailable => " (this machine does not have that address)",
        _ => "",
    }
}

/// Each connection takes a descriptor, one to an upstream two; the soft limit of most systems (1024) is no choice of anyone's.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
