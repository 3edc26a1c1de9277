//! A letter's turn: one attempt to deliver it, by the same admission, plan and connections as a live request's, but with no
//! retry, no fallback, no budget and no waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{Method, Version};
use tokio::time::timeout;

use super::admit::admit;
use super::attempts;
use super::client::Client;
use super::exchange::{Exchange, OptOut, Origin, Turned};
use super::failure::Refusal;
use super::finish::Finish;
use super::headers::Glance;
use super::heard::Heard;
use super::holding::Holding;
use super::id::RequestId;
use super::keys::{self, Keys, look_closer};
use super::notes::Notes;
use super::pipeline::Proxy;
use super::traced::{Broke, Trace};
use super::{fallback, stored};
use crate::clock;
use crate::deadletter::{Content, Letter};
use crate::policy::judge::Judged;
use crate::policy::outcome::Outcome;
use crate::policy::reason::Reason;
use crate::route::Plan;
use crate::telemetry::story::{Fact, brief};

/// How a turn ended.
#[derive(Debug)]
pub enum Turn {
    /// An attempt was made.
    Tried {
        /// What it bore as its id, in the log and to the upstream.
        request_id: String,
        ended: Judged,
        /// Whose credential it bore: the scope of a pause.
        scope: u64,
        /// The beginning of the upstream's answer, as text.
        answer: Option<String>,
        /// Why no answer came.
        error: Option<String>,
        took: Duration,
    },
    /// Nothing was sent: not before this wait.
    NotNow { reason: Reason, wait: Duration },
}

/// Of the upstream's answer so much is remembered.
const ANSWER_MAX: usize = 2048;

/// What is told of an answer that is not whole.
const CUT: &str = "the upstream's answer broke off after its head";

/// What is told of a stream that has come to its end, and says there that it is none.
const FAILED: &str = "the stream said at its end that it had failed";

/// What stands in a stored path for a credential: without that it leads nowhere.
const MASKED: &str = "***";

/// What was stored and is no request is looked at again after this, should a later version know better.
const UNSENDABLE: Duration = Duration::from_secs(600);

/// Reads an answer to its end: its beginning, and why it broke off, if it did.
async fn read_out(exchange: &mut Exchange, heard: &mut Heard) -> (BytesMut, Option<Reason>) {
    let idle = exchange.plan.settings().timeout.idle;
    let mut beginning = BytesMut::new();
    if let Some(trace) = &mut exchange.finish.trace {
        trace.relays(heard.reply.response.headers());
    }
    loop {
        match timeout(idle, heard.piece()).await {
            Ok(None) => return (beginning, None),
            Ok(Some(Ok(piece))) => {
                if let Some(trace) = &mut exchange.finish.trace {
                    trace.hear(&piece);
                }
                let room = ANSWER_MAX - beginning.len();
                beginning.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or(&[]));
            }
            Ok(Some(Err(reason))) => return (beginning, Some(reason)),
            Err(_) => return (beginning, Some(Reason::Timeout)),
        }
    }
}

/// An answer without the secrets that Fender itself sent: an upstream may echo what it was told.
fn masked(text: &str, plan: &Plan, sealed: &[String]) -> String {
    let mut text = text.to_owned();
    for part in sealed.iter().filter(|part| part.len() >= SECRET_MIN) {
        text = text.replace(part.as_str(), "***");
    }
    for (_, value) in plan.set() {
        let Ok(value) = value.to_str() else { continue };
        let secret = value.rsplit(' ').next().unwrap_or(value); // Behind the scheme.
        for part in [value, secret] {
            if part.len() >= SECRET_MIN {
                text = text.replace(part, "***");
            }
        }
    }
    text
}

/// Shorter values are words, not secrets.
const SECRET_MIN: usize = 4;

impl Proxy {
    /// Whether the letter has somewhere to go, and under which plan.
    #[must_use]
    pub fn plan_of_letter(&self, upstream: &str, route: &str) -> Option<Arc<Plan>> {
        let table = self.table.load();
        let by_route =
            table.plans().iter().find(|plan| plan.name() == route && plan.upstream_name() == upstream);
        by_route.or_else(|| table.plan_of(upstream)).cloned()
    }

    /// Sends a letter once under `plan`, unless `waits` says that its scope waits. The caller has it marked as being sent, on
    /// disk.
    pub async fn replay(
        &self,
        plan: &Arc<Plan>,
        letter: &Letter,
        content: Content,
        client: &Arc<Client>,
        waits: impl Fn(u64) -> Option<Duration>,
    ) -> Turn {
        let sealed = content.credentials.as_ref().map(|own| stored::secrets(own, plan)).unwrap_or_default();
        let Some(mut exchange) = self.restored(Arc::clone(plan), letter, content, client) else {
            return Turn::NotNow { reason: Reason::BadRequest, wait: UNSENDABLE };
        };
        exchange.note(Fact::Replays { letter: brief(&letter.id.to_string()) });
        exchange.keys = fallback::keys(&exchange).await;
        look_closer(&exchange).await;
        if let Some(wait) = exchange.keys.scopes(&exchange).filter_map(waits).max() {
            return Turn::NotNow { reason: Reason::Quota, wait };
        }
        let begun = clock::now();
        let admission = match admit(&exchange, begun).await {
            Ok(admission) => admission,
            Err(Refusal { reason, retry_after, .. }) => return Turn::NotNow { reason, wait: retry_after },
        };
        let (sent, ended, now) = attempts::attempt(&mut exchange, &self.memory, begun).await;
        // Breaker and pauses hear what a live request's would: a refused credential is this letter's matter alone.
        let holding = admission.settle(&exchange, &ended, now);
        let ended = ended.at_replay();
        // Whom a refused credential or a used-up quota concerns; what is unknown is nobody's but this letter's.
        let scope =
            exchange.keys.scope(&exchange, ended.scope).unwrap_or_else(|| keys::hash(letter.id.to_string()));
        match sent {
            Ok(heard) => self.read(&mut exchange, heard, holding, (ended, scope), (begun, &sealed)).await,
            Err(fault) => Turn::Tried {
                request_id: exchange.id.as_str().to_owned(),
                ended,
                scope,
                answer: None,
                error: Some(fault.reason.as_str().to_owned()),
                took: now.saturating_duration_since(begun),
            },
        }
    }

    /// Reads the answer to its end: only a whole one is a success.
    async fn read(
        &self,
        exchange: &mut Exchange,
        mut heard: Heard,
        holding: Holding,
        (ended, scope): (Judged, u64),
        (begun, sealed): (Instant, &[String]),
    ) -> Turn {
        let (beginning, cut) = read_out(exchange, &mut heard).await;
        let now = clock::now();
        let mut broke = cut.map(Broke::Off);
        let ended = match cut {
            None => {
                let failed = heard.completed(exchange.id.as_str());
                broke = failed.map(|_| Broke::Failed);
                let turned = match failed {
                    Some(meaning) => holding.failed(meaning, now),
                    None => holding.completed(now),
                };
                exchange.note_of(&exchange.plan, turned.map(Fact::Turned));
                let ended = failed.map_or(ended, |meaning| Judged::answer(200, meaning, &[]));
                if failed.is_some() {
                    exchange.finish.ended_otherwise(&ended);
                    exchange.note(Fact::Cut { reason: None, error: FAILED.into(), limit: None });
                }
                ended
            }
            Some(reason) => {
                exchange.note(Fact::Cut { reason: Some(reason), error: CUT.into(), limit: None });
                let turned = holding.cut(reason, now);
                exchange.note_of(&exchange.plan, turned.map(Fact::Turned));
                // Its head was good: what the write did is not in doubt, only what was said of it is lost.
                if ended.outcome == Outcome::Success {
                    ended
                } else {
                    Judged { reason: Some(reason), ..ended }
                }
            }
        };
        if let Some(trace) = &mut exchange.finish.trace {
            trace.read(broke);
        }
        let answer = masked(&String::from_utf8_lossy(&beginning), &exchange.plan, sealed);
        Turn::Tried {
            request_id: exchange.id.as_str().to_owned(),
            ended,
            scope,
            answer: (!answer.is_empty()).then_some(answer),
            error: cut.map(|reason| reason.as_str().to_owned()),
            took: now.saturating_duration_since(begun),
        }
    }

    fn restored(
        &self,
        plan: Arc<Plan>,
        letter: &Letter,
        content: Content,
        client: &Arc<Client>,
    ) -> Option<Exchange> {
        let sealed = content.credentials.as_ref().and_then(|own| own.path.as_deref());
        let path = sealed.unwrap_or(&letter.path);
        let secrets = plan.upstream().dialect().secrets_in(path);
        if secrets.iter().any(|secret| secret == MASKED) {
            return None;
        }
        let id = RequestId::default();
        let started = clock::now();
        let headers = stored::restored(&content, letter.key_header.as_ref());
        let method = Method::from_bytes(letter.method.as_bytes()).ok()?;
        let target = PathAndQuery::try_from(path).ok()?;
        let notes = Notes::new(&method, &target, None);
        let in_flight = self.drain.enter(client.worker);
        let mut finish =
            Box::new(Finish::uncounted(id.clone(), Arc::clone(&plan), started, notes, in_flight));
        let table = self.table.load();
        finish.trace =
            table.sampling().and_then(|sampling| Trace::of_letter(sampling, &headers, letter, &id));
        Some(Exchange {
            id,
            client: Arc::clone(client),
            trusted: true,
            method,
            version: Version::HTTP_11,
            glance: Glance::at(&headers),
            headers,
            target,
            upload: None,
            switch: None,
            deadline: started + plan.settings().timeout.total,
            started,
            decided: started,
            attempts: 0,
            leg_attempts: 0,
            patience: None,
            opted: OptOut { retry: true, fallback: true, dead_letter: true },
            keys: Keys::default(),
            last: None,
            home_told: None,
            may_have_acted: false,
            trail: None,
            owned: None,
            origin: Origin::Replay,
            turned: Some(Turned { without: Vec::new(), body: Some(content.body), _lease: None }),
            plan,
            finish,
        })
    }
}
