//! The policies' tables, of an upstream or of a route that overrides them.

use std::time::Duration;

use http::HeaderName;

use super::upstream::belongs_to_fender;
use super::{Check, below};
use crate::config::model::Health;
use crate::config::tree::{Node, Step};
use crate::policy::backoff::{self, Strategy};
use crate::policy::limit::RateLimit;
use crate::policy::window::LARGEST_COUNT;
use crate::policy::{breaker, deadline, retry};

/// What a route may override, checked wherever it stands.
pub(super) struct Overridable<'c> {
    pub timeout: &'c deadline::Settings,
    pub retry: &'c retry::Settings,
    pub breaker: &'c breaker::Settings,
    pub limits: &'c [RateLimit],
}

pub(super) fn check(settings: &Overridable<'_>, at: &[Step], check: &mut Check<'_>) {
    timeouts(settings.timeout, &below(at, "timeout"), check);
    retries(settings.retry, &below(at, "retry"), check);
    breaker(settings.breaker, &below(at, "breaker"), check);
    slow_call(settings, &below(&below(at, "breaker"), "slow_call"), check);
    for (number, limit) in settings.limits.iter().enumerate() {
        let mut wait = below(at, "rate_limit");
        wait.extend([Step::from(number), Step::from("max_wait")]);
        if limit.max_wait > settings.timeout.total && check.is_users(&wait) {
            check.warn(&wait, "is longer than timeout.total: nobody waits that long", "");
        }
    }
}

fn timeouts(timeout: &deadline::Settings, at: &[Step], check: &mut Check<'_>) {
    longer(at, ("attempt", timeout.attempt), ("total", timeout.total), check);
    if let Some(name) = &timeout.propagate {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if belongs_to_fender(&header) => {
                check.wrong(
                    &below(at, "propagate"),
                    "is a header that Fender manages itself",
                    "choose another, such as \"x-time-left-ms\"",
                );
            }
            Ok(_) => {}
            Err(_) => {
                check.wrong(&below(at, "propagate"), "must be a header name, such as \"x-time-left-ms\"", "");
            }
        }
    }
}

fn retries(retry: &retry::Settings, at: &[Step], check: &mut Check<'_>) {
    waits(&retry.backoff, &below(at, "backoff"), check);
    let budget = below(at, "budget");
    let spent = retry.budget.ratio == 0.0 && retry.budget.min_per_second == 0.0;
    if spent && retry.max_attempts > 1 && check.is_users(&budget) {
        check.warn(
            &budget,
            "pays for no retry at all",
            "max_attempts = 1 says so; or give it a ratio or a min_per_second",
        );
    }
}

fn breaker(breaker: &breaker::Settings, at: &[Step], check: &mut Check<'_>) {
    longer(at, ("open_for", breaker.open_for), ("max_open_for", breaker.max_open_for), check);
    if breaker.window_requests.is_some() && check.both_written(at, "window_requests", "window") {
        check.contradiction(
            &below(at, "window_requests"),
            &below(at, "window"),
            "stands instead of window: set one of them",
        );
    }
    if breaker.window_requests.is_some_and(|window| window.get() < breaker.minimum_requests) {
        let message = "is less than minimum_requests: no rate would ever be judged";
        check.contradiction(&below(at, "window_requests"), &below(at, "minimum_requests"), message);
    }
    if breaker.window_requests.is_some_and(|window| window.get() > LARGEST_COUNT) {
        check.wrong(
            &below(at, "window_requests"),
            format!("must be at most {LARGEST_COUNT}"),
            "a window of time holds any number of requests",
        );
    }
    if breaker.half_open_probes > PROBES_MAX {
        check.wrong(&below(at, "half_open_probes"), format!("must be at most {PROBES_MAX}"), "");
    }
    let failures = below(at, "failures");
    if breaker.enabled
        && breaker.failures.is_empty()
        && breaker.slow_call.is_none()
        && check.is_users(&failures)
    {
        check.warn(&failures, "nothing counts as a failure: it never opens", "enabled = false says so");
    }
}

fn slow_call(settings: &Overridable<'_>, at: &[Step], check: &mut Check<'_>) {
    let attempt = settings.timeout.attempt;
    if settings.breaker.slow_call.is_some_and(|slow| slow >= attempt) && check.is_users(at) {
        check.warn(
            at,
            "is never reached: an attempt ends at timeout.attempt, and is a failure then",
            "make it shorter than timeout.attempt",
        );
    }
}

pub(super) fn waits(backoff: &backoff::Settings, at: &[Step], check: &mut Check<'_>) {
    longer(at, ("base", backoff.base), ("max", backoff.max), check);
    if backoff.factor < 1.0 {
        check.wrong(&below(at, "factor"), "must be at least 1: waits do not shrink", "");
    }
    if backoff.strategy == Strategy::Schedule && backoff.schedule.is_empty() {
        check.wrong(&below(at, "schedule"), "must list at least one wait", "");
    }
}

pub(super) fn health(health: &Health, at: &[Step], check: &mut Check<'_>) {
    let Some(path) = &health.path else { return };
    if !path.starts_with('/') {
        check.wrong(&below(at, "path"), "must start with a slash", "");
    }
    if health.timeout > health.interval && check.is_users(&below(at, "timeout")) {
        check.warn(
            &below(at, "timeout"),
            "is longer than interval: a check that hangs delays the next one",
            "make it no longer than interval",
        );
    }
}

/// One bounds the other. Against a default it is no contradiction of the user's, but the value that he wrote is not in
/// force, and he is told.
fn longer(
    at: &[Step],
    (key, value): (&str, Duration),
    (other, limit): (&str, Duration),
    check: &mut Check<'_>,
) {
    if value <= limit {
        return;
    }
    let written = |key: &str| check.tree.at(at).and_then(|node| node.key(key)).is_some_and(Node::is_users);
    if check.both_written(at, key, other) {
        check.contradiction(&below(at, key), &below(at, other), format!("must not be longer than {other}"));
    } else if written(key) {
        let help = format!("set {other} too");
        check.warn(&below(at, key), format!("is longer than {other}, which bounds it"), help);
    }
}

/// Probes are few by their nature; each that is out is remembered.
const PROBES_MAX: u32 = 1_000;
