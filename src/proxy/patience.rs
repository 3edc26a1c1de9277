//! How long the client says that it waits: `fender-timeout`, `grpc-timeout`, `x-stainless-read-timeout`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::policy::blame::ClientFault;
use crate::units;

/// Whether a field says how long the client waits: asked of every field of every request, so that most are not searched.
#[must_use]
pub fn concerns(name: &HeaderName) -> bool {
    matches!(name.as_str(), "fender-timeout" | "grpc-timeout" | "x-stainless-read-timeout")
}

/// The shortest of what the client says.
///
/// # Errors
/// `fender-timeout` is addressed to Fender: one that cannot be read is told. The others are another's words: ignored then.
pub(super) fn told(headers: &HeaderMap) -> Result<Option<Duration>, ClientFault> {
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
