//! What captures do to the traffic beside them: a healthy upstream's answers while another's writes are all kept.

use std::time::Duration;

use crate::paced::Paced;
use crate::subject::{Subject, free};

const READS: u32 = 1000;
const WRITES: u32 = 1000;
const SLICE: Duration = Duration::from_secs(3);

/// The p99 of reads beside captures over that of reads alone, and over that beside as many writes that fail and are not kept: the
/// medians over the rounds. Prints a row for each.
pub(crate) fn measure(folder: &std::path::Path, rounds: usize) -> [f64; 2] {
    let upstream = Subject::upstream();
    let down = |name: &str, lines: &str| {
        // Nobody listens there; the breaker soon says so, and goes on saying so.
        format!(
            "[upstream.{name}]\nurl = \"http://127.0.0.1:9\"\nroute = \"/post/{}\"\nretry = {{ max_attempts = 1 }}\n\
             breaker = {{ open_for = \"1h\", max_open_for = \"1h\" }}\n{lines}\n",
            if name == "kept" { KEPT } else { REFUSED }
        )
    };
    let fender = Subject::fender_with(
        free(),
        &format!(
            "[dead_letter]\npath = {:?}\nmax_bytes = \"4GiB\"\n[upstream.bench]\nurl = \"http://{}\"\nroute = \"/\"\n{}{}",
            folder.join("beside.db"),
            upstream.address,
            down("kept", "dead_letter.mode = \"on_failure\""),
            down("refused", ""),
        ),
    );
    // Both breakers open now.
    for (path, status) in [(KEPT, "202"), (REFUSED, "50")] {
        Paced::spawn(fender.address, &format!("/post/{path}"), 100, status, SLICE / 10).end();
    }
    println!("\n{rounds} rounds of {SLICE:?}, {READS} GET/s of 1 KiB; latency in us");
    println!("{:<34} {:>8} {:>8} {:>8}", "", "reads", "p50", "p99");
    let arms = [
        ("alone", None),
        ("beside 1,000 POST/s refused", Some((REFUSED, "503"))),
        ("beside 1,000 POST/s kept", Some((KEPT, "202"))),
    ];
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for ((_, writes), figures) in arms.iter().zip(&mut figures) {
            let writes = writes.map(|(path, status)| {
                Paced::spawn(fender.address, &format!("/post/{path}"), WRITES, status, SLICE)
            });
            let reads = Paced::spawn(fender.address, "/1024", READS, "200", SLICE).end();
            if let Some([made, ..]) = writes.map(Paced::end) {
                let asked = f64::from(WRITES) * SLICE.as_secs_f64();
                assert!(made >= asked * 0.99, "only {made} of {asked} writes");
            }
            figures.push(reads);
        }
    }
    for ((name, _), figures) in arms.iter().zip(&figures) {
        let column = |nth: usize| median(figures.iter().map(|figures: &[f64; 3]| figures[nth]).collect());
        println!("{name:<34} {:>8.0} {:>8.0} {:>8.0}", column(0), column(1), column(2));
    }
    let [alone, refused, kept] = figures;
    let over = |floor: &Vec<[f64; 3]>| {
        median(kept.iter().zip(floor).map(|(kept, floor)| kept[2] / floor[2]).collect())
    };
    [over(&alone), over(&refused)]
}

/// Sizes of bodies, which are paths too.
const KEPT: u32 = 4096;
const REFUSED: u32 = 4097;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
