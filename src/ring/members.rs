//! Who is in a ring, each change as one compare-and-set: a node comes with seats or stands by without, gives its seats up, takes its own back.
//!
//! A node that stands by is of the ring in all but the seats: everybody has links to it, and it is the first to take a dead node's.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::Kind;
use super::carries::Carries;
use super::change::{Cell, Changed, refuse};
use super::document::{NodeEntry, SeatEntry, Unusable};
use super::table::SEATS_PER_NODE;
use crate::ids::NodeId;
use crate::limits::{RING_IDS_MAX, RING_NODES_MAX, RING_SEATS_MAX};

impl Cell {
    /// A node with seats that have no slots yet: `step` brings them. It may stand by already; its number is given here.
    ///
    /// # Errors
    /// It has seats already, was replaced and is not back, or the ring is full.
    pub fn add(&self, node: NodeEntry) -> Changed {
        let mut next = self.next();
        let id = match next.document.named(&node.name) {
            Some(there) if self.document.seats_of(there.id).next().is_some() => {
                return refuse(format!("node {} has seats already", node.name));
            }
            Some(there) if there.replaced => {
                return refuse(format!("node {} was replaced, and is not back yet", node.name));
            }
            Some(there) => {
                let id = there.id;
                let known = next.document.nodes.iter_mut().find(|known| known.id == id);
                let known = known.expect("just seen");
                known.weight = node.weight;
                if !node.zone.is_empty() {
                    known.zone = node.zone;
                }
                id
            }
            None if node.cores == 0 => {
                return refuse(format!(
                    "no node {} stands by: say {0}=HOST:PORT,cores=N for one that is still to come",
                    node.name
                ));
            }
            None => next.enter(node)?,
        };
        let seats = &mut next.document.seats;
        for _ in 0..SEATS_PER_NODE {
            match seats.iter().position(|seat| seat.node.is_none()) {
                Some(at) => {
                    let seat_epoch = seats[at].seat_epoch + 1;
                    seats[at] = SeatEntry { node: Some(id), seat_epoch };
                }
                None if seats.len() < RING_SEATS_MAX => {
                    seats.push(SeatEntry { node: Some(id), seat_epoch: 1 });
                }
                None => return refuse(format!("a ring has at most {RING_SEATS_MAX} seats")),
            }
        }
        next.document.complete()?;
        Ok(next)
    }

    /// A process starts: it takes its own seats back, or stands by where it has none.
    ///
    /// # Errors
    /// The ring is full, or its seats have slots that it does not carry.
    pub fn join(&self, us: NodeEntry) -> Changed {
        let document = &self.document;
        let known = document.named(&us.name);
        if known.is_some_and(|node| document.seats_of(node.id).next().is_some()) {
            self.come_back(us)
        } else {
            self.stand_by(us)
        }
    }

    /// A process that has no seats and is ready to take a dead node's. Who was replaced is back by this, with nothing of its old seats.
    ///
    /// # Errors
    /// It has seats, or the ring is full.
    pub fn stand_by(&self, node: NodeEntry) -> Changed {
        let mut next = self.next();
        match next.document.named(&node.name).map(|there| there.id) {
            Some(id) if next.document.seats_of(id).next().is_some() => {
                return refuse(format!("node {} has seats: it comes back to them", node.name));
            }
            Some(id) => {
                let known = next.document.nodes.iter_mut().find(|known| known.id == id);
                let known = known.expect("just seen");
                *known = NodeEntry {
                    id,
                    weight: known.weight,
                    zone: std::mem::take(&mut known.zone),
                    replaced: false,
                    replaced_at: known.replaced_at,
                    ..node
                };
            }
            None => {
                next.enter(node)?;
            }
        }
        next.document.complete()?;
        Ok(next)
    }

    /// Another weight: what it should carry, against the others. 0 empties it.
    ///
    /// # Errors
    /// It is not there, or nobody would carry one of the tables.
    pub fn weigh(&self, name: &str, weight: u32) -> Changed {
        let mut next = self.next();
        let Some(node) = next.document.nodes.iter_mut().find(|node| node.name == name) else {
            return refuse(format!("there is no node {name} in the ring"));
        };
        node.weight = weight;
        let is_lost = |kind: &Kind| self.is_carried(*kind) && !next.is_carried(*kind);
        let mut lost = Kind::ALL.into_iter().filter(is_lost);
        if let Some(kind) = lost.next() {
            let what = if lost.next().is_some() { "anything" } else { kind.as_str() };
            return refuse(format!("without {name} nobody carries {what}"));
        }
        Ok(next)
    }

    /// A node's seats go to others in one write, and no slot moves: each to a node that carries all that it has slots of, to those that stand
    /// by first, then to whoever holds the fewest for its weight. `live`: who of the ring may take them, by name. The node stays known,
    /// without seats.
    ///
    /// # Errors
    /// It is not there, holds nothing, or nobody is left to take one of its seats: then it keeps all.
    pub fn replace(&self, dead: &str, live: &[&str]) -> Changed {
        let has_slots = Kind::ALL.map(|kind| (kind, self.has_slots(kind)));
        let mut next = self.next();
        let document = &mut next.document;
        let Some(id) = document.named(dead).map(|node| node.id) else {
            return refuse(format!("there is no node {dead} in the ring"));
        };
        let live: BTreeSet<&str> = live.iter().copied().collect();
        let takers: Vec<(u16, u64, Carries)> = document
            .nodes
            .iter()
            .filter(|node| node.id != id && node.weight > 0 && !node.replaced)
            .filter(|node| live.contains(node.name.as_str()))
            .map(|node| (node.id, u64::from(node.weight), node.carries))
            .collect();
        let seats: Vec<usize> = document.seats_of(id).collect();
        if seats.is_empty() {
            return refuse(format!("node {dead} holds no seat"));
        }
        if takers.is_empty() {
            return refuse(format!("nobody is left to take the seats of {dead}"));
        }
        let mut seats_by_node: BTreeMap<u16, u64> = BTreeMap::new();
        for id in document.seats.iter().filter_map(|seat| seat.node) {
            *seats_by_node.entry(id).or_default() += 1;
        }
        let held = |id: &u16| seats_by_node.get(id).copied().unwrap_or(0);
        let mut held: Vec<u64> = takers.iter().map(|(id, ..)| held(id)).collect();
        let standing_by: Vec<bool> = held.iter().map(|held| *held == 0).collect();
        for seat in seats {
            let wanted = || has_slots.iter().filter(|(_, has)| has[seat]).map(|(kind, _)| *kind);
            let able = (0..takers.len()).filter(|&at| wanted().all(|kind| takers[at].2.has(kind)));
            let able: Vec<usize> = able.collect();
            let is_anybody = able.iter().any(|&at| standing_by[at]);
            // Fewest seats for its weight after it took this one; the first of equals.
            let by_load = |&a: &usize, &b: &usize| {
                ((held[a] + 1) * takers[b].1).cmp(&((held[b] + 1) * takers[a].1)).then(a.cmp(&b))
            };
            let may = able.into_iter().filter(|&at| standing_by[at] || !is_anybody);
            let Some(at) = may.min_by(by_load) else {
                let words: Vec<&str> = wanted().map(Kind::as_str).collect();
                return refuse(format!(
                    "nobody who may take the seats of {dead} carries {}",
                    words.join(" and ")
                ));
            };
            held[at] += 1;
            let seat = &mut document.seats[seat];
            *seat = SeatEntry { node: Some(takers[at].0), seat_epoch: seat.seat_epoch + 1 };
        }
        let dead = document.nodes.iter_mut().find(|node| node.id == id).expect("just seen");
        dead.replaced = true;
        document.check()?;
        Ok(next)
    }

    /// Says when a node was replaced, in seconds since 1970: whoever replaced it knows, and ring managers that start later count it.
    pub fn stamped(mut self, node: NodeId, at: u64) -> Self {
        let nodes = self.document.nodes.iter_mut();
        nodes.filter(|known| known.id == node.0).for_each(|known| known.replaced_at = at);
        self
    }

    /// The same for a ring manager, who judged one process of a node and knows the others by their numbers. `None`: it came too late, another
    /// process runs there, the node is not in the ring any more, or the ring is frozen.
    pub fn replace_process(
        &self,
        (node, incarnation): (NodeId, u64),
        live: &[u16],
    ) -> Option<Changed> {
        let document = &self.document;
        let is_it = |dead: &&NodeEntry| dead.incarnation == u128::from(incarnation);
        let dead = document.node(node).filter(is_it).filter(|_| !document.frozen)?;
        let live: BTreeSet<&u16> = live.iter().collect();
        let live = document.nodes.iter().filter(|node| live.contains(&node.id));
        let live: Vec<&str> = live.map(|node| node.name.as_str()).collect();
        Some(self.replace(&dead.name, &live))
    }

    /// A restarted process takes its own seats back under new epochs.
    ///
    /// # Errors
    /// It holds none, or they have slots of a table that it does not carry.
    pub fn come_back(&self, us: NodeEntry) -> Changed {
        let NodeEntry { name, incarnation, address, cores, carries, .. } = us;
        let mut next = self.next();
        let document = &mut next.document;
        let Some(node) = document.nodes.iter_mut().find(|node| node.name == name) else {
            return refuse(format!("there is no node {name} in the ring"));
        };
        (node.incarnation, node.address, node.cores) = (incarnation, address, cores);
        node.carries = carries;
        let id = node.id;
        let seats: Vec<usize> = document.seats_of(id).collect();
        if seats.is_empty() {
            return refuse(format!("node {name} holds no seat any more"));
        }
        // Who kept such a slot would be its owner by every ring, and answer for it nowhere.
        for kind in Kind::ALL.into_iter().filter(|kind| !carries.has(*kind)) {
            let has_slots = self.has_slots(kind);
            if seats.iter().any(|seat| has_slots[*seat]) {
                return refuse(format!(
                    "node {name} has slots of {} in the ring, and does not carry them with the role {} alone: start it with --roles channel,presence, or empty it first by `campanile ctl ring drain {name}`",
                    kind.as_str(),
                    carries.as_str()
                ));
            }
        }
        for seat in seats {
            document.seats[seat].seat_epoch += 1;
        }
        document.complete()?;
        Ok(next)
    }

    /// An operator's brake, on or off.
    ///
    /// # Errors
    /// It is so already.
    pub fn freeze(&self, frozen: bool) -> Changed {
        if self.document.frozen == frozen {
            return refuse(if frozen { "the ring is frozen" } else { "the ring is not frozen" });
        }
        let mut next = self.next();
        next.document.frozen = frozen;
        Ok(next)
    }

    /// One more node, under the lowest number that is free.
    fn enter(&mut self, node: NodeEntry) -> Result<u16, Unusable> {
        let nodes = &mut self.document.nodes;
        if nodes.len() >= RING_NODES_MAX {
            return refuse(format!("a ring has at most {RING_NODES_MAX} nodes"));
        }
        let is_free = |id: &u16| nodes.iter().all(|node| node.id != *id);
        let id = (1..RING_IDS_MAX).find(is_free).expect("more numbers than nodes");
        nodes.push(NodeEntry { id, ..node });
        Ok(id)
    }
}

const _: () = assert!(RING_NODES_MAX < RING_IDS_MAX as usize - 1);

#[cfg(test)]
mod tests {
    use super::super::change::tests::{cell, held, node, settle};
    use super::*;

    fn of(cell: &Cell, id: u16) -> usize {
        cell.document.seats_of(id).count()
    }

    #[test]
    fn a_dead_nodes_seats_spread_over_the_survivors_in_one_write_and_no_slot_moves() {
        let before = cell(5);
        let after = before.replace("cs3", &["cs1", "cs2", "cs4", "cs5"]).expect("replaced");
        assert_eq!((&after.channels, &after.users), (&before.channels, &before.users));
        assert_eq!(after.document.ring_epoch, 2);
        let mut taken = Vec::new();
        for (was, is) in before.document.seats.iter().zip(&after.document.seats) {
            if was.node == Some(3) {
                assert_eq!(is.seat_epoch, was.seat_epoch + 1);
                taken.push(is.node);
            } else {
                assert_eq!(was, is);
            }
        }
        taken.sort_unstable();
        let twice = |id| [Some(id), Some(id)];
        assert_eq!(taken, [twice(1), twice(2), twice(4), twice(5)].concat());
        // Then slots even out, and not one more moves than must: a fifth of them was spread evenly already.
        let (after, moved) = settle(after);
        assert_eq!(moved, 0);
        let carrying = held(&after).into_iter().filter(|(id, _)| *id != 3);
        assert!(carrying.into_iter().all(|(_, slots)| slots.abs_diff(16_384) <= 10));
    }

    #[test]
    fn who_stands_by_is_taken_first_and_alone() {
        let ring = cell(3).stand_by(node(9, 4)).expect("stands by");
        let id = ring.document.named("cs9").expect("there").id;
        assert_eq!((id, of(&ring, id), settle(ring.clone()).1), (4, 0, 0), "it carries nothing");
        let after = ring.replace("cs2", &["cs1", "cs3", "cs9"]).expect("replaced");
        assert_eq!((of(&after, 1), of(&after, 3), of(&after, id)), (8, 8, 8));
        // It is dead, or not sure to live: the others do without it.
        let after = ring.replace("cs2", &["cs1", "cs3"]).expect("replaced");
        assert_eq!((of(&after, 1), of(&after, 3), of(&after, id)), (12, 12, 0));
    }

    #[test]
    fn who_was_replaced_owns_nothing_until_it_stands_by_again() {
        let after = cell(3).replace("cs2", &["cs1", "cs3"]).expect("replaced");
        assert!(after.document.named("cs2").expect("known").replaced);
        assert!(after.come_back(node(2, 4)).is_err(), "nothing to come back to");
        assert!(after.add(node(2, 4)).is_err());
        // Nor does it take anything, whoever is told to live.
        assert!(after.replace("cs1", &["cs2"]).is_err());
        let back = after.stand_by(NodeEntry { incarnation: 77, ..node(2, 8) }).expect("back");
        let two = back.document.named("cs2").expect("known");
        assert_eq!((two.id, two.incarnation, two.cores, two.replaced), (2, 77, 8, false));
        let again = back.replace("cs1", &["cs2", "cs3"]).expect("replaced");
        assert_eq!((of(&again, 2), of(&again, 3)), (12, 12));
        // Or an operator gives it its share, under the number it has.
        let added = back.add(node(2, 0)).expect("added");
        assert_eq!((of(&added, 2), added.document.nodes.len()), (8, 3));
        assert!(added.add(node(2, 4)).is_err(), "it has seats");
        assert!(added.stand_by(node(2, 4)).is_err(), "it has seats");
    }

    #[test]
    fn nobody_takes_what_nobody_may_take() {
        let one = cell(2);
        for (dead, to) in [("cs1", &[][..]), ("cs1", &["cs1"]), ("cs7", &["cs1"])] {
            assert!(one.replace(dead, to).is_err(), "{dead} by {to:?}");
        }
        assert!(one.add(node(7, 0)).is_err(), "nobody of that name stands by");
    }

    #[test]
    fn a_node_comes_and_goes_with_its_share() {
        let before = cell(3);
        let (four, moved) = settle(before.add(node(4, 4)).expect("added"));
        assert!((16_384 - 8..=16_384 + 8).contains(&moved), "{moved}");
        assert!(
            held(&four).iter().all(|(_, slots)| slots.abs_diff(16_384) <= 8),
            "{:?}",
            held(&four)
        );
        let (three, back) = settle(four.weigh("cs4", 0).expect("drained"));
        assert_eq!(back, moved);
        assert!(three.document.named("cs4").is_none(), "an empty node retires");
        assert_eq!(three.document.seats.iter().filter(|seat| seat.node.is_none()).count(), 8);
        // Its seats are used again, under higher epochs, and so is its number.
        let again = three.add(node(5, 4)).expect("added");
        assert_eq!(again.document.seats.len(), four.document.seats.len());
        assert!(again.document.seats_of(4).all(|seat| again.document.seats[seat].seat_epoch == 2));
    }

    #[test]
    fn weights_are_obeyed() {
        let (after, _) = settle(cell(3).weigh("cs2", 200).expect("weighed"));
        let of = |id| held(&after).iter().find(|(node, _)| *node == id).expect("there").1;
        assert!(of(2).abs_diff(2 * of(1)) <= 24, "{} {}", of(1), of(2));
        assert!(cell(1).weigh("cs1", 0).is_err());
    }

    #[test]
    fn a_restarted_node_takes_its_own_seats_back_frozen_or_not() {
        let before = cell(2).freeze(true).expect("frozen");
        assert!(before.ring().expect("usable").frozen && before.freeze(true).is_err());
        let after = before.come_back(node(1, 8)).expect("back");
        assert_eq!(after.channels, before.channels);
        for (was, is) in before.document.seats.iter().zip(&after.document.seats) {
            assert_eq!(is.seat_epoch, was.seat_epoch + u32::from(was.node == Some(1)));
        }
        let thawed = after.freeze(false).expect("thawed");
        assert!(!thawed.ring().expect("usable").frozen);
    }
}
