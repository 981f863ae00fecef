//! The tables of the gateway against obvious ones, under random operations.

mod hub;
mod interest;

use std::collections::BTreeMap;

use super::names::{Full, NameRef, Names};
use crate::ids::{Key, Slot};
use crate::ring::Secret;

/// A stream of numbers by a seed.
struct Random(u64);

impl Random {
    /// Below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

fn name_of(n: u32) -> String {
    format!("C{n}{}", "x".repeat(n as usize * 7 % 60))
}

fn key_of(n: u32) -> Key {
    Secret([5; 16]).key_of(&name_of(n))
}

fn slot_of(n: u32) -> Slot {
    Slot((n % 3 * 1_000) as u16)
}

#[test]
fn names_are_a_map_with_counted_holders() {
    let (mut names, mut random) = (Names::new(40), Random(1));
    let mut twin: BTreeMap<u32, (NameRef, u32)> = BTreeMap::new();
    for step in 0..40_000 {
        let n = random.below(60);
        if random.below(100) < if step % 10_000 < 5_000 { 70 } else { 30 } {
            let found = names.intern(key_of(n), &name_of(n));
            if !twin.contains_key(&n) && twin.len() == 40 {
                assert_eq!(found, Err(Full));
                continue;
            }
            let name = found.expect("room");
            let (twin, holders) = twin.entry(n).or_insert((name, 0));
            *holders += 1;
            assert_eq!(*twin, name, "a name has one place");
        } else if let Some((name, holders)) = twin.get_mut(&n) {
            names.release(*name);
            *holders -= 1;
            if *holders == 0 {
                twin.remove(&n);
            }
        }
        assert_eq!(names.count() as usize, twin.len());
        if step % 16 == 0 {
            for (n, (name, _)) in &twin {
                assert_eq!(names.text(*name), name_of(*n));
            }
        }
    }
}

#[test]
fn a_name_may_have_very_many_holders() {
    let mut names = Names::new(10);
    let name = names.intern(key_of(1), &name_of(1)).expect("room");
    for _ in 1..1_000 {
        assert_eq!(names.intern(key_of(1), &name_of(1)), Ok(name));
    }
    for _ in 0..999 {
        names.release(name);
    }
    assert_eq!((names.text(name), names.count()), (&*name_of(1), 1));
    names.release(name);
    assert_eq!(names.count(), 0);
}

#[test]
#[should_panic(expected = "by its holders only")]
fn a_name_that_nobody_holds_is_not_released() {
    let mut names = Names::new(10);
    let [one, _] = [1, 2].map(|n| names.intern(key_of(10 * n), "C1234567").expect("room"));
    names.release(one);
    names.release(one);
}
