//! The defaults, the presets and the profiles: one file, compiled in.

use std::path::PathBuf;

use super::model::{Preset, Profile};
use super::parse::parse;
use super::tree::{Item, Layer, Node, Origin, Table, Text, Value};

/// The text of the defaults file.
pub const TEXT: &str = include_str!("../../config/defaults.toml");

/// The defaults file, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    /// All but upstreams; lists of tables are empty.
    pub(super) root: Node,
    /// What an upstream starts from.
    pub(super) upstream: Node,
    /// What one entry of each list of tables starts from.
    pub(super) token: Node,
    pub(super) route: Node,
    pub(super) notify: Node,
    pub(super) rate_limit: Node,
    pub(super) fallback: Node,
    presets: Table,
    profiles: Table,
}

impl Defaults {
    /// Reads the file that is compiled in.
    pub(super) fn read() -> Self {
        let (mut root, problems) = parse("defaults.toml", PathBuf::new(), TEXT, Layer::Defaults);
        debug_assert!(problems.is_empty(), "the defaults are TOML");
        let presets = take(&mut root, "presets");
        let profiles = take(&mut root, "profiles");
        let mut upstreams = take(&mut root, "upstream");
        let mut upstream = table_or_empty(take(&mut upstreams, "NAME"), &root.origin);
        let mut admin = table_or_empty(take(&mut root, "admin"), &root.origin);
        let token = first_entry(&mut admin, "token");
        let route = first_entry(&mut root, "route");
        let notify = first_entry(&mut root, "notify");
        let rate_limit = first_entry(&mut upstream, "rate_limit");
        let fallback = first_entry(&mut upstream, "fallback");
        let no_upstreams = Node::new(Value::Table(Table::new()), root.origin.clone());
        put(&mut root, "upstream", no_upstreams);
        put(&mut root, "admin", admin);
        Self {
            root,
            upstream,
            token,
            route,
            notify,
            rate_limit,
            fallback,
            presets: into_table(presets),
            profiles: into_table(profiles),
        }
    }

    /// What a preset says, to be laid over the defaults of an upstream.
    pub(super) fn preset(&self, name: &str) -> Option<Node> {
        let mut node = self.presets.get(name)?.clone();
        relabel(&mut node, &Layer::Preset(name.to_owned()));
        Some(node)
    }

    /// What a profile says: of the whole, and of each upstream.
    pub(super) fn profile(&self, name: &str) -> Option<(Node, Option<Node>)> {
        let mut node = self.profiles.get(name)?.clone();
        relabel(&mut node, &Layer::Profile(name.to_owned()));
        let upstream = match &mut node.value {
            Value::Table(table) => table.remove("upstream"),
            _ => None,
        };
        Some((node, upstream))
    }
}

/// Puts a node into a table node.
pub(super) fn put(node: &mut Node, key: &str, child: Node) {
    if let Value::Table(table) = &mut node.value {
        table.insert(key.to_owned(), child);
    }
}

/// Takes a node out of a table node.
pub(super) fn take(node: &mut Node, key: &str) -> Node {
    let origin = node.origin.clone();
    match &mut node.value {
        Value::Table(table) => {
            table.remove(key).unwrap_or_else(|| Node::new(Value::Table(Table::new()), origin))
        }
        _ => Node::new(Value::Table(Table::new()), origin),
    }
}

fn table_or_empty(node: Node, origin: &Origin) -> Node {
    if node.table().is_some() { node } else { Node::new(Value::Table(Table::new()), origin.clone()) }
}

fn into_table(node: Node) -> Table {
    match node.value {
        Value::Table(table) => table,
        _ => Table::new(),
    }
}

/// The entry that a list of tables shows, leaving the list empty.
fn first_entry(node: &mut Node, key: &str) -> Node {
    let list = take(node, key);
    let origin = list.origin.clone();
    put(node, key, Node::new(Value::Array(Vec::new()), origin.clone()));
    let items: Vec<Item> = match list.value {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    items.into_iter().next().map_or_else(|| Node::new(Value::Table(Table::new()), origin), |item| item.node)
}

fn relabel(node: &mut Node, layer: &Layer) {
    node.origin.layer = layer.clone();
    match &mut node.value {
        Value::Table(table) => table.values_mut().for_each(|child| relabel(child, layer)),
        Value::Array(items) => items.iter_mut().for_each(|item| relabel(&mut item.node, layer)),
        _ => {}
    }
}

/// The defaults that an upstream NAME starts from under a preset and a profile, as TOML.
pub fn resolved(preset: Preset, profile: Profile) -> String {
    let defaults = Defaults::read();
    let (whole, of_upstreams) = match defaults.profile(profile.as_str()) {
        Some((whole, of_upstreams)) => (Some(whole), of_upstreams),
        None => (None, None),
    };
    let mut upstream = defaults.upstream.clone();
    if let Some(preset) = defaults.preset(preset.as_str()) {
        upstream = preset.over(upstream);
    }
    if let Some(profile) = of_upstreams {
        upstream = profile.over(upstream);
    }
    let mut root = defaults.root.clone();
    if let Some(whole) = whole {
        root = whole.over(root);
    }
    let chosen = |word: &str, layer: Layer| {
        let text = Text { raw: word.to_owned(), resolved: None };
        Node::new(Value::Text(text), Origin { layer, ..defaults.root.origin.clone() })
    };
    put(&mut root, "profile", chosen(profile.as_str(), Layer::Profile(profile.as_str().to_owned())));
    put(&mut upstream, "preset", chosen(preset.as_str(), Layer::Preset(preset.as_str().to_owned())));
    let mut upstreams = Node::new(Value::Table(Table::new()), root.origin.clone());
    put(&mut upstreams, "NAME", upstream);
    put(&mut root, "upstream", upstreams);
    root.document()
}
