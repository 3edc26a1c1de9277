//! Which header fields go on, and which Fender adds (RFC 9110 section 7.6).

use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, Entry, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, StatusCode, Version};

use super::id::RequestId;
use super::patience;
use super::traced::{self, TRACEPARENT, TRACESTATE};

const VIA: HeaderName = http::header::VIA;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is seen of a request's fields in passing: most bear none of these, and nobody need search for them then.
#[expect(clippy::struct_excessive_bools, reason = "fields, each there or not")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Glance {
    pub expect: bool,
    pub grpc: bool,
    pub upgrade: bool,
    /// Something about the request's past, or about its client's patience.
    pub tells: bool,
}

impl Glance {
    /// At all fields, once.
    #[must_use]
    pub fn at(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            seen.expect |= name == EXPECT;
            seen.upgrade |= name == UPGRADE;
            seen.grpc |= name == CONTENT_TYPE && value.as_bytes().starts_with(b"application/grpc");
            seen.tells |= patience::concerns(name);
        }
        seen
    }
}

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
    /// The protocol asked for, if this is an upgrade.
    pub upgrade: Option<&'a HeaderValue>,
    pub remove: &'a [HeaderName],
    pub set: &'a [(HeaderName, HeaderValue)],
}

/// What a field of a request means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// It says something of one connection, not of the message; or is meant for Fender.
    Hop,
    Host,
    Te,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    ForwardedElse,
    RequestId,
    Trace,
    TraceState,
    Other,
}

impl Field {
    fn of(name: &str) -> Self {
        match name {
            "host" => Self::Host,
            "te" => Self::Te,
            "x-forwarded-for" => Self::ForwardedFor,
            "x-forwarded-proto" => Self::ForwardedProto,
            "x-forwarded-host" => Self::ForwardedHost,
            "x-request-id" => Self::RequestId,
            "traceparent" => Self::Trace,
            "tracestate" => Self::TraceState,
            other if hop_by_hop(other) || other.starts_with("fender-") => Self::Hop,
            other if other.starts_with("x-forwarded-") => Self::ForwardedElse,
            _ => Self::Other,
        }
    }

    const fn is_forwarded(self) -> bool {
        matches!(self, Self::ForwardedFor | Self::ForwardedProto | Self::ForwardedHost | Self::ForwardedElse)
    }
}

/// Which of the fields that Fender would add have come.
#[expect(clippy::struct_excessive_bools, reason = "fields, each there or not")]
#[derive(Debug, Default)]
struct Came<'a> {
    host: Option<&'a HeaderValue>,
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
        let field = Field::of(name.as_str());
        let stays = match field {
            Field::Hop => true,
            Field::Host => {
                seen.host = Some(value);
                true
            }
            Field::Te => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
            field => field.is_forwarded() && !how.trusted,
        };
        if stays || named.contains(name.as_str()) || how.remove.contains(name) {
            continue;
        }
        match field {
            Field::ForwardedFor => seen.forwarded_for = true,
            Field::ForwardedProto => seen.forwarded_proto = true,
            Field::ForwardedHost => seen.forwarded_host = true,
            Field::RequestId => seen.request_id = true,
            Field::Trace => seen.trace = true,
            Field::TraceState => seen.trace_state = true,
            _ => {}
        }
        headers.append(name.clone(), value.clone());
    }
    add(&mut headers, how, &seen);
    headers
}

fn add(headers: &mut HeaderMap, how: &Upward<'_>, seen: &Came<'_>) {
    if seen.forwarded_for {
        extend_forwarded_for(headers, how.address);
    } else {
        headers.append(FORWARDED_FOR, how.address.clone());
    }
    if !seen.forwarded_proto {
        headers.append(FORWARDED_PROTO, if how.secure { HTTPS } else { HTTP });
    }
    if let Some(host) = seen.host.filter(|_| !seen.forwarded_host) {
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
        headers.insert(UPGRADE, protocol.clone());
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
    headers.reserve(ADDED_DOWN);
    let own = |name: &HeaderName| hop_by_hop(name.as_str()) || name.as_str().starts_with("fender-");
    if headers.keys().any(own) {
        strip(headers, status);
    }
    headers.append(VIA, via(version));
}

/// So many fields are added to most responses.
const ADDED_DOWN: usize = 3;

fn strip(headers: &mut HeaderMap, status: StatusCode) {
    let named = Named::taken_from(headers);
    let protocol = if status == StatusCode::SWITCHING_PROTOCOLS { headers.remove(UPGRADE) } else { None };
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
        headers.insert(UPGRADE, protocol);
    }
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

/// Keeps a trace context that came once and is well-formed; otherwise begins one, whose trace id is the request's id (W3C Trace Context).
fn keep_or_begin_trace(headers: &mut HeaderMap, id: &RequestId) {
    if traced::parent(headers).is_some() {
        return;
    }
    headers.remove(TRACESTATE);
    headers.insert(TRACEPARENT, id.traceparent());
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
