//! What is wrong with a dialect's file beyond its single values.

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The way to the key, from the dialect's table.
    pub at: Vec<At>,
    /// Why; a fragment that follows the key.
    pub message: String,
    /// A way out; may be empty.
    pub help: String,
}

/// One step of the way to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// Into a table.
    Key(String),
    /// Into an array.
    Item(usize),
}

impl From<&str> for At {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for At {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for At {
    fn from(number: usize) -> Self {
        Self::Item(number)
    }
}

/// A way to a key, of keys and numbers.
macro_rules! way {
    ($($step:expr),* $(,)?) => {
        Vec::<$crate::dialect::At>::from([$($crate::dialect::At::from($step)),*])
    };
}
pub(super) use way;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn tell(&mut self, at: Vec<At>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Fault { at, message: message.into(), help: help.into() });
    }
}
