//! `/api/v1/breakers`: what they stand at, and an operator's word to them.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Caller;
use super::call::{Call, Rule};
use super::given::Query;
use super::problem::No;
use super::state::Admin;
use super::view::Breaker;
use crate::clock;
use crate::upstream::Upstream;
use crate::upstream::breaker::BreakerCell;

pub(super) fn calls() -> Vec<Call> {
    const ONE: &str = "/api/v1/breakers/{name}";
    let word = |path, about, say| {
        let handler = move |state: Here, caller: Who, name: Path<String>, query: Query<Which>| async move {
            act(state, caller, name, query, say)
        };
        Call::post(path, Rule::Operator, about, handler)
            .asks::<Which>()
            .gives::<UpstreamBreakers>()
            .fails(&[404, 409])
    };
    vec![
        Call::get("/api/v1/breakers", Rule::Viewer, "All breakers that the token sees", list)
            .gives::<Breakers>(),
        Call::get(ONE, Rule::Viewer, "The breakers of one upstream", one)
            .gives::<UpstreamBreakers>()
            .fails(&[404]),
        word(
            "/api/v1/breakers/{name}/reset",
            "Closes them, with nothing counted; a forced one decides by itself again",
            Word { name: "breaker.reset", say: BreakerCell::reset },
        ),
        word(
            "/api/v1/breakers/{name}/force-open",
            "They refuse every request until another word",
            Word { name: "breaker.force_open", say: BreakerCell::force_open },
        ),
        word(
            "/api/v1/breakers/{name}/force-close",
            "They refuse nothing until another word",
            Word { name: "breaker.force_close", say: BreakerCell::force_close },
        ),
        word(
            "/api/v1/breakers/{name}/auto",
            "Forced ones decide by themselves again, from closed",
            Word { name: "breaker.auto", say: BreakerCell::auto },
        ),
    ]
}

type Here = State<Arc<Admin>>;
type Who = Extension<Caller>;

/// Breakers.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Breakers {
    pub(super) breakers: Vec<Breaker>,
}

/// An upstream's breakers.
#[derive(Debug, Serialize, JsonSchema)]
struct UpstreamBreakers {
    /// Its own.
    #[serde(flatten)]
    own: Breaker,
    /// Those of its routes that have one.
    routes: Vec<Breaker>,
}

/// Which of an upstream's breakers are meant.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// That of this route; "" for the upstream's own. All of them when left out.
    route: Option<String>,
}

/// An operator's word.
#[derive(Clone, Copy)]
struct Word {
    name: &'static str,
    say: fn(&BreakerCell, Instant),
}

async fn list(State(admin): Here, Extension(caller): Who) -> Json<Breakers> {
    let now = clock::now();
    let table = admin.table.load();
    let seen = table.upstreams().iter().filter(|upstream| caller.reaches(upstream.name()));
    Json(Breakers { breakers: seen.flat_map(|upstream| Breaker::all(upstream, now)).collect() })
}

async fn one(
    State(admin): Here,
    Extension(caller): Who,
    Path(name): Path<String>,
) -> Result<Json<UpstreamBreakers>, No> {
    Ok(Json(of(&*admin.upstream(&caller, &name)?)))
}

fn act(
    State(admin): Here,
    Extension(caller): Who,
    Path(name): Path<String>,
    Query(Which { route }): Query<Which>,
    word: Word,
) -> Result<Json<UpstreamBreakers>, No> {
    let upstream = admin.upstream(&caller, &name)?;
    let cells = upstream.policies().breakers();
    let meant = cells.iter().filter(|cell| route.as_ref().is_none_or(|route| cell.route() == route));
    let which = route.as_ref().map_or_else(|| name.clone(), |route| format!("{name} route {route:?}"));
    let said = say(word, &meant.collect::<Vec<_>>());
    caller.audit(word.name, &which, said.is_ok());
    said?;
    Ok(Json(of(&upstream)))
}

/// A word that would not be obeyed is not taken.
fn say(word: Word, cells: &[&Arc<BreakerCell>]) -> Result<(), No> {
    if cells.is_empty() {
        return Err(No::missing("no such route of this upstream has a breaker of its own"));
    }
    let modes: Vec<(bool, bool)> = cells.iter().map(|cell| cell.modes()).collect();
    if modes.iter().all(|(enabled, _)| !enabled) {
        return Err(No::conflict("the breaker is switched off (breaker.enabled = false): it obeys no word"));
    }
    if modes.iter().all(|(enabled, observe)| !enabled || *observe) {
        return Err(No::conflict("the breaker only observes (breaker.observe = true): it refuses nothing"));
    }
    let now = clock::now();
    cells.iter().for_each(|cell| (word.say)(cell, now));
    Ok(())
}

fn of(upstream: &Upstream) -> UpstreamBreakers {
    let now = clock::now();
    let own = Breaker::of(upstream, upstream.policies().breaker(), now);
    let cells = upstream.policies().breakers();
    let routes = cells.iter().filter(|cell| !cell.route().is_empty());
    UpstreamBreakers { own, routes: routes.map(|cell| Breaker::of(upstream, cell, now)).collect() }
}
