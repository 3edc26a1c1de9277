//! How sick the whole is, and what is given up for it.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;

/// An upstream's weight in the degradation level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// Nobody notices for a while.
    Low,
    /// Users notice.
    Normal,
    /// Nothing works without it.
    High,
}

impl Criticality {
    /// As the config words it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// From which degradation level on an upstream's requests are shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShedAt {
    /// Never.
    Off,
    /// From minor on.
    Minor,
    /// From moderate on.
    Moderate,
    /// From severe on.
    Severe,
    /// At critical alone.
    Critical,
}

impl ShedAt {
    /// The word for it in the config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minor => "minor",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
            Self::Critical => "critical",
        }
    }

    /// Whether requests are shed at this level.
    #[must_use]
    pub fn sheds(self, level: Level) -> bool {
        match self {
            Self::Off => false,
            Self::Minor => level >= Level::Minor,
            Self::Moderate => level >= Level::Moderate,
            Self::Severe => level >= Level::Severe,
            Self::Critical => level >= Level::Critical,
        }
    }
}

/// How sick the whole is; the later, the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// All is well.
    #[default]
    Normal,
    /// A low upstream is sick, or the store is.
    Minor,
    /// A normal upstream is sick.
    Moderate,
    /// All normal upstreams are sick, or a high one is.
    Severe,
    /// All high upstreams are sick, or all upstreams are.
    Critical,
}

impl Level {
    /// All of them, the best first.
    pub const ALL: [Self; 5] = [Self::Normal, Self::Minor, Self::Moderate, Self::Severe, Self::Critical];

    /// The word under which the level is known outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Minor => "minor",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
            Self::Critical => "critical",
        }
    }

    /// 0 for normal to 4 for critical, as the metric shows it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Minor => 1,
            Self::Moderate => 2,
            Self::Severe => 3,
            Self::Critical => 4,
        }
    }
}

/// The level that the upstreams' weights and health amount to: of all rules that apply, the worst.
///
/// "All of" a kind needs two of it at least: a single normal upstream that is sick is moderate, a single high one severe.
#[must_use]
pub fn level(members: &[(Criticality, bool)], store_unhealthy: bool) -> Level {
    let count = |of: fn(Criticality) -> bool| {
        let kind = members.iter().filter(|(weight, _)| of(*weight));
        kind.fold((0_usize, 0_usize), |(all, sick), (_, is_sick)| (all + 1, sick + usize::from(*is_sick)))
    };
    let any = |(_, sick): (usize, usize)| sick > 0;
    let all = |(all, sick): (usize, usize)| all >= 2 && sick == all;
    let low = count(|weight| weight == Criticality::Low);
    let normal = count(|weight| weight == Criticality::Normal);
    let high = count(|weight| weight == Criticality::High);
    let rules = [
        (all(high) || all(count(|_| true)), Level::Critical),
        (any(high) || all(normal), Level::Severe),
        (any(normal), Level::Moderate),
        (any(low) || store_unhealthy, Level::Minor),
    ];
    rules.iter().find(|(applies, _)| *applies).map_or(Level::Normal, |(_, level)| *level)
}

/// The level in force: worse at once, better only when it has been so for [`BETTER_AFTER`]; or set by hand.
#[derive(Clone, Debug, Default)]
pub struct Held {
    automatic: Level,
    /// For each level but the worst: since when it has been this one or a better one.
    better_since: [Option<Instant>; 4],
    by_hand: Option<ByHand>,
}

#[derive(Clone, Copy, Debug)]
struct ByHand {
    level: Level,
    until: Option<Instant>,
}

/// A change of the level in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The level before.
    pub from: Level,
    /// The level after.
    pub to: Level,
}

impl Held {
    /// Normal, and nothing set by hand.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees the level of this moment. To be told at every change, and at least each second while it is not normal.
    pub fn see(&mut self, level: Level, now: Instant) -> Option<Changed> {
        let before = self.level();
        let mut settled = Level::Critical;
        for (at_most, since) in Level::ALL.iter().zip(&mut self.better_since).rev() {
            if level > *at_most {
                *since = None;
            } else if now.saturating_duration_since(*since.get_or_insert(now)) >= BETTER_AFTER {
                settled = *at_most;
            }
        }
        self.automatic = level.max(settled.min(self.automatic));
        if self.by_hand.is_some_and(|set| set.until.is_some_and(|until| until <= now)) {
            self.by_hand = None;
        }
        self.changed_from(before)
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> Level {
        self.by_hand.map_or(self.automatic, |set| set.level)
    }

    /// The level that the upstreams' health amounts to, whatever was set by hand.
    #[must_use]
    pub const fn automatic(&self) -> Level {
        self.automatic
    }

    /// Whether the level in force was set by hand.
    #[must_use]
    pub const fn is_by_hand(&self) -> bool {
        self.by_hand.is_some()
    }

    /// Sets the level by hand, until then or until it is cleared. Its end is noticed by [`Held::see`].
    pub fn set(&mut self, level: Level, until: Option<Instant>) -> Option<Changed> {
        let before = self.level();
        self.by_hand = Some(ByHand { level, until });
        self.changed_from(before)
    }

    /// Back to the automatic level.
    pub fn clear(&mut self) -> Option<Changed> {
        let before = self.level();
        self.by_hand = None;
        self.changed_from(before)
    }

    fn changed_from(&self, from: Level) -> Option<Changed> {
        let to = self.level();
        (from != to).then_some(Changed { from, to })
    }
}

/// So long must it have been better.
pub const BETTER_AFTER: Duration = Duration::from_secs(5);
