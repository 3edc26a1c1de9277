//! Verdicts, outcomes, reasons: each row as the contract has it.

use fender::policy::blame::ClientFault;
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;
use fender::policy::verdict::{Repeatable, Verdict};

#[test]
fn each_reason_has_its_word_and_its_status() {
    use Reason as R;
    let rows = [
        (R::NoRoute, "no_route", Some(404)),
        (R::BadRequest, "bad_request", Some(400)),
        (R::BodyTooLarge, "body_too_large", Some(413)),
        (R::HeadersTooLarge, "headers_too_large", Some(431)),
        (R::HeaderTimeout, "header_timeout", Some(408)),
        (R::BodyTimeout, "body_timeout", Some(408)),
        (R::BreakerOpen, "breaker_open", Some(503)),
        (R::Overload, "overload", Some(503)),
        (R::RateLimited, "rate_limited", Some(429)),
        (R::Throttled, "throttled", Some(429)),
        (R::Timeout, "timeout", Some(504)),
        (R::FirstContent, "first_content", Some(504)),
        (R::Connect, "connect", Some(502)),
        (R::Reset, "reset", Some(502)),
        (R::Tls, "tls", Some(502)),
        (R::Protocol, "protocol", Some(502)),
        (R::Degraded, "degraded", Some(503)),
        (R::StoreUnavailable, "store_unavailable", Some(503)),
        (R::Credential, "credential", None),
        (R::Ambiguous, "ambiguous", None),
        (R::Quota, "quota", None),
        (R::Cancelled, "cancelled", None),
        (R::Exhausted, "exhausted", None),
    ];
    for (reason, word, status) in rows {
        assert_eq!((reason.as_str(), reason.status()), (word, status));
        assert_eq!(reason.to_string(), word);
        assert!(!reason.title().is_empty() && !reason.title().ends_with('.'));
    }
    let words: std::collections::BTreeSet<_> = rows.iter().map(|(_, word, _)| word).collect();
    assert_eq!(words.len(), rows.len(), "two causes share a word");
}

#[test]
fn a_clients_own_faults_bear_the_reasons_that_it_is_told() {
    for (fault, reason) in [
        (ClientFault::Bad("why"), Reason::BadRequest),
        (ClientFault::BodyTooLarge, Reason::BodyTooLarge),
        (ClientFault::HeadTooLarge, Reason::HeadersTooLarge),
        (ClientFault::HeadTooSlow, Reason::HeaderTimeout),
        (ClientFault::BodyTooSlow, Reason::BodyTimeout),
        (ClientFault::Gone, Reason::Cancelled),
    ] {
        assert_eq!(fault.reason(), reason);
    }
}

#[test]
fn each_status_has_one_outcome() {
    use Outcome as O;
    let special = [
        (402, O::Quota),
        (408, O::Transient),
        (421, O::Transient),
        (425, O::Transient),
        (429, O::Throttled),
        (501, O::Permanent),
        (505, O::Permanent),
    ];
    for status in 100..=599 {
        let ordinary = match status {
            400..=499 => O::Permanent,
            500..=599 => O::Transient,
            _ => O::Success,
        };
        let wanted = special.iter().find(|(at, _)| *at == status).map_or(ordinary, |(_, outcome)| *outcome);
        assert_eq!(O::of_status(status), wanted, "{status}");
    }
    let words = O::ALL.map(O::as_str);
    assert_eq!(words, ["success", "transient", "throttled", "quota", "permanent", "cancelled"]);
}

#[test]
fn a_second_send_is_harmless_by_method_by_key_or_by_the_config() {
    use Repeatable as R;
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        for (key, configured) in [(false, false), (true, false), (false, true), (true, true)] {
            assert_eq!(R::of(method, || key, || configured), R::Method, "{method}");
        }
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "PURGE", ""] {
        assert_eq!(R::of(method, || false, || false), R::No, "{method}");
        assert_eq!(R::of(method, || true, || false), R::Key, "{method}");
        assert_eq!(R::of(method, || false, || true), R::Config, "{method}");
        assert_eq!(R::of(method, || true, || true), R::Key, "{method}");
    }
}

#[test]
fn only_what_cannot_act_twice_is_sent_again() {
    use Repeatable as R;
    for (verdict, word, unrepeatable, repeatable) in [
        (Verdict::NeverSent, "never_sent", true, true),
        (Verdict::Refused, "refused", true, true),
        (Verdict::Ambiguous, "ambiguous", false, true),
        (Verdict::Done, "done", false, false),
    ] {
        assert_eq!(verdict.as_str(), word);
        assert_eq!(R::No.permits_resend(verdict), unrepeatable, "{word}");
        for source in [R::Method, R::Key, R::Config] {
            assert_eq!(source.permits_resend(verdict), repeatable, "{word}, {source:?}");
        }
    }
}
