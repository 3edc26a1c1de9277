//! What is looked for: JSON pointers in a tree.

use std::borrow::Cow;

/// A set of JSON pointers (RFC 6901), in a tree. The step `*` stands for every element of an array.
#[derive(Debug, Clone)]
pub struct Pointers {
    nodes: Vec<Node>,
    count: usize,
}

/// A place on the way to one pointer or several.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) children: Vec<Child>,
    /// Where every element of an array leads.
    pub(super) each: u16,
    /// The pointer that ends here.
    pub(super) pointer: Option<usize>,
    /// The bits of the children.
    pub(super) below: Visited,
    /// The lengths of their keys, a bit for each: most keys of a text are looked for nowhere, and need no comparison.
    lengths: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) key: Box<str>,
    /// The key as the number of an element.
    pub(super) index: Option<u32>,
    pub(super) node: u16,
}

/// Why a pointer cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unaskable {
    /// It does not begin with a slash, or has a `~` that is neither `~0` nor `~1`.
    #[error("is no JSON pointer, which starts with a slash and writes \"~\" as \"~0\"")]
    NoPointer,
    /// It is longer than anything that is looked into.
    #[error("has more than {STEPS_MAX} steps")]
    TooDeep,
    /// One asks for an element by its number, another for each.
    #[error("asks of one array for an element by its number, and another pointer for each element")]
    NumberAndEach,
    /// There are too many of them.
    #[error("is one place too many: all pointers together may have {NODES_MAX} steps")]
    TooMany,
}

impl Default for Pointers {
    fn default() -> Self {
        Self { nodes: vec![Node::new()], count: 0 }
    }
}

impl Pointers {
    /// Adds a pointer, and answers its number: the same one for the same pointer.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn add(&mut self, pointer: &str) -> Result<usize, Unaskable> {
        let rest = pointer.strip_prefix('/').ok_or(Unaskable::NoPointer)?;
        if rest.split('/').count() > STEPS_MAX {
            return Err(Unaskable::TooDeep);
        }
        let mut here = ROOT;
        for step in rest.split('/') {
            here = self.step(here, step)?;
        }
        let count = self.count;
        let node = self.nodes.get_mut(usize::from(here)).ok_or(Unaskable::TooMany)?;
        let number = *node.pointer.get_or_insert(count);
        self.count = self.count.max(number + 1);
        Ok(number)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn step(&mut self, from: u16, step: &str) -> Result<u16, Unaskable> {
        let known = |node: &Node| match step {
            "*" => Some(node.each).filter(|each| *each != NONE),
            key => node.children.iter().find(|child| *child.key == *key_of(key)).map(|child| child.node),
        };
        let node = self.nodes.get(usize::from(from)).ok_or(Unaskable::TooMany)?;
        if let Some(known) = known(node) {
            return Ok(known);
        }
        if has_stray_tilde(step) {
            return Err(Unaskable::NoPointer);
        }
        let key = key_of(step);
        let index = index_of(&key);
        let clashes = match step {
            "*" => node.children.iter().any(|child| child.index.is_some()),
            _ => index.is_some() && node.each != NONE,
        };
        if clashes {
            return Err(Unaskable::NumberAndEach);
        }
        let new = u16::try_from(self.nodes.len()).ok().filter(|new| usize::from(*new) < NODES_MAX);
        let new = new.ok_or(Unaskable::TooMany)?;
        self.nodes.push(Node::new());
        let node = self.nodes.get_mut(usize::from(from)).ok_or(Unaskable::TooMany)?;
        if step == "*" {
            node.each = new;
        } else {
            node.lengths |= length_bit(key.len());
            node.children.push(Child { key: key.into(), index, node: new });
            node.below.set(new);
        }
        Ok(new)
    }

    pub(super) fn node(&self, node: u16) -> Option<&Node> {
        self.nodes.get(usize::from(node))
    }
}

impl Node {
    fn new() -> Self {
        Self { children: Vec::new(), each: NONE, pointer: None, below: Visited::default(), lengths: 0 }
    }

    /// Where a key leads, if it leads anywhere.
    pub(super) fn child(&self, key: &[u8]) -> Option<&Child> {
        if self.lengths & length_bit(key.len()) == 0 {
            return None;
        }
        self.children.iter().find(|child| child.key.as_bytes() == key)
    }
}

/// All lengths from 63 on share one.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

fn key_of(step: &str) -> Cow<'_, str> {
    if step.contains('~') {
        Cow::Owned(step.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(step)
    }
}

fn has_stray_tilde(step: &str) -> bool {
    step.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']))
}

/// An element's number: no leading zero, no sign.
fn index_of(key: &str) -> Option<u32> {
    let plain = key == "0" || key.starts_with(|first: char| ('1'..='9').contains(&first));
    if plain { key.parse().ok() } else { None }
}

/// Which places of the tree an object has shown already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Visited([u64; 4]);

impl Visited {
    pub(super) fn set(&mut self, node: u16) {
        if let Some(word) = self.0.get_mut(usize::from(node >> 6)) {
            *word |= 1 << (node & 63);
        }
    }

    pub(super) fn has(&self, node: u16) -> bool {
        self.0.get(usize::from(node >> 6)).is_some_and(|word| word & (1 << (node & 63)) != 0)
    }

    pub(super) fn clear(&mut self, others: Self) {
        self.0.iter_mut().zip(others.0).for_each(|(word, other)| *word &= !other);
    }
}

const STEPS_MAX: usize = 16;
const NODES_MAX: usize = 256;

/// The whole text.
pub(super) const ROOT: u16 = 0;

/// A place that no pointer leads to.
pub(super) const NONE: u16 = u16::MAX;
