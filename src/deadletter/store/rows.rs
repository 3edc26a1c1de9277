//! Letters to rows and back.
//!
//! A word that this Fender does not know (a hand was on the file) reads as the most careful one: a list never fails for one
//! row.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params};

use super::cells::{small, text, text_if_any};
use super::sealing::Seals;
use super::trail;
use super::trouble::Trouble;
use crate::deadletter::codec::{self, Sum};
use crate::deadletter::id::LetterId;
use crate::deadletter::letter::{Because, Letter, SealedWith, State};
use crate::deadletter::query::StoreError;
use crate::deadletter::seal::{Bound, KeyId, Part, Shut, named};
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::Verdict;

/// The columns that [`Found::read`] reads, of `letters AS l`.
pub(super) const COLUMNS: &str = "l.n, l.id, l.upstream, l.route, l.state, l.verdict, l.reason, \
    l.parked_because, l.method, l.path, l.order_key, l.idempotency_key, l.key_name, l.key_value, l.body_bytes, \
    l.body_sha256, l.created_at, l.updated_at, l.next_attempt_at, l.heartbeat_at, l.expires_at, l.version, l.priority, \
    l.repeatable, l.attempts_made, l.key_id, l.head, l.order_word";

/// A letter as its row has it, without its trail.
#[derive(Debug)]
pub(super) struct Found {
    /// Its number in the file.
    pub(super) n: i64,
    /// Until it is opened, what of it is sealed is empty here.
    pub(super) letter: Letter,
    /// The order key as it stands in the file: itself, or its tag.
    pub(super) order: Option<String>,
    /// The checksum of its body; empty while it is sealed.
    pub(super) body_sum: Vec<u8>,
    /// What may bear payload, as it stands in the file.
    pub(super) form: Form,
    /// Why it did not open.
    pub(super) shut: Option<Shut>,
    /// Whether a second send is harmless is not what was written: the letter counts as damaged.
    pub(super) marred: bool,
}

/// Those columns of a letter that may bear payload, as they stand in the file.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// '' in the clear.
    pub(super) key_id: String,
    pub(super) path: String,
    pub(super) order_key: Option<String>,
    pub(super) order_word: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) key_name: Option<String>,
    pub(super) key_value: Option<String>,
    pub(super) body_sum: Vec<u8>,
    pub(super) head: Option<Vec<u8>>,
}

/// What stands for a path that cannot be read.
const SEALED: &str = "(sealed)";

/// Why a letter is not taken.
const BLIND: &str = "letters are sealed with a key that is not configured: whether a write with an order key or an idempotency \
    key belongs to one of them cannot be told until it is, or they are gone";

impl Form {
    /// The one in which a letter is written now. `path`: with the secret that may be in it, by which captures are compared.
    pub(super) fn of(letter: &Letter, path: &str, body_sum: &[u8], seals: &Seals) -> Result<Self, Trouble> {
        let order_key = letter.order_key.as_ref().map(|word| seals.order(word));
        let (key_name, key_value) = letter.key_header.clone().unzip();
        if seals.cannot_tag(letter) {
            return Err(Trouble::from(BLIND.to_owned()));
        }
        let Some(key) = seals.writing()? else {
            return Ok(Self {
                key_id: String::new(),
                path: letter.path.clone(),
                order_word: letter.order_key.clone().filter(|_| seals.tags.is_some()),
                order_key,
                idempotency_key: letter.idempotency_key.clone(),
                key_name,
                key_value,
                body_sum: body_sum.to_vec(),
                head: None,
            });
        };
        let once =
            |own| Some(seals.tags.as_ref()?.tag("once", &[own, &letter.upstream, &letter.method, path]));
        let mut fields = vec![("path".to_owned(), letter.path.clone().into_bytes())];
        let mut add = |name: &str, value: Option<&str>| {
            fields.extend(value.map(|value| (name.to_owned(), value.as_bytes().to_vec())));
        };
        add("order_key", letter.order_key.as_deref());
        add("idempotency_key", letter.idempotency_key.as_deref());
        add("key_name", key_name.as_deref());
        add("key_value", key_value.as_deref());
        fields.push(("body_sha256".to_owned(), body_sum.to_vec()));
        let head = key.seal(Part::Head, bound(letter), &codec::encode(&fields));
        Ok(Self {
            key_id: key.id().to_string(),
            path: String::new(),
            order_key,
            order_word: None,
            idempotency_key: letter.idempotency_key.as_deref().and_then(once),
            key_name: None,
            key_value: None,
            body_sum: Vec::new(),
            head: Some(head?),
        })
    }
}

/// What a letter's sealed parts are bound to.
pub(super) fn bound(letter: &Letter) -> Bound<'_> {
    Bound { id: Some(letter.id), upstream: &letter.upstream, method: &letter.method }
}

impl Found {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let time = |column| row.get::<_, Option<i64>>(column).map(|time| time.map(uint));
        let form = Form {
            key_id: text(row, "key_id")?,
            path: text(row, "path")?,
            order_key: text_if_any(row, "order_key")?,
            order_word: text_if_any(row, "order_word")?,
            idempotency_key: text_if_any(row, "idempotency_key")?,
            key_name: text_if_any(row, "key_name")?,
            key_value: text_if_any(row, "key_value")?,
            body_sum: row.get("body_sha256")?,
            head: row.get("head")?,
        };
        let clear = form.key_id.is_empty();
        let own = |value: &Option<String>| value.clone().filter(|_| clear);
        let own_id = id(row, "id")?;
        let repeatable = repeatable(own_id, row.get("repeatable")?);
        let letter = Letter {
            id: own_id,
            upstream: text(row, "upstream")?,
            route: text(row, "route")?,
            state: State::of(&text(row, "state")?).unwrap_or(State::Parked),
            verdict: verdict(&text(row, "verdict")?).unwrap_or(Verdict::Ambiguous),
            reason: reason(&text(row, "reason")?),
            parked_because: text_if_any(row, "parked_because")?
                .map(|word| Because::of(&word).unwrap_or(Because::Operator)),
            method: text(row, "method")?,
            path: form.path.clone(),
            order_key: own(&form.order_word).or_else(|| own(&form.order_key)),
            idempotency_key: own(&form.idempotency_key),
            key_header: form.key_name.clone().zip(form.key_value.clone()),
            body_bytes: uint(row.get("body_bytes")?),
            created_at_ms: uint(row.get("created_at")?),
            updated_at_ms: uint(row.get("updated_at")?),
            next_attempt_at_ms: time("next_attempt_at")?,
            heartbeat_at_ms: time("heartbeat_at")?,
            expires_at_ms: uint(row.get("expires_at")?),
            version: uint(row.get("version")?),
            attempts: Vec::new(),
            priority: small(row, "priority")?.unwrap_or_default(),
            repeatable: repeatable.unwrap_or(false),
            attempts_made: small(row, "attempts_made")?.unwrap_or(u32::MAX),
            sealed: None,
        };
        let n = row.get("n")?;
        Ok(Self {
            n,
            letter,
            order: form.order_key.clone(),
            body_sum: form.body_sum.clone(),
            form,
            shut: None,
            marred: repeatable.is_none(),
        })
    }

    /// With what of it is sealed, as far as the keys open it.
    pub(super) fn open(mut self, seals: &Seals) -> Self {
        if self.form.key_id.is_empty() {
            return self;
        }
        let sealed = self.form.head.as_deref().unwrap_or_default();
        let key = self.form.key_id.parse::<KeyId>().ok();
        let opened = match seals.keys.open(Part::Head, bound(&self.letter), sealed) {
            // The row and its seal name the same key, or one of them is not what was written.
            _ if key.is_none() || named(sealed) != key => Err(Shut::Damaged),
            Ok(head) => codec::decode(&head).ok_or(Shut::Damaged),
            Err(shut) => Err(shut),
        };
        self.letter.sealed =
            key.map(|key| SealedWith { key, locked: matches!(opened, Err(Shut::Missing(_))) });
        match opened {
            Ok(fields) => self.fill(fields),
            Err(shut) => {
                SEALED.clone_into(&mut self.letter.path);
                self.shut = Some(shut);
            }
        }
        self
    }

    fn fill(&mut self, fields: Vec<(String, Vec<u8>)>) {
        let (mut name, mut value) = (None, None);
        for (field, bytes) in fields {
            if field == "body_sha256" {
                self.body_sum = bytes;
                continue;
            }
            let text = String::from_utf8(bytes).ok();
            match field.as_str() {
                "path" => self.letter.path = text.unwrap_or_default(),
                "order_key" => self.letter.order_key = text,
                "idempotency_key" => self.letter.idempotency_key = text,
                "key_name" => name = text,
                "key_value" => value = text,
                _ => {}
            }
        }
        self.letter.key_header = name.zip(value);
    }

    /// Whether the key that it is sealed with is configured.
    pub(super) fn locked(&self, seals: &Seals) -> Option<KeyId> {
        self.form.key_id.parse().ok().filter(|key| seals.keys.find(*key).is_none())
    }
}

/// What stands in the file for whether a second send is harmless. No flipped bit and no other letter's word makes the one of the other.
fn mark(id: LetterId, repeatable: bool) -> i64 {
    let word: &[u8] = if repeatable { b"repeatable " } else { b"not repeatable " };
    let sum = codec::sum_of_body(&[word, id.to_string().as_bytes()].concat());
    sum.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

/// What a mark says; `None` if it is none.
fn repeatable(id: LetterId, word: i64) -> Option<bool> {
    match word {
        // As the first schema wrote it.
        0 => Some(false),
        1 => Some(true),
        word if word == mark(id, false) => Some(false),
        word if word == mark(id, true) => Some(true),
        _ => None,
    }
}

pub(super) fn id<I: rusqlite::RowIndex>(row: &Row<'_>, column: I) -> rusqlite::Result<LetterId> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn verdict(word: &str) -> Option<Verdict> {
    Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == word)
}

pub(super) fn reason(word: &str) -> Option<Reason> {
    Reason::ALL.into_iter().find(|reason| reason.as_str() == word)
}

pub(super) fn outcome(word: &str) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)
}

/// Of SQLite's integers: what is negative is none of ours.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// For SQLite's integers: what is beyond them is as good as never.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The letter of that id, without its trail; not opened.
pub(super) fn find(conn: &Connection, id: LetterId) -> Result<Found, Trouble> {
    let mut statement =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM letters AS l WHERE l.id = ?1"))?;
    let found = statement.query_row([id.to_string()], Found::read).optional()?;
    found.ok_or_else(|| StoreError::NotFound(id).into())
}

/// The letter of that id, with its trail.
pub(super) fn load(conn: &Connection, id: LetterId, seals: &Seals) -> Result<Letter, Trouble> {
    whole(conn, find(conn, id)?, seals)
}

/// The letter with its trail.
pub(super) fn whole(conn: &Connection, found: Found, seals: &Seals) -> Result<Letter, Trouble> {
    let mut found = found.open(seals);
    found.letter.attempts = trail::read(conn, &found, seals)?;
    Ok(found.letter)
}

/// Inserts a letter; its trail and its content come apart. Says its number.
pub(super) fn insert(conn: &Connection, letter: &Letter, form: &Form, behind: bool) -> Result<i64, Trouble> {
    let mut statement: CachedStatement<'_> = conn.prepare_cached(
        "INSERT INTO letters (id, upstream, route, state, verdict, reason, parked_because, method, path, order_key, \
         idempotency_key, key_name, key_value, body_bytes, body_sha256, created_at, updated_at, next_attempt_at, \
         heartbeat_at, expires_at, version, priority, repeatable, attempts_made, trail, behind, key_id, head, order_word) \
         VALUES (:id, :upstream, :route, :state, :verdict, :reason, :parked_because, :method, :path, :order_key, \
         :idempotency_key, :key_name, :key_value, :body_bytes, :body_sha256, :created_at, :updated_at, :next_attempt_at, \
         :heartbeat_at, :expires_at, :version, :priority, :repeatable, :attempts_made, 0, :behind, :key_id, :head, \
         :order_word)",
    )?;
    statement.execute(named_params! {
        ":id": letter.id.to_string(),
        ":upstream": letter.upstream,
        ":route": letter.route,
        ":state": letter.state.as_str(),
        ":verdict": letter.verdict.as_str(),
        ":reason": letter.reason.map_or("", Reason::as_str),
        ":parked_because": letter.parked_because.map(Because::as_str),
        ":method": letter.method,
        ":path": form.path,
        ":order_key": form.order_key,
        ":idempotency_key": form.idempotency_key,
        ":key_name": form.key_name,
        ":key_value": form.key_value,
        ":body_bytes": int(letter.body_bytes),
        ":body_sha256": form.body_sum,
        ":created_at": int(letter.created_at_ms),
        ":updated_at": int(letter.updated_at_ms),
        ":next_attempt_at": letter.next_attempt_at_ms.map(int),
        ":heartbeat_at": letter.heartbeat_at_ms.map(int),
        ":expires_at": int(letter.expires_at_ms),
        ":version": int(letter.version),
        ":priority": letter.priority,
        ":repeatable": mark(letter.id, letter.repeatable),
        ":attempts_made": letter.attempts_made,
        ":behind": behind,
        ":key_id": form.key_id,
        ":head": form.head,
        ":order_word": form.order_word,
    })?;
    Ok(conn.last_insert_rowid())
}

/// Removes a letter and all that is its.
pub(super) fn remove(conn: &Connection, n: i64) -> Result<(), Trouble> {
    conn.prepare_cached("DELETE FROM contents WHERE n = ?1")?.execute([n])?;
    conn.prepare_cached("DELETE FROM attempts WHERE n = ?1")?.execute([n])?;
    conn.prepare_cached("DELETE FROM letters WHERE n = ?1")?.execute([n])?;
    Ok(())
}

/// A checksum as it is compared; what has not its length is none.
pub(super) fn sum_of(bytes: &[u8]) -> Option<Sum> {
    bytes.try_into().ok()
}
