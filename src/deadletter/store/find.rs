//! Questions about many letters: pages by key, never a count over rows.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::cells::{small, text, text_if_any};
use super::rows::{self, COLUMNS, Found, int, uint};
use super::sealing::{self, Seals};
use super::trail;
use super::trouble::Trouble;
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Letter, State};
use crate::deadletter::query::{Cursor, Failure, Filter, Page, Stats};
use crate::deadletter::seal::Bound;
use crate::policy::outcome::Outcome;

/// The most letters on a page.
pub(super) const PAGE_MAX: u32 = 1000;

/// A filter as SQL: what must hold, and the values for its question marks.
struct Terms {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Terms {
    fn of(filter: &Filter, seals: &Seals) -> Self {
        let Filter { state, upstream, upstreams, key, reason, since_ms, until_ms } = filter;
        let mut terms = Self { sql: Vec::new(), values: Vec::new() };
        let time = |ms: &u64| Value::from(int(*ms));
        terms.add("l.state = ?", state.map(|state| state.as_str().to_owned().into()));
        terms.add("l.upstream = ?", upstream.clone().map(Value::from));
        terms.add("l.order_key = ?", key.as_ref().map(|key| seals.order(key).into()));
        terms.add("l.reason = ?", reason.map(|reason| reason.as_str().to_owned().into()));
        terms.add("l.created_at >= ?", since_ms.as_ref().map(time));
        terms.add("l.created_at < ?", until_ms.as_ref().map(time));
        if let Some(upstreams) = upstreams {
            let marks = vec!["?"; upstreams.len()].join(", ");
            terms.sql.push(format!("l.upstream IN ({marks})"));
            terms.values.extend(upstreams.iter().cloned().map(Value::from));
        }
        terms
    }

    fn add(&mut self, sql: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.sql.push(sql.to_owned());
            self.values.push(value);
        }
    }

    fn conditions(&self) -> String {
        if self.sql.is_empty() { "1".to_owned() } else { self.sql.join(" AND ") }
    }
}

/// A page of letters with their trails, newest first. `rare`: so few are in the state asked for that sorting them is cheaper
/// than looking for them in order.
pub(super) fn page(
    conn: &Connection,
    filter: &Filter,
    (limit, cursor): (u32, Option<Cursor>),
    rare: bool,
    seals: &Seals,
) -> Result<Page, Trouble> {
    let limit = usize::try_from(limit.clamp(1, PAGE_MAX)).unwrap_or(1);
    let mut terms = Terms::of(filter, seals);
    if let Some(cursor) = cursor {
        terms.sql.push("(l.created_at, l.id) < (?, ?)".to_owned());
        terms.values.extend([int(cursor.created_at_ms).into(), cursor.id.to_string().into()]);
    }
    // A key leads to few letters; else the list's index holds all that is asked about.
    let index = match (&filter.key, filter.state) {
        (Some(_), _) => "",
        (None, Some(_)) if rare => "INDEXED BY standing",
        _ => "INDEXED BY listed",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM letters AS l {index} WHERE {} ORDER BY l.created_at DESC, l.id DESC LIMIT {}",
        terms.conditions(),
        limit + 1
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(terms.values), Found::read)?;
    let mut letters: Vec<Found> = found.collect::<Result<_, _>>()?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let mut page = Page { letters: Vec::with_capacity(letters.len()), next: None };
    for found in letters {
        page.letters.push(rows::whole(conn, found, seals)?);
    }
    page.next = page.letters.last().filter(|_| more).map(Cursor::of);
    Ok(page)
}

impl Cursor {
    fn of(letter: &Letter) -> Self {
        Self { created_at_ms: letter.created_at_ms, id: letter.id }
    }
}

/// Letters in the order of their capture, from after `after` on; opened.
pub(super) fn from_oldest(
    conn: &Connection,
    filter: &Filter,
    after: Option<LetterId>,
    limit: u32,
    seals: &Seals,
) -> Result<Vec<Found>, Trouble> {
    let mut terms = Terms::of(filter, seals);
    terms.add("l.id > ?", after.map(|id| id.to_string().into()));
    let sql = format!(
        "SELECT {COLUMNS} FROM letters AS l WHERE {} ORDER BY l.id LIMIT {limit}",
        terms.conditions()
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(terms.values), Found::read)?;
    Ok(found.map(|found| found.map(|found| found.open(seals))).collect::<Result<_, _>>()?)
}

/// Letters by upstream and state, from the counters; all states of each upstream that ever had a letter.
pub(super) fn counts(conn: &Connection) -> Result<BTreeMap<String, BTreeMap<State, u64>>, Trouble> {
    let mut counts: BTreeMap<String, BTreeMap<State, u64>> = BTreeMap::new();
    let mut statement = conn.prepare_cached("SELECT upstream, state, letters FROM counts")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(state) = State::of(&text(row, 1)?) else { continue };
        let zeros = || State::ALL.into_iter().map(|state| (state, 0)).collect();
        counts.entry(text(row, 0)?).or_insert_with(zeros).insert(state, uint(row.get(2)?));
    }
    Ok(counts)
}

/// When the oldest pending letter of each upstream was captured.
pub(super) fn oldest_pending(conn: &Connection) -> Result<BTreeMap<String, u64>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT upstream, (SELECT min(created_at) FROM letters AS l INDEXED BY oldest \
         WHERE l.upstream = c.upstream AND l.state = 'pending') FROM counts AS c WHERE state = 'pending' AND letters > 0",
    )?;
    let mut oldest = BTreeMap::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(at) = row.get::<_, Option<i64>>(1)? {
            oldest.insert(text(row, 0)?, uint(at));
        }
    }
    Ok(oldest)
}

/// The store in numbers, over the upstreams that the filter allows.
pub(super) fn stats(conn: &Connection, filter: &Filter, seals: &Seals) -> Result<Stats, Trouble> {
    let allowed = |name: &str| {
        filter.upstream.as_deref().is_none_or(|only| only == name)
            && filter.upstreams.as_ref().is_none_or(|some| some.iter().any(|one| one == name))
    };
    let mut stats = Stats { by_upstream: counts(conn)?, ..Stats::default() };
    stats.by_upstream.retain(|name, _| allowed(name));
    stats.oldest_at_ms =
        oldest_pending(conn)?.into_iter().filter(|(name, _)| allowed(name)).map(|(_, at)| at).min();

    let (mut letters, mut attempts, mut spent_ms) = (0.0, 0.0, 0.0);
    let mut statement =
        conn.prepare_cached("SELECT upstream, trail, letters FROM trail_lengths WHERE letters > 0")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if allowed(&text(row, 0)?) {
            stats.attempts_max = stats.attempts_max.max(uint(row.get(1)?));
            letters += row.get::<_, f64>(2)?;
        }
    }
    let mut statement = conn.prepare_cached("SELECT upstream, attempts, duration_ms FROM spent")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if allowed(&text(row, 0)?) {
            attempts += row.get::<_, f64>(1)?;
            spent_ms += row.get::<_, f64>(2)?;
        }
    }
    let over = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
    stats.attempts_avg = over(attempts, letters);
    stats.avg_duration_ms = over(spent_ms, attempts);
    stats.recent_failures = recent_failures(conn, allowed, seals)?;
    if filter.upstreams.is_none() && filter.upstream.is_none() {
        stats.keys = sealing::figures(conn, &seals.keys)?;
    }
    Ok(stats)
}

/// So far back failures are looked for.
const LOOKED_AT: u32 = 2000;
const FAILURES: usize = 20;

fn recent_failures(
    conn: &Connection,
    allowed: impl Fn(&str) -> bool,
    seals: &Seals,
) -> Result<Vec<Failure>, Trouble> {
    let mut statement = conn.prepare_cached(
        "SELECT l.id, l.upstream, a.at, a.outcome, a.status, a.error, a.sealed, l.method FROM \
         (SELECT * FROM attempts ORDER BY a DESC LIMIT ?1) AS a JOIN letters AS l ON l.n = a.n \
         WHERE a.outcome <> 'success' ORDER BY a.a DESC",
    )?;
    let mut failures = Vec::new();
    let mut found = statement.query([LOOKED_AT])?;
    while let Some(row) = found.next()? {
        if failures.len() == FAILURES {
            break;
        }
        let upstream = text(row, 1)?;
        if allowed(&upstream) {
            let id = rows::id(row, 0)?;
            let mut error = text_if_any(row, 5)?;
            if let Some(sealed) = row.get_ref(6)?.as_blob_or_null()? {
                let method = text(row, 7)?;
                let of = Bound { id: Some(id), upstream: &upstream, method: &method };
                error = trail::words(seals, of, sealed).0;
            }
            failures.push(Failure {
                id,
                upstream,
                at_ms: uint(row.get(2)?),
                outcome: rows::outcome(&text(row, 3)?).unwrap_or(Outcome::Transient),
                status: small(row, 4)?,
                error,
            });
        }
    }
    Ok(failures)
}
