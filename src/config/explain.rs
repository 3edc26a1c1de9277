//! Every key in force for one upstream, and who set it.

use std::fmt::Write as _;

use super::load::Loaded;
use super::resolve::OVERRIDABLE;
use super::tree::{Label, Node, Step};

impl Loaded {
    /// One line a key: `key = value   # who`; then what each route sets over it. `None` if there is no such upstream.
    pub fn explain(&self, upstream: &str) -> Option<String> {
        let node = self.tree.key("upstream")?.key(upstream)?;
        let prefix = self.tree.name_of(&[Step::from("upstream"), Step::from(upstream)]);
        let mut lines: Vec<(String, String)> = node
            .leaves()
            .into_iter()
            .map(|(path, leaf)| {
                let spoken = self.spoken(upstream).filter(|_| path == [Step::from("dialect")]);
                let who = spoken
                    .map_or_else(|| leaf.set_by(), |name| format!("{}; it comes to {name}", leaf.set_by()));
                (format!("{prefix}.{} = {}", node.name_of(&path), leaf.written()), who)
            })
            .collect();
        let routes = self.tree.key("route").map(Node::items).unwrap_or_default();
        for (number, item) in routes.iter().enumerate() {
            // A shorthand says nothing that its upstream's lines do not.
            let is_table = matches!(item.label, Label::Index(_));
            if is_table && item.node.key("upstream").and_then(Node::text) == Some(upstream) {
                lines.extend(self.route_lines(number, &item.node, node));
            }
        }
        let width = lines.iter().map(|(line, _)| line.chars().count().min(WIDTH_MAX)).max().unwrap_or(0);
        let mut text = String::new();
        for (line, who) in lines {
            let padding = width.saturating_sub(line.chars().count());
            writeln!(text, "{line}{:padding$}   # {who}", "")
                .expect("invariant: writing to a String cannot fail");
        }
        Some(text)
    }

    /// What `dialect = "auto"` comes to.
    fn spoken(&self, upstream: &str) -> Option<&str> {
        let upstream = self.config.upstream.get(upstream).filter(|upstream| upstream.dialect == "auto")?;
        Some(upstream.spoken().name())
    }

    /// What a route says itself, and not what it has from its upstream.
    fn route_lines(&self, number: usize, route: &Node, upstream: &Node) -> Vec<(String, String)> {
        let own = |path: &[Step], leaf: &Node| {
            let inherits =
                matches!(path.first(), Some(Step::Key(key)) if OVERRIDABLE.contains(&key.as_str()));
            let above = upstream.at(path).filter(|_| inherits);
            above.is_none_or(|above| above.set_by() != leaf.set_by())
        };
        let at = [Step::from("route"), Step::from(number)];
        let name = self.tree.name_of(&at);
        let leaves = route.leaves().into_iter().filter(|(path, leaf)| own(path, leaf));
        leaves
            .map(|(path, leaf)| {
                (format!("{name}.{} = {}", route.name_of(&path), leaf.written()), leaf.set_by())
            })
            .collect()
    }
}

const WIDTH_MAX: usize = 72; // Longer lines stand out rather than push all others to the right.
