//! One request in flight: what came, which plan applies, until when.

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_TYPE, EXPECT, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;

use super::client::Client;
use super::finish::Finish;
use super::headers::{Upward, upward};
use super::id::RequestId;
use crate::policy::verdict::Repeatable;
use crate::route::Plan;
use crate::upstream::upload::{Upload, UploadBody};
use crate::upstream::{Interims, Outgoing};

/// A request with all that its attempts need.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub id: RequestId,
    pub plan: Arc<Plan>,
    pub client: &'a Client,
    pub trusted: bool,
    pub method: Method,
    pub version: Version,
    pub headers: HeaderMap,
    /// Path and query as they go up.
    pub target: PathAndQuery,
    /// `None`: the request has no body.
    pub upload: Option<Upload>,
    /// The client's side of a protocol switch that it asks for.
    pub switch: Option<OnUpgrade>,
    /// All attempts, waits included, end here.
    pub deadline: Instant,
    pub started: Instant,
    /// When it was known how the last attempt ended.
    pub decided: Instant,
    pub attempts: u32,
    pub finish: Box<Finish>,
}

impl Exchange<'_> {
    /// Whether the request, as it goes up, may be sent twice without harm: a key that the config or the client takes off on
    /// the way protects nothing.
    #[must_use]
    pub(super) fn repeatable(&self) -> Repeatable {
        self.plan.repeatable(&self.method, &self.upward())
    }

    /// Whether its body can be sent from its beginning again.
    #[must_use]
    pub(super) fn replayable(&self) -> bool {
        self.upload.as_ref().is_none_or(Upload::replayable)
    }

    /// No further attempt will be made: the body need not be kept any longer.
    pub fn commit(&self) {
        if let Some(upload) = &self.upload {
            if upload.overflowed() {
                self.plan.upstream_metrics().body_unretained();
            }
            upload.commit();
        }
    }

    /// The request for the attempt that begins `now`.
    #[must_use]
    pub(super) fn outgoing(&self, now: Instant) -> Outgoing {
        let upgrade = self.upgrade();
        let mut headers = self.upward();
        if let Some(name) = self.plan.propagate() {
            let left =
                self.deadline.min(now + self.plan.settings().timeout.attempt).saturating_duration_since(now);
            headers.insert(name.clone(), u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into());
        }
        Outgoing {
            method: self.method.clone(),
            target: self.target.clone(),
            connect: self.plan.settings().timeout.connect,
            split_cookies: self.version == Version::HTTP_2,
            repeatable: self.plan.repeatable(&self.method, &headers) != Repeatable::No,
            upgrade: upgrade.is_some(),
            grpc: headers
                .get(CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")),
            headers,
            body: self.upload.as_ref().map_or_else(UploadBody::empty, Upload::attempt),
            expects: self.headers.contains_key(EXPECT),
            interims: self.interims(),
        }
    }

    fn upgrade(&self) -> Option<&HeaderValue> {
        self.switch.is_some().then(|| self.headers.get(UPGRADE)).flatten()
    }

    fn upward(&self) -> HeaderMap {
        upward(
            &self.headers,
            &Upward {
                id: &self.id,
                address: &self.client.address,
                secure: self.client.secure,
                trusted: self.trusted,
                version: self.version,
                host: self.headers.get(http::header::HOST),
                upgrade: self.upgrade(),
                remove: self.plan.remove(),
                set: self.plan.set(),
            },
        )
    }

    /// Interim responses go to where the client can take them.
    fn interims(&self) -> Option<Arc<dyn Interims>> {
        let wire = self.client.wire.clone().filter(|_| self.version == Version::HTTP_11)?;
        Some(wire)
    }
}
