//! Names to addresses, in the background: a name that does not resolve is never fatal, and the last good answer stays.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RecordType;

use super::endpoint::Endpoint;
use crate::telemetry::events::{NameUnresolved, emit};

/// While a name has never resolved it is tried again this often.
const UNRESOLVED_RETRY: Duration = Duration::from_secs(1);

/// Looks up through the system's `hosts` file and name servers, and keeps `endpoint`'s addresses fresh, for as long as someone holds the endpoint.
pub async fn follow(upstream: String, endpoint: std::sync::Weak<Endpoint>, refresh: Duration) {
    let mut told = false;
    loop {
        let Some(endpoint) = endpoint.upgrade() else { return };
        if endpoint.is_literal() {
            return;
        }
        match resolve(endpoint.url.host(), endpoint.url.port(), &endpoint.known()).await {
            Ok(addresses) => {
                told = false;
                endpoint.learn(addresses);
            }
            Err(error) if !told => {
                told = true;
                emit(&NameUnresolved { upstream: &upstream, host: endpoint.url.host(), error: &error });
            }
            Err(_) => {} // Told already; what was known stays.
        }
        let pause = if endpoint.is_unresolved() { UNRESOLVED_RETRY.min(refresh) } else { refresh };
        drop(endpoint);
        tokio::time::sleep(pause).await;
    }
}

/// The addresses of somebody who is no upstream, looked up now.
///
/// # Errors
/// A text that says why there are none.
pub(super) async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => resolve(host, port, &[]).await,
    }
}

async fn resolve(host: &str, port: u16, known: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    // Made anew for each look-up: so edits of /etc/resolv.conf and /etc/hosts are heeded, and nothing is cached beyond
    // dns_refresh.
    let lookup = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
    let lookup =
        lookup.map_err(|error| format!("the system's resolver configuration cannot be read: {error}"))?;
    let found = lookup.lookup_ip(host).await.map_err(|error| error.to_string())?;
    let (mut six, mut four): (Vec<IpAddr>, Vec<IpAddr>) = found.iter().partition(IpAddr::is_ipv6);
    let (known_six, known_four): (Vec<IpAddr>, Vec<IpAddr>) =
        known.iter().map(SocketAddr::ip).partition(IpAddr::is_ipv6);
    // A family whose look-up failed while the other's did not is told as one that has no address.
    for (found, known, kind) in
        [(&mut six, known_six, RecordType::AAAA), (&mut four, known_four, RecordType::A)]
    {
        let gone = found.is_empty() && !known.is_empty();
        if gone && lookup.lookup(host, kind).await.is_err_and(|error| !error.is_no_records_found()) {
            *found = known;
        }
    }
    // The families take turns, so that one that is broken costs one step and not all (RFC 8305 section 4).
    let mut addresses = Vec::with_capacity(six.len() + four.len());
    six.reverse();
    four.reverse();
    while !six.is_empty() || !four.is_empty() {
        addresses
            .extend(six.pop().into_iter().chain(four.pop()).map(|address| SocketAddr::new(address, port)));
    }
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}
