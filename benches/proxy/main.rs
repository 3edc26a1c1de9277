//! Fender in one run with what it is measured by, interleaved: no proxy at all, the plain forwarder that anyone writes
//! over hyper-util on tokio's multi-thread runtime, and the lean one on a runtime for each core.
//!
//! CPU per request comes first, since it is steady on a noisy machine; then the latency that a client sees while
//! 64 connections ask as fast as they can. `--check` fails beyond the limits; `--rounds N` measures longer.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a bench that cannot measure stops at once")]
#![expect(clippy::print_stdout, reason = "its table is what it is for")]

mod load;
mod peers;
mod subject;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use load::Figures;
use subject::Subject;

const CONNECTIONS: usize = 64;
const SLICE: Duration = Duration::from_millis(250);
const ROUNDS: usize = 13;

/// Fender may cost so much CPU for each second of the forwarder's.
const PLAIN_MAX: f64 = 1.0;
const LEAN_MAX: f64 = 1.2; // the floor of its own shape: what all that Fender does on top may cost
const IDLE_MAX_MIB: f64 = 10.0;
const FIRST_ANSWER_MAX: Duration = Duration::from_millis(30);
const GROWTH_MAX_MIB: f64 = 16.0; // while eight great answers stream

const LOADS: [(&str, &str); 3] =
    [("GET 1 KiB", "/1024"), ("POST 4 KiB", "/post/4096"), ("GET 64 KiB", "/65536")];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", "upstream", listen] => peers::upstream(address(listen)),
        ["role", "plain", listen, upstream] => peers::plain(address(listen), address(upstream)),
        ["role", "lean", listen, upstream] => peers::lean(address(listen), address(upstream)),
        ["role", "load", target, path, connections, millis] => {
            load::run(
                address(target),
                path,
                number(connections),
                Duration::from_millis(number(millis) as u64),
            );
        }
        ["role", "stream", target, path, connections] => {
            load::stream(address(target), path, number(connections));
        }
        _ => return compare(&words),
    }
    ExitCode::SUCCESS
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("the bench writes its own addresses")
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn compare(words: &[&str]) -> ExitCode {
    let rounds =
        words.iter().skip_while(|word| **word != "--rounds").nth(1).map_or(ROUNDS, |word| number(word));
    let start = Instant::now();
    let upstream = Subject::upstream();
    let mut missed = Vec::new();

    let first = (0..5).map(|_| Subject::fender(&upstream).first_answer).min().expect("five were started");
    let fender = Subject::fender(&upstream);
    let idle = fender.rss_mib();
    let streaming = fender.rss_while(|| load::spawn_stream(fender.address, "/52428800", 8));
    let (plain, lean) = (Subject::forwarder("plain", &upstream), Subject::forwarder("lean", &upstream));

    println!(
        "{rounds} rounds of {SLICE:?}, {CONNECTIONS} connections; CPU in us per request, latency in us\n"
    );
    println!("{:<12} {:<10} {:>8} {:>9} {:>8} {:>8} {:>7}", "", "", "CPU", "req/s", "p50", "p99", "ratio");
    for (name, path) in LOADS {
        let [over_plain, over_lean] = measure(name, path, rounds, [&upstream, &plain, &lean, &fender]);
        limit(&mut missed, &format!("{name}: CPU over plain"), over_plain, PLAIN_MAX);
        limit(&mut missed, &format!("{name}: CPU over lean"), over_lean, LEAN_MAX);
    }

    println!(
        "\nidle {idle:.1} MiB, first answer {first:?} after start, {streaming:.1} MiB while 8 x 50 MiB stream"
    );
    println!("took {:.0?}", start.elapsed());
    limit(&mut missed, "idle MiB", idle, IDLE_MAX_MIB);
    limit(&mut missed, "first answer ms", first.as_secs_f64() * 1e3, FIRST_ANSWER_MAX.as_secs_f64() * 1e3);
    limit(&mut missed, "MiB more while streaming", streaming - idle, GROWTH_MAX_MIB);

    for miss in &missed {
        println!("beyond the limit: {miss}");
    }
    if words.contains(&"--check") && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn limit(missed: &mut Vec<String>, what: &str, is: f64, most: f64) {
    if is > most {
        missed.push(format!("{what} is {is:.2}, at most {most:.2}"));
    }
}

/// Prints a row for each subject, each with Fender's CPU over its own (the median over the rounds); gives those ratios.
fn measure(name: &str, path: &str, rounds: usize, subjects: [&Subject; 4]) -> [f64; 2] {
    const NAMES: [&str; 4] = ["direct", "plain", "lean", "fender"];
    let mut figures: [Vec<Figures>; 4] = Default::default();
    for _ in 0..rounds {
        for (nth, (subject, figures)) in subjects.iter().zip(&mut figures).enumerate() {
            let before = subject.cpu();
            let mut figure = load::spawn(subject.address, path, CONNECTIONS, SLICE);
            figure.cpu = (nth > 0).then(|| (subject.cpu() - before).as_secs_f64() * 1e6 / figure.requests);
            figures.push(figure);
        }
    }
    let [_, plain, lean, own] = &figures;
    let over = |floor: &Vec<Figures>| {
        median(own.iter().zip(floor).filter_map(|(own, floor)| Some(own.cpu? / floor.cpu?)).collect())
    };
    let ratios = [over(plain), over(lean)];
    let shown = ["-".to_owned(), format!("{:.3}", ratios[0]), format!("{:.3}", ratios[1]), "1".to_owned()];
    for ((subject, figures), ratio) in NAMES.iter().zip(&figures).zip(shown) {
        let column = |of: fn(&Figures) -> f64| median(figures.iter().map(of).collect());
        let cpu = column(|f| f.cpu.unwrap_or_default());
        println!(
            "{name:<12} {subject:<10} {cpu:>8.2} {:>9.0} {:>8.0} {:>8.0} {ratio:>7}",
            column(|f| f.per_second),
            column(|f| f.p50),
            column(|f| f.p99)
        );
    }
    ratios
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
