//! The n-th call that the store makes of its disk fails, for every n of every kind of call, once or from then on: nothing that
//! was accepted is lost or sent twice, traffic that needs no store goes on, and the store is well again without a restart.
//!
//! The whole binary runs, on a disk that fails where it is told to. Each scene is played without a fault first, which counts its
//! calls. `FENDER_INJECT` says how many faults are tried, or `all`, or names some: words of a line that tells a failed one.

mod scenes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use self::scenes::{Base, Scene};
use super::failing_disk::{Call, Fault, Shim};

/// Faults that are tried where nobody says how many.
const FAULTS: usize = 40;

/// Scenes that are played at once: most of the time each waits for its store to be tried again.
const AT_ONCE: usize = 4;

#[test]
fn whatever_call_fails_nothing_accepted_is_lost_and_the_store_recovers() {
    let Some(shim) = Shim::compile() else { return };
    let asked = std::env::var("FENDER_INJECT").ok();
    let (most, only) = match asked.as_deref() {
        None => (FAULTS, ""),
        Some("all") => (usize::MAX, ""),
        Some(words) => words.parse().map_or((usize::MAX, words), |number| (number, "")),
    };
    let seed = fastrand::u64(..);
    let bases: Vec<Base> = Scene::ALL.into_iter().map(Base::lay).collect();
    let mut groups: Vec<Vec<(usize, Fault)>> = Vec::new();
    for (at, base) in bases.iter().enumerate() {
        let counts = base.play(&shim, None).calls;
        eprintln!("{:?}: {counts:?} calls to write, sync, truncate, rename, open, unlink, read", base.scene);
        assert!(counts[Call::Write as usize] > 20 && counts[Call::Sync as usize] > 2, "few calls were seen");
        for call in Call::ALL {
            for kind in call.kinds() {
                let faults = |on| {
                    let nths = 1..=counts[call as usize];
                    nths.map(|nth| (at, Fault { call, kind: *kind, nth, on })).collect()
                };
                groups.extend([faults(false), faults(true)]);
            }
        }
    }
    let told = |at: usize, fault: &Fault| format!("{:?}, {fault:?}", bases[at].scene);
    groups.iter_mut().for_each(|group| group.retain(|(at, fault)| told(*at, fault).contains(only)));
    let faults = sample(groups, most, &mut fastrand::Rng::with_seed(seed));
    let (next, hit, failed) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((at, fault)) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let base = &bases[*at];
                    match catch_unwind(AssertUnwindSafe(|| base.play(&shim, Some(*fault)))) {
                        Ok(played) => drop(hit.fetch_add(u64::from(played.hit > 0), Ordering::SeqCst)),
                        Err(_) => {
                            eprintln!("^ {}\n", told(*at, fault));
                            failed.lock().unwrap().push(told(*at, fault));
                        }
                    }
                }
            });
        }
    });
    let (hit, failed) = (hit.into_inner(), failed.into_inner().unwrap());
    eprintln!("{} faults tried, {hit} of them met a call, {} failed", faults.len(), failed.len());
    assert!(failed.is_empty(), "seed {seed}:\n{}", failed.join("\n"));
    // Threads do not meet twice in the same way, so that the last calls of a scene may be fewer.
    assert!(hit * 10 >= u64::try_from(faults.len()).unwrap() * 8, "only {hit} of {} were met", faults.len());
}

/// At most so many, of each group in turn.
fn sample(
    mut groups: Vec<Vec<(usize, Fault)>>,
    most: usize,
    dice: &mut fastrand::Rng,
) -> Vec<(usize, Fault)> {
    groups.iter_mut().for_each(|group| dice.shuffle(group));
    dice.shuffle(&mut groups);
    let mut taken = Vec::new();
    while taken.len() < most && groups.iter().any(|group| !group.is_empty()) {
        taken.extend(groups.iter_mut().filter_map(Vec::pop));
    }
    taken.truncate(most);
    taken
}
