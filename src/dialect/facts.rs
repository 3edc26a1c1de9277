//! Conditions on a JSON text: numbered once for a dialect, and all of them met or not in one pass.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::scan::{Extent, Pointers, Raw, Unaskable};
use super::values::{Expected, Texts};

/// Every condition that a dialect has on JSON, and every value that it takes out.
#[derive(Debug, Clone, Default)]
pub(super) struct Questions {
    pointers: Pointers,
    /// What is asked of each pointer.
    asked: Vec<Asked>,
    conditions: Vec<Condition>,
    taken: usize,
}

#[derive(Debug, Clone, Default)]
struct Asked {
    tests: Vec<usize>,
    /// Where its value is put.
    slot: Option<usize>,
}

#[derive(Debug, Clone)]
struct Condition {
    test: Test,
    target: Vec<String>,
    /// Its pointers, and whether one of them may name several values.
    pointers: u128,
    many: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Is(Expected),
    Contains(Texts),
}

/// What a JSON text says to the questions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'t> {
    pub(super) extent: Extent,
    /// The conditions that hold.
    pub(super) met: u128,
    /// The pointers that were seen.
    seen: u128,
    values: [Option<Raw<'t>>; SLOTS],
}

/// Why a question cannot be asked.
pub(super) enum Refused {
    /// No name is like this.
    NoName,
    Pointer(Unaskable),
    TooMany,
}

impl Questions {
    /// The number of a condition; the same one for the same condition.
    pub(super) fn condition(
        &mut self,
        target: &str,
        test: Test,
        names: &BTreeMap<String, Vec<String>>,
    ) -> Result<usize, Refused> {
        let target = pointers_of(target, names)?;
        let known = self.conditions.iter().position(|known| known.target == target && known.test == test);
        if let Some(known) = known {
            return Ok(known);
        }
        let number = self.conditions.len();
        if number >= 128 {
            return Err(Refused::TooMany);
        }
        let mut condition = Condition { test, target: target.clone(), pointers: 0, many: false };
        for pointer in &target {
            let at = self.pointer(pointer)?;
            condition.pointers |= 1 << at;
            condition.many |= pointer.split('/').any(|step| step == "*");
            if let Some(asked) = self.asked.get_mut(at) {
                asked.tests.push(number);
            }
        }
        self.conditions.push(condition);
        Ok(number)
    }

    /// The slots of the values that stand at a target, in the order in which they are believed.
    pub(super) fn value(
        &mut self,
        target: &str,
        names: &BTreeMap<String, Vec<String>>,
    ) -> Result<Vec<usize>, Refused> {
        let mut slots = Vec::new();
        for pointer in pointers_of(target, names)? {
            let at = self.pointer(&pointer)?;
            let next = self.taken;
            let Some(asked) = self.asked.get_mut(at) else { continue };
            let slot = *asked.slot.get_or_insert(next);
            if slot >= SLOTS {
                return Err(Refused::TooMany);
            }
            self.taken = self.taken.max(slot + 1);
            slots.push(slot);
        }
        Ok(slots)
    }

    fn pointer(&mut self, pointer: &str) -> Result<usize, Refused> {
        let at = self.pointers.add(pointer).map_err(Refused::Pointer)?;
        if at >= 128 {
            return Err(Refused::TooMany);
        }
        if self.asked.len() <= at {
            self.asked.resize_with(at + 1, Asked::default);
        }
        Ok(at)
    }

    /// Asks them all. `whole`: nothing follows.
    pub(super) fn ask<'t>(&self, text: &'t [u8], whole: bool) -> Facts<'t> {
        let mut facts = Facts { extent: Extent::Begun, met: 0, seen: 0, values: [None; SLOTS] };
        facts.extent = self.pointers.scan(text, whole, |pointer, value| {
            facts.seen |= 1 << pointer;
            let Some(asked) = self.asked.get(pointer) else { return };
            for number in &asked.tests {
                if self.conditions.get(*number).is_some_and(|condition| condition.test.holds(value)) {
                    facts.met |= 1 << number;
                }
            }
            let slot = asked.slot.and_then(|slot| facts.values.get_mut(slot));
            if let Some(slot) = slot
                && slot.is_none()
            {
                *slot = Some(value);
            }
        });
        facts
    }

    /// Whether a condition cannot hold any more, whatever follows.
    fn fails(&self, number: usize, facts: &Facts<'_>) -> bool {
        facts.met & (1 << number) == 0
            && (facts.extent != Extent::Begun
                || self
                    .conditions
                    .get(number)
                    .is_some_and(|condition| !condition.many && condition.pointers & !facts.seen == 0))
    }

    /// Whether all of these conditions hold; `None`: it is not known yet.
    pub(super) fn hold(&self, needed: u128, facts: &Facts<'_>) -> Option<bool> {
        if needed & !facts.met == 0 {
            return Some(true);
        }
        let mut open = needed & !facts.met;
        while open != 0 {
            let number = usize::try_from(open.trailing_zeros()).unwrap_or(usize::MAX);
            if self.fails(number, facts) {
                return Some(false);
            }
            open &= open - 1;
        }
        None
    }
}

impl<'t> Facts<'t> {
    /// The text, or the number as it is written, of the first of these slots that has one.
    pub(super) fn text(&self, slots: &[usize]) -> Option<Cow<'t, str>> {
        slots.iter().find_map(|slot| match (*self.values.get(*slot)?)? {
            Raw::Number(written) => std::str::from_utf8(written).ok().map(Cow::Borrowed),
            other => other.text(),
        })
    }
}

impl Test {
    fn holds(&self, value: Raw<'_>) -> bool {
        match self {
            Self::Is(expected) => expected.meets(value),
            Self::Contains(texts) => value.text().is_some_and(|text| texts.stand_in(&text)),
        }
    }
}

fn pointers_of(target: &str, names: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, Refused> {
    if target.starts_with('/') {
        return Ok(vec![target.to_owned()]);
    }
    names.get(target).cloned().ok_or(Refused::NoName)
}

/// How many values may be taken out.
const SLOTS: usize = 8;
