//! What the policies did: read from the metrics, as a scraper would.

use crate::telemetry::metrics::Metrics;

/// One paragraph: retries, budget, breaker, fallbacks, for each upstream.
pub(super) fn summary(upstreams: &[&str], metrics: &Metrics) -> String {
    let mut text = format!(
        "{:<10} {:>8} {:>6} {:>12} {:>7} {:>7} {:>8} {:>8} {:>10}\n",
        "upstream", "retries", "saved", "held back", "opened", "closed", "open s", "refused", "fell back"
    );
    for upstream in upstreams {
        let total = |name: &str, labels: &[(&str, &str)]| {
            metrics.total(name, &[&[("upstream", *upstream)], labels].concat())
        };
        let turned = |to| total("fender_breaker_transitions_total", &[("to", to)]);
        let budget = total("fender_retries_refused_total", &[("reason", "budget")]);
        text.push_str(&format!(
            "{upstream:<10} {:>8} {:>6} {budget:>12} {:>7} {:>7} {:>8.1} {:>8} {:>10}\n",
            total("fender_retries_total", &[]),
            total("fender_retry_success_total", &[]),
            turned("open"),
            turned("closed"),
            total("fender_breaker_open_seconds_total", &[]),
            total("fender_breaker_refused_total", &[]),
            total("fender_fallback_total", &[]),
        ));
    }
    let letters = |name: &str, labels: &[(&str, &str)]| metrics.total(name, labels);
    text.push_str(&format!(
        "\nletters: {} kept, {} delivered later, by {} replays\n",
        letters("fender_dead_letters_captured_total", &[]),
        letters("fender_dead_letter_replays_total", &[("outcome", "success")]),
        letters("fender_dead_letter_replays_total", &[]),
    ));
    text.push_str(
        "\nsaved: requests that a retry turned into a success. held back: retries that the budget did not grant.\n\
         opened, closed: the breaker. refused: requests that the open breaker spared the upstream.\n",
    );
    text
}
