//! The rules that say what answers and error events mean.

use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::{Facts, Questions, Refused, Test};
use super::fault::{At, Faults, way};
use super::meaning::{Head, Meaning, Ruling, Scope};
use super::scan::Extent;
use super::spec::{RuleSpec, Spec};
use super::values::{Expected, StatusSet, Texts};
use crate::policy::outcome::Outcome;
use crate::policy::told::{self, WaitForm};
use crate::policy::verdict::Verdict;

/// The rules in their order.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    max_body: usize,
}

#[derive(Debug)]
struct Rule {
    status: StatusSet,
    headers: Vec<(String, Texts)>,
    /// The conditions on JSON, as bits.
    needed: u128,
    outcome: Option<Outcome>,
    verdict: Option<Verdict>,
    scope: Scope,
    wait: Wait,
}

#[derive(Debug, Default)]
struct Wait {
    /// Where the body tells it.
    slots: Vec<usize>,
    form: WaitForm,
    default: Option<Duration>,
}

impl Rules {
    pub(super) fn compile(spec: &Spec, questions: &mut Questions, faults: &mut Faults) -> Self {
        let rules = spec.rule.iter().enumerate();
        let rules = rules.map(|(number, rule)| Rule::compile(number, rule, &spec.field, questions, faults));
        let max_body = spec.max_body.unwrap_or(BODY_MAX);
        Self { rules: rules.collect(), max_body: usize::try_from(max_body).unwrap_or(usize::MAX) }
    }

    /// Whether any rule looks into a body.
    pub(super) fn read_bodies(&self) -> bool {
        self.rules.iter().any(Rule::reads)
    }

    pub(super) fn of_head(&self, head: &Head<'_>) -> Ruling {
        match self.rules.iter().find(|rule| rule.may_be(head)) {
            Some(rule) if rule.reads() => Ruling::Read { max: self.max_body },
            Some(rule) => Ruling::Known(rule.meaning(head, None)),
            None => Ruling::Known(Meaning::generic(head)),
        }
    }

    pub(super) fn of_body(
        &self,
        questions: &Questions,
        head: &Head<'_>,
        body: &[u8],
        whole: bool,
    ) -> Option<Meaning> {
        let whole = whole || body.len() >= self.max_body;
        let mut facts = questions.ask(body.get(..self.max_body).unwrap_or(body), whole);
        if whole && facts.extent == Extent::Begun {
            facts.extent = Extent::Malformed; // What has not come will not come.
        }
        self.decide(questions, head, &facts)
    }

    /// What the facts say under this head; `None`: more of them are needed.
    pub(super) fn decide(
        &self,
        questions: &Questions,
        head: &Head<'_>,
        facts: &Facts<'_>,
    ) -> Option<Meaning> {
        for rule in self.rules.iter().filter(|rule| rule.may_be(head)) {
            match questions.hold(rule.needed, facts) {
                Some(true) if rule.wait.is_open(facts) => return None,
                Some(true) => return Some(rule.meaning(head, Some(facts))),
                Some(false) => {}
                None => return None,
            }
        }
        Some(Meaning::generic(head))
    }
}

impl Rule {
    fn compile(
        number: usize,
        spec: &RuleSpec,
        names: &BTreeMap<String, Vec<String>>,
        questions: &mut Questions,
        faults: &mut Faults,
    ) -> Self {
        let at = way!["rule", number];
        let needed = conditions(&at, &spec.json, &spec.contains, names, questions, faults);
        let headers = spec.header.iter().map(|(name, texts)| (name.to_ascii_lowercase(), texts.clone()));
        let mut wait = Wait::default();
        if let Some(spec) = &spec.wait {
            (wait.form, wait.default) = (spec.form, spec.default);
            if let Some(target) = &spec.json {
                let slots = questions.value(target, names);
                wait.slots = taken(slots, way!["rule", number, "wait", "json"], faults).unwrap_or_default();
            }
        }
        Self {
            status: spec.status.clone().unwrap_or(StatusSet::failures()),
            headers: headers.collect(),
            needed,
            outcome: spec.outcome.map(Outcome::from),
            verdict: spec.verdict.map(Verdict::from),
            scope: spec.scope.unwrap_or_default(),
            wait,
        }
    }

    fn reads(&self) -> bool {
        self.needed != 0 || !self.wait.slots.is_empty()
    }

    /// Whether status and header fields allow it.
    fn may_be(&self, head: &Head<'_>) -> bool {
        self.status.has(head.status)
            && self.headers.iter().all(|(name, texts)| {
                (head.field)(name).is_some_and(|value| texts.has("*") || texts.has(value.trim()))
            })
    }

    fn meaning(&self, head: &Head<'_>, facts: Option<&Facts<'_>>) -> Meaning {
        let generic = Meaning::generic(head);
        let outcome = self.outcome.unwrap_or(generic.outcome);
        let verdict = self.verdict.unwrap_or(match outcome {
            _ if outcome == generic.outcome => generic.verdict,
            Outcome::Throttled | Outcome::Quota => Verdict::Refused,
            Outcome::Success | Outcome::Permanent | Outcome::Cancelled => Verdict::Done,
            Outcome::Transient => {
                Verdict::of_status(head.status, (head.field)("retry-after").is_some(), outcome)
            }
        });
        let told = match outcome {
            Outcome::Transient | Outcome::Throttled | Outcome::Quota => self.wait(head, facts, generic.told),
            Outcome::Success | Outcome::Permanent | Outcome::Cancelled => None,
        };
        Meaning { outcome, verdict, told, scope: self.scope }
    }

    /// The body's word before the header's, the header's before what is usual.
    fn wait(
        &self,
        head: &Head<'_>,
        facts: Option<&Facts<'_>>,
        generic: Option<Duration>,
    ) -> Option<Duration> {
        let now = Some(head.unix_now).filter(|now| !now.is_zero());
        let of_body = facts.and_then(|facts| self.wait.form.read(&facts.text(&self.wait.slots)?, now));
        let throttled = self.outcome == Some(Outcome::Throttled);
        let of_header = || {
            // An answer that says "wait" is asked how long, whatever its status. Without the time a moment is always past, and
            // tells nothing.
            let told = throttled.then(|| told::told(head.field, now.unwrap_or(Duration::MAX))).flatten();
            told.map(|told| told.wait).filter(|wait| now.is_some() || !wait.is_zero()).or(generic)
        };
        of_body.or_else(of_header).or(self.wait.default)
    }
}

impl Wait {
    /// Whether the body may still tell it.
    fn is_open(&self, facts: &Facts<'_>) -> bool {
        let first = self.slots.get(..1).unwrap_or_default();
        !first.is_empty() && facts.extent == Extent::Begun && facts.text(first).is_none()
    }
}

/// The conditions of a rule or of an event on JSON, as bits.
pub(super) fn conditions(
    at: &[At],
    json: &BTreeMap<String, Expected>,
    contains: &BTreeMap<String, Texts>,
    names: &BTreeMap<String, Vec<String>>,
    questions: &mut Questions,
    faults: &mut Faults,
) -> u128 {
    let json = json.iter().map(|(target, expected)| ("json", target, Test::Is(expected.clone())));
    let contains = contains.iter().map(|(target, texts)| ("contains", target, Test::Contains(texts.clone())));
    let mut needed = 0;
    for (table, target, test) in json.chain(contains) {
        let number = questions.condition(target, test, names);
        let key = [at, &way![table, target]].concat();
        needed |= taken(number, key, faults).map_or(0, |number| 1 << number);
    }
    needed
}

/// What came of a question, or the fault told.
pub(super) fn taken<T>(asked: Result<T, Refused>, at: Vec<At>, faults: &mut Faults) -> Option<T> {
    match asked {
        Ok(number) => return Some(number),
        Err(Refused::NoName) => faults.tell(
            at,
            "is neither a JSON pointer nor a name",
            "a pointer starts with a slash, such as \"/error/code\"; names stand in the table `field`",
        ),
        Err(Refused::Pointer(why)) => faults.tell(at, why.to_string(), ""),
        Err(Refused::TooMany) => faults.tell(
            at,
            "is one too many: a dialect may ask 128 different things of a body, and take out 8 waits and statuses",
            "",
        ),
    }
    None
}

const BODY_MAX: u64 = 16 << 10; // An error's words stand at its beginning.
