//! Values in force as TOML again, secrets hidden.

use std::fmt::Write as _;

use super::mask;
use super::tree::{Layer, Node, Step, Value, written_key};

impl Node {
    /// As a user would write it on one line.
    pub(super) fn written(&self) -> String {
        match &self.value {
            // What the user wrote is taken from his file, where secrets are masked.
            Value::Text(_) | Value::Date if self.is_users() => {
                let place = self.origin.value_place();
                let shown = mask::masked(&place.source.text, place.span.clone(), &place.source.hidden);
                shown.replace('\n', " ")
            }
            Value::Text(text) => format!("{:?}", text.raw),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Bool(flag) => flag.to_string(),
            Value::Date => "(date)".to_owned(),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| item.node.written()).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Table(table) if table.is_empty() => "{}".to_owned(),
            Value::Table(table) => {
                let entries =
                    table.iter().map(|(key, node)| format!("{} = {}", written_key(key), node.written()));
                format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Who set it: `defaults`, `preset ai`, `profile testing` or a place in a file.
    pub(super) fn set_by(&self) -> String {
        match &self.origin.layer {
            Layer::Defaults => "defaults".to_owned(),
            Layer::Dialect(name) => format!("dialect {name}"),
            Layer::Preset(name) => format!("preset {name}"),
            Layer::Profile(name) => format!("profile {name}"),
            Layer::User => self.origin.key_place().to_string(),
        }
    }

    /// Every value in it that is no table, with its path; entries of lists one by one.
    pub(super) fn leaves(&self) -> Vec<(Vec<Step>, &Self)> {
        let mut leaves = Vec::new();
        self.collect(&mut Vec::new(), &mut leaves);
        leaves
    }

    fn collect<'n>(&'n self, path: &mut Vec<Step>, leaves: &mut Vec<(Vec<Step>, &'n Self)>) {
        match &self.value {
            Value::Table(table) if !table.is_empty() => {
                for (key, node) in table {
                    path.push(Step::Key(key.clone()));
                    node.collect(path, leaves);
                    path.pop();
                }
            }
            Value::Array(items) if self.is_array_of_tables() => {
                for (number, item) in items.iter().enumerate() {
                    path.push(Step::Item(number));
                    item.node.collect(path, leaves);
                    path.pop();
                }
            }
            _ => leaves.push((path.clone(), self)),
        }
    }

    /// A TOML document; what is not from the plain defaults says so.
    pub(super) fn document(&self) -> String {
        let mut text = String::new();
        self.section("", &mut text);
        text
    }

    fn section(&self, name: &str, text: &mut String) {
        let Some(table) = self.table() else { return };
        let is_section = |node: &Self| node.table().is_some_and(|table| !table.is_empty());
        let plain: Vec<_> = table.iter().filter(|(_, node)| !is_section(node)).collect();
        if !name.is_empty() && !plain.is_empty() {
            writeln!(text, "\n[{name}]").expect(INFALLIBLE);
        }
        for (key, node) in plain {
            let who = if node.origin.layer == Layer::Defaults {
                String::new()
            } else {
                format!("   # {}", node.set_by())
            };
            writeln!(text, "{} = {}{who}", written_key(key), node.written()).expect(INFALLIBLE);
        }
        for (key, node) in table.iter().filter(|(_, node)| is_section(node)) {
            let dot = if name.is_empty() { "" } else { "." };
            node.section(&format!("{name}{dot}{}", written_key(key)), text);
        }
    }
}

const INFALLIBLE: &str = "invariant: writing to a String cannot fail";
