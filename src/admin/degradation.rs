//! `/api/v1/degradation`: the level in force, by itself or by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Caller;
use super::call::{Call, Rule};
use super::given::Body;
use super::problem::No;
use super::state::Admin;
use super::view::LEVELS;
use crate::clock;
use crate::policy::degradation::Level;
use crate::units::{Time, format_duration};

pub(super) fn calls() -> Vec<Call> {
    const PATH: &str = "/api/v1/degradation";
    vec![
        Call::get(PATH, Rule::Viewer, "The level in force, and what brings it about", seen)
            .gives::<Degradation>(),
        Call::put(PATH, Rule::OperatorOfAll, "Sets the level by hand, for a while", set)
            .takes::<DegradationWanted>()
            .gives::<Degradation>(),
        Call::delete(PATH, Rule::OperatorOfAll, "Back to the automatic level", clear).gives::<Degradation>(),
        Call::get(
            "/health/degradation",
            Rule::OpenHere,
            "The level in force, and what brings it about",
            open,
        )
        .gives::<Degradation>(),
    ]
}

/// The degradation level.
#[derive(Debug, Serialize, JsonSchema)]
struct Degradation {
    /// In force.
    #[schemars(extend("enum" = LEVELS))]
    level: &'static str,
    /// 0 for normal to 4 for critical.
    number: u8,
    /// What the upstreams' health amounts to.
    #[schemars(extend("enum" = LEVELS))]
    automatic: &'static str,
    /// Null where the automatic level is in force.
    by_hand: Option<ByHand>,
    /// Those that the token sees.
    upstreams: Vec<Member>,
    /// The store takes no letters, which makes the level minor at least.
    store_unhealthy: bool,
}

/// A level that was set by hand.
#[derive(Debug, Serialize, JsonSchema)]
struct ByHand {
    #[schemars(extend("enum" = LEVELS))]
    level: &'static str,
    /// Why; told to a token of all upstreams, and to one with an upstream of its own that the level sheds.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The token's name; told to whom the reason is.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    since: String,
    until: String,
}

/// An upstream's part in it.
#[derive(Debug, Serialize, JsonSchema)]
struct Member {
    upstream: String,
    #[schemars(extend("enum" = ["low", "normal", "high"]))]
    criticality: &'static str,
    sick: bool,
    /// Its requests are shed from this level on.
    #[schemars(extend("enum" = ["off", "minor", "moderate", "severe", "critical"]))]
    shed_at: &'static str,
}

/// A level to be set by hand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DegradationWanted {
    level: Word,
    /// Why, for those who will wonder.
    #[serde(default)]
    #[schemars(length(max = REASON_MAX))]
    reason: String,
    /// For so long, an hour when left out; then the automatic level is back.
    r#for: Option<Span>,
}

/// A duration, as the config writes them.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = SPANS, "examples" = ["30m"]))]
struct Span(
    #[serde(with = "Time")]
    #[schemars(with = "String")]
    Duration,
);

/// One whole number and one unit, up to 30 days.
const SPANS: &str = "^([1-9][0-9]{0,8}ms|[1-9][0-9]{0,5}s|[1-9][0-9]{0,3}m|([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h|([1-9]|[12][0-9]|30)d)$";

/// A degradation level.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[schemars(rename = "Level")]
#[serde(rename_all = "lowercase")]
enum Word {
    Normal,
    Minor,
    Moderate,
    Severe,
    Critical,
}

/// A level that is set by hand is forgotten by whoever set it: it ends by itself.
const SPAN: Span = Span(Duration::from_secs(3600));

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Characters.
const REASON_MAX: usize = 500;

async fn seen(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>) -> Json<Degradation> {
    Json(told(&admin, Some(&caller)))
}

async fn open(State(admin): State<Arc<Admin>>) -> Json<Degradation> {
    Json(told(&admin, None))
}

async fn set(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<DegradationWanted>,
) -> Result<Json<Degradation>, No> {
    if wanted.reason.chars().count() > REASON_MAX {
        return Err(No::bad(format!("reason: at most {REASON_MAX} characters")));
    }
    let Span(span) = wanted.r#for.unwrap_or(SPAN);
    if span > LONGEST {
        return Err(No::bad("for: at most 30 days (720h)"));
    }
    let level = wanted.level.level();
    admin.degradation.set((level, &wanted.reason), caller.name(), span, clock::now());
    let which = format!("{} for {}: {:?}", level.as_str(), format_duration(span), wanted.reason);
    caller.audit("degradation.set", &which, true);
    Ok(Json(told(&admin, Some(&caller))))
}

async fn clear(State(admin): State<Arc<Admin>>, Extension(caller): Extension<Caller>) -> Json<Degradation> {
    admin.degradation.clear();
    caller.audit("degradation.clear", "", true);
    Json(told(&admin, Some(&caller)))
}

fn told(admin: &Admin, caller: Option<&Caller>) -> Degradation {
    let table = admin.table.load();
    let seen = table.upstreams().iter();
    let seen = seen.filter(|upstream| caller.is_none_or(|caller| caller.reaches(upstream.name())));
    let (automatic, by_hand) = admin.degradation.standing();
    let level = admin.degradation.level();
    let concerned = |level| caller.is_some_and(|caller| concerns(admin, caller, level));
    Degradation {
        level: level.as_str(),
        number: level.number(),
        automatic: automatic.as_str(),
        by_hand: by_hand.map(|set| ByHand {
            level: set.level.as_str(),
            reason: concerned(set.level).then_some(set.reason),
            who: concerned(set.level).then_some(set.who),
            since: clock::rfc3339(set.since_ms),
            until: clock::rfc3339(set.until_ms),
        }),
        upstreams: seen
            .map(|upstream| Member {
                upstream: upstream.name().to_owned(),
                criticality: upstream.settings().criticality.as_str(),
                sick: upstream.policies().sick(),
                shed_at: upstream.settings().shed_at.as_str(),
            })
            .collect(),
        store_unhealthy: admin.letters.as_ref().is_some_and(|store| !store.takes_letters()),
    }
}

/// Whether somebody's words about this level are for the caller: its token is of all, or the level sheds one of its upstreams. A reason
/// is written for all upstreams, and may name any.
pub(super) fn concerns(admin: &Admin, caller: &Caller, level: Level) -> bool {
    let table = admin.table.load();
    let mut own = table.upstreams().iter().filter(|upstream| caller.reaches(upstream.name()));
    caller.views_all() || own.any(|upstream| upstream.settings().shed_at.sheds(level))
}

impl Word {
    const fn level(self) -> Level {
        match self {
            Self::Normal => Level::Normal,
            Self::Minor => Level::Minor,
            Self::Moderate => Level::Moderate,
            Self::Severe => Level::Severe,
            Self::Critical => Level::Critical,
        }
    }
}
