//! What answers mean: one table for all APIs.

use std::time::Duration;

use fender::dialect::{Head, Ruling, Scope};
use fender::policy::outcome::Outcome::{self, Permanent, Quota, Success, Throttled, Transient};
use fender::policy::verdict::Verdict::{self, Ambiguous, Done, Refused};

use super::{NOW, dialect, meaning};

struct Vector {
    dialect: &'static str,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    outcome: Outcome,
    verdict: Verdict,
    told_ms: Option<u64>,
    scope: Scope,
}

const fn vector(
    dialect: &'static str,
    (status, headers, body): (u16, &'static [(&'static str, &'static str)], &'static str),
    (outcome, verdict): (Outcome, Verdict),
    told_ms: Option<u64>,
    scope: Scope,
) -> Vector {
    Vector { dialect, status, headers, body, outcome, verdict, told_ms, scope }
}

const NONE: &[(&str, &str)] = &[];
use Scope::{Credential, Model, Recipient};

const VECTORS: &[Vector] = &[
    vector(
        "anthropic",
        (
            400,
            NONE,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified workspace API usage limits."}}"#,
        ),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "openai",
        (
            429,
            &[("retry-after", "20")],
            r#"{"error":{"message":"Rate limit","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
        ),
        (Throttled, Refused),
        Some(20_000),
        Model,
    ),
    vector(
        "openai",
        (
            429,
            NONE,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
        ),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "openai",
        (429, NONE, r#"{"error":{"code":"credit_balance_exhausted"}}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "openai",
        (429, NONE, r#"{"error":{"code":"organization_spend_limit_exceeded"}}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "openai",
        (429, NONE, r#"{"error":{"code":"project_spend_limit_exceeded"}}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "openai",
        (429, NONE, r#"{"error":{"code":"organization_usage_limit_exceeded"}}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector("openai", (429, NONE, r#"{"error":{"code":"slow_down"}}"#), (Throttled, Refused), None, Model),
    vector("openai", (429, NONE, "<html>"), (Throttled, Refused), None, Model),
    vector(
        "openai",
        (
            429,
            &[
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
                ("x-ratelimit-remaining-tokens", "100"),
            ],
            "{}",
        ),
        (Throttled, Refused),
        Some(1_000),
        Model,
    ),
    vector("openai", (408, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector(
        "openai",
        (409, NONE, r#"{"error":{"type":"invalid_request_error"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "openai",
        (500, NONE, r#"{"error":{"type":"server_error"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector("openai", (502, NONE, "bad gateway"), (Transient, Ambiguous), None, Credential),
    vector(
        "openai",
        (503, NONE, r#"{"error":{"code":"server_is_overloaded"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector("openai", (503, &[("retry-after", "3")], "{}"), (Transient, Refused), Some(3_000), Credential),
    vector("openai", (504, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector(
        "openai",
        (400, NONE, r#"{"error":{"code":"context_length_exceeded"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "openai",
        (400, NONE, r#"{"error":{"code":"content_filter"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "openai",
        (401, NONE, r#"{"error":{"code":"invalid_api_key"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("openai", (403, NONE, ""), (Permanent, Done), None, Credential),
    vector(
        "openai",
        (404, NONE, r#"{"error":{"code":"model_not_found"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("openai", (413, NONE, ""), (Permanent, Done), None, Credential),
    vector("openai", (422, NONE, ""), (Permanent, Done), None, Credential),
    vector(
        "openai",
        (200, NONE, r#"{"error":{"code":"insufficient_quota"}}"#),
        (Success, Done),
        None,
        Credential,
    ),
    vector(
        "azure-openai",
        (
            429,
            &[("retry-after-ms", "1200"), ("retry-after", "2")],
            r#"{"error":{"code":"429","message":"exceeded token rate limit"}}"#,
        ),
        (Throttled, Refused),
        Some(1_200),
        Model,
    ),
    vector(
        "azure-openai",
        (429, &[("retry-after", "86400")], r#"{"error":{"code":"429"}}"#),
        (Throttled, Refused),
        Some(86_400_000),
        Model,
    ),
    vector(
        "azure-openai",
        (400, NONE, r#"{"error":{"code":"content_filter"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("azure-openai", (408, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector(
        "anthropic",
        (
            429,
            &[("retry-after", "12")],
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#,
        ),
        (Throttled, Refused),
        Some(12_000),
        Model,
    ),
    vector(
        "anthropic",
        (
            429,
            &[
                ("anthropic-ratelimit-requests-reset", "2026-11-22T08:00:30Z"),
                ("anthropic-ratelimit-requests-remaining", "0"),
            ],
            r#"{"type":"error","error":{"type":"rate_limit_error"}}"#,
        ),
        (Throttled, Refused),
        Some(30_000),
        Model,
    ),
    vector(
        "anthropic",
        (
            429,
            NONE,
            r#"{"type":"error","error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
        ),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "anthropic",
        (529, NONE, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "anthropic",
        (500, NONE, r#"{"type":"error","error":{"type":"api_error"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "anthropic",
        (504, NONE, r#"{"type":"error","error":{"type":"timeout_error"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector("anthropic", (409, NONE, "{}"), (Transient, Ambiguous), None, Credential),
    vector(
        "anthropic",
        (402, NONE, r#"{"type":"error","error":{"type":"billing_error"}}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "anthropic",
        (
            400,
            NONE,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
        ),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "anthropic",
        (400, NONE, r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "anthropic",
        (413, NONE, r#"{"type":"error","error":{"type":"request_too_large"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "gemini",
        (
            429,
            NONE,
            r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.Help"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"26s"}]}}"#,
        ),
        (Throttled, Refused),
        Some(26_000),
        Model,
    ),
    vector(
        "gemini",
        (
            429,
            NONE,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"45.837906927s"}]}}"#,
        ),
        (Throttled, Refused),
        Some(45_837),
        Model,
    ),
    vector(
        "gemini",
        (
            429,
            NONE,
            r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"3s"}]}}]"#,
        ),
        (Throttled, Refused),
        Some(3_000),
        Model,
    ),
    vector(
        "gemini",
        (
            429,
            NONE,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"},{"quotaMetric":"m","quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"26s"}]}}"#,
        ),
        (Quota, Refused),
        None,
        Model,
    ),
    vector(
        "gemini",
        (503, NONE, r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "gemini",
        (500, NONE, r#"{"error":{"code":500,"status":"INTERNAL"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "gemini",
        (504, NONE, r#"{"error":{"status":"DEADLINE_EXCEEDED"}}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "gemini",
        (400, NONE, r#"{"error":{"status":"INVALID_ARGUMENT"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("gemini", (402, NONE, "{}"), (Quota, Refused), None, Credential),
    vector(
        "deepseek",
        (
            402,
            NONE,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
        ),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector("deepseek", (429, NONE, "{}"), (Throttled, Refused), None, Model),
    vector("deepseek", (503, NONE, "{}"), (Transient, Ambiguous), None, Credential),
    vector(
        "deepseek",
        (422, NONE, r#"{"error":{"type":"invalid_request_error"}}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "whatsapp",
        (
            400,
            NONE,
            r#"{"error":{"message":"(#131056) pair rate limit","type":"OAuthException","code":131056,"error_data":{},"fbtrace_id":"x"}}"#,
        ),
        (Throttled, Refused),
        Some(6_000),
        Recipient,
    ),
    vector(
        "whatsapp",
        (429, &[("retry-after", "9")], r#"{"error":{"code":131056}}"#),
        (Throttled, Refused),
        Some(9_000),
        Recipient,
    ),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":130429}}"#), (Throttled, Refused), None, Credential),
    vector("whatsapp", (429, NONE, r#"{"error":{"code":80007}}"#), (Throttled, Refused), None, Credential),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":4}}"#), (Throttled, Refused), None, Credential),
    vector("whatsapp", (401, NONE, r#"{"error":{"code":190}}"#), (Quota, Refused), None, Credential),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":131047}}"#), (Permanent, Done), None, Credential),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":131026}}"#), (Permanent, Done), None, Credential),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":100}}"#), (Permanent, Done), None, Credential),
    vector("whatsapp", (500, NONE, r#"{"error":{"code":131000}}"#), (Transient, Ambiguous), None, Credential),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":2}}"#), (Transient, Ambiguous), None, Credential),
    vector("whatsapp", (400, NONE, r#"{"error":{"code":131016}}"#), (Transient, Ambiguous), None, Credential),
    vector("whatsapp", (503, NONE, r#"{"error":{"code":133004}}"#), (Transient, Ambiguous), None, Credential),
    vector("whatsapp", (502, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector(
        "green-api",
        (466, NONE, r#"{"invokeStatus":{"status":"QUOTE_EXCEEDED"}}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "green-api",
        (400, NONE, r#"{"statusCode":400,"message":"instance in starting process try later"}"#),
        (Transient, Refused),
        Some(5_000),
        Credential,
    ),
    vector(
        "green-api",
        (400, NONE, r#"{"statusCode":400,"message":"Validation failed"}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("green-api", (429, NONE, ""), (Throttled, Refused), None, Credential),
    vector("green-api", (499, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector("green-api", (502, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector("green-api", (401, NONE, ""), (Permanent, Done), None, Credential),
    vector(
        "telegram",
        (
            429,
            NONE,
            r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#,
        ),
        (Throttled, Refused),
        Some(35_000),
        Credential,
    ),
    vector(
        "telegram",
        (
            400,
            NONE,
            r#"{"ok":false,"error_code":400,"description":"group chat was upgraded","parameters":{"migrate_to_chat_id":-100}}"#,
        ),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "telegram",
        (403, NONE, r#"{"ok":false,"error_code":403,"description":"bot was blocked"}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("telegram", (500, NONE, "{}"), (Transient, Ambiguous), None, Credential),
    vector(
        "slack",
        (200, NONE, r#"{"ok":true,"channel":"C1","ts":"1.2"}"#),
        (Success, Done),
        None,
        Credential,
    ),
    vector(
        "slack",
        (200, NONE, r#"{"ok":false,"error":"ratelimited"}"#),
        (Throttled, Refused),
        Some(1_000),
        Credential,
    ),
    vector(
        "slack",
        (200, &[("retry-after", "7")], r#"{"ok":false,"error":"ratelimited"}"#),
        (Throttled, Refused),
        Some(7_000),
        Credential,
    ),
    vector(
        "slack",
        (429, &[("retry-after", "30")], r#"{"ok":false,"error":"ratelimited"}"#),
        (Throttled, Refused),
        Some(30_000),
        Credential,
    ),
    vector(
        "slack",
        (200, NONE, r#"{"ok":false,"error":"channel_not_found"}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector(
        "slack",
        (200, NONE, r#"{"ok":false,"error":"invalid_auth"}"#),
        (Quota, Refused),
        None,
        Credential,
    ),
    vector(
        "slack",
        (200, NONE, r#"{"ok":false,"error":"internal_error"}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector(
        "slack",
        (200, NONE, r#"{"ok":false,"error":"service_unavailable"}"#),
        (Transient, Ambiguous),
        None,
        Credential,
    ),
    vector("slack", (200, NONE, "ok"), (Success, Done), None, Credential),
    vector("slack", (500, NONE, "{}"), (Transient, Ambiguous), None, Credential),
    vector(
        "twilio",
        (429, NONE, r#"{"code":20429,"message":"Too Many Requests","more_info":"","status":429}"#),
        (Throttled, Refused),
        None,
        Credential,
    ),
    vector(
        "twilio",
        (400, NONE, r#"{"code":21211,"message":"Invalid To","status":400}"#),
        (Permanent, Done),
        None,
        Credential,
    ),
    vector("twilio", (401, NONE, r#"{"code":20003,"status":401}"#), (Permanent, Done), None, Credential),
    vector("twilio", (500, NONE, r#"{"code":20500,"status":500}"#), (Transient, Ambiguous), None, Credential),
    vector(
        "sendgrid",
        (
            429,
            &[("x-ratelimit-reset", "1795341600")],
            r#"{"errors":[{"field":null,"message":"too many requests"}]}"#,
        ),
        (Throttled, Refused),
        Some(7_200_000),
        Credential,
    ),
    vector("sendgrid", (413, NONE, ""), (Permanent, Done), None, Credential),
    vector("sendgrid", (500, NONE, ""), (Transient, Ambiguous), None, Credential),
    vector("sendgrid", (202, NONE, ""), (Success, Done), None, Credential),
    vector("generic", (402, NONE, ""), (Quota, Refused), None, Credential),
    vector("generic", (503, &[("retry-after", "1")], ""), (Transient, Refused), Some(1_000), Credential),
];

#[test]
fn answers_mean_what_the_apis_say() {
    let mut wrong = Vec::new();
    for vector in VECTORS {
        let got = meaning(&dialect(vector.dialect), vector.status, vector.headers, vector.body);
        let told = got.told.map(|told| u64::try_from(told.as_millis()).unwrap());
        if (got.outcome, got.verdict, told, got.scope)
            != (vector.outcome, vector.verdict, vector.told_ms, vector.scope)
        {
            wrong.push(format!("{} {} {}: {got:?}", vector.dialect, vector.status, vector.body));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The head of an answer without fields.
fn bare(status: u16) -> Head<'static> {
    Head { status, field: &|_| None, unix_now: NOW }
}

#[test]
fn a_success_is_never_held_back() {
    for name in fender::dialect::builtin::names().filter(|name| *name != "slack") {
        for status in [200, 201, 202, 204, 301, 304] {
            assert!(matches!(dialect(name).of_head(&bare(status)), Ruling::Known(_)), "{name} {status}");
        }
    }
    let slack = dialect("slack");
    assert!(matches!(slack.of_head(&bare(200)), Ruling::Read { max: 16_384 }));
    assert_eq!(slack.of_body(&bare(200), b"{\"ok\":tru", false), None);
    let known = slack.of_body(&bare(200), b"{\"ok\":true,", false).expect("the first bytes tell");
    assert_eq!(known.outcome, Success);
    let known = slack.of_body(&bare(200), b"<", false).expect("it is no JSON");
    assert_eq!(known.outcome, Success);
}

/// A message that is sent twice is seen by a person: a 503 that says when to come back is no promise that nothing was sent.
#[test]
fn no_messaging_api_is_taken_to_have_refused_with_503() {
    for name in ["whatsapp", "green-api", "twilio", "slack", "telegram", "sendgrid"] {
        let got = meaning(&dialect(name), 503, &[("retry-after", "3")], "{}");
        assert_eq!((got.outcome, got.verdict), (Transient, Ambiguous), "{name}");
        assert_eq!(got.told, Some(Duration::from_secs(3)), "{name}");
    }
}

#[test]
fn a_moment_is_not_read_without_the_time() {
    let slack = dialect("slack");
    for (told, wanted) in [("7", 7), ("Sun, 22 Nov 2026 08:00:30 GMT", 1)] {
        let field = |name: &str| (name == "retry-after").then_some(told);
        let head = Head { status: 200, field: &field, unix_now: Duration::ZERO };
        let meaning =
            slack.of_body(&head, br#"{"ok":false,"error":"ratelimited"}"#, true).expect("it is whole");
        assert_eq!(meaning.told, Some(Duration::from_secs(wanted)), "{told}");
    }
}

/// What was said of the beginning of a body holds for all of it.
#[test]
fn no_beginning_of_a_body_contradicts_the_whole() {
    for vector in VECTORS {
        let dialect = dialect(vector.dialect);
        let field = |name: &str| vector.headers.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
        let head = Head { status: vector.status, field: &field, unix_now: NOW };
        if let Ruling::Known(_) = dialect.of_head(&head) {
            continue;
        }
        let whole = dialect.of_body(&head, vector.body.as_bytes(), true).expect("it is whole");
        for end in 0..=vector.body.len() {
            let begun = dialect.of_body(&head, &vector.body.as_bytes()[..end], false);
            assert!(begun.is_none_or(|begun| begun == whole), "{} {}", vector.dialect, &vector.body[..end]);
            assert!(dialect.of_body(&head, &vector.body.as_bytes()[..end], true).is_some());
        }
    }
}

#[test]
fn a_body_beyond_what_is_worth_reading_is_judged_by_what_was_read() {
    let slack = dialect("slack");
    let long = format!("{{\"a\":\"{}\",\"ok\":false}}", "x".repeat(20_000));
    assert_eq!(slack.of_body(&bare(200), &long.as_bytes()[..16_000], false), None);
    let judged = slack.of_body(&bare(200), long.as_bytes(), false).expect("the first 16 KiB are enough");
    assert_eq!(judged.outcome, Success);
    assert_eq!(judged.told, None::<Duration>);
}
