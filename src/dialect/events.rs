//! What the events of a stream are.

use std::time::Duration;

use super::facts::{Facts, Questions};
use super::fault::{Faults, way};
use super::meaning::{Head, Meaning};
use super::rules::{Rules, conditions, taken};
use super::scan::Extent;
use super::spec::Spec;
use super::stream::{Form, Kind};
use super::values::Texts;

/// What the events of a dialect's streams are.
#[derive(Debug)]
pub(super) struct Events {
    json: bool,
    ends: Vec<Form>,
    otherwise: Kind,
    status: Vec<usize>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    event: Option<Texts>,
    data: Option<Texts>,
    needed: u128,
    kind: Kind,
}

/// One event as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'e> {
    /// Its name; empty: none.
    pub(super) name: &'e [u8],
    /// Its data; empty: none.
    pub(super) data: &'e [u8],
    /// Whether it is too long, and this is its beginning.
    pub(super) cut: bool,
}

impl Events {
    pub(super) fn compile(spec: &Spec, questions: &mut Questions, faults: &mut Faults) -> Self {
        let stream = &spec.stream;
        let mut status = Vec::new();
        for (number, pointer) in stream.status.iter().enumerate() {
            let slots = questions.value(pointer, &spec.field);
            status.extend(taken(slots, way!["stream", "status", number], faults).unwrap_or_default());
        }
        let mut entries = Vec::new();
        for (number, event) in stream.event.iter().enumerate() {
            let at = way!["stream", "event", number];
            let needed = conditions(&at, &event.json, &event.contains, &spec.field, questions, faults);
            let Some(kind) = event.kind else {
                faults.tell(at, "must have `kind`", "");
                continue;
            };
            entries.push(Entry { event: event.event.clone(), data: event.data.clone(), needed, kind });
        }
        Self {
            json: stream.json,
            ends: stream.end_mark.clone(),
            otherwise: stream.otherwise.unwrap_or(Kind::Content),
            status,
            entries,
        }
    }

    pub(super) fn have_end(&self, form: Form) -> bool {
        self.ends.contains(&form)
    }

    /// Whether any entry looks into an event.
    pub(super) fn read(&self) -> bool {
        self.json || !self.entries.is_empty()
    }

    /// What an event is, and what it means if it is an error.
    pub(super) fn judge(
        &self,
        questions: &Questions,
        rules: &Rules,
        event: Written<'_>,
    ) -> (Kind, Option<Meaning>) {
        if event.data.is_empty() {
            return (Kind::KeepAlive, None);
        }
        let mut facts = None;
        for entry in &self.entries {
            if !entry.is_named(event) {
                continue;
            }
            if entry.needed != 0 {
                let facts = facts.get_or_insert_with(|| known(questions, event));
                if self.json && !is_good(facts.extent, event) {
                    return (Kind::Malformed, None);
                }
                if questions.hold(entry.needed, facts) != Some(true) {
                    continue;
                }
            }
            let meaning = (entry.kind == Kind::Error).then(|| {
                let facts = facts.unwrap_or_else(|| known(questions, event));
                self.meaning(questions, rules, &facts)
            });
            return (entry.kind, meaning);
        }
        let extent = || facts.unwrap_or_else(|| known(questions, event)).extent;
        if self.json && !is_good(extent(), event) {
            return (Kind::Malformed, None);
        }
        // What is so long bears something, whatever its beginning does not tell.
        (if event.cut { Kind::Content } else { self.otherwise }, None)
    }

    /// An error event means what an answer of its status and body would.
    fn meaning(&self, questions: &Questions, rules: &Rules, facts: &Facts<'_>) -> Meaning {
        let told = facts.text(&self.status).and_then(|status| status.parse().ok());
        let status = told.filter(|status| (400..=599).contains(status)).unwrap_or(500);
        let head = Head { status, field: &|_| None, unix_now: Duration::ZERO };
        rules.decide(questions, &head, facts).unwrap_or_else(|| Meaning::generic(&head))
    }
}

impl Entry {
    fn is_named(&self, event: Written<'_>) -> bool {
        let is = |texts: &Option<Texts>, bytes: &[u8]| {
            texts.as_ref().is_none_or(|texts| texts.0.iter().any(|text| text.as_bytes() == bytes))
        };
        is(&self.event, event.name) && is(&self.data, event.data)
    }
}

/// Whether the data is JSON, as far as it was read.
fn is_good(extent: Extent, event: Written<'_>) -> bool {
    extent == Extent::Whole || (event.cut && extent == Extent::Begun)
}

/// What an event's data says; what a whole one does not say is absent.
fn known<'e>(questions: &Questions, event: Written<'e>) -> Facts<'e> {
    let mut facts = questions.ask(event.data, !event.cut);
    if facts.extent == Extent::Begun && !event.cut {
        facts.extent = Extent::Malformed;
    }
    facts
}
