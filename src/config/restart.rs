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

/// What a running process cannot take over.
pub(super) struct NeedsRestart {
    /// The key, or a table of which only its being there counts.
    pub(super) key: &'static str,
    /// Which change of it needs the restart; "" = any.
    pub(super) when: &'static str,
    differs: fn(&Config, &Config) -> bool,
}

const fn any(key: &'static str, differs: fn(&Config, &Config) -> bool) -> NeedsRestart {
    NeedsRestart { key, when: "", differs }
}

/// All of it.
pub(super) const NEEDS_RESTART: &[NeedsRestart] = &[
    NeedsRestart {
        key: "profile",
        when: "where the form of the log changes",
        differs: |old, new| old.profile.logs_as_text() != new.profile.logs_as_text(),
    },
    any("server.listen", |old, new| old.server.listen != new.server.listen),
    any("server.workers", |old, new| old.server.workers != new.server.workers),
    any("server.max_connections", |old, new| old.server.max_connections != new.server.max_connections),
    any("server.buffer_memory", |old, new| old.server.buffer_memory != new.server.buffer_memory),
    NeedsRestart {
        key: "server.tls",
        when: "to turn it on or off",
        differs: |old, new| old.server.tls.is_some() != new.server.tls.is_some(),
    },
    any("admin.listen", |old, new| old.admin.listen != new.admin.listen),
    any("admin.public_listen", |old, new| old.admin.public_listen != new.admin.public_listen),
    NeedsRestart {
        key: "admin.tls",
        when: "to turn it on or off",
        differs: |old, new| old.admin.tls.is_some() != new.admin.tls.is_some(),
    },
    any("dead_letter.path", |old, new| old.dead_letter.path != new.dead_letter.path),
    any("dead_letter.max_bytes", |old, new| old.dead_letter.max_bytes != new.dead_letter.max_bytes),
    any("dead_letter.sync", |old, new| old.dead_letter.sync != new.dead_letter.sync),
    any("dead_letter.retain_delivered", |old, new| {
        old.dead_letter.retain_delivered != new.dead_letter.retain_delivered
    }),
    any("dead_letter.retain_parked", |old, new| {
        old.dead_letter.retain_parked != new.dead_letter.retain_parked
    }),
    NeedsRestart {
        key: "upstream",
        when: "for the first one whose writes are kept: it opens the store",
        differs: |old, new| !old.keeps_letters() && new.keeps_letters(),
    },
];

fn changed<'c>(old: &'c Config, new: &'c Config) -> impl Iterator<Item = &'static str> + 'c {
    NEEDS_RESTART.iter().filter(|one| (one.differs)(old, new)).map(|one| one.key)
}
