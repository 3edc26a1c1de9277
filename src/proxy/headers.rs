//! Which header fields go on, and which Fender adds (RFC 9110 section 7.6).

use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode, Version};

use super::id::RequestId;

const VIA: HeaderName = http::header::VIA;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What the request that goes up owes to the one that came.
#[derive(Debug)]
pub(super) struct Upward<'a> {
    pub id: &'a RequestId,
    pub peer: IpAddr,
    pub secure: bool,
    /// Whether what the client says in `x-forwarded-*` is believed, and kept.
    pub trusted: bool,
    pub version: Version,
    pub host: Option<&'a HeaderValue>,
    /// The protocol asked for, if this is an upgrade.
    pub upgrade: Option<&'a HeaderValue>,
    pub remove: &'a [HeaderName],
    pub set: &'a [(HeaderName, HeaderValue)],
}

/// The fields of a request on its way up. `host` is left to the sender, who knows the endpoint.
#[must_use]
pub(super) fn upward(came: &HeaderMap, how: &Upward<'_>) -> HeaderMap {
    let named = Named::by_connection(came);
    let mut headers = HeaderMap::with_capacity(came.len() + 8 + how.set.len());
    for (name, value) in came {
        let text = name.as_str();
        let goes = !hop_by_hop(text)
            && !named.contains(text)
            && !text.starts_with("fender-")
            && text != "host"
            && (how.trusted || !text.starts_with("x-forwarded-"))
            && (text != "te" || value.as_bytes().eq_ignore_ascii_case(b"trailers"))
            && !how.remove.contains(name);
        if goes {
            headers.append(name.clone(), value.clone());
        }
    }
    forwarded(&mut headers, how);
    trace(&mut headers, how.id);
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, how.id.header().clone());
    }
    headers.append(VIA, via(how.version));
    if let Some(protocol) = how.upgrade {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, protocol.clone());
    }
    for (name, value) in how.set {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// Strips a response's fields of what is the hop's own, in place.
pub(super) fn downward(headers: &mut HeaderMap, status: StatusCode, version: Version) {
    let named = Named::by_connection(headers);
    let protocol = (status == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| headers.get(http::header::UPGRADE).cloned())
        .flatten();
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    named.each(|name| drop(headers.remove(name)));
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("fender-")).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    if let Some(protocol) = protocol {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, protocol);
    }
    headers.append(VIA, via(version));
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
];

fn hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 fender",
        Version::HTTP_10 => "1.0 fender",
        _ => "1.1 fender",
    })
}

fn forwarded(headers: &mut HeaderMap, how: &Upward<'_>) {
    let peer = how.peer.to_canonical().to_string();
    let mut chain: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    chain.push(&peer);
    let chain = HeaderValue::try_from(chain.join(", "));
    if let Ok(chain) = chain {
        headers.insert(FORWARDED_FOR, chain);
    }
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if how.secure { "https" } else { "http" }));
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = how.host
    {
        headers.insert(FORWARDED_HOST, host.clone());
    }
}

/// Keeps a trace context that is well-formed; otherwise begins one, whose trace id is the request's id (W3C Trace Context).
fn trace(headers: &mut HeaderMap, id: &RequestId) {
    if headers.get(TRACEPARENT).is_some_and(|value| well_formed(value.as_bytes())) {
        return;
    }
    headers.remove(TRACESTATE);
    headers.insert(TRACEPARENT, id.traceparent());
}

fn well_formed(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&[u8]> = value.splitn(5, |byte| *byte == b'-').collect();
    match parts.as_slice() {
        [version, trace, span, flags, rest @ ..] => {
            let whole = version.len() == 2 && trace.len() == 32 && span.len() == 16 && flags.len() == 2;
            let future = rest.is_empty() || *version != b"00";
            let zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
            whole
                && future
                && hex(version)
                && *version != b"ff"
                && hex(trace)
                && hex(span)
                && hex(flags)
                && !zero(trace)
                && !zero(span)
        }
        _ => false,
    }
}

/// The fields that a `Connection` header names as the hop's own.
struct Named(Vec<String>);

impl Named {
    fn by_connection(headers: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for value in headers.get_all(http::header::CONNECTION) {
            for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let usual = token.eq_ignore_ascii_case(b"keep-alive")
                    || token.eq_ignore_ascii_case(b"close")
                    || token.eq_ignore_ascii_case(b"upgrade");
                if !usual && let Ok(name) = std::str::from_utf8(token) {
                    names.push(name.to_ascii_lowercase());
                }
            }
        }
        Self(names)
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|named| named == name)
    }

    fn each(&self, mut take: impl FnMut(&str)) {
        self.0.iter().for_each(|name| take(name));
    }
}
