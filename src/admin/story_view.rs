//! A story as it is told: what was noted of the request, what the store says of its letter, and who owns the write now.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::auth::Caller;
use super::owner::{Owner, owner};
use crate::clock;
use crate::config::{Origins, SetBy, without_secrets};
use crate::deadletter::{Because, Letter, State};
use crate::policy::reason::Reason;
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
struct Line {
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

/// What the store says of the letter.
#[derive(Debug, Serialize, JsonSchema)]
struct LetterTold {
    id: String,
    /// Null: the store does not have it any more, or cannot say.
    #[schemars(extend("enum" = ["pending", "sending", "delivered", "parked", "discarded", null]))]
    state: Option<&'static str>,
    parked_because: Option<&'static str>,
    created_at: Option<String>,
    next_attempt_at: Option<String>,
    updated_at: Option<String>,
    /// The line of the config for which it waits for an operator, if it does.
    parked_by: Option<Line>,
    /// What was tried of it, oldest first, without what the request's own steps tell.
    attempts: Vec<Replay>,
    /// What else happened to it, as far as the last events of the process still tell.
    events: Vec<Happened>,
}

/// What an operator did with a letter, or what became of it.
#[derive(Debug, Serialize, JsonSchema)]
struct Happened {
    at: String,
    /// Since the request came; of a letter alone, since it was stored.
    at_ms: i64,
    /// As in the events: `letter.replayed` and `letter.discarded` by an operator, `letter.delivered`, `letter.parked`.
    event: String,
    /// The operator's token, by its name.
    who: Option<String>,
    because: Option<String>,
}

/// One attempt at a letter.
#[derive(Debug, Serialize, JsonSchema)]
struct Replay {
    at: String,
    /// Since the request came; of a letter alone, since it was stored.
    at_ms: i64,
    outcome: &'static str,
    status: Option<u16>,
    error: Option<String>,
    duration_ms: u64,
    /// Where the process still knows it: under which id its own story is told, what it did upstream, and where.
    request_id: Option<String>,
    verdict: Option<&'static str>,
    endpoint: Option<String>,
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
            Some(letter) => around.letter(letter, story.began_unix_ms, end_ms, Some(&id)),
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
        verdict: Some(letter.verdict.as_str()),
        duration_ms: None,
        owner,
        decided_by: around.line(&letter.upstream, &letter.route, key),
        config_reloaded_at: None,
        steps: Vec::new(),
        left_out: 0,
        letter: Some(around.letter(letter, letter.created_at_ms, 0, None)),
    }
}

/// The key of the config for which a letter waits for an operator, if it is the config that says so.
fn parking(letter: &Letter) -> Option<&'static str> {
    if letter.state != State::Parked {
        return None;
    }
    Some(match letter.parked_because? {
        Because::Ambiguous => "dead_letter.replay.ambiguous",
        Because::Credential => "dead_letter.credentials",
        Because::Attempts => "dead_letter.replay.max_attempts",
        Because::Expired => "dead_letter.replay.expire_after",
        Because::Unanswered | Because::Permanent | Because::Damaged | Because::Operator => return None,
    })
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
    fn line(&self, upstream: &str, route: &str, key: &str) -> Option<Line> {
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

impl Around<'_> {
    /// It `began` then; until `told_ms`, and of the turn of the story's `own` id, the story's steps tell what was tried.
    fn letter(&self, letter: &Letter, began: u64, told_ms: u64, own: Option<&str>) -> LetterTold {
        let mut replays = self.replays(letter, began, told_ms);
        replays.retain(|replay| own.is_none() || replay.request_id.as_deref() != own);
        LetterTold {
            id: letter.id.to_string(),
            state: Some(letter.state.as_str()),
            parked_because: letter.parked_because.map(Because::as_str),
            created_at: Some(clock::rfc3339_ms(letter.created_at_ms)),
            next_attempt_at: letter.next_attempt_at_ms.map(clock::rfc3339_ms),
            updated_at: Some(clock::rfc3339_ms(letter.updated_at_ms)),
            parked_by: parking(letter).and_then(|key| self.line(&letter.upstream, &letter.route, key)),
            attempts: replays,
            events: self.events(letter, began),
        }
    }

    fn replays(&self, letter: &Letter, began: u64, told_ms: u64) -> Vec<Replay> {
        let turns = self.feed.stories().replays_of(&letter.id.to_string());
        let mut before = 0;
        let mut replays = Vec::new();
        for attempt in letter.attempts.iter().filter(|attempt| attempt.at_ms > told_ms) {
            // A letter is never sent twice at once: of its turns the one that has ended last before this was put down.
            let own = turns.iter().rev().find(|turn| turn.ended_unix_ms() <= attempt.at_ms + ROUNDED_MS);
            let own = own.filter(|turn| turn.began_unix_ms + ROUNDED_MS >= before);
            let line = own.and_then(|turn| turn.attempts.last());
            before = attempt.at_ms;
            replays.push(Replay {
                at: clock::rfc3339_ms(attempt.at_ms),
                at_ms: since(began, attempt.at_ms),
                outcome: attempt.outcome.as_str(),
                status: attempt.status,
                error: attempt.error.clone(),
                duration_ms: attempt.duration_ms,
                request_id: own.map(|turn| format!("{:032x}", turn.id)),
                verdict: line.and_then(|line| line.verdict),
                endpoint: line.and_then(|line| line.endpoint.clone()),
            });
        }
        replays
    }

    fn events(&self, letter: &Letter, began: u64) -> Vec<Happened> {
        let events = self.feed.about_letter(&letter.id.to_string());
        let told = events.into_iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(&entry.text).ok()?;
            let word = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
            // How it was made the request's own steps tell.
            word("request_id").is_none().then(|| Happened {
                at: clock::rfc3339_ms(entry.at_ms),
                at_ms: since(began, entry.at_ms),
                event: entry.kind.to_owned(),
                who: word("who"),
                because: word("because"),
            })
        });
        told.collect()
    }
}

/// Milliseconds from then until then.
const fn since(began: u64, at: u64) -> i64 {
    at.cast_signed().saturating_sub(began.cast_signed())
}

/// Two clocks are read, and rounded.
const ROUNDED_MS: u64 = 2;

impl LetterTold {
    fn gone(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: None,
            parked_because: None,
            created_at: None,
            next_attempt_at: None,
            updated_at: None,
            parked_by: None,
            attempts: Vec::new(),
            events: Vec::new(),
        }
    }
}
