//! `/api/v1/report`: how each upstream has fared over a window.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Caller;
use super::call::{Call, Rule};
use super::given::Query;
use super::problem::No;
use super::state::Admin;
use crate::clock;
use crate::deadletter::State as Standing;
use crate::telemetry::history::{self, Figures, Known, LONGEST, SHORTEST};
use crate::units::parse_duration;

pub(super) fn calls() -> Vec<Call> {
    let about = "How each upstream has fared over a window, from kept counters";
    vec![Call::get("/api/v1/report", Rule::Viewer, about, report).asks::<Asked>().gives::<Report>()]
}

/// Which report is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The last so much time, from `5m` to `31d`; `24h` when left out.
    #[schemars(extend("pattern" = WINDOWS, "examples" = ["24h", "7d"]))]
    window: Option<String>,
}

/// One whole number and one unit, from five minutes to 31 days.
const WINDOWS: &str =
    "^(([5-9]|[1-9][0-9]{1,3})m|([1-9][0-9]?|[1-6][0-9]{2}|7[0-3][0-9]|74[0-4])h|([1-9]|[12][0-9]|3[01])d)$";

const WINDOW: &str = "24h";

/// A report.
#[derive(Debug, Serialize, JsonSchema)]
struct Report {
    /// As it was asked for.
    window: String,
    /// Its beginning, at which a bucket begins…
    from: String,
    /// …and its end: now.
    to: String,
    /// How wide the buckets are that it was read from.
    bucket_seconds: u64,
    /// For so much of it somebody has counted…
    covered_seconds: f64,
    /// …and so much is lacking: Fender did not run, or it has forgotten.
    lacking_seconds: f64,
    /// Where nobody has counted, or not all the time, as far as buckets tell.
    gaps: Vec<Gap>,
    /// When the oldest figures of all begin; null before there are any.
    since: Option<String>,
    /// `file`: it outlives the process, beside the store; `memory`: it does not.
    #[schemars(extend("enum" = ["file", "memory"]))]
    kept_in: &'static str,
    /// Those that the token sees: all of the config, and those that had traffic in the window and are gone since.
    upstreams: Vec<UpstreamReport>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Gap {
    from: String,
    to: String,
    /// So much of it is lacking: less than all where a bucket at its edge is known in part.
    lacking_seconds: f64,
}

/// One upstream in it.
#[derive(Debug, Serialize, JsonSchema)]
struct UpstreamReport {
    upstream: String,
    /// False: a reload has taken it away.
    configured: bool,
    /// Requests answered…
    requests: u64,
    /// …by whom…
    answered_by: AnsweredBy,
    /// …and with 429 or 5xx, whoever said so.
    failed: u64,
    /// Requests whose client hung up before an answer: in no other figure.
    cancelled: u64,
    /// The share of requests that did not fail, 0 to 1: what the application saw. Null without a request.
    availability: Option<f64>,
    /// Attempts that ended, replays of letters among them…
    attempts: u64,
    /// …and those that the upstream failed: transient, throttled, quota.
    attempts_failed: u64,
    /// The share of attempts that it did not fail: how the upstream itself fared. Null without an attempt.
    upstream_availability: Option<f64>,
    retries: u64,
    /// The share of attempts that were retries. Null without an attempt.
    retry_share: Option<f64>,
    /// For so long its breaker refused; of several the one that did so for longest.
    breaker_open_seconds: f64,
    /// How often a breaker of its opened.
    breaker_opened: u64,
    letters: LettersReport,
}

/// Requests, by who answered.
#[derive(Debug, Serialize, JsonSchema)]
struct AnsweredBy {
    upstream: u64,
    fallback: u64,
    fender: u64,
    dead_letter: u64,
}

/// Letters: in the window, and now.
#[derive(Debug, Serialize, JsonSchema)]
struct LettersReport {
    captured: u64,
    /// Writes that were to be stored and were not.
    refused: u64,
    delivered: u64,
    /// Those that wait or are being sent now.
    pending_now: u64,
    /// Those that wait for an operator now.
    parked_now: u64,
}

async fn report(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Json<Report>, No> {
    let said = asked.window.as_deref().unwrap_or(WINDOW);
    let window = window(said)?;
    let unix_ms = clock::unix_ms();
    // What has happened since the last look is in it too.
    admin.history.count(&admin.metrics, clock::now(), unix_ms);
    let known = admin.history.known(window, unix_ms);
    let seconds = |at: u64| clock::rfc3339(at.saturating_mul(1000));
    let lacking = Duration::from_secs(known.to - known.from).saturating_sub(known.covered);
    Ok(Json(Report {
        window: said.to_owned(),
        from: seconds(known.from),
        to: seconds(known.to),
        bucket_seconds: known.bucket.as_secs(),
        covered_seconds: known.covered.as_secs_f64(),
        lacking_seconds: lacking.as_secs_f64(),
        gaps: known.gaps.iter().map(gap).collect(),
        since: known.since.map(seconds),
        kept_in: if admin.history.is_kept() { "file" } else { "memory" },
        upstreams: upstreams(&admin, &caller, &known),
    }))
}

fn gap(gap: &history::Gap) -> Gap {
    let seconds = |at: u64| clock::rfc3339(at.saturating_mul(1000));
    Gap { from: seconds(gap.from), to: seconds(gap.to), lacking_seconds: gap.lacking.as_secs_f64() }
}

fn window(text: &str) -> Result<Duration, No> {
    let why = "window: a whole number and m, h or d, from 5m to 31d, such as 24h";
    let window = parse_duration(text).map_err(|_| No::bad(why))?;
    if (SHORTEST..=LONGEST).contains(&window) { Ok(window) } else { Err(No::bad(why)) }
}

fn upstreams(admin: &Admin, caller: &Caller, known: &Known) -> Vec<UpstreamReport> {
    let table = admin.table.load();
    let configured = table.upstreams().iter().map(|upstream| (upstream.name(), true));
    let mut names: BTreeMap<&str, bool> = known.upstreams.keys().map(|name| (&**name, false)).collect();
    names.extend(configured);
    names.retain(|name, _| caller.reaches(name));
    let of = |(name, configured): (&str, bool)| {
        let figures = known.upstreams.get(name).copied().unwrap_or_default();
        UpstreamReport::new(name, configured, &figures, admin)
    };
    names.into_iter().map(of).collect()
}

impl UpstreamReport {
    fn new(name: &str, configured: bool, figures: &Figures, admin: &Admin) -> Self {
        let requests = figures.requests();
        let (failed, attempts) = (u64::from(figures.failed), u64::from(figures.attempts));
        let attempts_failed = u64::from(figures.attempts_failed);
        let retries = u64::from(figures.retries);
        let [upstream, fallback, fender, dead_letter] = figures.answered.map(u64::from);
        let now = admin.letters.as_ref().map(crate::deadletter::Store::figures);
        let count = |state| now.as_ref().map_or(0, |now| now.count(name, state));
        Self {
            upstream: name.to_owned(),
            configured,
            requests,
            answered_by: AnsweredBy { upstream, fallback, fender, dead_letter },
            failed,
            cancelled: figures.cancelled.into(),
            availability: share(requests.saturating_sub(failed), requests),
            attempts,
            attempts_failed,
            upstream_availability: share(attempts.saturating_sub(attempts_failed), attempts),
            retries,
            // A retry is counted when it is begun, an attempt when it has ended.
            retry_share: share(retries.min(attempts), attempts),
            breaker_open_seconds: Duration::from_millis(figures.open_ms.into()).as_secs_f64(),
            breaker_opened: figures.opened.into(),
            letters: LettersReport {
                captured: figures.captured.into(),
                refused: figures.refused.into(),
                delivered: figures.delivered.into(),
                pending_now: count(Standing::Pending) + count(Standing::Sending),
                parked_now: count(Standing::Parked),
            },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
