//! The store's handle, as replays use it.

use super::Store;
use super::sealing;
use super::turns::{self, To};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Attempt, Because, Content, Due, Letter, Settled, State};
use crate::deadletter::query::StoreError;

/// So often letters whose key is missing step aside before who asks what is due asks again.
const STEPS_ASIDE: usize = 8;

impl Store {
    /// The letters of `upstream` that may be replayed now, highest priority first, then oldest; of each order key only the
    /// first, and none while one of its key is being sent. `hold`: a parked letter blocks what came after it under its key.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn due(
        &self,
        upstream: &str,
        hold: bool,
        now_ms: u64,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        if self.none(upstream, &[State::Pending]) {
            return Ok(Vec::new());
        }
        for _ in 0..STEPS_ASIDE {
            let upstream = upstream.to_owned();
            let found = self.read(move |conn, seals| {
                let found = turns::due(conn, &upstream, hold, now_ms, limit)?;
                let locked = |key: &str| key.parse().is_ok_and(|key| seals.keys.find(key).is_none());
                Ok(found.into_iter().partition::<Vec<_>, _>(|(_, key)| locked(key)))
            });
            let (locked, due) = found.await?;
            if locked.is_empty() || !due.is_empty() {
                return Ok(due.into_iter().map(|(due, _)| due).collect());
            }
            // Nothing but letters whose key is missing: they make way for those behind them, until it is back.
            let ids: Vec<LetterId> = locked.into_iter().map(|(due, _)| due.id).collect();
            self.write(0, move |work| sealing::step_aside(work, &ids)).await?;
        }
        Ok(Vec::new())
    }

    /// When the next letter of `upstream` comes due, in milliseconds since 1970, as far as time decides (a parked one may hold
    /// it); `None` if none waits for its time.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn next_due(&self, upstream: &str) -> Result<Option<u64>, StoreError> {
        if self.none(upstream, &[State::Pending]) {
            return Ok(None);
        }
        let upstream = upstream.to_owned();
        self.inner.hot.ask(move |conn| turns::next_due(conn, &upstream)).await
    }

    /// Whether a letter of this key is pending or sending, or, with `hold`, parked. Free while the upstream has none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn waiting(&self, upstream: &str, order_key: &str, hold: bool) -> Result<bool, StoreError> {
        let states: &[State] = if hold {
            &[State::Pending, State::Sending, State::Parked]
        } else {
            &[State::Pending, State::Sending]
        };
        if self.none(upstream, states) {
            return Ok(false);
        }
        let (upstream, key) = (upstream.to_owned(), order_key.to_owned());
        self.read(move |conn, seals| turns::waiting(conn, &upstream, &seals.order(&key), hold)).await
    }

    /// Pending -> sending, on disk; `None` if it is not pending any more, or not its key's turn. The future must be awaited to
    /// its end: a letter that is sending and is not settled stays so until the next start.
    ///
    /// # Errors
    /// `Damaged`: the letter is parked now. `Unavailable`, `Full`: it is pending.
    pub async fn begin(&self, id: LetterId, now_ms: u64) -> Result<Option<(Letter, Content)>, StoreError> {
        let Some(letter) = self.write(0, move |work| turns::begin(work, id, now_ms)).await? else {
            return Ok(None);
        };
        let error = match self.content_surely(id).await {
            Ok(content) => return Ok(Some((letter, content))),
            Err(error) => error,
        };
        let to = match error {
            StoreError::Damaged(_) => To::Parked(Because::Damaged),
            _ => To::Pending { next_attempt_at_ms: now_ms },
        };
        self.withdraw(id, to).await?;
        Err(error)
    }

    /// Signs of life of letters that are being sent.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn heartbeat(&self, ids: &[LetterId], now_ms: u64) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        self.write(0, move |work| turns::heartbeat(work, &ids, now_ms)).await
    }

    /// The end of a replay: sending -> delivered, pending or parked; one more in its trail and its count. Where space is short
    /// the trail does not grow: its oldest attempt gives way, and the new one is told without its words.
    ///
    /// # Errors
    /// `Unavailable`, `Full`: whether it is on disk is not known; ask again until it answers. `Standing` says then that it was.
    pub async fn settle(
        &self,
        id: LetterId,
        attempt: Attempt,
        settled: Settled,
    ) -> Result<Letter, StoreError> {
        self.write(0, move |work| turns::settle(work, id, &attempt, settled)).await
    }

    /// Sending -> pending, without an attempt counted: the breaker refused, or a pause is on. Waits for a store that ails.
    ///
    /// # Errors
    /// `Standing`, `NotFound`: it was not being sent. `Closed`.
    pub async fn postpone(&self, id: LetterId, next_attempt_at_ms: u64) -> Result<(), StoreError> {
        self.withdraw(id, To::Pending { next_attempt_at_ms }).await
    }

    /// The upstream is well again: letters that wait only for their own backoff come due, at most `limit`; how many there
    /// were.
    ///
    /// # Errors
    /// `Unavailable`, `Full`.
    pub async fn hasten(&self, upstream: &str, limit: u32) -> Result<u64, StoreError> {
        let upstream = upstream.to_owned();
        self.write(0, move |work| turns::hasten(work, &upstream, limit)).await
    }
}
