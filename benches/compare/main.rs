//! Fender beside the proxies that people know, in one run on one machine, interleaved: nginx, HAProxy, Envoy, a TCP splice and two
//! plain forwarders as floors. A peer that is lacking is skipped aloud; `benches/compare/install` gets all of them.
//!
//! `instructions` counts what a request costs in user space, which does not move with the machine's noise.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a bench that cannot measure stops at once")]
#![expect(clippy::print_stdout, reason = "its tables are what it is for")]
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its numbers are small")]

mod cases;
mod drive;
#[path = "../stream/events.rs"]
mod events;
#[path = "../proxy/peers.rs"]
#[expect(dead_code, reason = "the upstream here is a faster one")]
mod floors;
mod instructions;
mod load;
mod machine;
mod options;
mod peers;
mod report;
mod stepwise;
mod subject;
mod sundry;
mod upstream;
mod wire;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cases::Scene;
use machine::Machine;
use options::Options;
use peers::Peer;
use report::{Musts, Sheet};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["role", words @ ..] => {
            role(words);
            Ok(true)
        }
        ["instructions", words @ ..] => instructions::run(words),
        ["--help", ..] => {
            println!("{}", options::USAGE);
            Ok(true)
        }
        _ => Options::read(&words)
            .map_err(|why| format!("{why}\n{}", options::USAGE))
            .and_then(|o| compare(&o)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn role(words: &[&str]) {
    match words {
        ["upstream", listen] => upstream::serve(address(listen)),
        ["emit", listen] => events::emit(address(listen)),
        ["follow", target] => events::follow(address(target)),
        ["plain", listen, upstream] => floors::plain(address(listen), address(upstream)),
        ["lean", listen, upstream] => floors::lean(address(listen), address(upstream)),
        ["load", target, path, connections, pace, millis] => {
            let slice = Duration::from_millis(number(millis) as u64);
            load::run(address(target), path, number(connections), pace, slice);
        }
        ["hold", target, path, connections] => load::hold(address(target), path, number(connections)),
        _ => panic!("no such role: {words:?}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("the driver writes its own addresses")
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Whether all is well.
fn compare(options: &Options) -> Result<bool, String> {
    let started = Instant::now();
    machine::raise_limits();
    let machine = Machine::look()?;
    let (peers, lacking) = peers::at_hand(options)?;
    for peer in &lacking {
        eprintln!("skipped: {peer}");
    }
    let about = about(options, &peers, &lacking);
    println!("{about}");
    let scene = Scene { options, machine: &machine, peers: &peers };
    let mut musts = Musts::default();
    let mut sheets = cases::cpu(&scene, &mut musts);
    type Case = (&'static str, fn(&Scene<'_>, &mut Musts) -> Sheet);
    let others: [Case; 6] = [
        ("latency", cases::latency),
        ("onecore", |scene, _| cases::one_core(scene)),
        ("memory", sundry::memory),
        ("start", sundry::start),
        ("sse", sundry::streams),
        ("routes", sundry::routes),
    ];
    for (_, case) in others.iter().filter(|(name, _)| options.wants_case(name)) {
        let sheet = case(&scene, &mut musts);
        println!("{}", sheet.markdown());
        sheets.push(sheet);
    }
    instructions::hold(&mut musts);
    println!("{}\ntook {:.0?}", musts.markdown(), started.elapsed());
    if options.write {
        write(&about, &sheets, &musts)?;
    }
    Ok(!options.check || musts.missed() == 0)
}

/// Date, machine, versions.
fn about(options: &Options, peers: &[Peer], lacking: &[String]) -> String {
    let date = machine::says("date", "-u").unwrap_or_default();
    let mut text = format!("{date}; {}.\n", Machine::told());
    text += &format!(
        "{} rounds, interleaved; each subject {:?} a round. Load and upstream: one thread and one thread a core, over epoll.\n\n",
        options.rounds, options.slice
    );
    for peer in peers {
        text += &format!("- {}: {}\n", peer.name(), peer.version());
    }
    for peer in lacking {
        text += &format!("- not compared: {peer}\n");
    }
    text
}

fn write(about: &str, sheets: &[Sheet], musts: &Musts) -> Result<(), String> {
    let tables: Vec<String> = sheets.iter().map(Sheet::markdown).collect();
    let text = format!(
        "# Fender beside other proxies\n\nWritten by `just compare --write`.\n\n{about}\n{}\n{}\n{}",
        include_str!("reading.md"),
        musts.markdown(),
        tables.join("\n")
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");
    std::fs::write(file, text).map_err(|error| format!("{file}: {error}"))
}
