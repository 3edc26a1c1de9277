//! The active check: asks the upstream now and then how it is, whatever the traffic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::cell::Upstream;
use super::send::Outgoing;
use super::upload::UploadBody;
use crate::clock;
use crate::config::Health;
use crate::telemetry::events::{HealthChanged, emit_told};

/// Of a check's answer so much is read, so that its connection can be used again.
const ANSWER_MAX: u64 = 64 * 1024;

/// What the checks have found so far. Up until they say otherwise.
#[derive(Debug, Default)]
pub struct Check {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    down: bool,
    /// Checks in a row that speak against what counts now.
    against: u32,
    running: bool,
    due: Option<Instant>,
}

impl Check {
    /// Whether the upstream counts as down.
    #[must_use]
    pub fn down(&self) -> bool {
        self.state().down
    }

    /// There is no check any more.
    pub fn off(&self) {
        *self.state() = State::default();
    }

    /// Whether one is to be made now; the caller makes it then. Otherwise when to ask again.
    pub fn take_turn(&self, interval: Duration, now: Instant) -> Result<(), Instant> {
        let mut state = self.state();
        let soon = now + interval.min(RECHECK);
        match state.due {
            _ if state.running => Err(soon),
            Some(due) if due > now => Err(due),
            _ => {
                state.running = true;
                state.due = now.checked_add(interval);
                Ok(())
            }
        }
    }

    /// A check ended. `Some(true)`: it is up now and was not; `Some(false)`: the other way.
    pub fn ended(&self, ok: bool, health: &Health, _now: Instant) -> Option<bool> {
        let mut state = self.state();
        state.running = false;
        if ok != state.down {
            state.against = 0;
            return None;
        }
        state.against += 1;
        let enough = if ok { health.healthy_after } else { health.unhealthy_after };
        if state.against < enough {
            return None;
        }
        state.against = 0;
        state.down = !ok;
        Some(ok)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So soon after a check began, at the latest, it is looked whether it has ended.
const RECHECK: Duration = Duration::from_millis(100);

impl Upstream {
    /// Makes a check if one is due; when to ask again.
    pub fn check_if_due(self: &Arc<Self>, worker: usize, now: Instant) -> Option<Instant> {
        let health = &self.settings().health;
        let path = health.path.as_deref()?;
        match self.policies().check().take_turn(health.interval, now) {
            Err(later) => Some(later),
            Ok(()) => {
                let (upstream, path) = (Arc::clone(self), path.to_owned());
                tokio::spawn(async move { upstream.check(worker, &path).await });
                Some(now + RECHECK)
            }
        }
    }

    async fn check(self: Arc<Self>, worker: usize, path: &str) {
        let health = &self.settings().health;
        let until = clock::now() + health.timeout;
        let found = match PathAndQuery::try_from(path) {
            Err(error) => Err(error.to_string()),
            Ok(target) => {
                match self.send(worker, self.asking(target), false, (clock::now(), until.into())).await {
                    Err(fault) => Err(fault.to_string()),
                    Ok(reply) => {
                        let status = reply.response.status();
                        reply.drain(ANSWER_MAX, until).await;
                        if status.is_success() || status.is_redirection() {
                            Ok(())
                        } else {
                            Err(format!("status {status}"))
                        }
                    }
                }
            }
        };
        let before = self.policies().check().down();
        self.policies().checked(found.is_ok(), health, clock::now());
        let down = self.policies().check().down();
        if before != down {
            let error = found.as_ref().err().map(String::as_str);
            let changed = HealthChanged { upstream: self.name(), up: !down, error };
            emit_told(&changed, self.policies().feed());
        }
    }

    fn asking(&self, target: PathAndQuery) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("fender-health-check"));
        for (name, value) in self.own_headers() {
            headers.insert(name.clone(), value.clone());
        }
        Outgoing {
            method: Method::GET,
            target,
            own_host: headers.contains_key(http::header::HOST),
            headers,
            connect: self.settings().timeout.connect,
            body: UploadBody::Empty,
            repeatable: true,
            upgrade: false,
            grpc: false,
            split_cookies: false,
            expects: false,
            interims: None,
        }
    }
}
