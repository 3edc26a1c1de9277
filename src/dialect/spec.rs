//! A dialect's file: what may stand in it. The doc comments here are the descriptions of the JSON Schema.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::meaning::Scope;
use super::pattern::Pattern;
use super::stream::{Form, Kind};
use super::template::Template;
use super::values::{Expected, HeaderText, Host, MethodPath, PlaceAt, StatusSet, Texts};
use crate::policy::outcome::Outcome;
use crate::policy::told::WaitForm;
use crate::policy::verdict::Verdict;
use crate::units::{Size, Time, TimeOrOff};

/// How one API speaks.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// One line about it.
    pub about: String,
    /// The dialect that this one starts from: tables merge, all else replaces.
    pub extends: Option<String>,
    /// The hosts of URLs that `dialect = "auto"` takes for this API: `api.openai.com`, `*.openai.azure.com`.
    pub hosts: Vec<Host>,
    /// The most of an answer's body that is worth reading; by default 16KiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "Size")]
    pub max_body: Option<u64>,
    /// The header under which the API acts once; "" = none.
    pub idempotency_header: HeaderText,
    /// What may be sent twice without harm: `POST **/chat/completions`.
    pub repeatable: Vec<MethodPath>,
    /// Header fields that are credentials, beyond those that always are.
    pub masked_headers: Vec<HeaderText>,
    /// Paths that bear secrets, each at `{}`: `**/bot{}/**`.
    pub masked_paths: Vec<Pattern>,
    /// Query parameters that are secrets.
    pub masked_query: Vec<String>,
    /// Names for values of bodies and events, each with the JSON pointers where the value may stand.
    pub field: BTreeMap<String, Vec<String>>,
    /// What answers and error events mean; the first rule whose conditions hold decides, else what HTTP says.
    pub rule: Vec<RuleSpec>,
    /// How its event streams are read.
    pub stream: StreamSpec,
    /// Where a request names what matters.
    pub request: RequestSpec,
    /// What traces tell of calls of models.
    pub gen_ai: GenAiSpec,
    /// Fender's own answers.
    pub refusal: RefusalSpec,
    /// The answers to writes that are stored; the first one whose path fits.
    pub acceptance: Vec<AcceptanceSpec>,
}

/// One rule: conditions, which must all hold, and what follows.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleSpec {
    /// Statuses, or classes such as "5xx"; by default all failures: "4xx" and "5xx".
    pub status: Option<StatusSet>,
    /// Header fields: a value, a list of which one must stand there, or "*" for any.
    pub header: BTreeMap<String, Texts>,
    /// Values of the body, by JSON pointer or name: a value, a list of which one must stand there, or "*" for any but null and "".
    pub json: BTreeMap<String, Expected>,
    /// Texts of the body, by JSON pointer or name, that contain one of these, in small or capital letters.
    pub contains: BTreeMap<String, Texts>,
    /// What the answer is then.
    pub outcome: Option<OutcomeWord>,
    /// What the attempt did then; by default refused for throttled and quota, done for success and permanent, else ambiguous.
    pub verdict: Option<VerdictWord>,
    /// Whom a wait or a quota concerns.
    pub scope: Option<Scope>,
    /// Where the wait is told, beside the header fields that always are read.
    pub wait: Option<WaitSpec>,
}

/// A wait that a body tells.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaitSpec {
    /// The JSON pointer, or the name, of where it stands.
    pub json: Option<String>,
    /// How it is written.
    pub form: WaitForm,
    /// The wait where nothing tells one; 0s = none.
    #[serde(deserialize_with = "TimeOrOff::deserialize")]
    #[schemars(with = "TimeOrOff")]
    pub default: Option<Duration>,
}

/// How event streams are read.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSpec {
    /// Whether an event whose data is no JSON is malformed.
    pub json: bool,
    /// The forms of streams that tell their end.
    pub end_mark: Vec<Form>,
    /// What an event is that no entry names; by default content.
    pub otherwise: Option<Kind>,
    /// Where an error event tells a status (JSON pointers); one that tells none counts as 500.
    pub status: Vec<String>,
    /// What events are; the first entry whose conditions hold decides.
    pub event: Vec<EventSpec>,
}

/// One kind of event: conditions, which must all hold, and what follows.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventSpec {
    /// Names of events, as the field `event:` tells them.
    pub event: Option<Texts>,
    /// The whole data.
    pub data: Option<Texts>,
    /// As in a rule.
    pub json: BTreeMap<String, Expected>,
    /// As in a rule.
    pub contains: BTreeMap<String, Texts>,
    /// What the event is then.
    pub kind: Option<Kind>,
}

/// Where a request names what matters: JSON pointers (of a form-encoded body too), `query:NAME`, or `path:PATTERN` with `{}`.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestSpec {
    /// What orders it.
    pub order: Vec<PlaceAt>,
    /// Whom it is for.
    pub recipient: Vec<PlaceAt>,
    /// Which model it asks.
    pub model: Vec<PlaceAt>,
}

/// What traces tell of calls of models, in the words of OpenTelemetry. JSON pointers here have no `*` and name no array's items.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenAiSpec {
    /// `gen_ai.provider.name`; "" = this is no API of models.
    pub provider: String,
    /// Which calls are of models; the first one whose path fits.
    pub operation: Vec<OperationSpec>,
    /// Where an answer or an event names the model that answered.
    pub model: Vec<String>,
    /// Where one tells the tokens of the prompt; the last word counts.
    pub input_tokens: Vec<String>,
    /// Where one tells those of the answer; the last word counts.
    pub output_tokens: Vec<String>,
    /// Where one tells tokens of the prompt that were read from a cache, and that the API does not count among `input_tokens`: spans do.
    pub cache_read_tokens: Vec<String>,
    /// Likewise those that were written into one.
    pub cache_creation_tokens: Vec<String>,
    /// Where one tells tokens of the answer that were spent on thinking, and that the API does not count among `output_tokens`: spans do.
    pub reasoning_tokens: Vec<String>,
}

/// A call of a model.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OperationSpec {
    /// `gen_ai.operation.name`: `chat`, `text_completion`, `embeddings`, `generate_content`.
    pub name: String,
    /// The paths that it has.
    pub path: Vec<Pattern>,
}

/// Fender's own answers in the API's words.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefusalSpec {
    /// The content type; by default application/json.
    pub content_type: String,
    /// The body; "" = the generic answer.
    pub body: Template,
    /// The status by reason, or under `default`; else what Fender says.
    pub status: BTreeMap<String, u16>,
    /// More header fields.
    pub headers: BTreeMap<String, Template>,
    /// Words of the API's own by reason, or under `default`: each table is a name that templates may use.
    pub words: BTreeMap<String, BTreeMap<String, String>>,
    /// What is different when a wait is told. `retry-after` always bears it.
    pub waiting: WaitingSpec,
    /// A header field that keeps the API's clients from trying again when Fender has tried.
    pub given_up: BTreeMap<String, String>,
    /// The event that ends a stream (text/event-stream) that failed.
    pub event: ErrorEventSpec,
}

/// What is different when a wait is told.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaitingSpec {
    /// The body then.
    pub body: Option<Template>,
    /// The status then, unless Fender has tried already.
    pub status: Option<u16>,
    /// More header fields then.
    pub headers: BTreeMap<String, Template>,
    /// Header fields that ask the API's clients to try again, where they may.
    pub again: BTreeMap<String, String>,
    /// The longest wait that is told; a longer one is told as this, and nobody is asked to try again.
    #[serde(deserialize_with = "time")]
    #[schemars(with = "Time")]
    pub max: Option<Duration>,
}

/// The event that ends a stream that failed.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorEventSpec {
    /// Its name; "" = none.
    pub name: String,
    /// Its data; "" = there is no such event.
    pub data: Template,
}

/// The answer to a write that is stored.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AcceptanceSpec {
    /// The paths that it is for; by default all.
    pub path: Option<Pattern>,
    /// Its status; by default 200.
    pub status: Option<u16>,
    /// The content type; by default application/json, and none where there is no body.
    pub content_type: String,
    /// More header fields.
    pub headers: BTreeMap<String, Template>,
    /// Its body.
    pub body: Template,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeWord {
    /// It did what was asked.
    Success,
    /// Another try may fare better.
    Transient,
    /// It asks to wait.
    Throttled,
    /// A quota, a balance or a credential is used up.
    Quota,
    /// The caller's own fault.
    Permanent,
}

/// What an attempt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    /// The API says that it did not act.
    Refused,
    /// It may have acted.
    Ambiguous,
    /// It acted.
    Done,
}

impl From<OutcomeWord> for Outcome {
    fn from(word: OutcomeWord) -> Self {
        match word {
            OutcomeWord::Success => Self::Success,
            OutcomeWord::Transient => Self::Transient,
            OutcomeWord::Throttled => Self::Throttled,
            OutcomeWord::Quota => Self::Quota,
            OutcomeWord::Permanent => Self::Permanent,
        }
    }
}

impl From<VerdictWord> for Verdict {
    fn from(word: VerdictWord) -> Self {
        match word {
            VerdictWord::Refused => Self::Refused,
            VerdictWord::Ambiguous => Self::Ambiguous,
            VerdictWord::Done => Self::Done,
        }
    }
}

fn size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Size::deserialize(from).map(Some)
}

fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Time::deserialize(from).map(Some)
}
