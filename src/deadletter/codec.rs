//! How a letter's headers lie on disk, and the checksums that tell rot from what was stored.

use sha2::{Digest, Sha256};

use super::id::LetterId;

/// Headers as bytes: for each its name and its value, each behind its length in four bytes, little end first.
pub(super) fn encode(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let size = headers.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
    let mut bytes = Vec::with_capacity(size);
    for (name, value) in headers {
        put(&mut bytes, name.as_bytes());
        put(&mut bytes, value);
    }
    bytes
}

/// What [`encode`] was given; `None` if these are not its bytes.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let name = String::from_utf8(take(&mut bytes)?.to_vec()).ok()?;
        headers.push((name, take(&mut bytes)?.to_vec()));
    }
    Some(headers)
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(part);
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(part)
}

pub(super) type Sum = [u8; 32];

/// The checksum of a body: two captures under one idempotency key are the same write if it is the same.
pub(super) fn sum_of_body(body: &[u8]) -> Sum {
    Sha256::digest(body).into()
}

/// All that goes up with a replay, and whose it is.
pub(super) struct Sealed<'a> {
    pub(super) id: LetterId,
    pub(super) upstream: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) key_header: Option<(&'a str, &'a str)>,
    pub(super) headers: &'a [u8],
    /// The body's own checksum, so that the body is read once.
    pub(super) body_sum: &'a [u8],
}

impl Sealed<'_> {
    /// The checksum over all of it.
    pub(super) fn sum(&self) -> Sum {
        let (key_name, key_value) = self.key_header.unwrap_or_default();
        let id = self.id.to_string();
        let parts: [&[u8]; 8] = [
            id.as_bytes(),
            self.upstream.as_bytes(),
            self.method.as_bytes(),
            self.path.as_bytes(),
            key_name.as_bytes(),
            key_value.as_bytes(),
            self.headers,
            self.body_sum,
        ];
        let mut sum = Sha256::new();
        for part in parts {
            sum.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            sum.update(part);
        }
        sum.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_assert_ne};
    use proptest::test_runner::Config;
    use proptest::{option, proptest};

    use super::*;

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn any_headers_read_back_as_written(headers in vec((any::<String>(), vec(any::<u8>(), 0..40)), 0..8)) {
            prop_assert_eq!(decode(&encode(&headers)), Some(headers));
        }

        /// Nothing but what was written reads as headers: each list has one form.
        #[test]
        fn any_bytes_are_no_headers_or_those_that_they_were_made_of(bytes in vec(0_u8..12, 0..60)) {
            if let Some(headers) = decode(&bytes) {
                prop_assert_eq!(encode(&headers), bytes);
            }
        }

        /// Whatever is cut, flipped or put in, no letter goes up as another one: not by a byte that moves from part to part.
        #[test]
        fn the_checksum_tells_any_change(
            parts in vec("[a-c]{0,6}", 5),
            others in vec("[a-c]{0,6}", 5),
            keys in (option::of("[a-c]{1,3}"), option::of("[a-c]{1,3}")),
        ) {
            let sum = |parts: &[String], key: &Option<String>| {
                let [upstream, method, path, headers, body] = parts else { panic!("five parts") };
                Sealed {
                    id: LetterId::after(None, 5, 7),
                    upstream,
                    method,
                    path,
                    key_header: key.as_deref().map(|key| ("key", key)),
                    headers: headers.as_bytes(),
                    body_sum: &sum_of_body(body.as_bytes()),
                }
                .sum()
            };
            if (&parts, &keys.0) == (&others, &keys.1) {
                prop_assert_eq!(sum(&parts, &keys.0), sum(&others, &keys.1));
            } else {
                prop_assert_ne!(sum(&parts, &keys.0), sum(&others, &keys.1));
            }
            for at in 0..parts.len() {
                let mut moved = parts.clone();
                let Some(byte) = moved[at].pop() else { continue };
                moved[(at + 1) % 5].insert(0, byte);
                prop_assert!(moved == parts || sum(&moved, &keys.0) != sum(&parts, &keys.0));
            }
        }
    }

    #[test]
    fn headers_read_back_as_written() {
        let headers = vec![
            ("content-type".to_owned(), b"application/json".to_vec()),
            ("x".to_owned(), vec![0xff, 0x00]),
            (String::new(), Vec::new()),
        ];
        assert_eq!(decode(&encode(&headers)), Some(headers));
        assert_eq!(decode(&[]), Some(Vec::new()));
    }

    #[test]
    fn bytes_that_were_cut_are_no_headers() {
        let bytes = encode(&[("name".to_owned(), b"value".to_vec())]);
        for end in 1..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(decode(&[0xff; 9]), None);
    }
}
