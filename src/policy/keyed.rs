//! One state for each key, and a bound on how many: the least recently used gives way.

use hashlink::LruCache;
use hashlink::linked_hash_map::Entry;

/// States by key, at most `cap` of them. A key is a hash that the caller made: what it stands for never comes in here.
#[derive(Debug)]
pub struct Keyed<T> {
    states: LruCache<u64, T>,
    cap: usize,
}

impl<T> Keyed<T> {
    /// Holds at most `cap` states, and at least one.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        let cap = cap.max(1);
        Self { states: LruCache::new(cap), cap }
    }

    /// The state of a key, made if there is none: then the least recently used one gives way. Counts as a use.
    pub fn entry(&mut self, key: u64, make: impl FnOnce() -> T) -> &mut T {
        if self.states.len() >= self.cap && !self.states.contains_key(&key) {
            self.states.remove_lru();
        }
        match self.states.entry(key) {
            Entry::Occupied(mut there) => {
                there.to_back();
                there.into_mut()
            }
            Entry::Vacant(free) => free.insert(make()),
        }
    }

    /// The state of a key, if there is one. Does not count as a use.
    pub fn get(&mut self, key: u64) -> Option<&mut T> {
        self.states.peek_mut(&key)
    }

    /// The state of a key, if there is one, to look at. Does not count as a use.
    #[must_use]
    pub fn peek(&self, key: u64) -> Option<&T> {
        self.states.peek(&key)
    }

    /// The state of a key, if there is one. Counts as a use.
    pub fn used(&mut self, key: u64) -> Option<&mut T> {
        self.states.get_mut(&key)
    }

    /// All of them, the least recently used first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.states.iter().map(|(key, state)| (*key, state))
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.states.iter_mut().map(|(key, state)| (*key, state))
    }

    /// A new state for a key; the least recently used one gives way if there are too many.
    pub fn put(&mut self, key: u64, state: T) {
        self.states.insert(key, state);
    }

    /// Lets go of the state of a key.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        self.states.remove(&key)
    }

    /// Lets go of the least recently used one.
    pub fn evict(&mut self) -> Option<T> {
        self.states.remove_lru().map(|(_, state)| state)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut T) -> bool) {
        self.states.retain(|key, state| keep(*key, state));
    }
}
