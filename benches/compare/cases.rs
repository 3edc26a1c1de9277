//! The cases under load: CPU per request, latency at a fixed rate, throughput on one core.

use std::time::Duration;

use crate::drive::{Figures, Load, measure};
use crate::load::Pace;
use crate::machine::Machine;
use crate::options::Options;
use crate::peers::{Peer, Setup};
use crate::report::{Musts, Sheet, column, differences, median};
use crate::subject::Subject;

const CONNECTIONS: usize = 64;
const RATE: u32 = 2_000;

/// What a case may cost for each second of a peer's.
type Most = &'static [(Peer, f64)];

const LENIENT: Most = &[(Peer::Nginx, 1.25), (Peer::Envoy, 0.35)];
const BODIES: Most = &[(Peer::Nginx, 1.0)];

/// Name, title, path, connections, pace, musts.
const LOADS: [(&str, &str, &str, usize, Pace, Most); 8] = [
    ("get1k", "GET 1 KiB", "/1024", CONNECTIONS, Pace::Closed, LENIENT),
    ("post4k", "POST 4 KiB", "/post/4096", CONNECTIONS, Pace::Closed, LENIENT),
    ("get64k", "GET 64 KiB", "/65536", CONNECTIONS, Pace::Closed, BODIES),
    ("get1m", "GET 1 MiB, 16 connections", "/1048576", 16, Pace::Closed, BODIES),
    ("fresh", "GET 1 KiB, a new connection each", "/1024", CONNECTIONS, Pace::Fresh, &[(Peer::Nginx, 1.3)]),
    ("conns1", "GET 1 KiB, 1 connection", "/1024", 1, Pace::Closed, &[]),
    ("conns2", "GET 1 KiB, 2 connections", "/1024", 2, Pace::Closed, &[]),
    ("conns8", "GET 1 KiB, 8 connections", "/1024", 8, Pace::Closed, &[]),
];

/// A case's surroundings.
pub(crate) struct Scene<'a> {
    pub(crate) options: &'a Options,
    pub(crate) machine: &'a Machine,
    pub(crate) peers: &'a [Peer],
}

impl Scene<'_> {
    /// All peers, each in front of the setup's upstream.
    pub(crate) fn start(&self, setup: &Setup<'_>) -> Vec<(&'static str, Subject)> {
        self.peers.iter().map(|peer| (peer.name(), peer.start(setup))).collect()
    }
}

/// All slices of all rounds, interleaved: for each subject its rounds.
fn rounds(subjects: &[(&str, &Subject)], load: &Load<'_>, rounds: usize) -> Vec<Vec<Figures>> {
    let mut all = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for ((_, subject), figures) in subjects.iter().zip(&mut all) {
            figures.push(measure(subject, load));
        }
    }
    all
}

fn of(figures: &[Figures], which: fn(&Figures) -> f64) -> Vec<f64> {
    figures.iter().map(which).collect()
}

/// With `direct` as the first.
fn with_direct<'a>(
    direct: &'a Subject,
    proxies: &'a [(&'static str, Subject)],
) -> Vec<(&'static str, &'a Subject)> {
    let proxies = proxies.iter().map(|(name, subject)| (*name, subject));
    std::iter::once(("direct", direct)).chain(proxies).collect()
}

/// CPU per request, two workers.
pub(crate) fn cpu(scene: &Scene<'_>, musts: &mut Musts) -> Vec<Sheet> {
    let wanted: Vec<_> = LOADS.iter().filter(|(case, ..)| scene.options.wants_case(case)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let Machine { proxy, others, .. } = scene.machine;
    let upstream = Subject::role("upstream", others);
    let setup = Setup { upstream: upstream.address, workers: 2, cores: Some(proxy), streams: false };
    let proxies = scene.start(&setup);
    let subjects = with_direct(&upstream, &proxies);
    let mut sheets = Vec::new();
    for &&(_, title, path, connections, pace, most) in &wanted {
        let load = Load { path, connections, pace, slice: scene.options.slice, cores: others };
        let figures = rounds(&subjects, &load, scene.options.rounds);
        let rows = subjects.iter().zip(&figures).map(|((name, _), figures)| {
            let direct = *name == "direct";
            let cpu = if direct { Vec::new() } else { of(figures, |f| f.cpu) };
            let columns =
                vec![cpu, of(figures, |f| f.per_second), of(figures, |f| f.p50), of(figures, |f| f.p99)];
            ((*name).to_owned(), columns)
        });
        let mut sheet = Sheet {
            title: title.to_owned(),
            note: String::new(),
            columns: vec![
                column("CPU s / 100,000", 2),
                column("req/s", 0),
                column("p50 us", 0),
                column("p99 us", 0),
            ],
            rows: rows.collect(),
        };
        sheet.note = if pace == Pace::Fresh {
            "Direct the upstream has the new connections too, which all proxies spare it.".to_owned()
        } else {
            bottleneck(&sheet, 1)
        };
        let sheet = sheet.with_ratio("Fender's CPU over it", "fender");
        for (peer, most) in most {
            let ratio = sheet.ratio("fender", peer.name(), 0);
            musts.hold(&format!("{title}: CPU over {}", peer.name()), ratio, *most, "");
        }
        println!("{}", sheet.markdown());
        sheets.push(sheet);
    }
    sheets
}

/// Whether load and upstream could have done more than the fastest HTTP proxy.
fn bottleneck(sheet: &Sheet, column: usize) -> String {
    let Some(direct) = sheet.median("direct", column) else { return String::new() };
    let rates = sheet.rows.iter().filter(|(name, _)| !["direct", "splice"].contains(&name.as_str()));
    let best = rates.map(|(_, values)| median(&values[column])).fold(f64::NAN, f64::max);
    let times = direct / best;
    let warning = if times < 1.3 { ": the load or the upstream may be the limit here" } else { "" };
    format!("Direct does {times:.1} times the requests of the fastest HTTP proxy{warning}.")
}

/// What a hop adds at a fixed rate: one worker on one core, load and upstream on another.
pub(crate) fn latency(scene: &Scene<'_>, musts: &mut Musts) -> Sheet {
    let Machine { one, another, .. } = scene.machine;
    let upstream = Subject::role("upstream", another);
    let setup = Setup { upstream: upstream.address, workers: 1, cores: Some(one), streams: false };
    let proxies = scene.start(&setup);
    let subjects = with_direct(&upstream, &proxies);
    // A p99 needs some thousands of requests.
    let slice = scene.options.slice.max(Duration::from_millis(2_000));
    let load =
        Load { path: "/1024", connections: CONNECTIONS, pace: Pace::Open(RATE), slice, cores: another };
    let figures = rounds(&subjects, &load, scene.options.rounds);
    let base = &figures[0];
    let splice = subjects.iter().position(|(name, _)| *name == "splice").map(|at| &figures[at]);
    let rows = subjects.iter().zip(&figures).map(|((name, _), figures)| {
        let direct = *name == "direct";
        let added = |which: fn(&Figures) -> f64| {
            if direct { Vec::new() } else { differences(&of(figures, which), &of(base, which)) }
        };
        let over_splice = |which: fn(&Figures) -> f64| match splice {
            Some(splice) if !direct && *name != "splice" => {
                differences(&of(figures, which), &of(splice, which))
            }
            _ => Vec::new(),
        };
        let columns = vec![
            if direct { Vec::new() } else { of(figures, |f| f.cpu) },
            of(figures, |f| f.p50),
            added(|f| f.p50),
            added(|f| f.p90),
            added(|f| f.p99),
            over_splice(|f| f.p50),
            over_splice(|f| f.p90),
            over_splice(|f| f.p99),
        ];
        ((*name).to_owned(), columns)
    });
    let sheet = Sheet {
        title: format!("GET 1 KiB at {RATE} req/s, one core"),
        note: "Open loop: requests go when they are due, answered or not. Added: less direct, in us, round by round; over splice alike.".to_owned(),
        columns: vec![
            column("CPU s / 100,000", 2),
            column("p50 us", 0),
            column("added p50 us", 0),
            column("added p90 us", 0),
            column("added p99 us", 0),
            column("p50 over splice", 0),
            column("p90 over splice", 0),
            column("p99 over splice", 0),
        ],
        rows: rows.collect(),
    };
    musts.hold("p50 at 2,000 req/s over a TCP splice", sheet.median("fender", 5), 15.0, "us");
    let over_envoy = sheet.ratio("fender", "envoy", 4);
    musts.hold("added p99 at 2,000 req/s over envoy", over_envoy, 0.6, "");
    sheet.with_ratio("Fender's CPU over it", "fender")
}

/// Throughput of one worker on one core.
pub(crate) fn one_core(scene: &Scene<'_>) -> Sheet {
    let Machine { one, another, .. } = scene.machine;
    let upstream = Subject::role("upstream", another);
    let setup = Setup { upstream: upstream.address, workers: 1, cores: Some(one), streams: false };
    let proxies = scene.start(&setup);
    let subjects = with_direct(&upstream, &proxies);
    let load = Load {
        path: "/1024",
        connections: CONNECTIONS,
        pace: Pace::Closed,
        slice: scene.options.slice,
        cores: another,
    };
    let figures = rounds(&subjects, &load, scene.options.rounds);
    let rows = subjects.iter().zip(&figures).map(|((name, _), figures)| {
        let columns = vec![of(figures, |f| f.per_second), of(figures, |f| f.p50), of(figures, |f| f.p99)];
        ((*name).to_owned(), columns)
    });
    let mut sheet = Sheet {
        title: "GET 1 KiB, throughput on one core".to_owned(),
        note: String::new(),
        columns: vec![column("req/s", 0), column("p50 us", 0), column("p99 us", 0)],
        rows: rows.collect(),
    };
    let note = bottleneck(&sheet, 0);
    sheet.note = format!("{note} Load and upstream share one other core.");
    sheet.with_ratio("Fender's over it", "fender")
}
