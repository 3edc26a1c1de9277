//! The degradation level: each rule, and how it is held.

use std::time::Instant;

use fender::policy::degradation::{Changed, Criticality as C, Held, Level as L, ShedAt, level};

use super::{millis, secs};

#[test]
fn each_rule_of_the_contract() {
    let (sick, well) = (true, false);
    let rows: &[(&[(C, bool)], L)] = &[
        (&[], L::Normal),
        (&[(C::Low, well), (C::Normal, well), (C::High, well)], L::Normal),
        (&[(C::Low, sick), (C::Normal, well)], L::Minor),
        (&[(C::Low, sick)], L::Minor),
        (&[(C::Low, sick), (C::Low, sick), (C::Normal, well)], L::Minor),
        (&[(C::Normal, sick), (C::Normal, well)], L::Moderate),
        (&[(C::Normal, sick)], L::Moderate),
        (&[(C::Normal, sick), (C::Low, sick), (C::High, well)], L::Moderate),
        (&[(C::Normal, sick), (C::Normal, sick), (C::Low, well)], L::Severe),
        (&[(C::High, sick)], L::Severe),
        (&[(C::High, sick), (C::High, well), (C::Low, well)], L::Severe),
        (&[(C::High, sick), (C::High, sick), (C::Normal, well)], L::Critical),
        (&[(C::Low, sick), (C::Low, sick)], L::Critical),
        (&[(C::Normal, sick), (C::Normal, sick)], L::Critical),
        (&[(C::High, sick), (C::Normal, sick)], L::Critical),
    ];
    for (members, wanted) in rows {
        assert_eq!(level(members, false), *wanted, "{members:?}");
        assert_eq!(level(members, true), L::Minor.max(*wanted), "{members:?}, the store too");
    }
}

#[test]
fn levels_and_thresholds_are_in_order() {
    assert_eq!(L::ALL.map(L::as_str), ["normal", "minor", "moderate", "severe", "critical"]);
    assert_eq!(L::ALL.map(L::number), [0, 1, 2, 3, 4]);
    let thresholds = [ShedAt::Minor, ShedAt::Moderate, ShedAt::Severe, ShedAt::Critical];
    for at in L::ALL {
        assert!(!ShedAt::Off.sheds(at));
        for (threshold, from) in thresholds.iter().zip(&L::ALL[1..]) {
            assert_eq!(threshold.sheds(at), at >= *from, "{threshold:?} at {at:?}");
        }
    }
}

fn changed(from: L, to: L) -> Option<Changed> {
    Some(Changed { from, to })
}

#[test]
fn worse_at_once_better_after_five_seconds_of_health() {
    let now = Instant::now();
    let mut held = Held::new();
    assert_eq!((held.level(), held.see(L::Normal, now)), (L::Normal, None));
    assert_eq!(held.see(L::Severe, now), changed(L::Normal, L::Severe));
    assert_eq!(held.see(L::Normal, now + secs(1)), None);
    assert_eq!(held.see(L::Normal, now + millis(5_999)), None);
    assert_eq!(held.see(L::Normal, now + secs(6)), changed(L::Severe, L::Normal));
}

#[test]
fn a_relapse_counts_anew() {
    let now = Instant::now();
    let mut held = Held::new();
    held.see(L::Severe, now);
    held.see(L::Normal, now + secs(1));
    assert_eq!(held.see(L::Severe, now + secs(5)), None);
    held.see(L::Normal, now + secs(6));
    assert_eq!(held.see(L::Normal, now + secs(10)), None);
    assert_eq!(held.see(L::Normal, now + secs(11)), changed(L::Severe, L::Normal));
    assert_eq!(held.see(L::Critical, now + secs(11)), changed(L::Normal, L::Critical));
}

#[test]
fn it_gets_better_step_by_step() {
    let now = Instant::now();
    let mut held = Held::new();
    held.see(L::Critical, now);
    held.see(L::Minor, now);
    held.see(L::Normal, now + secs(3));
    held.see(L::Moderate, now + secs(4));
    assert_eq!(held.see(L::Normal, now + secs(5)), changed(L::Critical, L::Moderate));
    assert_eq!(held.see(L::Normal, now + secs(9)), None);
    assert_eq!(held.see(L::Normal, now + secs(10)), changed(L::Moderate, L::Normal));
}

#[test]
fn a_level_set_by_hand_holds_until_its_time_or_until_it_is_cleared() {
    let now = Instant::now();
    let mut held = Held::new();
    assert_eq!(held.set(L::Critical, Some(now + secs(60))), changed(L::Normal, L::Critical));
    assert!(held.is_by_hand());
    assert_eq!(held.see(L::Moderate, now), None);
    assert_eq!(held.see(L::Moderate, now + secs(59)), None);
    assert_eq!(held.see(L::Moderate, now + secs(60)), changed(L::Critical, L::Moderate));
    assert!(!held.is_by_hand());
    assert_eq!(held.set(L::Normal, None), changed(L::Moderate, L::Normal));
    assert_eq!(held.see(L::Severe, now + secs(1_000_000)), None);
    assert_eq!(held.clear(), changed(L::Normal, L::Severe));
    assert_eq!(held.clear(), None);
}

#[test]
fn time_that_steps_back_makes_nothing_better_too_soon() {
    let now = Instant::now() + secs(3600);
    let mut held = Held::new();
    held.see(L::Severe, now);
    held.see(L::Normal, now);
    assert_eq!(held.see(L::Normal, now - secs(60)), None);
    assert_eq!(held.level(), L::Severe);
}
