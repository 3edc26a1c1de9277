//! `[server]`, and all listening addresses together.

use std::net::SocketAddr;

use super::{Check, below, tls};
use crate::config::model::Config;
use crate::config::tree::{Step, steps};

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let server = &config.server;
    addresses(config, check);
    let at = steps!["server"];
    if server.workers > WORKERS_MAX {
        check.wrong(
            &steps!["server", "workers"],
            format!("must be at most {WORKERS_MAX}"),
            "0 takes the cores that the cgroup grants",
        );
    }
    if !(HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&server.max_header_bytes) {
        check.wrong(&steps!["server", "max_header_bytes"], "must be from 8KiB to 16MiB", "");
    }
    for (key, value) in [("drain_quiet", server.drain_quiet), ("drain_min", server.drain_min)] {
        // The least time is 0 until someone writes it; the quiet time gives way to a shorter timeout by itself.
        if value > server.drain_timeout
            && (key == "drain_min" || check.both_written(&at, key, "drain_timeout"))
        {
            check.contradiction(
                &below(&at, key),
                &below(&at, "drain_timeout"),
                "must not be longer than drain_timeout",
            );
        }
    }
    if let Some(settings) = &server.tls {
        tls::of_listener(settings, &steps!["server", "tls"], check);
    }
    let mut bodies = config.upstream.iter();
    if let Some((name, _)) = bodies.find(|(_, upstream)| upstream.retry.max_body > server.buffer_memory) {
        check.warn(
            &steps!["upstream", name, "retry", "max_body"],
            "is more than server.buffer_memory: such a body is never kept for a retry",
            "",
        );
    }
}

fn addresses(config: &Config, check: &mut Check<'_>) {
    let mut all: Vec<(Vec<Step>, SocketAddr)> = Vec::new();
    let many = check.tree.at(&steps!["server", "listen"]).is_some_and(|node| !node.items().is_empty());
    for (number, address) in config.server.listen.iter().enumerate() {
        let at = if many { steps!["server", "listen", number] } else { steps!["server", "listen"] };
        all.push((at, *address));
    }
    all.push((steps!["admin", "listen"], config.admin.listen));
    all.extend(config.admin.public_listen.map(|address| (steps!["admin", "public_listen"], address)));
    for (number, (at, address)) in all.iter().enumerate() {
        let clash = all.iter().take(number).find(|(_, other)| overlap(address, other));
        if let Some((other_at, other)) = clash {
            let other_name = check.tree.name_of(other_at);
            let message = format!("is taken by {other_name} ({other})");
            // The culprit is the one that the user wrote.
            let written = check.is_users(at);
            let (culprit, against) = if written { (at, other_at) } else { (other_at, at) };
            let message =
                if written { message } else { format!("is taken by {} ({address})", check.tree.name_of(at)) };
            check.contradiction(culprit, against, message);
        }
    }
}

/// Whether both cannot be bound. Port 0 is any free port.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let same_host = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    one.port() == other.port() && one.port() != 0 && same_host
}

const WORKERS_MAX: usize = 1024;
const HEADER_BYTES_MIN: u64 = 8 << 10; // The HTTP/1 reader has no smaller buffer.
const HEADER_BYTES_MAX: u64 = 16 << 20;
