//! Whether a failed attempt is made again: what each end means, which words name it, and the order of the refusals.

use std::cell::Cell;
use std::time::Duration;

use fender::policy::cause::Cause;
use fender::policy::judge::{Judged, Meaning};
use fender::policy::outcome::Outcome;
use fender::policy::reason::Reason;
use fender::policy::retry::{Asking, Decision, Settings, Stop};
use fender::policy::trigger::Trigger;
use fender::policy::verdict::Verdict;
use proptest::prelude::*;

const NO_LIST: &[&[Trigger]] = &[];

fn settings(toml: &str) -> Settings {
    let text = format!("[upstream.a]\nurl = 'http://a'\nroute = '/'\n{toml}");
    let loaded = fender::config::load_text("fender.toml", &text).expect("in order");
    loaded.config.upstream["a"].retry.clone()
}

fn answer(status: u16) -> Judged {
    Judged::answer(status, Meaning::by_status(status, None, false), NO_LIST)
}

fn asking(ended: Judged) -> Asking {
    Asking {
        ended,
        attempts: 1,
        resend: true,
        replayable: true,
        opted_out: false,
        took: Duration::from_millis(10),
        left: Duration::from_secs(60),
        previous: Duration::ZERO,
        breaker_refuses: false,
    }
}

fn decided(settings: &Settings, asking: &Asking) -> Decision {
    settings.decide(asking, 0.5, || true)
}

#[test]
fn what_an_answer_did_is_known_from_its_status() {
    use Verdict as V;
    for (status, asks_back, verdict) in [
        (200, false, V::Done),
        (404, false, V::Done),
        (501, false, V::Done),
        (402, false, V::Refused),
        (421, false, V::Refused),
        (425, false, V::Refused),
        (429, false, V::Refused),
        (503, true, V::Refused),
        (503, false, V::Ambiguous),
        (500, true, V::Ambiguous),
        (408, false, V::Ambiguous),
        (529, false, V::Ambiguous),
    ] {
        assert_eq!(
            Judged::answer(status, Meaning::by_status(status, None, asks_back), NO_LIST).verdict,
            verdict,
            "{status} {asks_back}"
        );
    }
}

#[test]
fn a_listed_status_beats_success_and_nothing_else() {
    let listed: &[&[Trigger]] =
        &[&[Trigger::Status(202)], &[Trigger::Status(404), Trigger::Status(402), Trigger::Status(501)]];
    for (status, outcome) in [
        (202, Outcome::Transient),
        (200, Outcome::Success),
        (404, Outcome::Permanent),
        (402, Outcome::Quota),
        (501, Outcome::Permanent),
        (429, Outcome::Throttled),
    ] {
        assert_eq!(
            Judged::answer(status, Meaning::by_status(status, None, false), listed).outcome,
            outcome,
            "{status}"
        );
    }
    assert!(
        !Judged::answer(404, Meaning::by_status(404, None, false), listed)
            .is_named_by(&[Trigger::Status(404)])
    );
}

#[test]
fn each_word_names_its_ends() {
    use Reason as R;
    use Trigger as T;
    let fault = |reason| Judged::fault(reason, Verdict::Ambiguous);
    for (ended, words) in [
        (fault(R::Connect), vec![T::Connect, T::Transient]),
        (fault(R::Tls), vec![T::Connect, T::Transient]),
        (fault(R::Reset), vec![T::Reset, T::Transient]),
        (fault(R::Protocol), vec![T::Reset, T::Transient]),
        (fault(R::Timeout), vec![T::Timeout, T::Transient]),
        (answer(500), vec![T::Transient, T::ServerError, T::Status(500)]),
        (answer(429), vec![T::Throttled, T::Status(429)]),
        (answer(404), vec![]),
        (answer(402), vec![]),
        (answer(200), vec![]),
        (Judged::client(true, R::Cancelled, Verdict::Ambiguous), vec![]),
    ] {
        let all = [
            T::Connect,
            T::Reset,
            T::Timeout,
            T::Transient,
            T::Throttled,
            T::ServerError,
            T::Status(500),
            T::Status(429),
            T::Status(404),
            T::Status(402),
            T::Status(200),
        ];
        let named: Vec<_> = all.into_iter().filter(|word| ended.is_named_by(&[*word])).collect();
        let wanted: Vec<_> = all.into_iter().filter(|word| words.contains(word)).collect();
        assert_eq!(named, wanted, "{ended:?}");
    }
}

#[test]
fn each_refusal_has_its_reason() {
    let settings = settings("retry = { backoff = { base = '1s', jitter = 'none' } }");
    let failed = asking(answer(503));
    let told = |wait| Asking { ended: Judged { told: Some(wait), ..answer(429) }, ..failed };
    let second = Duration::from_secs(1);
    for (asking, stop) in [
        (asking(answer(404)), Stop::Unlisted),
        (asking(answer(402)), Stop::Unlisted),
        (Asking { attempts: 3, ..failed }, Stop::Attempts),
        (Asking { opted_out: true, ..failed }, Stop::OptedOut),
        (Asking { resend: false, ..failed }, Stop::Unsafe),
        (Asking { replayable: false, ..failed }, Stop::Body),
        (told(second * 31), Stop::Patience),
        (Asking { left: second, ..failed }, Stop::Deadline),
        (Asking { left: second * 3, took: second * 21, ..failed }, Stop::Deadline),
        (Asking { breaker_refuses: true, ..failed }, Stop::Breaker),
    ] {
        let taken = Cell::new(false);
        let decision = settings.decide(&asking, 0.5, || {
            taken.set(true);
            true
        });
        assert_eq!(decision, Decision::Stop(stop), "{asking:?}");
        assert!(!taken.get(), "a retry that is not made takes nothing from the budget: {stop:?}");
    }
    assert_eq!(settings.decide(&failed, 0.5, || false), Decision::Stop(Stop::Budget));
    assert_eq!(decided(&settings, &failed), Decision::Again { wait: second });
    assert_eq!(decided(&settings, &told(second * 7)), Decision::Again { wait: second * 7 });
    assert_eq!(decided(&settings, &told(second / 2)), Decision::Again { wait: second });
}

#[test]
fn a_fallback_is_named_by_what_refused_or_by_how_the_last_attempt_ended() {
    use Cause as C;
    let all = [
        C::BreakerOpen,
        C::Exhausted,
        C::Timeout,
        C::Connect,
        C::Reset,
        C::Tls,
        C::Throttled,
        C::Quota,
        C::Overload,
        C::Degraded,
        C::ServerError,
        C::Status(500),
    ];
    let fault = |reason| Some(Judged::fault(reason, Verdict::Ambiguous));
    for (refused, last, causes) in [
        (Some(Reason::BreakerOpen), None, vec![C::BreakerOpen]),
        (
            Some(Reason::BreakerOpen),
            Some(answer(500)),
            vec![C::BreakerOpen, C::Exhausted, C::ServerError, C::Status(500)],
        ),
        (Some(Reason::Overload), None, vec![C::Overload]),
        (Some(Reason::Degraded), None, vec![C::Degraded]),
        (Some(Reason::RateLimited), None, vec![C::Throttled]),
        (Some(Reason::Throttled), None, vec![C::Throttled]),
        (Some(Reason::Exhausted), Some(answer(429)), vec![C::Exhausted, C::Throttled]),
        (Some(Reason::Quota), Some(answer(402)), vec![C::Quota]),
        (None, fault(Reason::Timeout), vec![C::Exhausted, C::Timeout]),
        (None, fault(Reason::Connect), vec![C::Exhausted, C::Connect]),
        (None, fault(Reason::Tls), vec![C::Exhausted, C::Tls]),
        (None, fault(Reason::Protocol), vec![C::Exhausted, C::Reset]),
        (None, Some(answer(404)), vec![]),
    ] {
        let named: Vec<_> = all.into_iter().filter(|cause| cause.names(refused, last.as_ref())).collect();
        let wanted: Vec<_> = all.into_iter().filter(|cause| causes.contains(cause)).collect();
        assert_eq!(named, wanted, "{refused:?} {last:?}");
    }
}

proptest! {
    /// Whatever is asked: a retry is never begun after the deadline, never without the right to send again, and never
    /// sooner than the upstream told.
    #[test]
    fn no_retry_breaks_a_bound(
        status in 100u16..600,
        told in proptest::option::of(0u64..100_000),
        (attempts, took, left, previous) in (1u32..6, 0u64..100_000, 0u64..100_000, 0u64..20_000),
        (resend, replayable, opted_out, breaker_refuses) in any::<(bool, bool, bool, bool)>(),
        dice in 0.0f64..1.0,
    ) {
        let settings = settings("");
        let millis = Duration::from_millis;
        let ended = Judged::answer(status, Meaning::by_status(status, told.map(millis), true), NO_LIST);
        let asking = Asking {
            ended, attempts, resend, replayable, opted_out, breaker_refuses,
            took: millis(took), left: millis(left), previous: millis(previous),
        };
        if let Decision::Again { wait } = decided_with(&settings, &asking, dice) {
            prop_assert!(resend && replayable && !opted_out && !breaker_refuses && attempts < 3);
            prop_assert!(wait < asking.left);
            prop_assert!(ended.told.is_none_or(|told| wait >= told && told <= settings.retry_after));
            prop_assert!(wait <= settings.backoff.max.max(ended.told.unwrap_or_default()));
            prop_assert!(matches!(ended.outcome, Outcome::Transient | Outcome::Throttled));
        }
    }
}

fn decided_with(settings: &Settings, asking: &Asking, dice: f64) -> Decision {
    settings.decide(asking, dice, || true)
}
