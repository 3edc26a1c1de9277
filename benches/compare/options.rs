//! What the command line asks for.

use std::time::Duration;

/// How a comparison is run.
pub(crate) struct Options {
    cases: Vec<String>,
    peers: Vec<String>,
    pub(crate) rounds: usize,
    /// How long one subject is loaded in one round.
    pub(crate) slice: Duration,
    pub(crate) write: bool,
    pub(crate) check: bool,
}

pub(crate) const USAGE: &str = "\
just compare [--case A,B] [--peers A,B] [--rounds N] [--slice 700ms] [--check] [--write]
  cases: get1k post4k get64k get1m fresh conns1 conns2 conns8 latency onecore memory start sse routes
  peers: fender nginx haproxy envoy splice lean plain
  --check  fails when a must is missed
  --write  writes benches/RESULTS.md; takes all cases
just instructions [--write]  counts instructions a request, under callgrind";

pub(crate) const CASES: &[&str] = &[
    "get1k", "post4k", "get64k", "get1m", "fresh", "conns1", "conns2", "conns8", "latency", "onecore",
    "memory", "start", "sse", "routes",
];

impl Options {
    pub(crate) fn read(words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            cases: Vec::new(),
            peers: Vec::new(),
            rounds: 7,
            slice: Duration::from_millis(700),
            write: false,
            check: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} lacks its value"));
            match *word {
                "--case" | "--cases" => options.cases = list(value()?),
                "--peers" => options.peers = list(value()?),
                "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds takes a number")?,
                "--slice" => {
                    let millis = value()?.strip_suffix("ms").and_then(|millis| millis.parse().ok());
                    options.slice = Duration::from_millis(millis.ok_or("--slice takes milliseconds: 700ms")?);
                }
                "--check" => options.check = true,
                "--write" => options.write = true,
                _ => return Err(format!("{word} is not known")),
            }
        }
        if let Some(case) = options.cases.iter().find(|case| !CASES.contains(&case.as_str())) {
            return Err(format!("{case} is no case"));
        }
        if options.rounds == 0 || options.slice.is_zero() {
            return Err("nothing can be measured in no time".to_owned());
        }
        if options.write && !(options.cases.is_empty() && options.peers.is_empty()) {
            return Err("--write takes all cases and all peers".to_owned());
        }
        Ok(options)
    }

    pub(crate) fn wants_case(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| wanted == case)
    }

    pub(crate) fn wants_peer(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == peer)
    }

    /// The peers that were asked for by name.
    pub(crate) fn named_peers(&self) -> &[String] {
        &self.peers
    }
}

fn list(words: &str) -> Vec<String> {
    words.split(',').map(str::to_owned).collect()
}
