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
    use super::*;

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
