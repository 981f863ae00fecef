//! A ring for a store that went back: a backup was put in place, or it is empty. What was written since is with the nodes, in their files.
//!
//! Nobody follows a store that goes back and managers write nothing into it, so that its ring has no effect; but nobody is replaced either, and
//! no row leaves the outbox. On an operator's word the newest ring that any node knew is written above all others (`reliability.md` 2.2).

use std::cmp::Ordering;

use rustc_hash::FxHashMap;

use super::assign::Assign;
use super::change::{Cell, Changed, refuse};
use super::document::SeatEntry;

impl Cell {
    /// The newest of these rings, to be written over what the store has: its epoch is above that of each, and so is the epoch of every seat that
    /// two of them give to different processes, for both may have served under it.
    ///
    /// # Errors
    /// There are none, they are of several cells, or the store's ring follows from all of them: it did not go back.
    pub fn restored(stored: Option<&Self>, known: &[Self]) -> Changed {
        let Some(newest) = known.iter().max_by_key(|cell| cell.document.ring_epoch) else {
            return refuse("a ring is restored from the files of nodes, and none is given");
        };
        let others = || known.iter().chain(stored);
        if let Some(other) = others().find(|other| other.document.cell != newest.document.cell) {
            let (ours, theirs) = (&newest.document.cell, &other.document.cell);
            return refuse(format!("one ring is of cell {ours}, and another of {theirs}"));
        }
        if let Some(stored) = stored
            && known.iter().all(|known| known.leads_to(stored))
        {
            let (there, here) = (stored.document.ring_epoch, newest.document.ring_epoch);
            return refuse(format!(
                "the store has ring {there}, which nodes follow, and the newest of these is {here}: it did not go back"
            ));
        }
        let epoch = others().map(|other| other.document.ring_epoch).max().unwrap_or(0);
        let mut next = newest.clone();
        for other in others() {
            next.outdo_seats_of(other);
        }
        next.channels.version = version_over(&newest.channels, others().map(|one| &one.channels));
        next.users.version = version_over(&newest.users, others().map(|one| &one.users));
        let document = &mut next.document;
        (document.channels_version, document.users_version) =
            (next.channels.version, next.users.version);
        document.ring_epoch = epoch + 1;
        document.complete()?;
        Ok(next)
    }

    /// Whether whoever has this ring would take the other.
    fn leads_to(&self, other: &Self) -> bool {
        self == other
            || self.document.ring_epoch < other.document.ring_epoch
                && self.seat_gone_back(other).is_none()
    }

    /// A seat whose epoch in a later ring is lower than here, or is the same for another process: then that does not follow from this one (I5, I7).
    pub(super) fn seat_gone_back(&self, later: &Self) -> Option<u16> {
        let (here, there) = (self.holders(), later.holders());
        let follows = |seat: usize, ours: &SeatEntry| {
            let Some(theirs) = later.document.seats.get(seat) else { return false };
            let is_other = || {
                let both = ours.holder(&here).zip(theirs.holder(&there));
                both.is_some_and(|(ours, theirs)| ours != theirs)
            };
            match theirs.seat_epoch.cmp(&ours.seat_epoch) {
                Ordering::Less => false,
                Ordering::Equal => !is_other(),
                Ordering::Greater => true,
            }
        };
        let mut seats = self.document.seats.iter().enumerate();
        seats.find(|(seat, ours)| !follows(*seat, ours)).map(|(seat, _)| seat as u16)
    }

    /// Processes by the number of their node.
    fn holders(&self) -> FxHashMap<u16, u128> {
        self.document.nodes.iter().map(|node| (node.id, node.incarnation)).collect()
    }

    /// Raises the epochs of seats that `other` has above ours, or under the same epoch for another process. Seats that we never had are there
    /// from now on, and nobody's.
    fn outdo_seats_of(&mut self, other: &Self) {
        let (here, there) = (self.holders(), other.holders());
        for (seat, theirs) in other.document.seats.iter().enumerate() {
            let Some(ours) = self.document.seats.get_mut(seat) else {
                self.document.seats.push(SeatEntry { node: None, ..*theirs });
                continue;
            };
            let is_same = ours.holder(&here) == theirs.holder(&there);
            if theirs.seat_epoch > ours.seat_epoch
                || theirs.seat_epoch == ours.seat_epoch && !is_same
            {
                ours.seat_epoch = theirs.seat_epoch + 1;
            }
        }
    }
}

impl SeatEntry {
    /// Which process has it, of these by the numbers of their nodes.
    fn holder(self, processes: &FxHashMap<u16, u128>) -> Option<u128> {
        self.node.and_then(|id| processes.get(&id).copied())
    }
}

/// The same version where nobody knows another table under it or a later one.
fn version_over<'a>(ours: &Assign, others: impl Iterator<Item = &'a Assign>) -> u64 {
    let rivals = others.filter(|other| *other != ours).map(|other| other.version);
    rivals.max().filter(|rival| *rival >= ours.version).map_or(ours.version, |rival| rival + 1)
}

#[cfg(test)]
mod tests {
    use super::super::assign::Kind;
    use super::super::change::tests::cell;
    use super::super::view::{Offered, View};
    use super::*;
    use crate::ids::{Seat, Slot};

    fn taken_by(cell: &Cell, known: &Cell) -> Offered {
        View::of(known).offer(cell)
    }

    #[test]
    fn the_newest_ring_that_a_node_knew_is_written_above_all_others() {
        let old = cell(3);
        let moved = old.move_slot(Kind::Channels, Slot(7), Seat(9)).expect("moved");
        let newest = moved.replace("cs1", &["cs2", "cs3"]).expect("replaced");
        let back = Cell::restored(Some(&old), &[moved.clone(), newest.clone()]).expect("restored");
        assert_eq!(back.document.ring_epoch, 4);
        assert_eq!(back.document.seats, newest.document.seats, "nobody else has any of them");
        assert_eq!((&back.channels, &back.users), (&newest.channels, &newest.users));
        for known in [&old, &moved, &newest] {
            assert_eq!(taken_by(&back, known), Offered::Newer);
        }
        assert_eq!(
            Cell::restored(None, std::slice::from_ref(&newest)).expect("an empty store"),
            back
        );
    }

    #[test]
    fn what_was_made_of_the_older_ring_is_followed_by_nobody_and_outdone() {
        let old = cell(3);
        let newest = old.replace("cs1", &["cs2", "cs3"]).expect("replaced");
        // In a store that went back somebody goes on as if nothing were: the same seats for others, and other slots.
        let mut fork = old.replace("cs1", &["cs3"]).expect("replaced");
        for slot in 0..3 {
            fork = fork.move_slot(Kind::Users, Slot(slot), Seat(20)).expect("moved");
        }
        assert!(fork.document.ring_epoch > newest.document.ring_epoch);
        let ahead = old.weigh("cs2", 50).and_then(|cell| cell.weigh("cs2", 60)).expect("weighed");
        assert_eq!(
            taken_by(&ahead, &newest),
            Offered::SeatBack { seat: 0, epoch: ahead.document.ring_epoch },
            "a higher number alone does not make it newer"
        );
        let back = Cell::restored(Some(&fork), &[newest.clone(), ahead.clone()]);
        // The newest by its number is `ahead`, of which nobody was replaced: what `newest` and `fork` say of seats is outdone all the same.
        let back = back.expect("restored");
        for known in [&old, &newest, &fork, &ahead] {
            assert_eq!(taken_by(&back, known), Offered::Newer, "{known:?}");
        }
        for (seat, row) in back.document.seats.iter().enumerate() {
            for other in [&newest, &fork] {
                let theirs = other.document.seats[seat];
                assert!(
                    row.seat_epoch > theirs.seat_epoch
                        || row.holder(&back.holders()) == theirs.holder(&other.holders()),
                    "seat {seat}: one epoch, one process"
                );
            }
        }
        assert!(back.users.version > fork.users.version, "the fork's table is another");
    }

    #[test]
    fn a_store_that_did_not_go_back_is_left_alone() {
        let first = cell(2);
        let next = first.weigh("cs1", 7).expect("weighed");
        let why = Cell::restored(Some(&next), &[first.clone(), next.clone()]).expect_err("refused");
        assert!(why.0.contains("did not go back"), "{why}");
        assert!(Cell::restored(Some(&next), &[]).is_err(), "of nothing");
        let mut other = next;
        other.document.cell = "two".into();
        assert!(Cell::restored(Some(&first), &[other]).is_err(), "the ring of another cell");
    }
}
