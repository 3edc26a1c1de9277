//! The JSON Schema of what a user writes, so that an editor completes and checks it.
//!
//! It is made from the model, which is what Fender holds once every key has its value; so what has a default is no longer
//! required here, and bears that default.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use super::defaults::Defaults;
use super::model::Config;
use super::resolve::OVERRIDABLE;
use super::restart::NEEDS_RESTART;
use super::tree::{Node, Value};
use super::unbuilt::{UNBUILT, Unbuilt};

/// The schema, draft 2020-12, as it ships: a test holds it to what [`schema`] makes. The program itself does not make it, since
/// what would is twenty times as large.
pub const SCHEMA: &str = include_str!("../../config/schema.json");

/// The schema, made from the model.
pub fn schema() -> Json {
    let settings =
        SchemaSettings::draft2020_12().for_deserialize().with(|settings| settings.inline_subschemas = true);
    let mut root = settings.into_generator().into_root_schema_for::<Config>().to_value();
    without_null(&mut root);
    let defaults = Defaults::read();
    apply(&mut root, &defaults.root);
    for (pointer, node) in [
        ("/properties/upstream/additionalProperties", &defaults.upstream),
        ("/properties/upstream/additionalProperties/properties/rate_limit/items", &defaults.rate_limit),
        ("/properties/upstream/additionalProperties/properties/fallback/items", &defaults.fallback),
        ("/properties/admin/properties/token/items", &defaults.token),
        ("/properties/notify/items", &defaults.notify),
        ("/properties/route/items", &defaults.route),
    ] {
        if let Some(part) = root.pointer_mut(pointer) {
            apply(part, node);
        }
    }
    upstreams(&mut root);
    routes(&mut root, &defaults);
    for unbuilt in UNBUILT {
        let steps: Vec<&str> = unbuilt.path.split('.').collect();
        mark(&mut root, &steps, unbuilt);
    }
    for needs in NEEDS_RESTART {
        let pointer = format!("/properties/{}", needs.key.replace('.', "/properties/"));
        if let Some(key) = root.pointer_mut(&pointer).and_then(Json::as_object_mut) {
            let when = if needs.when.is_empty() { "at any change" } else { needs.when };
            key.insert("x-fender-needs-restart".to_owned(), json!(when));
        }
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("title".to_owned(), json!("Fender's config"));
    }
    root
}

/// Defaults are said, and what has one is not required.
fn apply(schema: &mut Json, defaults: &Node) {
    let Some(table) = defaults.table() else { return };
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let Some(properties) = object.get_mut("properties").and_then(Json::as_object_mut) else {
        return;
    };
    for (key, node) in table {
        let Some(property) = properties.get_mut(key) else {
            continue;
        };
        match &node.value {
            Value::Table(inner) if property.get("properties").is_some() || inner.is_empty() => {
                apply(property, node);
            }
            _ => {
                if let Some(property) = property.as_object_mut() {
                    property.insert("default".to_owned(), json_of(node));
                }
            }
        }
    }
    not_required(object, |key| table.contains_key(key));
}

fn not_required(object: &mut Map<String, Json>, has_default: impl Fn(&str) -> bool) {
    let Some(required) = object.get_mut("required").and_then(Json::as_array_mut) else {
        return;
    };
    required.retain(|key| key.as_str().is_some_and(|key| !has_default(key)));
    if required.is_empty() {
        object.remove("required");
    }
}

/// An upstream has a URL, or several.
fn upstreams(root: &mut Json) {
    let upstream = root.pointer_mut("/properties/upstream/additionalProperties");
    if let Some(upstream) = upstream.and_then(Json::as_object_mut) {
        let one = json!([{"required": ["url"]}, {"required": ["urls"]}]);
        upstream.insert("oneOf".to_owned(), one);
        if let Some(urls) =
            upstream.get_mut("properties").and_then(|all| all.get_mut("urls")).and_then(Json::as_object_mut)
        {
            urls.remove("default");
            urls.insert("minItems".to_owned(), json!(1));
        }
        // A wait for one outcome starts from replay.backoff.
        let waits = "/properties/dead_letter/properties/replay/properties/by_outcome";
        let mut whole = Json::Object(std::mem::take(upstream));
        if let Some(waits) = whole.pointer_mut(waits) {
            optional(waits);
        }
        if let Json::Object(whole) = whole {
            *upstream = whole;
        }
    }
}

/// What a route leaves out it has from its upstream.
fn routes(root: &mut Json, defaults: &Defaults) {
    let Some(route) = root.pointer_mut("/properties/route/items") else {
        return;
    };
    if let Some(retry) = route.pointer_mut("/properties/retry/properties").and_then(Json::as_object_mut) {
        retry.remove("budget");
    }
    for key in OVERRIDABLE {
        let Some(part) = route.pointer_mut(&format!("/properties/{key}")) else {
            continue;
        };
        match key {
            "rate_limit" => {
                part.get_mut("items").into_iter().for_each(|items| apply(items, &defaults.rate_limit));
            }
            "fallback" => {
                part.get_mut("items").into_iter().for_each(|items| apply(items, &defaults.fallback));
            }
            _ => optional(part),
        }
    }
    if let Some(route) = route.as_object_mut() {
        not_required(route, |key| OVERRIDABLE.contains(&key));
    }
}

/// Nothing in this part is required.
fn optional(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            object.remove("required");
            object.values_mut().for_each(optional);
        }
        Json::Array(all) => all.iter_mut().for_each(optional),
        _ => {}
    }
}

fn mark(schema: &mut Json, steps: &[&str], unbuilt: &Unbuilt) {
    let Some((step, rest)) = steps.split_first() else {
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        let description = object.get("description").and_then(Json::as_str).unwrap_or_default();
        if unbuilt.but.is_empty() {
            object
                .insert("description".to_owned(), json!(format!("Not built yet. {description}").trim_end()));
            object.insert("x-fender-not-built".to_owned(), json!(true));
        } else {
            object.insert(
                "description".to_owned(),
                json!(format!("{description} Other values are not built yet.")),
            );
            object.insert("enum".to_owned(), json!(unbuilt.but));
        }
        return;
    };
    let below = match *step {
        "*" if schema.get("items").is_some() => schema.get_mut("items"),
        "*" => schema.get_mut("additionalProperties"),
        key => schema.get_mut("properties").and_then(|properties| properties.get_mut(key)),
    };
    if let Some(below) = below {
        mark(below, rest, unbuilt);
    }
}

/// TOML has no null: what is optional is left out.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            object.values_mut().for_each(without_null);
            if object.get("default").is_some_and(Json::is_null) {
                object.remove("default");
            }
            if let Some(Json::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Json::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
                if let [Json::Object(only)] = choices.as_mut_slice() {
                    let only = std::mem::take(only);
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
        }
        Json::Array(all) => all.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Text(text) => json!(text.raw),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Bool(flag) => json!(flag),
        Value::Date => Json::Null,
        Value::Array(items) => items.iter().map(|item| json_of(&item.node)).collect(),
        Value::Table(table) => {
            Json::Object(table.iter().map(|(key, node)| (key.clone(), json_of(node))).collect())
        }
    }
}
