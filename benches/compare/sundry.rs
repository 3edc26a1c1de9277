//! The other cases: memory, start, event streams, and what many routes and upstreams cost.

use std::thread;
use std::time::Duration;

use crate::cases::Scene;
use crate::drive::{Load, measure, resident_with};
use crate::events;
use crate::load::Pace;
use crate::machine::Machine;
use crate::peers::{Peer, Setup};
use crate::report::{Musts, Sheet, column, differences};
use crate::subject::Subject;

/// More say nothing more about memory.
const MEMORY_ROUNDS: usize = 3;

/// Before memory is read: what is still to be loaded or given back has its time.
const SETTLE: Duration = Duration::from_millis(500);

/// Resident memory by connections that are open and idle.
pub(crate) fn memory(scene: &Scene<'_>, musts: &mut Musts) -> Sheet {
    const STEPS: [usize; 3] = [64, 1_000, 10_000];
    let Machine { proxy, others, .. } = scene.machine;
    let upstream = Subject::role("upstream", others);
    let setup = Setup { upstream: upstream.address, workers: 2, cores: Some(proxy), streams: false };
    // A splice needs an upstream's connection for each client's.
    let peers: Vec<Peer> = scene.peers.iter().copied().filter(|peer| *peer != Peer::Splice).collect();
    let mut rows: Vec<_> = peers.iter().map(|peer| (peer.name().to_owned(), vec![Vec::new(); 6])).collect();
    for _ in 0..scene.options.rounds.min(MEMORY_ROUNDS) {
        for (peer, (_, columns)) in peers.iter().zip(&mut rows) {
            let subject = peer.start(&setup);
            thread::sleep(SETTLE);
            columns[0].push(subject.resident());
            columns[1].push(subject.anonymous());
            for (step, column) in STEPS.iter().zip(&mut columns[2..]) {
                column.push(resident_with(&subject, *step, SETTLE, others));
            }
            let (few, many) = (columns[2].last(), columns[4].last());
            let grown = many.expect("it was read") - few.expect("it was read");
            columns[5].push(grown * 1024.0 / (STEPS[2] - STEPS[0]) as f64);
        }
    }
    let sheet = Sheet {
        title: "Resident memory, MiB".to_owned(),
        note: "A fresh process each round. Idle: after one request; else after 10,000 more, all connections then idle. What is not \
               anonymous are pages of the program and its libraries, as far as they are mapped."
            .to_owned(),
        columns: vec![
            column("idle", 1),
            column("of it anonymous", 1),
            column("64 connections", 1),
            column("1,000", 1),
            column("10,000", 1),
            column("KiB per connection beyond 64", 1),
        ],
        rows,
    };
    musts.hold("resident, idle", sheet.median("fender", 0), 10.0, "MiB");
    musts.hold("resident, 64 connections", sheet.median("fender", 2), 14.0, "MiB");
    musts.hold("resident for each idle connection beyond", sheet.median("fender", 5), 12.0, "KiB");
    sheet
}

/// From the start of the process to the first 200.
pub(crate) fn start(scene: &Scene<'_>, musts: &mut Musts) -> Sheet {
    let upstream = Subject::role("upstream", &scene.machine.others);
    let setup = Setup { upstream: upstream.address, workers: 2, cores: None, streams: false };
    let mut rows: Vec<_> =
        scene.peers.iter().map(|peer| (peer.name().to_owned(), vec![Vec::new()])).collect();
    for _ in 0..scene.options.rounds {
        for (peer, (_, columns)) in scene.peers.iter().zip(&mut rows) {
            columns[0].push(peer.start(&setup).first_answer.as_secs_f64() * 1e3);
        }
    }
    let sheet = Sheet {
        title: "Start to the first 200".to_owned(),
        note: String::new(),
        columns: vec![column("ms", 1)],
        rows,
    };
    musts.hold("start to the first 200", sheet.median("fender", 0), 20.0, "ms");
    sheet
}

/// Event streams: what is added to an event's way, and CPU.
pub(crate) fn streams(scene: &Scene<'_>, musts: &mut Musts) -> Sheet {
    let Machine { proxy, others, .. } = scene.machine;
    let source = Subject::role("emit", others);
    let setup = Setup { upstream: source.address, workers: 2, cores: Some(proxy), streams: true };
    let proxies = scene.start(&setup);
    let mut direct = [Vec::new(), Vec::new()];
    let mut rows: Vec<_> =
        proxies.iter().map(|(name, _)| ((*name).to_owned(), vec![Vec::new(); 4])).collect();
    for _ in 0..scene.options.rounds {
        let figures = events::spawn(source.address);
        direct[0].push(figures.p50);
        direct[1].push(figures.p99);
        for ((_, subject), (_, columns)) in proxies.iter().zip(&mut rows) {
            let before = subject.cpu();
            let mut figures = events::spawn(subject.address);
            figures.cpu = subject.cpu_since(&before);
            columns[0].push(figures.cpu);
            columns[1].push(figures.p50);
            columns[2].push(figures.p99);
            columns[3].push(figures.together);
        }
    }
    for (_, columns) in &mut rows {
        columns[1] = differences(&columns[1], &direct[0]);
        columns[2] = differences(&columns[2], &direct[1]);
    }
    let (streams, events) = (events::STREAMS, events::EVENTS);
    let sheet = Sheet {
        title: format!("{streams} event streams of 50 events a second, {events} events each"),
        note: "Added to an event's way: less direct, round by round. All are read by one process.".to_owned(),
        columns: vec![
            column("CPU s", 3),
            column("added p50 us", 0),
            column("added p99 us", 0),
            column("of 1,000 in one read with another", 2),
        ],
        rows,
    };
    musts.hold("streams: added p50 over haproxy", sheet.ratio("fender", "haproxy", 1), 1.3, "");
    musts.hold("streams: CPU over nginx", sheet.ratio("fender", "nginx", 0), 1.2, "");
    sheet.with_ratio("Fender's CPU over it", "fender")
}

/// Whether a request costs the same among many routes and upstreams; of Fender, and of nginx beside it.
pub(crate) fn routes(scene: &Scene<'_>, musts: &mut Musts) -> Sheet {
    /// Name, routes, upstreams, path.
    const VARIANTS: [(&str, usize, usize, &str); 5] = [
        ("1 route, 1 upstream", 1, 1, "/t/0/1024"),
        ("1,000 routes, one used", 1_000, 1, "/t/500/1024"),
        ("1,000 routes, all used", 1_000, 1, "/t/{1000}/1024"),
        ("100 upstreams, one used", 100, 100, "/t/50/1024"),
        ("100 upstreams, all used", 100, 100, "/t/{100}/1024"),
    ];
    let Machine { proxy, others, .. } = scene.machine;
    let upstream = Subject::role("upstream", others);
    let setup = Setup { upstream: upstream.address, workers: 2, cores: Some(proxy), streams: false };
    let mut subjects = Vec::new();
    for peer in scene.peers {
        for (name, routes, upstreams, path) in VARIANTS {
            if let Some(subject) = peer.start_with(&setup, routes, upstreams) {
                subjects.push((format!("{}: {name}", peer.name()), subject, path));
            }
        }
    }
    let mut rows: Vec<_> = subjects.iter().map(|(name, ..)| (name.clone(), vec![Vec::new(); 3])).collect();
    for _ in 0..scene.options.rounds {
        for ((_, subject, path), (_, columns)) in subjects.iter().zip(&mut rows) {
            let (slice, pace) = (scene.options.slice, Pace::Closed);
            let figures = measure(subject, &Load { path, connections: 64, pace, slice, cores: others });
            columns[0].push(figures.cpu);
            columns[1].push(figures.per_second);
        }
    }
    for peer in rows.chunks_mut(VARIANTS.len()) {
        let first = peer[0].1[0].clone();
        for (_, columns) in peer {
            columns[2] = columns[0].iter().zip(&first).map(|(own, first)| own / first).collect();
        }
    }
    let sheet = Sheet {
        title: "Among many routes and upstreams, GET 1 KiB".to_owned(),
        note: "All used: each request goes to the next of them.".to_owned(),
        columns: vec![column("CPU s / 100,000", 2), column("req/s", 0), column("over its first", 2)],
        rows,
    };
    for (name, ..) in &VARIANTS[1..] {
        let over = sheet.median(&format!("fender: {name}"), 2);
        musts.hold(&format!("{name}: CPU over 1 route"), over, 1.1, "");
    }
    sheet
}
