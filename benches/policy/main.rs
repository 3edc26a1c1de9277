//! What a decision costs, as in service (behind its lock, with its metrics): in nanoseconds of one thread that is alone, and
//! of eight threads on one upstream (wall time over all decisions of all threads). Then what a refusal by an open breaker costs
//! the client of a running Fender, and the upstream. `--check` holds the limits.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench stops at once, and its table is what it is for"
)]

mod dialect;
mod refusal;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use fender::config::{Upstream, load_text};
use fender::memory::Memory;
use fender::policy::judge::{Judged, Meaning};
use fender::policy::retry::Asking;
use fender::policy::told;
use fender::telemetry::feed::Feed;
use fender::telemetry::metrics::Metrics;
use fender::upstream::policies::Policies;

const DECISIONS: u32 = 1_000_000;
const THREADS: usize = 8;

/// A closed breaker, asked and told, by one thread.
const BREAKER_MAX_NS: f64 = 100.0;
const REFUSAL_MAX: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut missed = Vec::new();
    println!("{DECISIONS} decisions a thread, the best of five runs\n");
    println!("{:<44} {:>10} {:>10}", "ns a decision", "1 thread", "8 threads");
    let breaker = of_the_breaker();
    of_the_rest();
    let (event, head) = dialect::measure();
    if event > dialect::EVENT_MAX_NS {
        missed.push(format!("an event costs {event:.1} ns, at most {}", dialect::EVENT_MAX_NS));
    }
    if head > dialect::HEAD_MAX_NS {
        missed.push(format!("a head costs {head:.1} ns, at most {}", dialect::HEAD_MAX_NS));
    }
    if breaker > BREAKER_MAX_NS {
        missed.push(format!("a closed breaker costs {breaker:.1} ns, at most {BREAKER_MAX_NS}"));
    }
    let refusal = refusal::measure();
    if refusal > REFUSAL_MAX {
        missed.push(format!("a refusal takes {refusal:?}, at most {REFUSAL_MAX:?}"));
    }
    for miss in &missed {
        println!("beyond the limit: {miss}");
    }
    if check && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One upstream's policies, with what `toml` sets.
fn policies(toml: &str) -> (Arc<Policies>, Upstream) {
    let text = format!("[upstream.a]\nurl = 'http://a'\nroute = '/'\n{toml}");
    let loaded = load_text("bench.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = loaded.config.upstream.get("a").expect("it is there").clone();
    let metrics = Metrics::new().expect("each metric has a name of its own");
    (Policies::new("a", &settings, &metrics, &Feed::new(&Memory::new(0))), settings)
}

/// A row: `decide` is given the decision's number and a time that goes on by a microsecond each. Answers one thread's figure.
fn row<T>(name: &str, decide: impl Fn(u32, Instant) -> T + Sync) -> f64 {
    let best = |threads: usize| {
        let runs = (0..5).map(|_| {
            let start = Barrier::new(threads);
            let (start, decide) = (&start, &decide);
            let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
                let deciding: Vec<_> =
                    (0..threads).map(|_| scope.spawn(move || decisions(start, decide))).collect();
                deciding.into_iter().map(|deciding| deciding.join().expect("no decision panics")).collect()
            });
            let (first, last) =
                (spans.iter().map(|span| span.0).min(), spans.iter().map(|span| span.1).max());
            first.zip(last).map(|(first, last)| last - first).unwrap_or_default()
        });
        let least = runs.min().unwrap_or_default();
        least.as_secs_f64() * 1e9 / f64::from(DECISIONS) / threads as f64
    };
    let (one, eight) = (best(1), best(THREADS));
    println!("{name:<44} {one:>10.1} {eight:>10.1}");
    one
}

/// One thread's decisions: from when to when.
fn decisions<T>(start: &Barrier, decide: impl Fn(u32, Instant) -> T) -> (Instant, Instant) {
    start.wait();
    let begun = Instant::now();
    let mut now = begun;
    for number in 0..DECISIONS {
        now += Duration::from_micros(1);
        black_box(decide(number, now));
    }
    (begun, Instant::now())
}

fn of_the_breaker() -> f64 {
    let (closed, _) = policies("");
    let one = row("breaker, closed: ask and tell", |_, now| {
        closed.breaker().ask(None, now).expect("it is closed").succeeded(false, now);
    });
    let (counts, _) = policies("breaker = { window_requests = 100 }");
    row("breaker, closed, a window of requests", |_, now| {
        counts.breaker().ask(None, now).expect("it is closed").succeeded(false, now);
    });
    row("breaker, closed, one of 64 keys", |number, now| {
        let key = Some(u64::from(number % 64));
        closed.breaker().ask(key, now).expect("it is closed").succeeded(false, now);
    });
    row("breaker, closed: would it refuse", |_, now| closed.breaker().would_refuse(None, now));
    let (open, _) = policies("breaker = { open_for = '1h', max_open_for = '1h' }");
    open.breaker().health_down(Instant::now());
    row("breaker, open: refused", |_, now| open.breaker().ask(None, now).is_err());
    one
}

fn of_the_rest() {
    let (of, settings) = policies(
        "[[upstream.a.rate_limit]]\nrequests = 1000000\nper = '1s'\nburst = 100000\nkey = 'header:x'\n",
    );
    row("budget: paid", |_, now| of.paid(now));
    row("budget: paid, and one retry of five taken", |number, now| {
        of.paid(now);
        if number % 5 == 0 {
            let _granted = of.take_retry(now);
        }
    });
    row("rate limit: one bucket", |_, now| of.limits().ask(&[7], now).is_ok());
    row("rate limit: one of 64 buckets", |number, now| {
        of.limits().ask(&[u64::from(number % 64)], now).is_ok()
    });
    row("pause: no one ever paused", |_, _| of.pauses().any());
    let begun = Instant::now();
    of.pauses().told(1, Duration::from_nanos(1), Duration::from_secs(1), begun);
    row("pause: of two scopes one was", |number, now| of.pauses().ask(u64::from(number % 2), now));
    row("seat: taken and left", |_, _| of.bulkhead().try_enter());
    let retry = &settings.retry;
    row("backoff", |number, _| retry.backoff.wait(number % 8, Duration::from_millis(100), 0.5));
    let fields = [("retry-after", "120"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")];
    let field = |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
    row("told wait: seconds", |_, _| told::told(&field, Duration::from_secs(1)));
    let dated = |name: &str| (name == "retry-after").then_some("Sun, 06 Nov 1994 08:49:37 GMT");
    row("told wait: a date", |_, _| told::told(&dated, Duration::from_secs(1)));
    let lists = [&retry.on[..], &settings.breaker.failures[..]];
    row("judge: an answer of 200", |_, _| {
        Judged::answer(black_box(200), Meaning::by_status(black_box(200), None, false), &lists)
    });
    row("judge: an answer of 503, and who names it", |_, _| {
        let ended = Judged::answer(black_box(503), Meaning::by_status(black_box(503), None, false), &lists);
        (ended.is_named_by(&retry.on), ended.is_named_by(&settings.breaker.failures))
    });
    let ended = Judged::answer(503, Meaning::by_status(503, None, false), &lists);
    let asking = Asking {
        ended,
        attempts: 1,
        resend: true,
        replayable: true,
        opted_out: false,
        took: Duration::from_millis(10),
        left: Duration::from_secs(60),
        previous: Duration::ZERO,
        breaker_refuses: false,
    };
    row("retry: decided, with its budget", |_, now| {
        retry.decide(&asking, 0.5, || of.take_retry(now).is_ok())
    });
}
