//! Finds the route that fits a request without asking each: what that costs does not grow with the number of routes.

use std::cmp::Ordering;

/// What one route asks of a request's host and path.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    /// `None`: any.
    pub host: Option<&'a str>,
    /// The path itself and all that lies below it, by whole segments.
    pub path: &'a str,
}

/// Routes by path, each path with a link to the nearest one above it.
///
/// The paths stand in an order in which whatever lies below a path follows it at once, as a slash comes before any other byte.
/// So the last one that does not come behind a request's path is the longest that covers it, or lies below that one.
#[derive(Debug, Default)]
pub struct Index {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// The root is empty.
    path: String,
    above: Option<usize>,
    /// The numbers of the routes that ask for a host, which is in lower case here; by host.
    hosts: Vec<(String, Vec<usize>)>,
    /// Those that do not.
    any: Vec<usize>,
}

impl Index {
    /// Of routes in the order in which they are to be preferred; they are known by their number in it.
    #[must_use]
    pub fn new<'a>(routes: impl Iterator<Item = Asks<'a>>) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        for (number, asks) in routes.enumerate() {
            let path = if asks.path == "/" { "" } else { asks.path };
            let at = match nodes.binary_search_by(|node| order(&node.path, path)) {
                Ok(at) => at,
                Err(at) => {
                    nodes.insert(
                        at,
                        Node { path: path.to_owned(), above: None, hosts: Vec::new(), any: Vec::new() },
                    );
                    at
                }
            };
            if let Some(node) = nodes.get_mut(at) {
                node.add(number, asks.host);
            }
        }
        let mut above: Vec<usize> = Vec::new();
        for at in 0..nodes.len() {
            let Some((earlier, [node, ..])) = nodes.split_at_mut_checked(at) else { continue };
            while let Some(last) = above.last().and_then(|last| earlier.get(*last))
                && !last.covers(&node.path)
            {
                above.pop();
            }
            node.above = above.last().copied();
            above.push(at);
        }
        Self { nodes }
    }

    /// The first route that asks for what the request has, and that `fits` also in what this index does not know.
    #[must_use]
    pub fn first(&self, host: Option<&str>, path: &str, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let behind = self.nodes.partition_point(|node| order(&node.path, path) != Ordering::Greater);
        let mut next = behind.checked_sub(1);
        let mut best: Option<usize> = None;
        while let Some(node) = next.and_then(|at| self.nodes.get(at)) {
            if node.covers(path) {
                let found = node.of_host(host).iter().copied().find(|number| fits(*number));
                let found = found.into_iter().chain(node.any.iter().copied().find(|number| fits(*number)));
                best = best.into_iter().chain(found).min();
            }
            next = node.above;
        }
        best
    }
}

impl Node {
    fn add(&mut self, number: usize, host: Option<&str>) {
        let Some(host) = host else {
            self.any.push(number);
            return;
        };
        match self.hosts.binary_search_by(|(known, _)| by_host(known, host)) {
            Ok(at) => self.hosts.get_mut(at).into_iter().for_each(|(_, numbers)| numbers.push(number)),
            Err(at) => self.hosts.insert(at, (host.to_ascii_lowercase(), vec![number])),
        }
    }

    fn of_host(&self, host: Option<&str>) -> &[usize] {
        let found = host.filter(|_| !self.hosts.is_empty()).and_then(|host| {
            let at = self.hosts.binary_search_by(|(known, _)| by_host(known, host)).ok()?;
            self.hosts.get(at)
        });
        found.map_or(&[], |(_, numbers)| numbers)
    }

    /// Whether `path` lies at or below this one, by whole segments.
    fn covers(&self, path: &str) -> bool {
        self.path.is_empty()
            || path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A slash before any other byte.
fn order(one: &str, other: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    one.bytes().map(rank).cmp(other.bytes().map(rank))
}

fn by_host(known: &str, host: &str) -> Ordering {
    known.bytes().cmp(host.bytes().map(|byte| byte.to_ascii_lowercase()))
}
