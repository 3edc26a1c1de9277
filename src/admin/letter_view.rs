//! Letters as the API shows them, and the questions about them as it is asked.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use http_body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Caller;
use crate::clock;
use crate::deadletter::{Cursor, Exported, Figures, Filter, LetterId, State, Stats, Store, StoreError};
use crate::policy::reason::Reason;
use crate::policy::told;

/// A query string's, or a bulk call's, words for a filter.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    state: Option<String>,
    upstream: Option<String>,
    key: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    until: Option<String>,
    pub(super) limit: Option<u32>,
    cursor: Option<String>,
}

impl Asked {
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
        Ok((filter, self.limit, cursor))
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

/// The log in figures.
pub(super) fn stats(stats: &Stats) -> Value {
    let words = |states: &std::collections::BTreeMap<State, u64>| -> Value {
        states.iter().map(|(state, count)| (state.as_str().to_owned(), json!(count))).collect()
    };
    let by_upstream: Value =
        stats.by_upstream.iter().map(|(name, states)| (name.clone(), words(states))).collect();
    let failures: Vec<Value> = stats
        .recent_failures
        .iter()
        .map(|failure| {
            json!({
                "id": failure.id.to_string(),
                "upstream": failure.upstream,
                "at": clock::rfc3339_ms(failure.at_ms),
                "outcome": failure.outcome.as_str(),
                "status": failure.status,
                "error": failure.error,
            })
        })
        .collect();
    json!({
        "by_state": words(&stats.by_state()),
        "by_upstream": by_upstream,
        "attempts": { "avg": stats.attempts_avg, "max": stats.attempts_max },
        "avg_duration_ms": stats.avg_duration_ms,
        "oldest_at": stats.oldest_at_ms.map(clock::rfc3339_ms),
        "recent_failures": failures,
    })
}

/// What is known without looking into the file.
pub(super) fn figures(figures: &Figures) -> Value {
    let by_state: Value = State::ALL
        .into_iter()
        .map(|state| (state.as_str().to_owned(), json!(figures.total(state))))
        .collect();
    json!({
        "enabled": true,
        "healthy": figures.healthy,
        "full": figures.full,
        "bytes": figures.bytes,
        "by_state": by_state,
        "oldest_at": figures.oldest_pending_ms.values().min().map(|at| clock::rfc3339_ms(*at)),
    })
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
