//! `/api/v1/requests/{id}`: the story of one request, or of one letter.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State as Shared};
use axum::http::StatusCode;

use super::auth::Caller;
use super::call::{Call, Rule};
use super::problem::No;
use super::state::Admin;
use super::story_view::{Around, Told, told};
use crate::clock;
use crate::deadletter::{Letter, LetterId, State as Standing, StoreError};
use crate::policy::breaker::State;
use crate::telemetry::story::{Story, span};

pub(super) fn calls() -> Vec<Call> {
    let about = "What was decided about one request, or about the write of one letter, and by which line of the config";
    vec![Call::get("/api/v1/requests/{id}", Rule::Viewer, about, one).gives::<Told>().fails(&[404])]
}

async fn one(
    Shared(admin): Shared<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Told>, No> {
    let stories = admin.feed.stories();
    let (story, letter) = match id.parse::<LetterId>() {
        Ok(letter) => (stories.of_letter(&id), Some(letter)),
        Err(_) => {
            let story = request_id(&id).and_then(|id| stories.find(id));
            let letter = story.as_ref().and_then(|story| story.letter()?.parse().ok());
            (story, letter)
        }
    };
    let story = story.filter(|story| reaches(&caller, story));
    let mut silent = false;
    let letter = match (letter, &admin.letters) {
        (Some(letter), Some(store)) => match store.letter(letter).await {
            Ok(letter) => Some(letter),
            Err(error) => {
                silent = !matches!(error, StoreError::NotFound(_));
                None
            }
        },
        _ => None,
    };
    let letter = letter.filter(|letter: &Letter| caller.reaches(&letter.upstream));
    if story.is_none() && letter.is_none() {
        if silent && caller.upstreams().is_none() {
            let why = "the store cannot say just now what became of that letter";
            return Err(No::Because(StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
        }
        return Err(No::missing(missing(&admin)));
    }
    let config = admin.config.load();
    let held_up = letter.as_ref().and_then(|letter| held_up(&admin, letter));
    let around = Around {
        caller: &caller,
        origins: &config.origins,
        config_since_ms: config.loaded_unix_ms,
        held_up: held_up.as_deref(),
        store_is_silent: silent,
        feed: &admin.feed,
    };
    told(story.as_deref(), letter.as_ref(), &around).map(Json).ok_or_else(|| No::missing(missing(&admin)))
}

/// The newest story that `holds`, as whoever has the process itself may see it.
pub(crate) fn newest(admin: &Admin, holds: impl Fn(&Story) -> bool) -> Option<serde_json::Value> {
    let story = admin.feed.stories().newest(holds)?;
    let config = admin.config.load();
    let around = Around {
        caller: &Caller::with_the_file(),
        origins: &config.origins,
        config_since_ms: config.loaded_unix_ms,
        held_up: None,
        store_is_silent: false,
        feed: &admin.feed,
    };
    serde_json::to_value(told(Some(&story), None, &around)?).ok()
}

/// What stands between a pending letter and its next try, beside the time.
fn held_up(admin: &Admin, letter: &Letter) -> Option<String> {
    if letter.state != Standing::Pending {
        return None;
    }
    let table = admin.table.load();
    let Some(upstream) = table.upstreams().iter().find(|upstream| upstream.name() == letter.upstream) else {
        return Some("the config in force has no such upstream".to_owned());
    };
    let policies = upstream.policies();
    let (paused, longest) = policies.pauses().standing(clock::now());
    if !upstream.settings().dead_letter.replay.enabled {
        Some("dead_letter.replay.enabled is false".to_owned())
    } else if matches!(policies.breaker().worst(), State::Open | State::ForcedOpen) {
        Some("the breaker is open".to_owned())
    } else {
        (paused > 0).then(|| format!("the upstream has asked to wait, {} more", span(longest)))
    }
}

/// What no upstream has to do with is for those who see all.
fn reaches(caller: &Caller, story: &Story) -> bool {
    if story.upstream.is_empty() { caller.upstreams().is_none() } else { caller.reaches(&story.upstream) }
}

/// A request's id, exactly as it was told.
fn request_id(text: &str) -> Option<u128> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 32 || !text.bytes().all(digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// The same for what never was, what is gone and what is another's.
fn missing(admin: &Admin) -> String {
    let held = admin.feed.stories().held();
    let since =
        held.since_ms.map_or_else(String::new, |at| format!(", the oldest of {}", clock::rfc3339(at)));
    format!(
        "no story of that id: kept are the last requests that were no plain successes, in a bounded ring \
         ({} of them now{since}), and letters as long as the store has them",
        held.stories
    )
}
