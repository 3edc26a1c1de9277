//! Event streams through Fender: 200 at once, 50 events a second each, as a chat completion writes them. Interleaved in one
//! run with no proxy at all, with the plain forwarder over hyper-util that passes bytes and knows nothing of events, and with
//! Envoy, if `FENDER_BENCH_ENVOY` names its binary.
//!
//! What an event's way costs a client comes first, then whether events that were sent apart arrive together, then CPU.
//! `--check` fails beyond the limits; `--rounds N` measures longer.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a bench that cannot measure stops at once")]
#![expect(clippy::print_stdout, reason = "its table is what it is for")]

mod envoy;
mod events;
#[path = "../proxy/load.rs"]
#[expect(dead_code, reason = "the proxy's bench uses the rest")]
mod load;
#[path = "../proxy/peers.rs"]
#[expect(dead_code, reason = "the proxy's bench uses the rest")]
mod peers;
#[path = "../proxy/subject.rs"]
#[expect(dead_code, reason = "the proxy's bench uses the rest")]
mod subject;

use std::net::SocketAddr;
use std::process::ExitCode;

use events::{EVENTS, Figures, STREAMS};
use subject::Subject;

const ROUNDS: usize = 5;

/// An event may take so much longer than without a proxy, in microseconds.
const ADDED_P99_MAX: f64 = 500.0;

/// So many of a thousand events may arrive in one read with another, beyond those that do without a proxy.
const TOGETHER_MAX: f64 = 1.0;

/// Fender's CPU may be so much of Envoy's, which only passes bytes.
const ENVOY_MAX: f64 = 4.0 / 3.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", "emit", listen] => events::emit(address(listen)),
        ["role", "plain", listen, upstream] => peers::plain(address(listen), address(upstream)),
        ["role", "follow", target] => events::follow(address(target)),
        _ => return compare(&words),
    }
    ExitCode::SUCCESS
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("the bench writes its own addresses")
}

fn compare(words: &[&str]) -> ExitCode {
    let rounds = words.iter().skip_while(|word| **word != "--rounds").nth(1);
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let source = Subject::role("emit");
    let fender = Subject::fender_with(
        subject::free(),
        &format!(
            "[upstream.bench]\nurl = \"http://{}\"\nroute = \"/\"\ndialect = \"openai\"\nstream.first_content = \"30s\"\n",
            source.address
        ),
    );
    let mut subjects = vec![("direct", &source, true), ("fender", &fender, false)];
    let plain = Subject::forwarder("plain", &source);
    subjects.push(("plain", &plain, false));
    let envoy = envoy::start(&source);
    if let Some(envoy) = &envoy {
        subjects.push(("envoy", envoy, false));
    }

    println!("{rounds} rounds of {STREAMS} streams of {EVENTS} events; an event's way in us, CPU in s\n");
    println!("{:<8} {:>8} {:>8} {:>12} {:>8}", "", "p50", "p99", "together/1000", "CPU");
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for ((_, subject, is_source), figures) in subjects.iter().zip(&mut figures) {
            let before = subject.cpu();
            let mut figure = events::spawn(subject.address);
            figure.cpu = if *is_source { 0.0 } else { (subject.cpu() - before).as_secs_f64() };
            figures.push(figure);
        }
    }
    for ((name, ..), figures) in subjects.iter().zip(&figures) {
        let column = |of: fn(&Figures) -> f64| median(figures.iter().map(of).collect());
        let (p50, p99, together, cpu) =
            (column(|f| f.p50), column(|f| f.p99), column(|f| f.together), column(|f| f.cpu));
        println!("{name:<8} {p50:>8.0} {p99:>8.0} {together:>12.2} {cpu:>8.3}");
    }

    let over = |at: usize, of: fn(&Figures, &Figures) -> f64| {
        median(figures[1].iter().zip(&figures[at]).map(|(own, other)| of(own, other)).collect())
    };
    let mut missed = Vec::new();
    let added = over(0, |own, direct| own.p99 - direct.p99);
    let together = over(0, |own, direct| own.together - direct.together);
    println!(
        "\nFender adds {added:.0} us to the p99; {:.2} of the plain forwarder's CPU",
        over(2, |own, plain| own.cpu / plain.cpu)
    );
    limit(&mut missed, "added p99", added, ADDED_P99_MAX);
    limit(&mut missed, "events of a thousand that arrive together", together, TOGETHER_MAX);
    if envoy.is_some() {
        let ratio = over(3, |own, envoy| own.cpu / envoy.cpu);
        println!("{ratio:.2} of Envoy's CPU");
        limit(&mut missed, "CPU over Envoy's", ratio, ENVOY_MAX);
    }
    for miss in &missed {
        println!("beyond the limit: {miss}");
    }
    if words.contains(&"--check") && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn limit(missed: &mut Vec<String>, what: &str, is: f64, most: f64) {
    if is > most {
        missed.push(format!("{what}: {is:.2}, at most {most:.2}"));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
