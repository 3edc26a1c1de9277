//! `[admin]` and `[[admin.token]]`.

use super::{Check, tls};
use crate::config::model::Config;
use crate::config::read::nearest;
use crate::config::tree::steps;

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let admin = &config.admin;
    match &admin.tls {
        Some(settings) => tls::of_listener(settings, &steps!["admin", "tls"], check),
        None if !admin.listen.ip().is_loopback() => check.warn(
            &steps!["admin", "listen"],
            "serves the API and its tokens in the clear beyond this machine",
            "set [admin.tls], or listen on 127.0.0.1 and use public_listen for probes and metrics",
        ),
        None => {}
    }
    let names: Vec<&str> = config.upstream.keys().map(String::as_str).collect();
    for (number, token) in admin.token.iter().enumerate() {
        let before = admin.token.iter().take(number);
        if before.clone().any(|other| other.name == token.name) {
            check.wrong(
                &steps!["admin", "token", number, "name"],
                "is the name of another token",
                "names tell tokens apart in the audit log",
            );
        }
        if token.name.is_empty() || token.name.len() > 64 || token.name.chars().any(char::is_control) {
            check.wrong(
                &steps!["admin", "token", number, "name"],
                "must be one to 64 printable characters",
                "",
            );
        }
        let secret = steps!["admin", "token", number, "secret"];
        if token.secret.expose().is_empty() {
            check.wrong(&secret, "must not be empty", "");
        } else if !token.secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            check.wrong(&secret, "must be printable ASCII without spaces: it travels in a header", "");
        } else if before.clone().any(|other| other.secret == token.secret) {
            check.wrong(&secret, "is the secret of another token", "");
        }
        for (place, upstream) in token.upstreams.iter().flatten().enumerate() {
            if !names.contains(&upstream.as_str()) {
                let at = steps!["admin", "token", number, "upstreams", place];
                check.wrong(&at, "no upstream has this name", suggestion(upstream, &names));
            }
        }
    }
}

/// A way out for a name that leads nowhere.
pub(super) fn suggestion(given: &str, names: &[&str]) -> String {
    match nearest(given, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => String::new(),
        None => format!("upstreams: {}", names.join(", ")),
    }
}
