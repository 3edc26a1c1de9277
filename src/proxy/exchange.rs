//! One request in flight: what came, which plan applies, until when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;

use super::capture::Ownership;
use super::client::Client;
use super::finish::Finish;
use super::headers::{Glance, Upward, upward};
use super::id::RequestId;
use super::keys::Keys;
use crate::clock;
use crate::deadletter::Attempt;
use crate::dialect::{Asked, Dialect};
use crate::memory::Lease;
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::policy::verdict::{Repeatable, Verdict};
use crate::route::Plan;
use crate::upstream::upload::{Upload, UploadBody};
use crate::upstream::{Interims, Outgoing};

/// A request with all that its attempts need.
#[derive(Debug)]
pub(super) struct Exchange {
    pub id: RequestId,
    pub plan: Arc<Plan>,
    pub client: Arc<Client>,
    pub trusted: bool,
    pub method: Method,
    pub version: Version,
    pub headers: HeaderMap,
    /// What is known of them.
    pub glance: Glance,
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
    /// Attempts made, at whatever upstream.
    pub attempts: u32,
    /// Those of them made under the plan in force.
    pub leg_attempts: u32,
    /// When the client itself loses patience, if it said so: no fallback goes beyond it.
    pub patience: Option<Instant>,
    pub opted: OptOut,
    pub keys: Keys,
    /// How the last attempt ended.
    pub last: Option<Judged>,
    /// The wait that the route's own upstream told last.
    pub home_told: Option<Duration>,
    /// An attempt may have acted upstream, and nothing makes a second send harmless: there is none, anywhere.
    pub may_have_acted: bool,
    /// The attempts so far, for the letter that may come of the request.
    pub trail: Option<Vec<Attempt>>,
    /// What became of it when it was stored before its end.
    pub owned: Option<Ownership>,
    /// Whose request it is.
    pub origin: Origin,
    /// What a fallback has changed about the request.
    pub turned: Option<Turned>,
    pub finish: Box<Finish>,
}

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client's, who waits.
    Client,
    /// A letter's: live requests go first, and nothing is waited for.
    Replay,
}

/// A request on its way to another upstream than its route's.
#[derive(Debug)]
pub(super) struct Turned {
    /// These fields stay here: credentials for the upstream that the request was meant for.
    pub without: Vec<HeaderName>,
    /// The body with fields replaced; `None`: as it came.
    pub body: Option<Bytes>,
    /// What that body costs.
    pub _lease: Option<Lease>,
}

/// What a request wants nothing of (`fender-policy`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptOut {
    pub retry: bool,
    pub fallback: bool,
    pub dead_letter: bool,
}

impl Exchange {
    /// Whether the request, as it goes up, may be sent twice without harm: a key that the config or the client takes off on
    /// the way protects nothing.
    #[must_use]
    pub(super) fn repeatable(&self) -> Repeatable {
        self.plan.repeatable(&self.method, self.target.path(), &self.upward())
    }

    /// How the client expects to be spoken to: as the upstream does that its route leads to.
    pub(super) fn dialect(&self) -> &Arc<Dialect> {
        self.finish.plan().upstream().dialect()
    }

    /// Whether Fender has done for it what it would do: the client is not to begin anew by itself. Where it makes no retries,
    /// they are the client's.
    #[must_use]
    pub(super) fn given_up(&self) -> bool {
        let tried = self.attempts > 0 && self.plan.settings().retry.max_attempts > 1;
        tried || self.may_have_acted
    }

    /// Whether its body can be sent from its beginning again.
    #[must_use]
    pub(super) fn replayable(&self) -> bool {
        self.upload.as_ref().is_none_or(Upload::replayable)
    }

    /// Whether the client has hung up: there is no further attempt then.
    #[must_use]
    pub(super) fn hung_up(&self) -> bool {
        self.finish.hung_up().is_some()
    }

    /// What the attempts so far have done upstream.
    #[must_use]
    pub(super) fn verdict(&self) -> Verdict {
        match self.last {
            _ if self.may_have_acted => Verdict::Ambiguous,
            Some(last) => last.verdict,
            None => Verdict::NeverSent,
        }
    }

    /// The attempt under way was broken off after so long: what it did upstream is not known.
    pub(super) fn broken_off(&mut self, took: Duration) {
        self.may_have_acted |= !self.repeatable().is_repeatable();
        self.last = Some(Judged::client(true, Reason::Cancelled, Verdict::Ambiguous));
        if let Some(trail) = &mut self.trail {
            trail.push(Attempt {
                at_ms: clock::unix_ms(),
                outcome: Outcome::Cancelled,
                status: None,
                error: Some(Reason::Cancelled.as_str().to_owned()),
                duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                answer: None,
            });
        }
    }

    /// A field of the client's own that may go up.
    #[must_use]
    pub(super) fn client_header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let kept = self.turned.as_ref().is_none_or(|turned| !turned.without.contains(name));
        self.headers.get(name).filter(|_| kept)
    }

    /// The body whole, as it goes up, if it can be kept. A client's fault shows again when the body is sent.
    pub(super) async fn whole_body(&self) -> Option<Bytes> {
        match self.turned.as_ref().and_then(|turned| turned.body.clone()) {
            Some(body) => Some(body),
            None => self.upload.clone()?.whole().await.ok().flatten(),
        }
    }

    /// The request as a dialect looks at it.
    pub(super) fn asked<'a>(&'a self, body: &'a [u8]) -> Asked<'a> {
        Asked {
            path: self.target.path(),
            query: self.target.query(),
            content_type: self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()),
            body,
        }
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
        if let Some(trace) = &self.finish.trace {
            trace.mark(&mut headers, &self.plan);
        }
        let own = self.turned.as_ref().and_then(|turned| turned.body.clone());
        if let Some(body) = &own
            && headers.contains_key(CONTENT_LENGTH)
        {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        if let Some(name) = self.plan.propagate() {
            let left =
                self.deadline.min(now + self.plan.settings().timeout.attempt).saturating_duration_since(now);
            headers.insert(name.clone(), u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into());
        }
        if self.plan.upstream().dialect().reads_bodies()
            && self.plan.set().iter().all(|(name, _)| name != ACCEPT_ENCODING)
        {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")); // What is packed cannot be read.
        }
        Outgoing {
            method: self.method.clone(),
            target: self.target.clone(),
            connect: self.plan.settings().timeout.connect,
            split_cookies: self.version == Version::HTTP_2,
            repeatable: self.plan.repeatable(&self.method, self.target.path(), &headers) != Repeatable::No,
            upgrade: upgrade.is_some(),
            grpc: self.glance.grpc,
            own_host: self.plan.set().iter().any(|(name, _)| name == HOST),
            headers,
            body: match own {
                Some(body) => UploadBody::Own(body),
                None => self.upload.as_ref().map_or(UploadBody::Empty, Upload::attempt),
            },
            expects: self.glance.expect,
            interims: self.interims(),
        }
    }

    fn upgrade(&self) -> Option<&HeaderValue> {
        self.switch.is_some().then(|| self.headers.get(UPGRADE)).flatten()
    }

    fn upward(&self) -> HeaderMap {
        let stripped = self.turned.as_ref().filter(|turned| !turned.without.is_empty()).map(|turned| {
            let mut headers = self.headers.clone();
            for name in &turned.without {
                headers.remove(name);
            }
            headers
        });
        upward(
            stripped.as_ref().unwrap_or(&self.headers),
            &Upward {
                id: &self.id,
                address: &self.client.address,
                secure: self.client.secure,
                trusted: self.trusted,
                version: self.version,
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
