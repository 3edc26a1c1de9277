//! What the client says of the request itself: how long it waits (`fender-timeout`, `grpc-timeout`,
//! `x-stainless-read-timeout`), what it wants nothing of (`fender-policy`), and whether it has tried before.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::exchange::OptOut;
use crate::policy::blame::ClientFault;
use crate::units;

/// Whether a field says how long the client waits: asked of every field of every request, so that most are not searched.
#[must_use]
pub fn concerns(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "fender-timeout"
            | "fender-policy"
            | "grpc-timeout"
            | "x-stainless-read-timeout"
            | "x-stainless-retry-count"
            | "amz-sdk-request"
    )
}

/// All of it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Said {
    pub timeout: Option<Duration>,
    pub opted: OptOut,
    /// The request is a retry that the client's SDK made.
    pub tried_before: bool,
}

impl Said {
    /// Reads the fields.
    ///
    /// # Errors
    /// One that is addressed to Fender and cannot be read.
    pub(super) fn by(headers: &HeaderMap) -> Result<Self, ClientFault> {
        Ok(Self { timeout: told(headers)?, opted: opted(headers)?, tried_before: tried_before(headers) })
    }
}

/// `fender-policy: no-retry, no-fallback, no-dead-letter`.
fn opted(headers: &HeaderMap) -> Result<OptOut, ClientFault> {
    let mut opted = OptOut::default();
    for value in headers.get_all("fender-policy") {
        for word in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match word {
                b"no-retry" => opted.retry = true,
                b"no-fallback" => opted.fallback = true,
                b"no-dead-letter" => opted.dead_letter = true,
                b"" => {}
                _ => {
                    return Err(ClientFault::Bad(
                        "fender-policy knows no-retry, no-fallback and no-dead-letter",
                    ));
                }
            }
        }
    }
    Ok(opted)
}

/// `x-stainless-retry-count: 1` (SDKs of OpenAI, Anthropic and others), `amz-sdk-request: attempt=2; max=3`.
fn tried_before(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let stainless = text("x-stainless-retry-count").and_then(|text| text.trim().parse::<u32>().ok());
    let amazon = text("amz-sdk-request").and_then(|text| {
        let mut fields = text.split([';', ',']).map(str::trim);
        fields.find_map(|field| field.strip_prefix("attempt=")?.parse::<u32>().ok())
    });
    stainless.is_some_and(|count| count > 0) || amazon.is_some_and(|attempt| attempt > 1)
}

/// The shortest of what the client says.
///
/// # Errors
/// `fender-timeout` is addressed to Fender: one that cannot be read is told. The others are another's words: ignored then.
fn told(headers: &HeaderMap) -> Result<Option<Duration>, ClientFault> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let own = match headers.get("fender-timeout") {
        None => None,
        Some(value) => match value.to_str().ok().and_then(|text| units::parse_duration(text.trim()).ok()) {
            Some(limit) if !limit.is_zero() => Some(limit),
            _ => return Err(ClientFault::Bad("fender-timeout is no duration such as 3s or 250ms")),
        },
    };
    let grpc = text("grpc-timeout").and_then(grpc_timeout);
    let sdk = text("x-stainless-read-timeout")
        .and_then(|text| text.parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok([own, grpc, sdk].into_iter().flatten().filter(|limit| !limit.is_zero()).min())
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}
