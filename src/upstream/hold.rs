//! An answer that is not passed on yet, because there may be a better one: its body is read, within bounds, so that it can
//! still be given to the client and its connection can serve others meanwhile.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use super::send::Reply;
use crate::memory::Lease;

/// A whole answer in memory.
#[derive(Debug)]
pub struct Held {
    /// Its head.
    pub parts: Parts,
    /// Its body, whole.
    pub body: Bytes,
    _lease: Lease,
}

impl Reply {
    /// Reads the body whole. `None` if it is longer than `max`, does not come by `until`, breaks off, or memory is short:
    /// the answer is gone then, and its connection with it.
    pub async fn hold(self, max: u64, mut lease: Lease, until: Instant) -> Option<Held> {
        let (parts, mut incoming) = self.response.into_parts();
        let mut body = BytesMut::new();
        let whole = async {
            while let Some(frame) = incoming.frame().await {
                let frame = frame.ok()?;
                let Some(data) = frame.data_ref() else { continue };
                if body.len() as u64 + data.len() as u64 > max || !lease.grow(data.len() as u64) {
                    return None;
                }
                body.extend_from_slice(data);
            }
            Some(())
        };
        timeout_at(until.into(), whole).await.ok().flatten()?;
        self.loan.give_back();
        Some(Held { parts, body: body.freeze(), _lease: lease })
    }
}
