//! `[dead_letter]` and the upstreams that use it.

use super::Check;
use super::fallback::own_header;
use crate::config::model::{Config, Credentials, DeadLetter, LetterRule, Mode, Upstream, key_bytes};
use crate::config::tree::{Step, steps};

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let store = &config.dead_letter;
    keys(store, check);
    if store.max_bytes < STORE_MIN {
        check.wrong(
            &steps!["dead_letter", "max_bytes"],
            "must be at least 1MiB",
            "the database, its log and its reserve have to fit in",
        );
    }
    let mut kept = false;
    for (name, upstream) in &config.upstream {
        kept |= upstream.dead_letter.mode != Mode::Off;
        let sealed_too = upstream.dead_letter.credentials == Credentials::Seal;
        if upstream.dead_letter.keeps() && !sealed_too && !supplied(upstream) {
            check.warn(
                &steps!["upstream", name, "dead_letter"],
                "keeps letters, but nothing supplies a credential when they are sent again: a write that bears one is parked",
                "set it in headers.set, or let the client's be sealed (dead_letter.credentials = \"seal\"); a request without credentials is not concerned",
            );
        }
        accepted(&upstream.dead_letter, &steps!["upstream", name, "dead_letter"], check);
        sealed(config, &upstream.dead_letter, &steps!["upstream", name, "dead_letter", "credentials"], check);
    }
    for (number, route) in config.route.iter().enumerate() {
        kept |= route.plan.dead_letter.mode != Mode::Off;
        sealed(
            config,
            &route.plan.dead_letter,
            &steps!["route", number, "dead_letter", "credentials"],
            check,
        );
    }
    if kept && store.path.is_relative() {
        check.warn(
            &steps!["dead_letter", "path"],
            "is not absolute: the store moves with the working folder",
            "write an absolute path on a volume that lasts",
        );
    }
}

/// Whether Fender adds a credential of its own.
fn supplied(upstream: &Upstream) -> bool {
    let credential = |name: &String| {
        ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"]
            .contains(&name.to_ascii_lowercase().as_str())
    };
    upstream.headers.set.keys().any(credential)
}

/// Below this the store itself leaves no room for letters.
const STORE_MIN: u64 = 1 << 20;

fn accepted(rule: &LetterRule, at: &[Step], check: &mut Check<'_>) {
    for (name, value) in &rule.accepted.headers {
        let key = [at, &steps!["accepted", "headers", name.as_str()]].concat();
        own_header(name, value, &key, check);
    }
}

fn sealed(config: &Config, rule: &LetterRule, at: &[Step], check: &mut Check<'_>) {
    if rule.credentials == Credentials::Seal && config.dead_letter.encryption_key.is_none() {
        check.wrong(
            at,
            "needs dead_letter.encryption_key",
            "set it: 32 bytes in base64, such as `openssl rand -base64 32` prints",
        );
    }
}

/// Each must be a key, and each another one. What is wrong is told without the key.
fn keys(store: &DeadLetter, check: &mut Check<'_>) {
    let current =
        store.encryption_key.iter().map(|key| (steps!["dead_letter", "encryption_key"].to_vec(), key));
    let old = store.old_encryption_keys.iter().enumerate();
    let old = old.map(|(number, key)| (steps!["dead_letter", "old_encryption_keys", number].to_vec(), key));
    let mut known = Vec::new();
    for (at, key) in current.chain(old) {
        match key_bytes(key) {
            None => check.wrong(&at, "must be 32 bytes in base64", "`openssl rand -base64 32` prints one"),
            Some(bytes) if known.contains(&bytes) => {
                check.wrong(&at, "is the same key as one above it", "each key stands here once");
            }
            Some(bytes) => known.push(bytes),
        }
    }
}
