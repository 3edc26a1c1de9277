//! States by key, and which of them gives way.

use fender::policy::keyed::Keyed;

fn keys(keyed: &Keyed<char>) -> Vec<(u64, char)> {
    keyed.iter().map(|(key, state)| (key, *state)).collect()
}

#[test]
fn the_least_recently_used_gives_way() {
    let mut keyed = Keyed::new(3);
    for (key, state) in [(1, 'a'), (2, 'b'), (3, 'c')] {
        assert_eq!(*keyed.entry(key, || state), state);
    }
    assert_eq!(*keyed.entry(1, || 'x'), 'a', "it was there");
    keyed.entry(4, || 'd');
    assert_eq!(keys(&keyed), [(3, 'c'), (1, 'a'), (4, 'd')]);
    assert_eq!(keyed.used(3).copied(), Some('c'));
    keyed.entry(5, || 'e');
    assert_eq!(keys(&keyed), [(4, 'd'), (3, 'c'), (5, 'e')]);
}

#[test]
fn looking_is_no_use_and_makes_nothing() {
    let mut keyed = Keyed::new(2);
    keyed.entry(1, || 'a');
    keyed.entry(2, || 'b');
    assert_eq!((keyed.get(1).copied(), keyed.peek(1).copied()), (Some('a'), Some('a')));
    assert!(keyed.get(9).is_none());
    assert_eq!(keyed.len(), 2);
    keyed.entry(3, || 'c');
    assert_eq!(keys(&keyed), [(2, 'b'), (3, 'c')]);
    keyed.retain(|key, state| {
        *state = 'z';
        key == 3
    });
    assert_eq!(keys(&keyed), [(3, 'z')]);
}

#[test]
fn the_bound_holds_at_every_moment_and_is_at_least_one() {
    for cap in [0, 1, 7] {
        let mut keyed = Keyed::new(cap);
        assert!(keyed.is_empty());
        for key in 0..100 {
            keyed.entry(key % 13, || ());
            assert!(keyed.len() <= cap.max(1));
        }
    }
}
