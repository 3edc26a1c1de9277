//! Replaces single values of a JSON text and leaves every other byte as it came: numbers keep their digits, keys their
//! order.

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// `text` with `value` at `pointer` (RFC 6901). A field that is not there is added, where its parent is an object.
/// `None`: the text is no JSON, or has no such place.
pub(super) fn replace(text: &str, pointer: &str, value: &Value) -> Option<String> {
    let steps: Vec<String> =
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let written = value.to_string();
    within(text, &steps, &written)
}

fn within(text: &str, steps: &[String], value: &str) -> Option<String> {
    let Some((step, rest)) = steps.split_first() else {
        serde_json::from_str::<IgnoredAny>(text).ok()?; // What is replaced whole must have been whole.
        return Some(value.to_owned());
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let parts = reader.deserialize_any(PartsVisitor).ok()?;
    reader.end().ok()?;
    match parts {
        Parts::Object(fields) => in_object(&fields, step, rest, value),
        Parts::Array(items) => {
            let at: usize = step.parse().ok()?;
            let mut written: Vec<String> = items.iter().map(|item| item.get().to_owned()).collect();
            let place = written.get_mut(at)?;
            *place = within(place, rest, value)?;
            Some(format!("[{}]", written.join(",")))
        }
    }
}

fn in_object(fields: &[(String, Box<RawValue>)], step: &str, rest: &[String], value: &str) -> Option<String> {
    let key = |name: &str| Value::from(name).to_string();
    let mut written = Vec::with_capacity(fields.len() + 1);
    let mut found = false;
    for (name, field) in fields {
        let field = if name == step {
            found = true;
            within(field.get(), rest, value)?
        } else {
            field.get().to_owned()
        };
        written.push(format!("{}:{field}", key(name)));
    }
    if !found {
        if !rest.is_empty() {
            return None;
        }
        written.push(format!("{}:{value}", key(step)));
    }
    Some(format!("{{{}}}", written.join(",")))
}

enum Parts {
    Object(Vec<(String, Box<RawValue>)>),
    Array(Vec<Box<RawValue>>),
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Parts::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parts, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Parts::Array(items))
    }
}

#[cfg(test)]
mod tests {
    use super::replace;
    use serde_json::json;

    #[test]
    fn only_the_named_value_changes() {
        let text = r#"{"model":"a","n":123456789012345678901234567890,"t":1.0,"deep":{"x":[1,{"y":2}]}}"#;
        let changed = replace(text, "/model", &json!("b")).expect("it is there");
        assert_eq!(changed, text.replace(r#""a""#, r#""b""#));
        let deep = replace(text, "/deep/x/1/y", &json!(null)).expect("it is there");
        assert_eq!(deep, text.replace(r#""y":2"#, r#""y":null"#));
        let added = replace(r#"{"a":1}"#, "/b~1c", &json!([1])).expect("its parent is an object");
        assert_eq!(added, r#"{"a":1,"b/c":[1]}"#);
    }

    #[test]
    fn a_place_that_is_not_there_and_text_that_is_no_json_are_told() {
        for (text, pointer) in [
            ("{}", "/a/b"),
            ("[1]", "/3"),
            ("[1]", "/x"),
            ("7", "/a"),
            ("{\"a\":1} x", "/a"),
            ("{", "/a"),
            ("", ""),
        ] {
            assert_eq!(replace(text, pointer, &json!(1)), None, "{text} {pointer}");
        }
    }
}
