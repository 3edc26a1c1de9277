//! Which header fields go on, and which Fender adds (RFC 9110 section 7.6).

use http::header::{CONNECTION, Entry, HeaderName, HeaderValue};
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
pub struct Upward<'a> {
    pub id: &'a RequestId,
    /// The peer's address.
    pub address: &'a HeaderValue,
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

/// Which of the fields that Fender would add have come.
#[expect(clippy::struct_excessive_bools, reason = "five fields, each there or not")]
#[derive(Debug, Default)]
struct Came {
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
    request_id: bool,
    trace: bool,
    trace_state: bool,
}

/// The fields of a request on its way up. `host` is left to the sender, who knows the endpoint.
#[must_use]
pub fn upward(came: &HeaderMap, how: &Upward<'_>) -> HeaderMap {
    let named = Named::by_connection(came);
    let mut headers = HeaderMap::with_capacity(came.len() + 8 + how.set.len());
    let mut seen = Came::default();
    for (name, value) in came {
        if !goes_up(name, value, how, &named) {
            continue;
        }
        match name.as_str() {
            "x-forwarded-for" => seen.forwarded_for = true,
            "x-forwarded-proto" => seen.forwarded_proto = true,
            "x-forwarded-host" => seen.forwarded_host = true,
            "x-request-id" => seen.request_id = true,
            "traceparent" => seen.trace = true,
            "tracestate" => seen.trace_state = true,
            _ => {}
        }
        headers.append(name.clone(), value.clone());
    }
    add(&mut headers, how, &seen);
    headers
}

fn goes_up(name: &HeaderName, value: &HeaderValue, how: &Upward<'_>, named: &Named) -> bool {
    let text = name.as_str();
    let fits = match text.as_bytes().first() {
        Some(b'f') => !text.starts_with("fender-"),
        Some(b'h') => text != "host",
        Some(b't') => text != "te" || value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        Some(b'x') => how.trusted || !text.starts_with("x-forwarded-"),
        _ => true,
    };
    fits && !hop_by_hop(text) && !named.contains(text) && !how.remove.contains(name)
}

fn add(headers: &mut HeaderMap, how: &Upward<'_>, seen: &Came) {
    if seen.forwarded_for {
        extend_forwarded_for(headers, how.address);
    } else {
        headers.append(FORWARDED_FOR, how.address.clone());
    }
    if !seen.forwarded_proto {
        headers.append(FORWARDED_PROTO, if how.secure { HTTPS } else { HTTP });
    }
    if let Some(host) = how.host.filter(|_| !seen.forwarded_host) {
        headers.append(FORWARDED_HOST, host.clone());
    }
    if seen.trace || seen.trace_state {
        keep_or_begin_trace(headers, how.id);
    } else {
        headers.append(TRACEPARENT, how.id.traceparent());
    }
    if !seen.request_id {
        headers.append(REQUEST_ID, how.id.header().clone());
    }
    headers.append(VIA, via(how.version));
    if let Some(protocol) = how.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, protocol.clone());
    }
    for name in how.remove {
        headers.remove(name);
    }
    for (name, value) in how.set {
        headers.insert(name.clone(), value.clone());
    }
}

/// Strips a response's fields of what is the hop's own, in place.
pub fn downward(headers: &mut HeaderMap, status: StatusCode, version: Version) {
    let named = Named::taken_from(headers);
    let protocol =
        if status == StatusCode::SWITCHING_PROTOCOLS { headers.remove(http::header::UPGRADE) } else { None };
    let own = |name: &&HeaderName| {
        let text = name.as_str();
        hop_by_hop(text) || text.starts_with("fender-") || named.contains(text)
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(own).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, protocol);
    }
    headers.append(VIA, via(version));
}

/// Whether a field is the hop's own: it says something of one connection, not of the message.
pub(super) fn hop_by_hop(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'c') => name == "connection",
        Some(b'k') => name == "keep-alive",
        Some(b'p') => matches!(name, "proxy-connection" | "proxy-authenticate" | "proxy-authorization"),
        Some(b't') => name == "transfer-encoding",
        Some(b'u') => name == "upgrade",
        _ => false,
    }
}

const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 fender");
const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 fender");
const VIA_2: HeaderValue = HeaderValue::from_static("2.0 fender");

fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_2 => VIA_2,
        Version::HTTP_10 => VIA_1_0,
        _ => VIA_1_1,
    }
}

fn extend_forwarded_for(headers: &mut HeaderMap, address: &HeaderValue) {
    let earlier = headers.get_all(FORWARDED_FOR).iter();
    let chain: Vec<&[u8]> = earlier.chain([address]).map(HeaderValue::as_bytes).collect();
    // What came as values and a comma between them is a value.
    if let Ok(chain) = HeaderValue::from_bytes(&chain.join(&b", "[..])) {
        headers.insert(FORWARDED_FOR, chain);
    }
}

/// Keeps a trace context that is well-formed; otherwise begins one, whose trace id is the request's id (W3C Trace Context).
fn keep_or_begin_trace(headers: &mut HeaderMap, id: &RequestId) {
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
pub(super) struct Named(Vec<String>);

impl Named {
    pub(super) fn by_connection(headers: &HeaderMap) -> Self {
        let mut named = Self(Vec::new());
        if headers.contains_key(CONNECTION) {
            headers.get_all(CONNECTION).iter().for_each(|value| named.add(value));
        }
        named
    }

    /// The same, and takes the field away.
    fn taken_from(headers: &mut HeaderMap) -> Self {
        let mut named = Self(Vec::new());
        if let Entry::Occupied(field) = headers.entry(CONNECTION) {
            field.remove_entry_mult().1.for_each(|value| named.add(&value));
        }
        named
    }

    fn add(&mut self, value: &HeaderValue) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let usual = [&b"keep-alive"[..], b"close", b"upgrade"];
            if !usual.iter().any(|word| token.eq_ignore_ascii_case(word))
                && let Ok(name) = std::str::from_utf8(token)
            {
                self.0.push(name.to_ascii_lowercase());
            }
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|named| named == name)
    }
}
