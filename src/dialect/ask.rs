//! What a request names: whom it is for, which model it asks, what orders it.

use std::borrow::Cow;

use super::fault::{Faults, way};
use super::scan::{Pointers, Raw};
use super::spec::Spec;
use super::values::PlaceAt;

/// What can be looked for in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What orders it: requests of one value stay in order.
    Order,
    /// Whom it is for.
    Recipient,
    /// Which model it asks.
    Model,
}

/// A request, as far as a dialect looks into it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its path, without the route's prefix.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: Option<&'a str>,
    /// What its body is.
    pub content_type: Option<&'a str>,
    /// Its body, if it could be had.
    pub body: &'a [u8],
}

/// Where a dialect's requests name things.
#[derive(Debug, Default)]
pub(super) struct Places {
    order: Vec<Named>,
    recipient: Vec<Named>,
    model: Vec<Named>,
    pointers: Pointers,
}

#[derive(Debug)]
struct Named {
    at: PlaceAt,
    /// The number of the pointer.
    pointer: Option<usize>,
}

impl Places {
    pub(super) fn compile(spec: &Spec, faults: &mut Faults) -> Self {
        let mut pointers = Pointers::default();
        let mut named = |key: &str, places: &[PlaceAt]| {
            let mut all = Vec::new();
            for (number, at) in places.iter().enumerate() {
                let mut pointer = None;
                if let PlaceAt::Body(text) = at {
                    match pointers.add(text) {
                        Ok(number) => pointer = Some(number),
                        Err(why) => faults.tell(way!["request", key, number], why.to_string(), ""),
                    }
                }
                all.push(Named { at: at.clone(), pointer });
            }
            all
        };
        let order = named("order", &spec.request.order);
        let recipient = named("recipient", &spec.request.recipient);
        let model = named("model", &spec.request.model);
        Self { order, recipient, model, pointers }
    }

    pub(super) fn are_in_body(&self, place: Place) -> bool {
        self.of(place).iter().any(|named| named.pointer.is_some())
    }

    pub(super) fn find(&self, place: Place, asked: &Asked<'_>) -> Option<String> {
        let named = self.of(place);
        let values =
            if named.iter().any(|named| named.pointer.is_some()) { self.values(asked) } else { Vec::new() };
        let found = named.iter().find_map(|named| match &named.at {
            PlaceAt::Body(_) => values.get(named.pointer?).cloned().flatten(),
            PlaceAt::Query(name) => parameter(asked.query?.as_bytes(), name),
            PlaceAt::Path(pattern) => {
                let hole = pattern.find(asked.path)?.into_iter().next()?;
                Some(decoded(asked.path.get(hole)?.as_bytes()))
            }
        });
        found.filter(|found| !found.is_empty())
    }

    fn of(&self, place: Place) -> &[Named] {
        match place {
            Place::Order => &self.order,
            Place::Recipient => &self.recipient,
            Place::Model => &self.model,
        }
    }

    /// What the body has at each pointer.
    fn values(&self, asked: &Asked<'_>) -> Vec<Option<String>> {
        let mut values = vec![None; self.pointers.count()];
        let essence = asked.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let all = [&self.order, &self.recipient, &self.model].into_iter().flatten();
            for named in all {
                if let (PlaceAt::Body(text), Some(value)) =
                    (&named.at, named.pointer.and_then(|number| values.get_mut(number)))
                {
                    *value = text.strip_prefix('/').and_then(|name| parameter(asked.body, name));
                }
            }
            return values;
        }
        self.pointers.scan(asked.body, true, |pointer, value| {
            if let Some(place) = values.get_mut(pointer).filter(|place| place.is_none()) {
                *place = written(value);
            }
        });
        values
    }
}

fn written(value: Raw<'_>) -> Option<String> {
    match value {
        Raw::Number(number) => std::str::from_utf8(number).ok().map(str::to_owned),
        other => other.text().map(Cow::into_owned),
    }
}

/// The first parameter of this name in a query or a form.
fn parameter(text: &[u8], name: &str) -> Option<String> {
    text.split(|byte| *byte == b'&').find_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (key, value) = (parts.next()?, parts.next().unwrap_or_default());
        (form_decoded(key) == name).then(|| form_decoded(value))
    })
}

/// A plus is a space there.
fn form_decoded(text: &[u8]) -> String {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    decoded(&spaced)
}

/// Without percent signs; one that two hexadecimal digits do not follow stands for itself.
fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (*first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = after.get(2..).unwrap_or_default();
            }
            (byte, ..) => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
