//! Webhooks.

use super::{Check, below};
use crate::config::model::Config;
use crate::config::tree::{Step, steps};

pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    for (number, hook) in config.notify.iter().enumerate() {
        let at = steps!["notify", number];
        let on = below(&at, "on");
        if hook.on.is_empty()
            && check.tree.at(&on).is_some_and(|on| on.items().is_empty())
            && !check.was_taken(&on)
            && !check.was_taken(&item(&on, 0))
        {
            check.wrong(&on, "must list at least one event", "without `on` all of them are told");
        }
        for (place, word) in hook.on.iter().enumerate() {
            if hook.on.iter().take(place).any(|other| other == word) {
                check.wrong(&item(&on, place), "is listed twice", "");
            }
        }
        if config.notify.iter().take(number).any(|other| other == hook) {
            check.wrong(&at, "is listed twice", "");
        }
        if hook.secret.as_ref().is_some_and(|secret| secret.expose().trim().is_empty()) {
            check.wrong(&below(&at, "secret"), "must not be empty: anyone could sign with it", "");
        }
        if hook.secret.is_none() {
            check.warn(
                &at,
                "has no `secret`: its receiver cannot tell that a post is Fender's",
                "secret = \"${env:WEBHOOK_SECRET}\"",
            );
        }
    }
}

fn item(list: &[Step], place: usize) -> Vec<Step> {
    let mut path = list.to_vec();
    path.push(Step::from(place));
    path
}
