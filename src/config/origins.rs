//! Which line of the config set a key, for those who tell afterwards what decided.
//!
//! Only the keys that can decide what becomes of a request are looked up, and only what the files say of them is kept by its
//! line: the tree itself would cost more memory than all else that rests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::load::Loaded;
use super::tree::{Node, Step};

/// Who set the keys that can decide, in the config in force.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Of the process: by key.
    whole: BTreeMap<&'static str, SetBy>,
    /// Of upstreams: by name and key.
    upstreams: BTreeMap<String, BTreeMap<Arc<str>, SetBy>>,
    /// What routes say over them: by upstream, name and key.
    routes: BTreeMap<(String, String), BTreeMap<Arc<str>, SetBy>>,
}

/// A key in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBy {
    /// As a user would write it: `upstream.openai.retry.max_attempts`.
    pub key: Arc<str>,
    /// Its value, as written.
    pub value: Arc<str>,
    /// `fender.toml:12:1`, or what set it otherwise: `defaults`, `preset ai`, `profile testing`.
    pub set_by: Arc<str>,
}

impl Origins {
    /// Who set this key for requests of the route; `None`: there is no such upstream any more, or no such key.
    #[must_use]
    pub fn of(&self, upstream: &str, route: &str, key: &str) -> Option<SetBy> {
        if let Some(whole) = self.whole.get(key) {
            return Some(whole.clone());
        }
        let own = self.routes.get(&(upstream.to_owned(), route.to_owned())).and_then(|own| own.get(key));
        own.or_else(|| self.upstreams.get(upstream)?.get(key)).cloned()
    }
}

impl Loaded {
    /// Who set the keys that can decide.
    #[must_use]
    pub fn origins(&self) -> Origins {
        let mut same = Interned::default();
        let mut origins = Origins::default();
        for key in OF_THE_PROCESS {
            let path: Vec<Step> = key.split('.').map(Step::from).collect();
            if let Some(set_by) = set_by(&self.tree, &path, &mut same) {
                origins.whole.insert(key, set_by);
            }
        }
        for name in self.config.upstream.keys() {
            let at = [Step::from("upstream"), Step::from(name)];
            let own = self.tree.at(&at).map(|node| self.keys(&at, node, &mut same));
            origins.upstreams.insert(name.clone(), own.unwrap_or_default());
        }
        for (number, route) in self.config.route.iter().enumerate() {
            let at = [Step::from("route"), Step::from(number)];
            let Some(node) = self.tree.at(&at) else { continue };
            let mut own = self.keys(&at, node, &mut same);
            if let Some(upstream) = origins.upstreams.get(&route.upstream) {
                own.retain(|key, set_by| upstream.get(key).is_none_or(|above| above.set_by != set_by.set_by));
            }
            if !own.is_empty() {
                origins.routes.insert((route.upstream.clone(), route.name.clone()), own);
            }
        }
        origins
    }

    fn keys(&self, at: &[Step], node: &Node, same: &mut Interned) -> BTreeMap<Arc<str>, SetBy> {
        let mut found = BTreeMap::new();
        let mut look = |key: &str, path: &[Step]| {
            let whole: Vec<Step> = at.iter().chain(path).cloned().collect();
            if let Some(set_by) = set_by(&self.tree, &whole, same) {
                found.insert(Arc::from(key), set_by);
            }
        };
        for key in OF_UPSTREAMS {
            look(key, &key.split('.').map(Step::from).collect::<Vec<_>>());
        }
        for &(list, member) in OF_LISTS {
            let items = node.key(list).map(Node::items).unwrap_or_default();
            for number in 0..items.len() {
                let mut path = vec![Step::from(list), Step::from(number)];
                path.extend((!member.is_empty()).then(|| Step::from(member)));
                let dot = if member.is_empty() { "" } else { "." };
                look(&format!("{list}[{number}]{dot}{member}"), &path);
            }
        }
        found
    }
}

/// Most upstreams say the same, or nothing: each text is kept once.
#[derive(Default)]
struct Interned(BTreeMap<String, Arc<str>>);

impl Interned {
    fn text(&mut self, text: String) -> Arc<str> {
        Arc::clone(self.0.entry(text).or_insert_with_key(|text| Arc::from(text.as_str())))
    }
}

fn set_by(tree: &Node, path: &[Step], same: &mut Interned) -> Option<SetBy> {
    let node = tree.at(path)?;
    let value =
        if node.table().is_some() || node.is_array_of_tables() { String::new() } else { node.written() };
    Some(SetBy {
        key: same.text(tree.name_of(path)),
        value: same.text(brief(value)),
        set_by: same.text(node.set_by()),
    })
}

fn brief(text: String) -> String {
    if text.chars().count() <= VALUE_MAX {
        return text;
    }
    text.chars().take(VALUE_MAX).chain(['…']).collect()
}

/// A longer value is cut: its line is told.
const VALUE_MAX: usize = 60;

/// Keys of the process that can decide.
const OF_THE_PROCESS: &[&str] = &[
    "server.buffer_memory",
    "server.body_idle_timeout",
    "server.drain_timeout",
    "server.header_timeout",
    "server.max_connections",
    "server.max_header_bytes",
    "server.max_request_body",
    "dead_letter.max_bytes",
];

/// Keys of upstreams and routes that can.
const OF_UPSTREAMS: &[&str] = &[
    "breaker.consecutive_failures",
    "breaker.failure_rate",
    "breaker.half_open_timeout",
    "breaker.open_for",
    "breaker.half_open_probes",
    "breaker.ramp",
    "breaker.slow_rate",
    "concurrency.max",
    "concurrency.queue",
    "concurrency.queue_timeout",
    "dead_letter.credentials",
    "dead_letter.max_body",
    "dead_letter.mode",
    "dead_letter.replay.ambiguous",
    "dead_letter.replay.expire_after",
    "dead_letter.replay.max_attempts",
    "dead_letter.respond",
    "health.unhealthy_after",
    "idempotent",
    "rate_limit",
    "retry.backoff.base",
    "retry.budget.ratio",
    "retry.max_attempts",
    "retry.max_body",
    "retry.on",
    "retry.retry_after",
    "shed_at",
    "stream.end_mark",
    "stream.first_content",
    "throttle.max_pause",
    "throttle.max_wait",
    "timeout.attempt",
    "timeout.idle",
    "timeout.stream",
    "timeout.total",
];

/// Members of their lists that can; "": the entry itself.
const OF_LISTS: &[(&str, &str)] = &[("rate_limit", "requests"), ("fallback", "")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    #[test]
    fn names_the_line_of_a_route_over_its_upstream_over_the_defaults() {
        let text = "[upstream.a]\nurl = \"http://a\"\nretry.max_attempts = 2\npreset = \"ai\"\n\
                    [[route]]\nname = \"r\"\npath = \"/a\"\nupstream = \"a\"\ntimeout.total = \"9s\"\n\
                    [[upstream.a.rate_limit]]\nrequests = 7\nper = \"1s\"\n";
        let origins = load_text("f.toml", text).unwrap().origins();
        let told = |key: &str| {
            let SetBy { key, value, set_by } = origins.of("a", "r", key).unwrap();
            format!("{key} = {value} by {set_by}")
        };
        assert_eq!(told("retry.max_attempts"), "upstream.a.retry.max_attempts = 2 by f.toml:3:7");
        assert_eq!(told("timeout.total"), "route[0].timeout.total = \"9s\" by f.toml:9:9");
        assert_eq!(told("timeout.attempt"), "upstream.a.timeout.attempt = \"600s\" by preset ai");
        assert_eq!(told("timeout.idle"), "upstream.a.timeout.idle = \"60s\" by defaults");
        assert_eq!(told("rate_limit[0].requests"), "upstream.a.rate_limit[0].requests = 7 by f.toml:11:1");
        assert_eq!(origins.of("b", "r", "timeout.total"), None);
    }
}
