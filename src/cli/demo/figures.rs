//! What the clients saw, and the table that tells it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Latencies that are kept for each upstream; later ones replace earlier ones.
const LATENCIES_MAX: usize = 16 * 1024;

/// One answer, as a client saw it.
pub(super) struct Answer {
    pub(super) status: u16,
    /// `fender-reason`: Fender answered itself.
    pub(super) reason: Option<String>,
    /// Who took care of it where the upstream did not.
    pub(super) instead: Instead,
    /// `fender-attempts`.
    pub(super) attempts: u64,
    pub(super) took: Duration,
}

/// Who took care of a request instead of its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    Nothing,
    /// `fender-fallback`: somebody else answered.
    FellBack,
    /// `fender-letter`: it is kept, and delivered later.
    Kept,
}

/// All answers so far.
pub(super) struct Figures {
    upstreams: Mutex<Vec<Upstream>>,
}

#[derive(Default)]
struct Upstream {
    name: &'static str,
    requests: u64,
    attempts: u64,
    fine: u64,
    failed_upstream: u64,
    fell_back: u64,
    kept: u64,
    by_fender: BTreeMap<String, u64>,
    latencies: Vec<Duration>,
}

impl Figures {
    pub(super) fn new<const N: usize>(names: [&'static str; N]) -> Self {
        Self { upstreams: Mutex::new(names.map(|name| Upstream { name, ..Upstream::default() }).into()) }
    }

    pub(super) fn add(&self, upstream: usize, answer: &Answer) {
        let mut upstreams = self.locked();
        let Some(upstream) = upstreams.get_mut(upstream) else { return };
        upstream.requests += 1;
        upstream.attempts += answer.attempts;
        match &answer.reason {
            Some(_) if answer.instead == Instead::FellBack => upstream.fell_back += 1,
            Some(_) if answer.instead == Instead::Kept => upstream.kept += 1,
            Some(reason) => *upstream.by_fender.entry(reason.clone()).or_default() += 1,
            None if answer.status < 500 => upstream.fine += 1,
            None => upstream.failed_upstream += 1,
        }
        let at = usize::try_from(upstream.requests).unwrap_or(0) % LATENCIES_MAX;
        match upstream.latencies.get_mut(at) {
            Some(place) => *place = answer.took,
            None => upstream.latencies.push(answer.took),
        }
    }

    /// One line, drawn over the last one.
    pub(super) fn line(&self, passed: Duration) -> String {
        let upstreams = self.locked();
        let total = |count: fn(&Upstream) -> u64| upstreams.iter().map(count).sum::<u64>();
        format!(
            "\r\x1b[K{:>4} s   {} requests   {} fine   {} by fallback   {} kept   {} failed",
            passed.as_secs(),
            total(|upstream| upstream.requests),
            total(|upstream| upstream.fine),
            total(|upstream| upstream.fell_back),
            total(|upstream| upstream.kept),
            total(|upstream| upstream.failed_upstream + upstream.answered_by_fender()),
        )
    }

    /// The table at the end.
    pub(super) fn summary(&self, passed: Duration) -> String {
        let mut text = format!(
            "after {:.1} s\n\n{:<10} {:>9} {:>9} {:>7} {:>9} {:>7} {:>7} {:>8} {:>8}   {}\n",
            passed.as_secs_f64(),
            "upstream",
            "requests",
            "attempts",
            "fine",
            "fallback",
            "kept",
            "failed",
            "p50 ms",
            "p99 ms",
            "reasons"
        );
        for upstream in self.locked().iter_mut() {
            upstream.latencies.sort_unstable();
            let reasons: Vec<String> =
                upstream.by_fender.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            text.push_str(&format!(
                "{:<10} {:>9} {:>9} {:>7} {:>9} {:>7} {:>7} {:>8.1} {:>8.1}   {}\n",
                upstream.name,
                upstream.requests,
                upstream.attempts,
                upstream.fine,
                upstream.fell_back,
                upstream.kept,
                upstream.failed_upstream + upstream.answered_by_fender(),
                upstream.quantile(0.50),
                upstream.quantile(0.99),
                reasons.join(", ")
            ));
        }
        text
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Upstream>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    fn answered_by_fender(&self) -> u64 {
        self.by_fender.values().sum()
    }

    /// In milliseconds; the latencies are sorted.
    fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of an index is an index"
        )]
        let at = (last as f64 * share) as usize;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}
