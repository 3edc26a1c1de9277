//! A story as it is told: what was noted of the request, what the store says of its letter, and who owns the write now.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::auth::Caller;
use super::letter_story::{LetterTold, parking};
use super::owner::{Owner, owner};
use crate::clock;
use crate::config::{Origins, SetBy, without_secrets};
use crate::deadletter::{Because, Letter, State};
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;
use crate::telemetry::feed::Feed;
use crate::telemetry::story::{Fact, Step, Story, ms};

/// What was decided about one request, in order.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Told {
    /// The request's `fender-request-id`; null: of a letter, whose request is not known any more.
    id: Option<String>,
    /// When it came; of a letter alone, when it was stored.
    at: String,
    /// Where its route leads; "" where no route matched.
    upstream: String,
    route: String,
    method: String,
    /// Without its query, and masked as in the access log.
    path: String,
    /// What the client heard; 499 where it hung up.
    status: Option<u16>,
    /// `upstream`, `fallback`, `fender` or `dead_letter`.
    source: Option<&'static str>,
    /// `fender-reason`.
    reason: Option<&'static str>,
    /// `complete`, `failed`, `cut` or `cancelled`.
    end: Option<&'static str>,
    /// What the attempts did upstream; null: nothing was sent.
    verdict: Option<&'static str>,
    /// From its first byte to the last of its answer.
    duration_ms: Option<f64>,
    /// Who owns the write now.
    owner: Owner,
    /// The line of the config that decided, if one did.
    decided_by: Option<Line>,
    /// The config was read again since, at this time: the lines are those of the one in force now.
    config_reloaded_at: Option<String>,
    steps: Vec<StepTold>,
    /// So many steps of the middle were not kept.
    left_out: u32,
    /// The letter that was made of it.
    letter: Option<LetterTold>,
}

/// A key of the config, and who set it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Line {
    /// As it stands in the file.
    key: String,
    /// Its value; secrets are hidden.
    value: Option<String>,
    /// `fender.toml:12:1`, or `defaults`, `preset ai`, `profile testing`; null: the config in force has no such upstream.
    set_by: Option<String>,
}

/// One thing that was decided or came about.
#[derive(Debug, Serialize, JsonSchema)]
struct StepTold {
    /// Since the request came.
    at_ms: f64,
    /// `route`, `probe`, `attempt`, `breaker`, `retry`, `no_retry`, `refused`, `paused`, `waited`, `fallback`, `no_fallback`,
    /// `letter`, `no_letter`, `replay`, `failed`, `cut`, `hung_up`.
    kind: &'static str,
    /// Another upstream than the route's, to which a fallback has turned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// One line for a person.
    says: String,
    /// The figures in it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    figures: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Line>,
}

/// What a story is told with.
pub(super) struct Around<'a> {
    pub(super) caller: &'a Caller,
    pub(super) origins: &'a Origins,
    pub(super) config_since_ms: u64,
    /// What stands between a pending letter and its next try, beside the time.
    pub(super) held_up: Option<&'a str>,
    /// The store could not be asked for the letter.
    pub(super) store_is_silent: bool,
    /// The last events, and the stories of the letter's turns.
    pub(super) feed: &'a Feed,
}

/// What is told; `None`: there is neither a story nor a letter.
pub(super) fn told(story: Option<&Story>, letter: Option<&Letter>, around: &Around<'_>) -> Option<Told> {
    let mut owner = owner(story, letter, around.store_is_silent);
    if let Some(why) = around.held_up {
        owner.why.push_str(&format!("; held up meanwhile: {why}"));
    }
    match story {
        Some(story) => Some(of_story(story, letter, owner, around)),
        None => Some(of_letter(letter?, owner, around)),
    }
}

fn of_story(story: &Story, letter: Option<&Letter>, owner: Owner, around: &Around<'_>) -> Told {
    let ended = story.ended.as_ref();
    let (id, end_ms) = (format!("{:032x}", story.id), story.ended_unix_ms());
    let line = |upstream: &str, route: &str, key: &str| around.line(upstream, route, key);
    let mut steps = Vec::with_capacity(story.steps.len() + 1);
    if !story.upstream.is_empty() {
        steps.push(StepTold {
            at_ms: 0.0,
            kind: "route",
            upstream: None,
            says: format!("{}, to upstream {}", story.route, story.upstream),
            figures: Map::new(),
            config: None,
        });
    }
    steps.extend(story.steps.iter().map(|step| around.step(story, step)));
    Told {
        id: Some(id.clone()),
        at: clock::rfc3339_ms(story.began_unix_ms),
        upstream: story.upstream.clone(),
        route: story.route.clone(),
        method: story.method.clone(),
        path: if story.upstream.is_empty() { without_secrets(&story.path) } else { story.path.clone() },
        status: ended.map(|ended| ended.status),
        source: ended.map(|ended| ended.source),
        reason: ended.and_then(|ended| ended.reason).map(Reason::as_str),
        end: ended.map(|ended| ended.how),
        verdict: story.verdict(),
        duration_ms: ended.map(|ended| ms(ended.took)),
        owner,
        decided_by: deciding(story)
            .filter(|step| around.sees(step))
            .and_then(|step| line(place(story, step).0, place(story, step).1, &step.fact.key()?)),
        config_reloaded_at: (around.config_since_ms > end_ms)
            .then(|| clock::rfc3339_ms(around.config_since_ms)),
        steps,
        left_out: story.left_out,
        letter: story.letter().map(|made| match letter {
            Some(letter) => {
                // What was tried of a letter that was there before its own steps do not tell.
                let told_ms = if story.made().is_some() { end_ms } else { 0 };
                around.letter(letter, story.began_unix_ms, told_ms, Some(&id))
            }
            None => LetterTold::gone(made),
        }),
    }
}

fn of_letter(letter: &Letter, owner: Owner, around: &Around<'_>) -> Told {
    let key = parking(letter).unwrap_or("dead_letter.mode");
    Told {
        id: None,
        at: clock::rfc3339_ms(letter.created_at_ms),
        upstream: letter.upstream.clone(),
        route: letter.route.clone(),
        method: letter.method.clone(),
        path: letter.path.split(['?', '#']).next().unwrap_or_default().to_owned(),
        status: None,
        source: None,
        reason: letter.reason.map(Reason::as_str),
        end: None,
        verdict: Some(verdict(letter).as_str()),
        duration_ms: None,
        owner,
        decided_by: around.line(&letter.upstream, &letter.route, key),
        config_reloaded_at: None,
        steps: Vec::new(),
        left_out: 0,
        letter: Some(around.letter(letter, letter.created_at_ms, 0, None)),
    }
}

/// What its attempts did upstream, as far as its state tells more than what was known when it was stored.
fn verdict(letter: &Letter) -> Verdict {
    match (letter.state, letter.parked_because) {
        (State::Delivered, _) => Verdict::Done,
        (State::Parked, Some(Because::Ambiguous)) => Verdict::Ambiguous,
        _ => letter.verdict,
    }
}

/// Which step settled it: the fallback that answered, the time that ran out, what the letter waits for; else the last one that
/// decided by the config.
fn deciding(story: &Story) -> Option<&Step> {
    let reason = story.ended.as_ref().and_then(|ended| ended.reason);
    let fell_back = story.ended.as_ref().is_some_and(|ended| ended.source == "fallback");
    let of_time = matches!(reason, Some(Reason::Timeout | Reason::FirstContent));
    let last = |holds: &dyn Fn(&Fact) -> bool| story.steps.iter().rev().find(|step| holds(&step.fact));
    let timed = last(&|fact| matches!(fact, Fact::Sent { limit: Some(_), .. })).filter(|_| of_time);
    let kept = matches!(reason, Some(Reason::Credential | Reason::Ambiguous));
    let stored = last(&|fact| matches!(fact, Fact::Kept { .. })).filter(|_| kept);
    let instead = last(&|fact| matches!(fact, Fact::FellBack { .. })).filter(|_| fell_back);
    // What was decided at another upstream, which did not answer either, is not why the client heard what it heard.
    let decides = |step: &&Step| step.fact.decides() && (fell_back || step.elsewhere.is_none());
    let deciding = || story.steps.iter().rev().find(decides);
    instead.or(timed).or(stored).or_else(deciding).filter(|step| step.fact.key().is_some())
}

/// Upstream and route under which a step was decided.
fn place<'s>(story: &'s Story, step: &'s Step) -> (&'s str, &'s str) {
    step.elsewhere.as_deref().map_or((&story.upstream, &story.route), |elsewhere| (elsewhere, ""))
}

impl Around<'_> {
    pub(super) fn line(&self, upstream: &str, route: &str, key: &str) -> Option<Line> {
        Some(match self.origins.of(upstream, route, key) {
            Some(SetBy { key, value, set_by }) => Line {
                key: key.to_string(),
                value: (!value.is_empty()).then(|| value.to_string()),
                set_by: Some(set_by.to_string()),
            },
            None => Line { key: format!("upstream.{upstream}.{key}"), value: None, set_by: None },
        })
    }

    /// Whether the token reaches where the step was decided.
    fn sees(&self, step: &Step) -> bool {
        step.elsewhere.as_deref().is_none_or(|elsewhere| self.caller.reaches(elsewhere))
    }

    fn step(&self, story: &Story, step: &Step) -> StepTold {
        let (at_ms, kind) = (ms(step.at), step.fact.kind());
        let to_another = match &step.fact {
            Fact::FellBack { to: Some(to), .. } | Fact::NoFallback { to: Some(to), .. } => {
                !self.caller.reaches(to)
            }
            _ => false,
        };
        if !self.sees(step) || to_another {
            let says = "at an upstream that the token does not reach".to_owned();
            return StepTold { at_ms, kind, upstream: None, says, figures: Map::new(), config: None };
        }
        let (upstream, route) = place(story, step);
        StepTold {
            at_ms,
            kind,
            upstream: step.elsewhere.as_deref().map(str::to_owned),
            says: step.fact.says(story),
            figures: step.fact.figures(story),
            config: step.fact.key().and_then(|key| self.line(upstream, route, &key)),
        }
    }
}
