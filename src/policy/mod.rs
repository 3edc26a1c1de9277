//! Pure decisions: functions of (state, event, now, dice). Nothing here waits, logs, locks or reads a clock.

pub mod blame;
pub mod outcome;
pub mod reason;
pub mod verdict;
