//! What may happen to a ring, each as one compare-and-set: slots move in batches, emptied seats retire; `members` has who comes and goes.
//!
//! Pure: a change takes the cell as it was read and gives what is to be written. Every change has the next ring epoch. Only `step` and
//! `move_slot` touch a table, one in one write; only what says so touches seats (I8).

use std::collections::BTreeMap;

use super::assign::{Assign, Kind};
use super::carries::Carries;
use super::document::{Document, FORMAT, NodeEntry, SeatEntry, Unusable};
use super::placement::HASH_NAME;
use super::plan::{Move, Share, rebalance};
use super::table::{Ring, SEATS_PER_NODE};
use crate::ids::{Seat, Slot};
use crate::limits::RING_STEP_SLOTS_MAX;

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

/// What is to be written, or why not.
pub type Changed = Result<Cell, Unusable>;

pub(super) fn refuse<T>(why: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(why.into()))
}

impl Cell {
    /// A new ring in which every node has eight seats and its share of the slots.
    ///
    /// # Errors
    /// No nodes, too many, two of a name, or none for one of the tables.
    pub fn new(name: &str, nodes: Vec<NodeEntry>) -> Changed {
        for kind in Kind::ALL {
            if !nodes.iter().any(|node| node.weight > 0 && node.carries.has(kind)) {
                return refuse(format!("a ring needs a node that carries {}", kind.as_str()));
            }
        }
        let seats = (0..SEATS_PER_NODE).flat_map(|_| nodes.iter());
        let seats = seats.map(|node| SeatEntry { node: Some(node.id), seat_epoch: 1 });
        let mut document = Document {
            format: FORMAT,
            cell: name.into(),
            ring_epoch: 1,
            channels_version: 1,
            users_version: 1,
            hash: HASH_NAME.into(),
            frozen: false,
            drains: Vec::new(),
            seats: seats.collect(),
            nodes,
        };
        document.complete()?;
        let carries = document.carries();
        let dealt = |kind: Kind| {
            let has = |carries: &Option<Carries>| carries.is_some_and(|all| all.has(kind));
            let seats = carries.iter().enumerate().filter(|(_, carries)| has(carries));
            Assign::even(&seats.map(|(at, _)| Seat(at as u16)).collect::<Vec<_>>())
        };
        let (channels, users) = (dealt(Kind::Channels), dealt(Kind::Users));
        let mut cell = Self { document, channels, users };
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

    /// What would move until every seat has its share.
    pub fn plan(&self) -> Plan {
        let moves = |kind| rebalance(&self.table(kind).seats, &self.shares(kind), usize::MAX);
        Plan { channels: moves(Kind::Channels), users: moves(Kind::Users) }
    }

    /// The next moves of the plan, at most so many as one write may carry; when none is left, seats and nodes that were emptied retire.
    /// `None`: there is nothing to do.
    pub fn step(&self) -> Option<(Self, Plan)> {
        let (mut plan, mut next) = (Plan::default(), self.next());
        let moves =
            |kind| rebalance(&self.table(kind).seats, &self.shares(kind), RING_STEP_SLOTS_MAX);
        plan.channels = moves(Kind::Channels);
        if plan.channels.is_empty() {
            plan.users = moves(Kind::Users);
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
    /// Nobody holds the seat, its node does not carry the table, or the slot is there.
    pub fn move_slot(&self, kind: Kind, slot: Slot, to: Seat) -> Changed {
        let from = self.table(kind).seats[usize::from(slot.0)];
        if self.document.seats.get(usize::from(to.0)).is_none_or(|seat| seat.node.is_none()) {
            return refuse(format!("nobody holds seat {}", to.0));
        }
        if !self.document.carries()[usize::from(to.0)].is_some_and(|all| all.has(kind)) {
            return refuse(format!("the node of seat {} carries no {}", to.0, kind.as_str()));
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

    pub(super) fn next(&self) -> Self {
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

    /// By seat: a node's weight is shared by the seats that it holds; of a table that it does not carry it has no share.
    pub(super) fn shares(&self, kind: Kind) -> Vec<Share> {
        let document = &self.document;
        let mut held: BTreeMap<u16, u64> = BTreeMap::new();
        for id in document.seats.iter().filter_map(|seat| seat.node) {
            *held.entry(id).or_default() += 1;
        }
        let nodes = document.nodes.iter().map(|node| {
            let seats = held.get(&node.id).copied().unwrap_or(1);
            let weight = if node.carries.has(kind) { u64::from(node.weight) } else { 0 };
            let weight = (weight << 20) / seats;
            (node.id, Share { weight, cores: node.cores })
        });
        let nodes: BTreeMap<u16, Share> = nodes.collect();
        let empty = Share { weight: 0, cores: 1 };
        let of = |seat: &SeatEntry| seat.node.and_then(|id| nodes.get(&id)).copied();
        document.seats.iter().map(|seat| of(seat).unwrap_or(empty)).collect()
    }

    /// Whether somebody is to have the slots of a table.
    pub(super) fn is_carried(&self, kind: Kind) -> bool {
        self.shares(kind).iter().any(|share| share.weight > 0)
    }

    /// By seat: whether it has slots of a table.
    pub(super) fn has_slots(&self, kind: Kind) -> Vec<bool> {
        let mut has_slots = vec![false; self.document.seats.len()];
        for seat in &*self.table(kind).seats {
            has_slots[usize::from(seat.0)] = true;
        }
        has_slots
    }

    /// Seats of weightless nodes that have no slot any more, and those nodes. False: there are none.
    fn retire(&mut self) -> bool {
        let [channels, users] = Kind::ALL.map(|kind| self.has_slots(kind));
        let has_slots: Vec<bool> =
            channels.into_iter().zip(users).map(|(channels, users)| channels || users).collect();
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
        self.document.set_format();
        !gone.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ring) fn node(id: u16, cores: u8) -> NodeEntry {
        NodeEntry {
            id,
            incarnation: u128::from(id) << 64 | 1,
            ..NodeEntry::new(&format!("cs{id}"), &format!("10.0.0.{id}:7400"), cores)
        }
    }

    pub(in crate::ring) fn cell(nodes: u16) -> Cell {
        Cell::new("one", (1..=nodes).map(|id| node(id, 4)).collect()).expect("a ring")
    }

    /// Slots of channels by node.
    pub(in crate::ring) fn held(cell: &Cell) -> Vec<(u16, usize)> {
        let ring = cell.ring().expect("usable");
        let mut held: Vec<(u16, usize)> =
            cell.document.nodes.iter().map(|node| (node.id, 0)).collect();
        for slot in 0..=u16::MAX {
            let (node, ..) = ring.channel_owner(Slot(slot));
            held.iter_mut().find(|(id, _)| *id == node.0).expect("owned by a node").1 += 1;
        }
        held
    }

    pub(in crate::ring) fn settle(mut cell: Cell) -> (Cell, usize) {
        let mut moved = 0;
        for _ in 0..1_000 {
            let Some((next, plan)) = cell.step() else { return (cell, moved) };
            assert!(plan.len() <= RING_STEP_SLOTS_MAX);
            assert_eq!(next.document.ring_epoch, cell.document.ring_epoch + 1);
            let apart =
                next.channels.seats.iter().zip(cell.channels.seats.iter()).filter(|(a, b)| a != b);
            assert_eq!(apart.count(), plan.channels.len(), "what is written is what was planned");
            moved += plan.channels.len();
            cell = next;
        }
        panic!("it comes to an end");
    }

    #[test]
    fn a_hot_slot_moves_alone() {
        let before = cell(2);
        let after = before.move_slot(Kind::Channels, Slot(7), Seat(9)).expect("moved");
        assert_eq!(after.users, before.users);
        assert_eq!(
            after
                .channels
                .seats
                .iter()
                .zip(before.channels.seats.iter())
                .filter(|(a, b)| a != b)
                .count(),
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
            ("\"format\":1", "\"format\":3"),
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
