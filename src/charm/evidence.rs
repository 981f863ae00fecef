//! Whether the data plane has lost a node too: the word of those that have links to it, and of which zones they are (`reliability.md` 2.3). What
//! fails together is seen alike by all who are in it, so that a node is judged by observers of other zones where there are enough of them.

use std::collections::BTreeSet;

/// One that had links to the node in question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Observer {
    /// What it fails together with; 0: nobody said.
    pub(super) zone: u16,
    /// Its word is new enough to count.
    pub(super) is_fresh: bool,
    /// It has lost all of them.
    pub(super) has_lost: bool,
}

impl Observer {
    fn agrees(self) -> bool {
        self.is_fresh && self.has_lost
    }
}

/// Observers that have to have lost a node too; fewer where there are fewer.
const EVIDENCE: usize = 2;

/// Judges a node of a zone by `observers`, also those that say nothing any more: that they are silent may be our own fault.
///
/// Two of other zones, and where those are several, not both of the same one: a zone that is cut off from the others sees all of them silent.
/// Where there are fewer than two outside, two of all that speak, or all.
pub(super) fn is_evident(zone: u16, observers: &[Observer]) -> bool {
    let is_outside = |one: &&Observer| zone != 0 && one.zone != 0 && one.zone != zone;
    let outside: Vec<&Observer> = observers.iter().filter(is_outside).collect();
    if outside.len() < EVIDENCE {
        let fresh: Vec<&Observer> = observers.iter().filter(|one| one.is_fresh).collect();
        let agree = fresh.iter().filter(|one| one.agrees()).count();
        return agree >= EVIDENCE.min(fresh.len()).max(1);
    }
    let zones: BTreeSet<u16> = outside.iter().map(|one| one.zone).collect();
    let agree: Vec<&&Observer> = outside.iter().filter(|one| one.agrees()).collect();
    let agreeing: BTreeSet<u16> = agree.iter().map(|one| one.zone).collect();
    agree.len() >= EVIDENCE && agreeing.len() >= EVIDENCE.min(zones.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observer() -> impl Strategy<Value = Observer> {
        (0u16..4, any::<bool>(), any::<bool>()).prop_map(|(zone, is_fresh, has_lost)| Observer {
            zone,
            is_fresh,
            has_lost,
        })
    }

    proptest! {
        #[test]
        fn what_is_evident_is_said_by_enough_and_by_more_only_the_more(
            zone in 0u16..4, observers in proptest::collection::vec(observer(), 0..8), at in any::<proptest::sample::Index>(),
        ) {
            let judged = is_evident(zone, &observers);
            let agree = observers.iter().filter(|one| one.agrees()).count();
            let speak = observers.iter().filter(|one| one.is_fresh).count();
            prop_assert!(!judged || agree >= 2 || agree == 1 && speak == 1);
            // Where everybody speaks and agrees, there is no doubt.
            let all: Vec<Observer> =
                observers.iter().map(|one| Observer { is_fresh: true, has_lost: true, ..*one }).collect();
            prop_assert_eq!(is_evident(zone, &all), !all.is_empty());
            if !observers.is_empty() {
                let mut more = observers;
                let at = at.index(more.len());
                (more[at].is_fresh, more[at].has_lost) = (true, true);
                // One more that spoke against it cannot be turned into doubt by agreeing.
                prop_assert!(!judged || is_evident(zone, &more));
            }
        }

        #[test]
        fn one_zone_alone_convinces_nobody_where_others_could_say_something(
            zone in 1u16..4, observers in proptest::collection::vec(observer(), 0..8), cut_off in 1u16..4,
        ) {
            // Only observers of one zone are heard, and they have lost everybody else.
            let heard: Vec<Observer> = observers
                .iter()
                .map(|one| Observer { is_fresh: one.zone == cut_off, has_lost: one.zone == cut_off, ..*one })
                .collect();
            let outside = heard.iter().filter(|one| one.zone != 0 && one.zone != zone);
            let zones: BTreeSet<u16> = outside.clone().map(|one| one.zone).collect();
            if zones.len() >= 2 {
                prop_assert!(!is_evident(zone, &heard));
            }
        }
    }

    #[test]
    fn who_counts() {
        let says = |zone, has_lost| Observer { zone, is_fresh: true, has_lost };
        let silent = |zone| Observer { zone, is_fresh: false, has_lost: false };
        for (what, zone, observers, judged) in [
            ("nobody", 0, vec![], false),
            ("the only one", 0, vec![says(0, true)], true),
            ("one of two", 0, vec![says(0, true), says(0, false)], false),
            (
                "two of three, without zones",
                0,
                vec![says(0, true), says(0, true), says(0, false)],
                true,
            ),
            (
                "its own zone, where others say no",
                1,
                vec![says(1, true), says(1, true), says(2, false), says(3, false)],
                false,
            ),
            (
                "others, where its own zone says no",
                1,
                vec![says(1, false), says(1, false), says(2, true), says(3, true)],
                true,
            ),
            (
                "two of one zone, where a third is there",
                1,
                vec![says(2, true), says(2, true), says(3, false)],
                false,
            ),
            (
                "two of one zone, where a third is silent",
                1,
                vec![says(2, true), says(2, true), silent(3)],
                false,
            ),
            (
                "two of one zone, and there is no third",
                1,
                vec![says(2, true), says(2, true), says(1, false)],
                true,
            ),
            ("too few outside: all", 1, vec![says(2, true), says(1, true), says(0, false)], true),
            (
                "too few outside: all, and one is not enough",
                1,
                vec![says(2, true), says(1, false), says(0, false)],
                false,
            ),
        ] {
            assert_eq!(is_evident(zone, &observers), judged, "{what}");
        }
    }
}
