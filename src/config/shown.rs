//! The config in force as JSON, for those who look at it while it runs: every key, no secret.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use super::load::Loaded;
use super::mask;
use super::tree::{Node, Value};

/// A config as it may be shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    whole: Box<str>,
    upstreams: BTreeMap<String, (Box<RawValue>, Box<RawValue>)>,
}

impl Shown {
    /// All of it: an object of JSON, with the keys of the config file.
    #[must_use]
    pub fn whole(&self) -> &str {
        &self.whole
    }

    /// The keys of one upstream, and its routes.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<(Box<RawValue>, Box<RawValue>)> {
        self.upstreams.get(name).cloned()
    }
}

impl Loaded {
    /// Every key in force as it was written: references stay references, secrets are hidden.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let whole = shown(&self.tree, &mut Vec::new());
        let member = |name: &str| whole.get(name);
        let routes = member("route").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let of = |name: &str| -> Vec<&Json> {
            routes.iter().filter(|route| route.get("upstream").and_then(Json::as_str) == Some(name)).collect()
        };
        let upstreams = member("upstream").and_then(Json::as_object);
        let upstreams = upstreams.into_iter().flatten().filter_map(|(name, keys)| {
            let raw = |text: serde_json::Result<Box<RawValue>>| text.ok();
            let keys = raw(serde_json::value::to_raw_value(keys))?;
            Some((name.clone(), (keys, raw(serde_json::value::to_raw_value(&of(name)))?)))
        });
        Shown { upstreams: upstreams.collect(), whole: whole.to_string().into() }
    }
}

/// A text; of addresses only what no secret can be in.
fn written(raw: &str, path: &[String]) -> String {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    match keys.as_slice() {
        ["upstream", _, "url"] | ["upstream", _, "urls", _] => mask::url(&mask::text(raw, path)),
        ["upstream", _, "health", "path"] => match raw.split_once('?') {
            Some((place, _)) => format!("{place}?{}", mask::HIDDEN),
            None => raw.to_owned(),
        },
        _ => mask::text(raw, path),
    }
}

fn shown(node: &Node, path: &mut Vec<String>) -> Json {
    match &node.value {
        Value::Text(text) => Json::from(written(&text.raw, path)),
        _ if mask::is_secret(path) && !matches!(node.value, Value::Table(_) | Value::Array(_)) => {
            Json::from(mask::HIDDEN)
        }
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Bool(flag) => Json::from(*flag),
        Value::Date => Json::Null,
        Value::Array(items) => {
            path.push("*".to_owned());
            let items = items.iter().map(|item| shown(&item.node, path)).collect();
            path.pop();
            Json::Array(items)
        }
        Value::Table(table) => {
            let mut members = Map::new();
            for (key, node) in table {
                path.push(key.clone());
                members.insert(key.clone(), shown(node, path));
                path.pop();
            }
            Json::Object(members)
        }
    }
}
