//! What cannot change while the process runs.

use super::load::Loaded;
use super::model::Config;
use super::problem::{Kind, Problem};
use super::tree::Step;

impl Config {
    /// The keys of `new` that this running config cannot take over without a restart.
    pub fn needs_restart(&self, new: &Self) -> Vec<Problem> {
        changed(self, new).map(problem).collect()
    }
}

impl Loaded {
    /// As `Config::needs_restart`, with places in the new files.
    pub fn needs_restart(&self, running: &Config) -> Vec<Problem> {
        let place = |key: &str| {
            let path: Vec<Step> = key.split('.').map(Step::from).collect();
            // A key that was taken out is shown where its table stands.
            let nearest = (1..=path.len()).rev().find_map(|length| self.tree.at(path.get(..length)?));
            nearest.filter(|node| node.is_users()).map(|node| node.origin.key_place())
        };
        let problems = changed(running, &self.config).map(|key| match place(key) {
            Some(place) => problem(key).at(place, ""),
            None => problem(key),
        });
        problems.collect()
    }
}

fn problem(key: &str) -> Problem {
    Problem::new(key, "needs_restart: cannot change while Fender runs")
        .kind(Kind::NeedsRestart)
        .help("restart Fender, or put the old value back")
}

fn changed<'c>(old: &'c Config, new: &'c Config) -> impl Iterator<Item = &'static str> + 'c {
    let (one, other) = (&old.server, &new.server);
    let all = [
        ("profile", old.profile.logs_as_text() != new.profile.logs_as_text()), // The form of the log.
        ("server.listen", one.listen != other.listen),
        ("server.workers", one.workers != other.workers),
        ("server.max_connections", one.max_connections != other.max_connections),
        ("server.buffer_memory", one.buffer_memory != other.buffer_memory),
        ("server.tls", one.tls.is_some() != other.tls.is_some()),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("admin.public_listen", old.admin.public_listen != new.admin.public_listen),
        ("admin.tls", old.admin.tls.is_some() != new.admin.tls.is_some()),
        ("dead_letter.path", old.dead_letter.path != new.dead_letter.path),
        ("dead_letter.max_bytes", old.dead_letter.max_bytes != new.dead_letter.max_bytes),
        ("dead_letter.sync", old.dead_letter.sync != new.dead_letter.sync),
        (
            "dead_letter.retain_delivered",
            old.dead_letter.retain_delivered != new.dead_letter.retain_delivered,
        ),
        ("dead_letter.retain_parked", old.dead_letter.retain_parked != new.dead_letter.retain_parked),
        ("upstream", !old.keeps_letters() && new.keeps_letters()), // The first that keeps writes opens the store.
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key)
}
