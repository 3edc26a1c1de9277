//! Letters as the API shows them, and the questions about them as it is asked.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use http_body::Frame;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::auth::Caller;
use crate::clock;
use crate::deadletter::{
    Cursor, Exported, Figures, Filter, LetterId, Sealing, State, Stats, Store, StoreError, Told,
};
use crate::policy::reason::Reason;
use crate::policy::told;

/// A query string's, or a bulk call's, words for a filter.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked<N = u32> {
    /// In this state.
    #[schemars(extend("enum" = words_or_null(State::ALL.map(State::as_str))))]
    state: Option<String>,
    /// Of this upstream.
    upstream: Option<String>,
    /// Of this order key.
    key: Option<String>,
    /// Captured for this reason.
    #[schemars(extend("enum" = words_or_null(Reason::ALL.map(Reason::as_str))))]
    reason: Option<String>,
    /// Captured at or after this time: RFC 3339, or milliseconds since 1970.
    #[schemars(extend("pattern" = MOMENT))]
    since: Option<String>,
    /// Captured before this time.
    #[schemars(extend("pattern" = MOMENT))]
    until: Option<String>,
    /// At most so many: of a list 100 when left out, and 1,000 in any case.
    #[schemars(extend("maximum" = u32::MAX))]
    pub(super) limit: Option<N>,
    /// Where the next page begins, as the last one told it.
    #[schemars(extend("pattern" = "^[0-9a-f]{1,12}-[0-7][0-9a-hjkmnp-tv-z]{25}$"))]
    cursor: Option<String>,
}

fn words_or_null(words: impl IntoIterator<Item = &'static str>) -> Vec<Option<&'static str>> {
    words.into_iter().map(Some).chain([None]).collect()
}

/// What is surely a time; that of a letter's capture, so in this age.
const MOMENT: &str = r"^([0-9]{1,15}|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]))$";

impl<N> Default for Asked<N> {
    fn default() -> Self {
        Self {
            state: None,
            upstream: None,
            key: None,
            reason: None,
            since: None,
            until: None,
            limit: None,
            cursor: None,
        }
    }
}

impl<N: Into<u32>> Asked<N> {
    /// The filter, within what the caller may see; the limit and the cursor.
    pub(super) fn read(self, caller: &Caller) -> Result<(Filter, Option<u32>, Option<Cursor>), String> {
        let state = match self.state {
            None => None,
            Some(word) => Some(State::of(&word).ok_or_else(|| format!("{word:?} is no state of a letter"))?),
        };
        let reason = match self.reason {
            None => None,
            Some(word) => Some(Reason::of(&word).ok_or_else(|| format!("{word:?} is no reason"))?),
        };
        let cursor = match self.cursor {
            None => None,
            Some(text) => Some(text.parse::<Cursor>().map_err(|error| error.to_string())?),
        };
        let filter = Filter {
            state,
            upstream: self.upstream,
            upstreams: caller.upstreams().map(<[String]>::to_vec),
            key: self.key,
            reason,
            since_ms: self.since.as_deref().map(moment).transpose()?,
            until_ms: self.until.as_deref().map(moment).transpose()?,
        };
        Ok((filter, self.limit.map(Into::into), cursor))
    }
}

/// A whole number in JSON, which knows one kind of number: 10.0 is 10.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(transparent)]
pub(super) struct Whole(#[schemars(range(max = 4_294_967_295_u32))] u32);

impl From<Whole> for u32 {
    fn from(Whole(number): Whole) -> Self {
        number
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?;
        if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
            return Err(D::Error::custom("must be a whole number, not above 4294967295"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is whole and within bounds"
        )]
        Ok(Self(number as u32))
    }
}

/// A time as RFC 3339, or as milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    if let Ok(milliseconds) = text.parse() {
        return Ok(milliseconds);
    }
    let parsed = told::rfc3339::parse(text).and_then(|since| u64::try_from(since.as_millis()).ok());
    parsed.ok_or_else(|| format!("{text:?} is no time: RFC 3339, or milliseconds since 1970"))
}

/// Letters by state: all states.
type ByState = BTreeMap<&'static str, u64>;

/// The log in figures.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatsTold {
    by_state: ByState,
    by_upstream: BTreeMap<String, ByState>,
    attempts: AttemptsTold,
    /// How long a replay took, on average.
    avg_duration_ms: f64,
    /// When the oldest pending letter was captured; null without one.
    oldest_at: Option<String>,
    recent_failures: Vec<FailureTold>,
    /// Letters by the key that they are sealed with at rest; empty for who does not see all upstreams.
    keys: Vec<KeyTold>,
}

/// How many letters hang on a key.
#[derive(Debug, Serialize, JsonSchema)]
struct KeyTold {
    /// The key's id, derived one way from it; null for letters in the clear.
    key: Option<String>,
    /// clear: in none; current: it is written with; old: it is read with; missing: it is not configured.
    #[schemars(extend("enum" = Sealing::ALL.map(Sealing::as_str)))]
    sealing: &'static str,
    letters: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AttemptsTold {
    avg: f64,
    max: u64,
}

/// An attempt that failed.
#[derive(Debug, Serialize, JsonSchema)]
struct FailureTold {
    id: String,
    upstream: String,
    at: String,
    outcome: &'static str,
    status: Option<u16>,
    error: Option<String>,
}

pub(super) fn stats(stats: &Stats) -> StatsTold {
    let words = |states: &BTreeMap<State, u64>| -> ByState {
        states.iter().map(|(state, count)| (state.as_str(), *count)).collect()
    };
    let failures = stats.recent_failures.iter().map(|failure| FailureTold {
        id: failure.id.to_string(),
        upstream: failure.upstream.clone(),
        at: clock::rfc3339_ms(failure.at_ms),
        outcome: failure.outcome.as_str(),
        status: failure.status,
        error: failure.error.clone(),
    });
    StatsTold {
        by_state: words(&stats.by_state()),
        by_upstream: stats.by_upstream.iter().map(|(name, states)| (name.clone(), words(states))).collect(),
        attempts: AttemptsTold { avg: stats.attempts_avg, max: stats.attempts_max },
        avg_duration_ms: stats.avg_duration_ms,
        oldest_at: stats.oldest_at_ms.map(clock::rfc3339_ms),
        recent_failures: failures.collect(),
        keys: stats
            .keys
            .iter()
            .map(|found| KeyTold {
                key: found.key.map(|key| key.to_string()),
                sealing: found.sealing.as_str(),
                letters: found.letters,
            })
            .collect(),
    }
}

/// The log in figures that are known without looking into the file.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct LetterFigures {
    /// False: no upstream's writes are kept, and nothing else is told.
    enabled: bool,
    /// False while the file cannot be written; it is tried again each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    healthy: Option<bool>,
    /// True while captures are refused for want of space.
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<bool>,
    /// What the store occupies on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by_state: ByState,
    /// When the oldest pending letter was captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at: Option<String>,
}

/// Of the letters that the caller sees; of all of them where there is none.
pub(super) fn figures(figures: &Figures, caller: Option<&Caller>) -> LetterFigures {
    let seen = |upstream: &str| caller.is_none_or(|caller| caller.reaches(upstream));
    let count = |state| {
        let own = figures.letters.iter().filter(|(upstream, _)| seen(upstream));
        own.filter_map(|(_, states)| states.get(&state)).sum()
    };
    let oldest = figures.oldest_pending_ms.iter().filter(|(upstream, _)| seen(upstream)).map(|(_, at)| *at);
    LetterFigures {
        enabled: true,
        healthy: Some(figures.healthy),
        full: Some(figures.full),
        bytes: Some(figures.bytes),
        by_state: State::ALL.into_iter().map(|state| (state.as_str(), count(state))).collect(),
        oldest_at: oldest.min().map(clock::rfc3339_ms),
    }
}

/// A page of letters.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Letters {
    pub(super) letters: Vec<Told>,
    /// The cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// What a bulk call did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// The ids of the letters that it did it to.
    pub(super) done: Vec<String>,
    pub(super) failed: Vec<NotDone>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NotDone {
    pub(super) id: String,
    pub(super) error: String,
}

/// What a purge did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Purged {
    pub(super) purged: u64,
}

/// What a look at all letters found.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Verified {
    pub(super) letters: u64,
    /// The ids of those that cannot be read any more.
    pub(super) damaged: Vec<String>,
    /// What is wrong with the file itself.
    pub(super) file: Vec<String>,
    /// Letters that could not be looked into, by the id of the key that they are sealed with, which is not configured.
    pub(super) locked: BTreeMap<String, u64>,
}

/// What an import did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TakenIn {
    /// The ids of the letters that are new here.
    pub(super) done: Vec<String>,
    /// Lines of letters that were here already.
    pub(super) already: u64,
    pub(super) failed: Vec<NotTakenIn>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NotTakenIn {
    pub(super) line: usize,
    pub(super) error: String,
}

/// An export on its way out: the next page is read when the last one has been taken.
pub(super) struct Lines {
    store: Store,
    filter: Filter,
    page: Option<Paging>,
    after: Option<LetterId>,
    begun: bool,
}

type Paging = Pin<Box<dyn Future<Output = Result<Exported, StoreError>> + Send>>;

/// All letters that `filter` means.
pub(super) const fn lines(store: Store, filter: Filter) -> Lines {
    Lines { store, filter, page: None, after: None, begun: false }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        loop {
            let page = match &mut this.page {
                Some(page) => page,
                None if this.begun && this.after.is_none() => return Poll::Ready(None),
                None => {
                    this.begun = true;
                    let (store, filter, after) = (this.store.clone(), this.filter.clone(), this.after);
                    this.page.insert(Box::pin(async move { store.export(filter, after).await }))
                }
            };
            let exported = ready!(page.as_mut().poll(cx));
            this.page = None;
            let exported = match exported {
                Ok(exported) => exported,
                Err(error) => return Poll::Ready(Some(Err(Box::new(error)))), // A cut that the reader sees.
            };
            this.after = exported.next;
            if exported.lines.is_empty() {
                continue;
            }
            let mut text = exported.lines.join("\n");
            text.push('\n');
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))));
        }
    }
}
