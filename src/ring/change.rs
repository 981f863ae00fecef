//! What may happen to a ring, each as one compare-and-set: a node comes, goes, is replaced; slots move in batches; emptied seats retire.
//!
//! Pure: a change takes the cell as it was read and gives what is to be written. Every change has the next ring epoch. Only `step` and
//! `move_slot` touch a table, one in one write; only what says so touches seats (I8).

use std::collections::BTreeMap;

use super::assign::{Assign, Kind};
use super::document::{Document, FORMAT, NodeEntry, SeatEntry, Unusable};
use super::placement::HASH_NAME;
use super::plan::{Move, Share, rebalance};
use super::table::{Ring, SEATS_PER_NODE};
use crate::ids::{Seat, Slot};
use crate::limits::{RING_NODES_MAX, RING_SEATS_MAX, RING_STEP_SLOTS_MAX};

/// A ring as a store keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    pub document: Document,
    pub channels: Assign,
    pub users: Assign,
}

/// Slots that a plan moves, of both tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    pub channels: Vec<Move>,
    pub users: Vec<Move>,
}

impl Plan {
    pub fn len(&self) -> usize {
        self.channels.len() + self.users.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

type Changed = Result<Cell, Unusable>;

fn refuse<T>(why: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(why.into()))
}

impl Cell {
    /// A new ring in which every node has eight seats and its share of the slots.
    ///
    /// # Errors
    /// No nodes, too many, or two of a name.
    pub fn new(name: &str, nodes: Vec<NodeEntry>) -> Changed {
        if nodes.iter().all(|node| node.weight == 0) {
            return refuse("a ring needs a node that carries something");
        }
        let seats = (0..SEATS_PER_NODE).flat_map(|_| nodes.iter());
        let seats = seats.map(|node| SeatEntry { node: Some(node.id), seat_epoch: 1 });
        let document = Document {
            format: FORMAT,
            cell: name.into(),
            ring_epoch: 1,
            channels_version: 1,
            users_version: 1,
            hash: HASH_NAME.into(),
            seats: seats.collect(),
            nodes,
        };
        document.check()?;
        let even = Assign::even(document.seats.len());
        let mut cell = Self { document, channels: even.clone(), users: even };
        // Where weights differ, the even deal is only where the plan begins.
        let plan = cell.plan();
        cell.channels.apply(&plan.channels);
        cell.users.apply(&plan.users);
        Ok(cell)
    }

    /// The ring as shards see it.
    ///
    /// # Errors
    /// Document and tables do not belong together.
    pub fn ring(&self) -> Result<Ring, Unusable> {
        self.document.ring(&self.channels, &self.users)
    }

    /// A node with seats that have no slots yet: `step` brings them.
    ///
    /// # Errors
    /// It is there already, or the ring is full.
    pub fn add(&self, node: NodeEntry) -> Changed {
        if self.document.named(&node.name).is_some() {
            return refuse(format!("node {} is in the ring", node.name));
        }
        let mut next = self.next();
        let document = &mut next.document;
        if document.nodes.len() >= RING_NODES_MAX {
            return refuse(format!("a ring has at most {RING_NODES_MAX} nodes"));
        }
        for _ in 0..SEATS_PER_NODE {
            match document.seats.iter().position(|seat| seat.node.is_none()) {
                Some(at) => {
                    let seat_epoch = document.seats[at].seat_epoch + 1;
                    document.seats[at] = SeatEntry { node: Some(node.id), seat_epoch };
                }
                None if document.seats.len() < RING_SEATS_MAX => {
                    document.seats.push(SeatEntry { node: Some(node.id), seat_epoch: 1 });
                }
                None => return refuse(format!("a ring has at most {RING_SEATS_MAX} seats")),
            }
        }
        document.nodes.push(node);
        document.check()?;
        Ok(next)
    }

    /// Another weight: what it should carry, against the others. 0 empties it.
    ///
    /// # Errors
    /// It is not there, or nobody would carry anything.
    pub fn weigh(&self, name: &str, weight: u32) -> Changed {
        let mut next = self.next();
        let Some(node) = next.document.nodes.iter_mut().find(|node| node.name == name) else {
            return refuse(format!("there is no node {name} in the ring"));
        };
        node.weight = weight;
        if next.shares().iter().all(|share| share.weight == 0) {
            return refuse(format!("without {name} nobody carries anything"));
        }
        Ok(next)
    }

    /// A node's seats go to others in one write, and no slot moves: to nodes without seats first, then to whoever holds the fewest for its
    /// weight. `live`: who of the ring may take them, by name; `spares`: nodes that are ready and not in the ring yet.
    ///
    /// # Errors
    /// It is not there, holds nothing, or nobody is left to take it.
    pub fn replace(&self, dead: &str, live: &[&str], spares: &[NodeEntry]) -> Changed {
        let mut next = self.next();
        let document = &mut next.document;
        document.nodes.extend_from_slice(spares);
        let Some(id) = document.named(dead).map(|node| node.id) else {
            return refuse(format!("there is no node {dead} in the ring"));
        };
        let takers: Vec<(u16, u64)> = document
            .nodes
            .iter()
            .filter(|node| node.id != id && node.weight > 0)
            .filter(|node| live.contains(&node.name.as_str()) || spares.contains(node))
            .map(|node| (node.id, u64::from(node.weight)))
            .collect();
        let seats: Vec<usize> = document.seats_of(id).collect();
        if seats.is_empty() {
            return refuse(format!("node {dead} holds no seat"));
        }
        let mut held: Vec<u64> =
            takers.iter().map(|(id, _)| document.seats_of(*id).count() as u64).collect();
        for seat in seats {
            // Fewest seats for its weight after it took this one; the first of equals.
            let by_load = |&a: &usize, &b: &usize| {
                ((held[a] + 1) * takers[b].1).cmp(&((held[b] + 1) * takers[a].1)).then(a.cmp(&b))
            };
            let spare = (0..takers.len()).filter(|&at| held[at] == 0).min_by(by_load);
            let Some(at) = spare.or_else(|| (0..takers.len()).min_by(by_load)) else {
                return refuse(format!("nobody is left to take the seats of {dead}"));
            };
            held[at] += 1;
            let seat = &mut document.seats[seat];
            *seat = SeatEntry { node: Some(takers[at].0), seat_epoch: seat.seat_epoch + 1 };
        }
        document.nodes.retain(|node| node.id != id);
        document.check()?;
        Ok(next)
    }

    /// A restarted process takes its own seats back under new epochs.
    ///
    /// # Errors
    /// It is not in the ring.
    pub fn come_back(&self, name: &str, incarnation: u128, address: &str, cores: u8) -> Changed {
        let mut next = self.next();
        let document = &mut next.document;
        let Some(node) = document.nodes.iter_mut().find(|node| node.name == name) else {
            return refuse(format!("node {name} holds no seat any more"));
        };
        (node.incarnation, node.address, node.cores) = (incarnation, address.into(), cores);
        let id = node.id;
        for seat in document.seats.iter_mut().filter(|seat| seat.node == Some(id)) {
            seat.seat_epoch += 1;
        }
        document.check()?;
        Ok(next)
    }

    /// What would move until every seat has its share.
    pub fn plan(&self) -> Plan {
        let shares = self.shares();
        Plan {
            channels: rebalance(&self.channels.seats, &shares, usize::MAX),
            users: rebalance(&self.users.seats, &shares, usize::MAX),
        }
    }

    /// The next moves of the plan, at most so many as one write may carry; when none is left, seats and nodes that were emptied retire.
    /// `None`: there is nothing to do.
    pub fn step(&self) -> Option<(Self, Plan)> {
        let (mut plan, mut next, shares) = (Plan::default(), self.next(), self.shares());
        plan.channels = rebalance(&self.channels.seats, &shares, RING_STEP_SLOTS_MAX);
        if plan.channels.is_empty() {
            plan.users = rebalance(&self.users.seats, &shares, RING_STEP_SLOTS_MAX);
        }
        if plan.is_empty() {
            return next.retire().then_some((next, plan));
        }
        next.apply(Kind::Channels, &plan.channels);
        next.apply(Kind::Users, &plan.users);
        Some((next, plan))
    }

    /// One slot, by an operator's word: a hot one goes where there is room. The next plan that has a reason to move slots may move others.
    ///
    /// # Errors
    /// Nobody holds the seat, or the slot is there.
    pub fn move_slot(&self, kind: Kind, slot: Slot, to: Seat) -> Changed {
        let from = self.table(kind).seats[usize::from(slot.0)];
        if self.document.seats.get(usize::from(to.0)).is_none_or(|seat| seat.node.is_none()) {
            return refuse(format!("nobody holds seat {}", to.0));
        }
        if from == to {
            return refuse(format!("slot {} is at seat {}", slot.0, to.0));
        }
        let mut next = self.next();
        next.apply(kind, &[Move { slot, from, to }]);
        Ok(next)
    }

    pub fn table(&self, kind: Kind) -> &Assign {
        match kind {
            Kind::Channels => &self.channels,
            Kind::Users => &self.users,
        }
    }

    fn next(&self) -> Self {
        let mut next = self.clone();
        next.document.ring_epoch += 1;
        next
    }

    fn apply(&mut self, kind: Kind, moves: &[Move]) {
        if moves.is_empty() {
            return;
        }
        let (table, version) = match kind {
            Kind::Channels => (&mut self.channels, &mut self.document.channels_version),
            Kind::Users => (&mut self.users, &mut self.document.users_version),
        };
        table.apply(moves);
        table.version += 1;
        *version = table.version;
    }

    /// By seat: a node's weight is shared by the seats that it holds.
    fn shares(&self) -> Vec<Share> {
        let document = &self.document;
        let mut held: BTreeMap<u16, u64> = BTreeMap::new();
        for id in document.seats.iter().filter_map(|seat| seat.node) {
            *held.entry(id).or_default() += 1;
        }
        let nodes = document.nodes.iter().map(|node| {
            let seats = held.get(&node.id).copied().unwrap_or(1);
            let weight = (u64::from(node.weight) << 20) / seats;
            (node.id, Share { weight, cores: node.cores })
        });
        let nodes: BTreeMap<u16, Share> = nodes.collect();
        let empty = Share { weight: 0, cores: 1 };
        let of = |seat: &SeatEntry| seat.node.and_then(|id| nodes.get(&id)).copied();
        document.seats.iter().map(|seat| of(seat).unwrap_or(empty)).collect()
    }

    /// Seats of weightless nodes that have no slot any more, and those nodes. False: there are none.
    fn retire(&mut self) -> bool {
        let mut has_slots = vec![false; self.document.seats.len()];
        for seat in self.channels.seats.iter().chain(&self.users.seats) {
            has_slots[usize::from(seat.0)] = true;
        }
        let Document { nodes, seats, .. } = &mut self.document;
        let empty = |node: &NodeEntry| {
            node.weight == 0
                && seats
                    .iter()
                    .zip(&has_slots)
                    .all(|(seat, has)| seat.node != Some(node.id) || !has)
        };
        let gone: Vec<u16> = nodes.iter().filter(|node| empty(node)).map(|node| node.id).collect();
        nodes.retain(|node| !gone.contains(&node.id));
        for seat in seats.iter_mut() {
            if seat.node.is_some_and(|id| gone.contains(&id)) {
                seat.node = None;
            }
        }
        !gone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u16, cores: u8) -> NodeEntry {
        NodeEntry {
            id,
            name: format!("cs{id}"),
            incarnation: u128::from(id) << 64 | 1,
            address: format!("10.0.0.{id}:7400"),
            cores,
            weight: 100,
            zone: String::new(),
        }
    }

    fn cell(nodes: u16) -> Cell {
        Cell::new("one", (1..=nodes).map(|id| node(id, 4)).collect()).expect("a ring")
    }

    /// Slots of channels by node.
    fn held(cell: &Cell) -> Vec<(u16, usize)> {
        let ring = cell.ring().expect("usable");
        let mut held: Vec<(u16, usize)> =
            cell.document.nodes.iter().map(|node| (node.id, 0)).collect();
        for slot in 0..=u16::MAX {
            let (node, ..) = ring.channel_owner(Slot(slot));
            held.iter_mut().find(|(id, _)| *id == node.0).expect("owned by a node").1 += 1;
        }
        held
    }

    fn settle(mut cell: Cell) -> (Cell, usize) {
        let mut moved = 0;
        for _ in 0..1_000 {
            let Some((next, plan)) = cell.step() else { return (cell, moved) };
            assert!(plan.len() <= RING_STEP_SLOTS_MAX);
            assert_eq!(next.document.ring_epoch, cell.document.ring_epoch + 1);
            let apart =
                next.channels.seats.iter().zip(&cell.channels.seats).filter(|(a, b)| a != b);
            assert_eq!(apart.count(), plan.channels.len(), "what is written is what was planned");
            moved += plan.channels.len();
            cell = next;
        }
        panic!("it comes to an end");
    }

    #[test]
    fn a_dead_nodes_seats_spread_over_the_survivors_in_one_write_and_no_slot_moves() {
        let before = cell(5);
        let after = before.replace("cs3", &["cs1", "cs2", "cs4", "cs5"], &[]).expect("replaced");
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
        assert!(held(&after).iter().all(|(_, slots)| slots.abs_diff(16_384) <= 10));
    }

    #[test]
    fn spares_are_taken_first() {
        let after = cell(3).replace("cs2", &["cs1", "cs3"], &[node(9, 4)]).expect("replaced");
        let of = |id| after.document.seats_of(id).count();
        assert_eq!((of(1), of(3), of(9)), (8, 8, 8));
    }

    #[test]
    fn nobody_takes_what_nobody_may_take() {
        let one = cell(2);
        for (dead, to) in [("cs1", &[][..]), ("cs1", &["cs1"]), ("cs7", &["cs1"])] {
            assert!(one.replace(dead, to, &[]).is_err(), "{dead} by {to:?}");
        }
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
        // Its seats are used again, under higher epochs.
        let again = three.add(node(5, 4)).expect("added");
        assert_eq!(again.document.seats.len(), four.document.seats.len());
        assert!(again.document.seats_of(5).all(|seat| again.document.seats[seat].seat_epoch == 2));
    }

    #[test]
    fn weights_are_obeyed() {
        let (after, _) = settle(cell(3).weigh("cs2", 200).expect("weighed"));
        let of = |id| held(&after).iter().find(|(node, _)| *node == id).expect("there").1;
        assert!(of(2).abs_diff(2 * of(1)) <= 24, "{} {}", of(1), of(2));
        assert!(cell(1).weigh("cs1", 0).is_err());
    }

    #[test]
    fn a_restarted_node_takes_its_own_seats_back() {
        let before = cell(2);
        let after = before.come_back("cs1", 99, "10.0.0.1:7401", 8).expect("back");
        assert_eq!(after.channels, before.channels);
        for (was, is) in before.document.seats.iter().zip(&after.document.seats) {
            assert_eq!(is.seat_epoch, was.seat_epoch + u32::from(was.node == Some(1)));
        }
        let gone = before.replace("cs1", &["cs2"], &[]).expect("replaced");
        assert!(gone.come_back("cs1", 100, "10.0.0.1:7401", 8).is_err());
    }

    #[test]
    fn a_hot_slot_moves_alone() {
        let before = cell(2);
        let after = before.move_slot(Kind::Channels, Slot(7), Seat(9)).expect("moved");
        assert_eq!(after.users, before.users);
        assert_eq!(
            after.channels.seats.iter().zip(&before.channels.seats).filter(|(a, b)| a != b).count(),
            1
        );
        assert!(after.move_slot(Kind::Channels, Slot(7), Seat(9)).is_err());
        assert!(after.move_slot(Kind::Users, Slot(7), Seat(99)).is_err());
    }

    #[test]
    fn documents_go_through_json_and_bad_ones_are_refused() {
        let cell = cell(2);
        let bytes = cell.document.encode();
        assert_eq!(Document::decode(&bytes).as_ref(), Ok(&cell.document));
        let text = String::from_utf8(bytes).expect("JSON");
        for (what, with) in [
            ("\"format\":1", "\"format\":2"),
            ("xxh3_64/0", "fnv"),
            ("\"id\":2", "\"id\":1"),
            ("\"cores\":4", "\"cores\":0"),
            ("[1,1]", "[7,1]"),
            ("{", "["),
        ] {
            let broken = text.replacen(what, with, 1);
            assert_ne!(broken, text, "{what}");
            assert!(Document::decode(broken.as_bytes()).is_err(), "{what} -> {with}");
        }
        let mut other = cell.clone();
        other.users.version = 2;
        assert!(other.ring().is_err());
        let mut nobodys = cell;
        nobodys.document.seats[0].node = None;
        assert!(nobodys.ring().is_err());
    }
}
