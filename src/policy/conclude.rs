//! Who owns a write that brought no good answer: the client, or Fender (contract 5.0).

/// What is known of it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one request")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The client has hung up: it hears nothing any more.
    pub hung_up: bool,
    /// An attempt may have acted, and nothing makes a second send harmless.
    pub may_have_acted: bool,
    /// It bears a key under which the API acts once.
    pub keyed: bool,
    /// It bears a credential that will be missing at replay.
    pub credential_missing: bool,
    /// The config lets ambiguous writes be sent again.
    pub ambiguous_replays: bool,
    /// The config wants the client to hear the failure.
    pub respond_error: bool,
    /// It would not be replayed by itself: replays are off, or it would be too old by its first turn.
    pub never_replayed: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Stored, and the client is told so: it is Fender's from then on.
    Accepted,
    /// Stored to be replayed, though the client hears its failure or nothing: the key makes a second send by the client
    /// harmless.
    Replayed,
    /// Stored, and left to an operator; the client hears its failure.
    Parked(Why),
}

/// Why a stored write waits for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It may have acted.
    Ambiguous,
    /// The client was not told that it is stored, and may send it again.
    Unanswered,
    /// Its credential can be neither sealed nor supplied.
    Credential,
}

/// The rules in the order of their strength.
#[must_use]
pub const fn conclude(facts: Facts) -> Fate {
    if facts.may_have_acted && !facts.ambiguous_replays {
        Fate::Parked(Why::Ambiguous)
    } else if facts.credential_missing {
        Fate::Parked(Why::Credential)
    } else if facts.never_replayed {
        Fate::Parked(Why::Unanswered)
    } else if facts.hung_up || facts.respond_error {
        if facts.keyed { Fate::Replayed } else { Fate::Parked(Why::Unanswered) }
    } else {
        Fate::Accepted
    }
}
