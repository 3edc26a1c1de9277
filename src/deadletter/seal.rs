//! Sealing: what of a letter may bear payload is encrypted before it reaches the disk.
//!
//! Each sealed part has a key of its own, derived from the configured one by HKDF-SHA256 under 32 random bytes, and is used
//! once: no count of letters brings a nonce back. AES-256-GCM binds the part to its kind and to the letter that it is of.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::Zeroizing;

use super::id::LetterId;
use crate::config::model::{DeadLetter, KEY_BYTES, key_bytes};

/// The form in which parts are sealed; the first byte of each.
const FORM: u8 = 1;
const ID: usize = 6;
const SALT: usize = 32;
const TAG: usize = 16;
const HEAD: usize = 1 + ID + SALT;

/// What a key is known by: derived one way from it, so that it may be shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut id = [0; ID];
        if text.len() != 2 * ID || !text.is_ascii() {
            return Err(());
        }
        for (at, byte) in id.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(id))
    }
}

/// One configured key. Its bytes are overwritten when it goes.
pub(super) struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl Key {
    pub(super) fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut id = [0; ID];
        let sum = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice()), b"fender key id");
        id.iter_mut().zip(sum.as_ref()).for_each(|(to, from)| *to = *from);
        Self { id: KeyId(id), bytes }
    }

    pub(super) const fn id(&self) -> KeyId {
        self.id
    }

    /// The key of one part. It seals that part alone, so that its nonce may be nought.
    fn of_part(&self, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
        let own = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.bytes.as_slice());
        let key = UnboundKey::from(own.expand(&[b"fender sealed part"], &AES_256_GCM)?);
        Ok(LessSafeKey::new(key))
    }

    /// Seals a part.
    pub(super) fn seal(&self, part: Part, of: Bound<'_>, clear: &[u8]) -> Result<Vec<u8>, Unsealed> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| Unsealed)?;
        let mut sealed = Vec::with_capacity(HEAD + clear.len() + TAG);
        sealed.push(FORM);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(clear);
        let key = self.of_part(&salt).map_err(|_| Unsealed)?;
        let data = Aad::from(of.data(part));
        let text = sealed.get_mut(HEAD..).ok_or(Unsealed)?;
        let tag = key.seal_in_place_separate_tag(nonce(), data, text).map_err(|_| Unsealed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// What a sealed part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    /// Path, order key, idempotency key, the body's checksum: what a list reads.
    Head = 1,
    Headers = 2,
    Body = 3,
    /// What the client bore to be let in: header fields, and the path if a secret is in it.
    Credentials = 4,
    /// What went wrong in an attempt, and what was answered.
    Attempt = 5,
    /// The store's key of tags.
    Tags = 6,
    /// Headers or body that were damaged before they were sealed: they open as neither.
    Damaged = 7,
}

/// To which letter a part belongs; no other one's opens in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) id: Option<LetterId>,
    pub(super) upstream: &'a str,
    pub(super) method: &'a str,
}

impl Bound<'_> {
    /// What belongs to the store itself.
    pub(super) const STORE: Bound<'static> = Bound { id: None, upstream: "", method: "" };

    fn data(&self, part: Part) -> Vec<u8> {
        let mut data = vec![FORM, part as u8];
        let id = self.id.map(|id| id.to_string()).unwrap_or_default();
        for text in [&id, self.upstream, self.method] {
            data.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        data
    }
}

/// The system has no randomness, or the cipher refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part cannot be sealed")]
pub(super) struct Unsealed;

/// Why a part does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// The key that it was sealed with is not configured.
    Missing(KeyId),
    /// These are not the bytes that were sealed, or not of this letter.
    Damaged,
}

/// The key that a sealed part says it was sealed with.
pub(super) fn named(sealed: &[u8]) -> Option<KeyId> {
    let (id, _) = sealed.get(1..)?.split_first_chunk::<ID>()?;
    Some(KeyId(*id))
}

/// The keys that are configured.
#[derive(Debug, Default)]
pub struct Keys {
    current: Option<Key>,
    old: Vec<Key>,
}

impl Keys {
    /// Those of the settings, which have been checked: what is no key there is none here.
    #[must_use]
    pub fn of(settings: &DeadLetter) -> Self {
        Self {
            current: settings.encryption_key.as_ref().and_then(key_bytes).map(Key::new),
            old: settings.old_encryption_keys.iter().filter_map(key_bytes).map(Key::new).collect(),
        }
    }

    /// The one that is written with.
    pub(super) const fn current(&self) -> Option<&Key> {
        self.current.as_ref()
    }

    /// All, the one that is written with first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.current.iter().chain(&self.old)
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Key> {
        self.all().find(|key| key.id == id)
    }

    /// What was sealed.
    pub(super) fn open(&self, part: Part, of: Bound<'_>, sealed: &[u8]) -> Result<Vec<u8>, Shut> {
        let (head, text) = sealed.split_first_chunk::<HEAD>().ok_or(Shut::Damaged)?;
        let [FORM, rest @ ..] = head else { return Err(Shut::Damaged) };
        let (id, salt) = rest.split_first_chunk::<ID>().ok_or(Shut::Damaged)?;
        let key = self.find(KeyId(*id)).ok_or(Shut::Missing(KeyId(*id)))?;
        let own = key.of_part(salt).map_err(|_| Shut::Damaged)?;
        let mut text = text.to_vec();
        let clear = own.open_in_place(nonce(), Aad::from(of.data(part)), &mut text);
        let length = clear.map_err(|_| Shut::Damaged)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// The key under which what must be found again without being read is kept: order keys and idempotency keys. It is the
/// store's own, sealed in it, so that a rotation does not part letters of one order.
pub(super) struct Tags {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    key: hmac::Key,
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tags(hidden)")
    }
}

impl Tags {
    pub(super) fn generate() -> Result<Self, Unsealed> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| Unsealed)?;
        Ok(Self::new(bytes))
    }

    pub(super) fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice()), bytes }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        *self.bytes == *other.bytes
    }

    pub(super) fn sealed(&self, key: &Key) -> Result<Vec<u8>, Unsealed> {
        key.seal(Part::Tags, Bound::STORE, self.bytes.as_slice())
    }

    pub(super) fn open(keys: &Keys, sealed: &[u8]) -> Option<Self> {
        let bytes = Zeroizing::new(keys.open(Part::Tags, Bound::STORE, sealed).ok()?);
        Some(Self::new(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// What stands in the file for these words.
    pub(super) fn tag(&self, what: &str, words: &[&str]) -> String {
        let mut signed = hmac::Context::with_key(&self.key);
        for word in [what].iter().chain(words) {
            signed.update(&u64::try_from(word.len()).unwrap_or(u64::MAX).to_le_bytes());
            signed.update(word.as_bytes());
        }
        let sum = signed.sign();
        sum.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq};
    use proptest::proptest;
    use proptest::test_runner::Config;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::new(Zeroizing::new([byte; KEY_BYTES]))
    }

    fn keys(current: u8, old: &[u8]) -> Keys {
        Keys { current: Some(key(current)), old: old.iter().copied().map(key).collect() }
    }

    fn of(id: LetterId) -> Bound<'static> {
        Bound { id: Some(id), upstream: "api", method: "POST" }
    }

    const LETTER: LetterId = LetterId::NOUGHT;

    proptest! {
        #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

        #[test]
        fn what_was_sealed_opens_and_shows_nothing(clear in vec(any::<u8>(), 0..300)) {
            let sealed = key(1).seal(Part::Body, of(LETTER), &clear).unwrap();
            prop_assert_eq!(sealed.len(), HEAD + clear.len() + TAG);
            prop_assert!(clear.len() < 8 || !sealed.windows(clear.len()).any(|part| part == clear));
            prop_assert_eq!(keys(1, &[]).open(Part::Body, of(LETTER), &sealed), Ok(clear));
        }

        /// Any byte of any region: form, key id, salt, text, tag.
        #[test]
        fn no_changed_byte_opens(clear in vec(any::<u8>(), 1..40), bit in 0_u8..8) {
            let keys = keys(1, &[2]);
            let sealed = key(1).seal(Part::Body, of(LETTER), &clear).unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let opened = keys.open(Part::Body, of(LETTER), &changed);
                // A changed id names a key that nobody has.
                let wanted = if (1..=ID).contains(&at) { matches!(opened, Err(Shut::Missing(_))) } else { opened == Err(Shut::Damaged) };
                prop_assert!(wanted, "byte {}: {:?}", at, opened);
            }
            for end in 0..sealed.len() {
                prop_assert_eq!(keys.open(Part::Body, of(LETTER), &sealed[..end]).is_ok(), false);
            }
        }
    }

    #[test]
    fn a_part_opens_in_its_own_place_alone() {
        let keys = keys(1, &[]);
        let sealed = key(1).seal(Part::Headers, of(LETTER), b"x").unwrap();
        let elsewhere = [
            (Part::Body, of(LETTER)),
            (Part::Damaged, of(LETTER)),
            (Part::Headers, of(LetterId::after(Some(LETTER), 0, 0))),
            (Part::Headers, Bound::STORE),
            (Part::Headers, Bound { upstream: "apiP", method: "OST", ..of(LETTER) }),
            (Part::Headers, Bound { method: "PUT", ..of(LETTER) }),
        ];
        for (part, bound) in elsewhere {
            assert_eq!(keys.open(part, bound, &sealed), Err(Shut::Damaged), "{part:?} {bound:?}");
        }
        assert_eq!(keys.open(Part::Headers, of(LETTER), &sealed), Ok(b"x".to_vec()));
    }

    #[test]
    fn an_old_key_opens_and_another_one_is_told_by_its_name() {
        let sealed = key(1).seal(Part::Body, of(LETTER), b"x").unwrap();
        assert_eq!(keys(2, &[3, 1]).open(Part::Body, of(LETTER), &sealed), Ok(b"x".to_vec()));
        assert_eq!(keys(2, &[3]).open(Part::Body, of(LETTER), &sealed), Err(Shut::Missing(key(1).id())));
        // What names a key that it was not sealed with does not open with it.
        let mut renamed = sealed;
        renamed[1..=ID].copy_from_slice(&key(2).id().0);
        assert_eq!(keys(2, &[]).open(Part::Body, of(LETTER), &renamed), Err(Shut::Damaged));
    }

    #[test]
    fn equal_texts_are_sealed_unequally_and_tagged_equally() {
        let seal = || key(1).seal(Part::Body, of(LETTER), b"same").unwrap();
        assert_ne!(seal(), seal());
        let tags = Tags::generate().unwrap();
        assert_eq!(tags.tag("order", &["a", "b"]), tags.tag("order", &["a", "b"]));
        assert_ne!(tags.tag("order", &["a", "b"]), tags.tag("order", &["ab", ""]));
        assert_ne!(tags.tag("order", &["a"]), tags.tag("once", &["a"]));
        assert_ne!(tags.tag("order", &["a"]), Tags::generate().unwrap().tag("order", &["a"]));
        let again = Tags::open(&keys(2, &[1]), &tags.sealed(&key(1)).unwrap()).unwrap();
        assert!(again.same(&tags));
    }

    #[test]
    fn nothing_prints_a_key() {
        let shown = format!("{:?} {:?}", keys(0x41, &[0x42]), Tags::generate().unwrap());
        assert!(!shown.contains("65") && !shown.contains("AAAA") && !shown.contains("4141"), "{shown}");
        let id = key(7).id();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<KeyId>(), Err(()));
    }
}
